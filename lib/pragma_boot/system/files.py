"""Files that appear whole or not at all."""
import contextlib
import os


def temporary(path):
    """The name under which ``path`` is made, hidden in the same folder."""
    return os.path.join(os.path.dirname(path), f'.{os.path.basename(path)}.tmp')


@contextlib.contextmanager
def drafted(path):
    """Open a new binary file under the temporary name of ``path``; gone after the block.

    It stays only if the block renames it. What a kill -9 left of an earlier one is written anew.
    """
    draft = temporary(path)
    with contextlib.suppress(FileNotFoundError):
        os.unlink(draft)
    try:
        with open(os.open(draft, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600), 'w+b') as file:
            yield file
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(draft)


def settle(file, draft, path, mode):
    """Give the open file ``draft`` its mode and the name ``path``, so that both outlast a crash."""
    file.flush()
    os.fchmod(file.fileno(), mode)
    os.fsync(file.fileno())
    os.replace(draft, path)
    folder = os.open(os.path.dirname(path) or '.', os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def write(path, content, mode=0o644):
    """Replace the file at ``path`` by ``content`` (bytes): written, synced, renamed."""
    with drafted(path) as file:
        file.write(content)
        settle(file, temporary(path), path, mode)
