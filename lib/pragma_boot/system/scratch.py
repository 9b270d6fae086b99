"""Files that are copied to and from a guest's file system through a scratch folder."""
import os
from typing import NamedTuple

from .failure import Failure


class Secret(NamedTuple):
    """A file of mode 0600 for /root of a guest: its path below /root, and its content."""

    path: str
    content: bytes


def require(condition: bool, subject: str, message: str) -> None:
    """Raise the Failure ``subject: message`` unless ``condition`` holds."""
    if not condition:
        raise Failure(f'{subject}: {message}')


def save(folder: str, name: str, content: bytes) -> None:
    """Write a file that is to be copied into a guest's file system."""
    with open(os.path.join(folder, name), 'xb') as file:
        os.fchmod(file.fileno(), 0o644)    # only the folder is closed to others
        file.write(content)


def verify(folder: str, name: str, file: Secret, subject: str) -> None:
    """Raise Failure unless ``name``, which was copied out of a guest, is the file as written."""
    try:
        # An image may have misled the program that made it: follow no link, wait for no pipe.
        descriptor = os.open(os.path.join(folder, name),
                             os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
        with open(descriptor, 'rb') as copy:
            same = copy.read(len(file.content) + 1) == file.content
    except OSError:
        same = False
    require(same, subject, f'/root/{file.path} does not read back as written: '
                           'is the file system full?')
