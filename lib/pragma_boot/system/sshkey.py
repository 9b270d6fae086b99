"""SSH keys: check the user's public key, and make a key pair for one cluster."""
import contextlib
import os
import re
import stat
from collections.abc import Iterator

from . import files, log, names, process
from .failure import Failure, cause

DEFAULT = '/root/.ssh/id_rsa.pub'
"""The default of pragma_boot's option --key."""

OWN = ('id_ed25519.pub', 'id_ecdsa.pub', 'id_rsa.pub')
"""The names that ssh-keygen(1) gives to keys, today's first."""

MAXIMUM_BYTES = 64 << 10

CONTROL = '[\0-\x08\x0a-\x1f\x7f\ud800-\udfff\ufffe\uffff]'
"""What a line of sshd's or a document in XML cannot hold."""


def read_public(path: str) -> str:
    """The public keys in the file ``path``, a line each, as authorized_keys holds them.

    A line is a key where sshd's own reader says so: fields have blanks or tabs between them, and a
    comment is any bytes (sshd(8), AUTHORIZED_KEYS FILE FORMAT). Bytes that are not UTF-8 are taken
    for Latin-1. Raises Failure for anything else; a private key is never copied.
    """
    try:
        with open(path, 'rb') as file:
            data = file.read(MAXIMUM_BYTES + 1)
    except OSError as error:
        raise Failure(f"cannot open key '{path}': {cause(error)}") from None
    if b'PRIVATE KEY' in data:
        raise Failure(f"'{path}' is a private key: name the public one, '{path}.pub'")
    if len(data) > MAXIMUM_BYTES:
        raise Failure(f"'{path}' is not a public key: it has more than {MAXIMUM_BYTES} bytes")
    lines = [line.removesuffix(b'\r').strip(b' \t') for line in data.split(b'\n')]
    keys = {number: _text(line, path) for number, line in enumerate(lines, 1)
            if line and not line.startswith(b'#')}
    if not keys:
        raise Failure(f"'{path}' has no public key in it")
    for number, key in keys.items():
        done = process.run(['ssh-keygen', '-l', '-f', '-'], f"'{path}'", statuses=None,
                           input=key.encode() + b'\n')
        if done.returncode:
            raise Failure(f"'{path}' line {number} is not a public key as authorized_keys has it "
                          "(ssh-keygen -i converts other formats)")
        if done.stdout.rstrip().endswith(b'-CERT)'):
            raise Failure(f"'{path}' is a certificate, which lets nobody in unless its CA is "
                          f"trusted: name the public key, '{path.removesuffix('-cert.pub')}.pub'"
                          if path.endswith('-cert.pub') else
                          f"'{path}' has a certificate in it, which lets nobody in unless its "
                          'CA is trusted: name the public key')
    return '\n'.join(keys.values())


KEY = r'(?:^|[ \t])(?:ssh|ecdsa|sk)-[^ \t]+[ \t]+AAAA[^ \t]+[ \t]+(.*)'
"""A line of authorized_keys that has a comment."""


def owner(keys: str) -> str:
    """The user of the first comment ``name@host`` in public keys, '' where there is none.

    ssh-keygen(1) writes such a comment into each new key.
    """
    for line in keys.split('\n'):
        comment = re.search(KEY, line)
        name, at, _ = comment[1].partition('@') if comment else ('', '', '')
        if at and names.is_user(name):
            return name
    return ''


def given(path: str | None) -> str:
    """The public keys of a filter's option --key, '' for no option; raises Failure."""
    if not path:
        return ''
    refuse_standard_input(path)
    return read_public(path)


def chosen(path: str) -> str:
    """``path`` itself, or where DEFAULT is not there, a key in the user's own ~/.ssh.

    The second is said on stderr. Raises Failure where there is none.
    """
    if path != DEFAULT or os.path.exists(path):
        return path
    folder = os.path.expanduser('~/.ssh')
    for name in OWN:
        own = os.path.join(folder, name)
        if os.path.exists(own):
            log.warn(f"there is no '{DEFAULT}', the default public key: '{own}' is used")
            return own
    raise Failure(f"there is no '{DEFAULT}', the default public key, and none in '{folder}': name "
                  'yours with --key')


def _text(line: bytes, path: str) -> str:
    try:
        text = line.decode()
    except UnicodeDecodeError:
        text = line.decode('latin-1')
    if re.search(CONTROL, text):
        raise Failure(f"'{path}' is not a public key: it has control characters in it")
    return text


@contextlib.contextmanager
def lasting(path: str) -> Iterator[str]:
    """A path of the public keys in ``path`` for the block, which several processes can read.

    A pipe, such as /dev/stdin or <(...) of a shell, can be read once and by one: its keys are
    copied to a temporary file. Raises Failure as ``read_public`` does.
    """
    keys = read_public(path)
    if stat.S_ISREG(os.stat(path).st_mode) and not path.startswith(('/dev/', '/proc/')):
        yield path
        return
    import tempfile
    with tempfile.NamedTemporaryFile('w', prefix='pragma-key-', suffix='.pub') as copy:
        copy.write(f'{keys}\n')
        copy.flush()
        yield copy.name


def refuse_standard_input(path: str) -> None:
    """Raise Failure where ``path`` is our own standard input, which has a document to read."""
    with contextlib.suppress(OSError):
        found, ours = os.stat(path), os.fstat(0)
        if os.path.samestat(found, ours) and (stat.S_ISFIFO(found.st_mode)
                                              or path.startswith(('/dev/', '/proc/'))):
            raise Failure(f"key '{path}' is standard input, which has the document: "
                          'name a file, or <(COMMAND) in bash')


def make_pair(comment: str, path: str) -> str:
    """Make an ed25519 key pair without a passphrase; the public key, one line.

    The private key is written to ``path``, in the place of an older one. Raises Failure.
    """
    for old in (path, f'{path}.pub'):
        files.remove(old)
    process.run(process.bound(['ssh-keygen', '-q', '-t', 'ed25519', '-N', '', '-C', comment,
                               '-f', path]), 'cannot make a key')
    with open(f'{path}.pub', encoding='utf-8') as public:
        line = public.read().strip()
    os.unlink(f'{path}.pub')
    return line
