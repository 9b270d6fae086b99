"""SSH keys: check the user's public key, and make a key pair for one cluster."""
import contextlib
import os

from . import process
from .failure import Failure, cause

MAXIMUM_BYTES = 64 << 10


def read_public(path: str) -> str:
    """The public keys in the file ``path``, a line each, as authorized_keys holds them.

    Raises Failure for anything else; a private key is never copied.
    """
    try:
        with open(path, 'rb') as file:
            data = file.read(MAXIMUM_BYTES + 1)
    except OSError as error:
        raise Failure(f"cannot open key '{path}': {cause(error)}") from None
    if b'PRIVATE KEY' in data:
        raise Failure(f"'{path}' is a private key: name the public one, '{path}.pub'")
    try:
        text = data.decode('utf-8')
    except UnicodeDecodeError:
        raise Failure(f"'{path}' is not a public key") from None
    lines = [line.strip() for line in text.splitlines()]
    if len(data) > MAXIMUM_BYTES or not all(map(str.isprintable, lines)):
        raise Failure(f"'{path}' is not a public key")
    keys = [line for line in lines if line and not line.startswith('#')]
    if not keys:
        raise Failure(f"'{path}' has no public key in it")
    for key in keys:
        process.run(['ssh-keygen', '-l', '-f', '-'], f"'{path}' is not a public key",
                    input=key.encode() + b'\n')
    return '\n'.join(keys)


def make_pair(comment: str, path: str) -> str:
    """Make an ed25519 key pair without a passphrase; the public key, one line.

    The private key is written to ``path``, in the place of an older one. Raises Failure.
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
