"""Detached OpenPGP signatures: verified by gpgv, confined; made by the user's gpg."""
from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator

from . import confinement, files, process
from .failure import Failure

LIMIT = 1 << 20
"""Bytes that gpgv may write; it writes none."""

GOOD, BAD = '[GNUPG:] GOODSIG ', '[GNUPG:] BADSIG '
"""Lines of --status-fd (GnuPG, doc/DETAILS). An expired or revoked key has other words."""


def verify(content: bytes, signature: bytes, keyring: str, subject: str) -> str:
    """The key and user that signed ``content``; raises Failure where no key of ``keyring`` did.

    Another good signature beside one of an unknown key is enough, as with a key that is replaced.
    """
    with files.open_regular(keyring, f"database_keyring '{keyring}'") as file:
        keys = file.read()
    if keys.startswith(b'-----BEGIN'):
        raise Failure(f"database_keyring '{keyring}' is text: gpgv reads what "
                      "'gpg --export' or 'gpg --dearmor' writes")
    with contextlib.ExitStack() as stack:
        # nobody, as which gpgv runs, need not be able to read our files.
        descriptors = [stack.enter_context(_memory(each)) for each in (keys, signature, content)]
        paths = [f'/dev/fd/{number}' for number in descriptors]
        done = process.run(['gpgv', '--homedir', '/nonexistent', '--weak-digest', 'SHA1',
                            '--status-fd', '1', '--keyring', *paths], subject, statuses=None,
                           wrap=confinement.command(LIMIT), descriptors=descriptors)
    lines = done.stdout.decode(errors='replace').splitlines()
    good = [line.removeprefix(GOOD) for line in lines if line.startswith(GOOD)]
    if not good or any(line.startswith(BAD) for line in lines):
        reason = process.last_line(done)
        said = [line for line in done.stderr.decode(errors='replace').splitlines()
                if 'signature' in line and 'made' not in line]
        raise Failure(f"{subject}: {(said or [reason])[0].removeprefix('gpgv: ')}")
    return good[0]


@contextlib.contextmanager
def _memory(content: bytes) -> Iterator[int]:
    descriptor = os.memfd_create('pragma')
    with open(descriptor, 'wb') as file:
        file.write(content)
        file.flush()
        yield descriptor


def sign(path: str, target: str, key: str, subject: str) -> None:
    """Write an armored detached signature of ``path`` to ``target``; raises Failure.

    ``subject`` names the file in messages.
    """
    process.run(['gpg', '--batch', '--yes', '--armor', '--local-user', key, '--output', target,
                 '--detach-sign', '--', path], f"cannot sign {subject} with key '{key}'")
