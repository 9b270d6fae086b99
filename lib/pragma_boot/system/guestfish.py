"""Find and write any file system by guestfish(1), whose appliance is a guest of its own."""
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

Disk = tuple[str, str, str, Sequence[Secret], str]
"""The path of a disk, its file system's name where it is the first disk of an appliance, a scratch
folder, the files for it, and the subject of messages."""


def inspect(path: str, subject: str) -> tuple[dict[str, str], list[str]]:
    """The file systems of a raw image: {device: type}, and which of them are roots of systems.

    Devices are named as libguestfs names them: /dev/sda1, /dev/VG/LV, btrfsvol:/dev/sda1/SUBVOLUME.
    Raises Failure.
    """
    listed, roots = _answers(path, ['run'], ['list-filesystems', '-inspect-os'], subject)
    pairs = (line.rpartition(': ') for line in listed.splitlines())
    return {device: kind for device, _, kind in pairs if device}, roots.splitlines()


def write(disks: Sequence[Disk], format: str = 'qcow2') -> None:
    """Write files below /root of a file system of each disk, and read them back; raises Failure.

    All disks, at most as many as LETTERS, are of one ``format``.
    """
    arguments, script, expected = [], ['run'], []
    for letter, (path, device, scratch, files, subject) in zip(LETTERS, disks, strict=False):
        arguments += [f'--format={format}', '-a', os.path.abspath(path)]
        commands, checks = _script(device.replace('/dev/sda', f'/dev/sd{letter}'), scratch, files)
        script += commands
        expected += [(subject, *check) for check in checks]
    done = _run(['--rw', *arguments], script)
    answers = done.stdout.decode(errors='replace').split()
    for answer, (subject, wanted, message) in zip(answers, expected, strict=False):
        require(answer == wanted, subject, message)
    if done.returncode or len(answers) != len(expected):
        subject = expected[min(len(answers), len(expected) - 1)][0]
        raise Failure(f'{subject}: libguestfs: {process.last_line(done)}')
    for _, _, scratch, files, subject in disks:
        for count, file in enumerate(files):
            verify(scratch, f'out{count}', file, subject)


def ask(path: str, device: str, commands: Sequence[str], subject: str) -> list[str]:
    """What guestfish prints for each of ``commands`` about a file system of a raw image.

    It is mounted read-only in an appliance. A command that begins with '-' may fail. Raises
    Failure.
    """
    return _answers(path, ['run', f'mount-ro {device} /'], commands, subject)


def _answers(path: str, before: Sequence[str], commands: Sequence[str], subject: str) -> list[str]:
    """What guestfish prints for each of ``commands``, after the commands ``before``."""
    # A random mark, which no file of the image can have.
    mark = os.urandom(16).hex()
    script = [*before]
    for command in commands:
        script += [command, f'echo {mark}']
    done = _run_on(path, script)
    answers = done.stdout.decode(errors='replace').split(f'{mark}\n')
    if done.returncode or len(answers) != len(commands) + 1:
        raise Failure(f'{subject}: libguestfs: {process.last_line(done)}')
    return answers[:-1]


def replay_journal(path: str, device: str, subject: str) -> None:
    """Replay the journal in a partition of a raw image: the appliance's kernel does on mounting."""
    done = _run(['--rw', '--format=raw', '-a', os.path.abspath(path)],
                ['run', f'mount {device} /', 'umount-all'])
    if done.returncode:
        raise Failure(f'{subject}: cannot replay the journal: {process.last_line(done)}')


def _run_on(path: str, script: Sequence[str]) -> subprocess.CompletedProcess[bytes]:
    """Run a script on a raw image, which is only read.

    libguestfs does not open an image without a name (/proc/PID/fd/N): qemu-nbd serves one.
    """
    if not path.startswith('/proc/'):
        return _run(['--ro', '--format=raw', '-a', os.path.abspath(path)], script)
    import tempfile
    import time
    with tempfile.TemporaryDirectory() as folder:
        socket = os.path.join(folder, 'nbd')
        argv = ['qemu-nbd', '--read-only', '--format=raw', '--persistent', '--shared=0',
                f'--socket={socket}', path]
        with process.daemon(argv, 'cannot use libguestfs') as server:
            while server.poll() is None and not os.path.exists(socket):
                time.sleep(0.01)
            drive = f'add-drive "" readonly:true format:raw protocol:nbd server:unix:{socket}'
            return _run([], [drive, *script])


def _run(arguments: Sequence[str], script: Sequence[str]) -> subprocess.CompletedProcess[bytes]:
    import shutil
    if not shutil.which('guestfish'):
        raise Failure("libguestfs is needed here: 'guestfish' is not installed")
    return process.run(process.bound(['guestfish', *arguments]), 'cannot use libguestfs',
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
