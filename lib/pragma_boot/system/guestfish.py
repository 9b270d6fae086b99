"""Write files into any file system by guestfish(1), whose appliance is a guest of its own."""
from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING

from . import process
from .failure import Failure
from .scratch import Secret, require, save, verify

if TYPE_CHECKING:
    import subprocess

NEEDED = 'debugfs does not write this file system'

LETTERS = 'abcdefghijklmnopqrst'
"""Of the disks of one appliance, /dev/sda to /dev/sdt; one of its own follows."""

ENVIRONMENT = {'LIBGUESTFS_BACKEND': 'direct', 'LIBGUESTFS_BACKEND_SETTINGS': 'force_tcg'}
"""libguestfs without libvirt, and without KVM, which may be present and not work."""

Disk = tuple[str, str, Sequence[Secret], str]
"""The path of a disk, a scratch folder, the files for it, and the subject of messages."""


def write(disks: Sequence[Disk], partition: int, format: str = 'qcow2') -> None:
    """Write files below /root of a partition of each disk, and read them back; raises Failure.

    All disks, at most as many as LETTERS, are of one ``format``.
    """
    arguments, script, expected = [], ['run'], []
    for letter, (path, scratch, files, subject) in zip(LETTERS, disks, strict=False):
        arguments += [f'--format={format}', '-a', os.path.abspath(path)]
        commands, checks = _script(f'/dev/sd{letter}{partition}', scratch, files)
        script += commands
        expected += [(subject, *check) for check in checks]
    done = _run(arguments, script)
    answers = done.stdout.decode(errors='replace').split()
    for answer, (subject, wanted, message) in zip(answers, expected, strict=False):
        require(answer == wanted, subject, message)
    if done.returncode or len(answers) != len(expected):
        subject = expected[min(len(answers), len(expected) - 1)][0]
        raise Failure(f'{subject}: libguestfs: {process.last_line(done)}')
    for _, scratch, files, subject in disks:
        for count, file in enumerate(files):
            verify(scratch, f'out{count}', file, subject)


def replay_journal(path: str, partition: int, subject: str) -> None:
    """Replay the journal in a partition of a raw image: the appliance's kernel does on mounting."""
    done = _run(['--format=raw', '-a', os.path.abspath(path)],
                ['run', f'mount /dev/sda{partition} /', 'umount-all'])
    if done.returncode:
        raise Failure(f'{subject}: cannot replay the journal: {process.last_line(done)}')


def _run(arguments: Sequence[str], script: Sequence[str]) -> subprocess.CompletedProcess[bytes]:
    import shutil
    if not shutil.which('guestfish'):
        raise Failure("libguestfs is needed here: 'guestfish' is not installed")
    return process.run(process.bound(['guestfish', '--rw', *arguments]), 'cannot use libguestfs',
                       input='\n'.join(script).encode() + b'\n', env={**os.environ, **ENVIRONMENT},
                       statuses=None)


def _script(device: str, scratch: str,
            files: Sequence[Secret]) -> tuple[list[str], list[tuple[str, str]]]:
    """The commands of guestfish for one disk; the answers it must give, each with a message."""
    commands = [f'mount {device} /', 'is-dir /root']
    checks = [('true', '/root is not a directory')]
    for folder in sorted({os.path.dirname(file.path) for file in files} - {''}):
        commands += [f'-mkdir-mode /root/{folder} 0700', f'is-dir /root/{folder}']
        checks.append(('true', f'/root/{folder} is not a directory'))
    for count, file in enumerate(files):
        save(scratch, f'in{count}', file.content)
        inside, outside = f'/root/{file.path}', f'"{scratch}/'
        # upload follows a link, rm-f does not.
        commands += [f'is-dir {inside}', f'rm-f {inside}', f'upload {outside}in{count}" {inside}',
                     f'chmod 0600 {inside}', f'chown 0 0 {inside}',
                     f'download {inside} {outside}out{count}"', f'is-file {inside}']
        checks += [('false', f'{inside} is a directory'),
                   ('true', f'{inside} is not a regular file')]
    return [*commands, 'umount-all'], checks
