"""Files of a scratch folder that pass to and from a guest's file system."""
import os

from .failure import Failure


def require(condition, subject, message):
    """Raise the Failure ``subject: message`` unless ``condition``."""
    if not condition:
        raise Failure(f'{subject}: {message}')


def save(folder, name, content):
    """Write what a guest is to get."""
    with open(os.path.join(folder, name), 'xb') as file:
        os.fchmod(file.fileno(), 0o644)    # the folder is what is closed
        file.write(content)


def verify(folder, name, file, subject):
    """Raise Failure unless what was read back of the Secret ``file`` is what was written."""
    try:
        # Made by a program that an image may have misled: no link is followed, no pipe waited for.
        with open(os.open(os.path.join(folder, name), os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK), 'rb') as back:
            same = back.read(len(file.content) + 1) == file.content
    except OSError:
        same = False
    require(same, subject, f'/root/{file.path} does not read back as written: '
                           'is the file system full?')
