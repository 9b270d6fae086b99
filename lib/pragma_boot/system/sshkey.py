"""SSH keys: the user's public one, checked; and a pair made for one cluster alone."""
import contextlib
import os

from . import process
from .failure import Failure, cause

MOST_BYTES = 64 << 10


def read_public(path):
    """The public keys in the file ``path``, a line each, as authorized_keys takes them.

    Raises Failure for what is not a public key; a private key is never copied anywhere.
    """
    try:
        with open(path, 'rb') as file:
            data = file.read(MOST_BYTES + 1)
    except OSError as error:
        raise Failure(f"cannot open key '{path}': {cause(error)}") from None
    if b'PRIVATE KEY' in data:
        raise Failure(f"'{path}' is a private key: name the public one, '{path}.pub'")
    try:
        lines = [line.strip() for line in data.decode('utf-8').splitlines()]
    except UnicodeDecodeError:
        lines = None
    if lines is None or len(data) > MOST_BYTES or not all(map(str.isprintable, lines)):
        raise Failure(f"'{path}' is not a public key")
    keys = [line for line in lines if line and not line.startswith('#')]
    if not keys:
        raise Failure(f"'{path}' has no public key in it")
    for key in keys:
        process.run(['ssh-keygen', '-l', '-f', '-'], f"'{path}' is not a public key",
                    input=key.encode() + b'\n')
    return '\n'.join(keys)


def make_pair(comment, path):
    """Make a new ed25519 pair without a passphrase: the private key in ``path``; the public as a line.

    What a kill -9 left of an earlier one is made anew.
    """
    for old in (path, f'{path}.pub'):
        with contextlib.suppress(FileNotFoundError):
            os.unlink(old)
    process.run(process.bound(['ssh-keygen', '-q', '-t', 'ed25519', '-N', '', '-C', comment,
                               '-f', path]), 'cannot make a key')
    with open(f'{path}.pub', encoding='utf-8') as public:
        line = public.read().strip()
    os.unlink(f'{path}.pub')
    return line
