"""Writing files into any file system by guestfish(1), whose appliance is a guest of its own."""
import os

from . import process
from .failure import Failure
from .scratch import require, save, verify

NEEDED = 'the file system is not one that debugfs writes'

MOST_DISKS = 20
"""Disks of one appliance, named /dev/sda to /dev/sdt; it has one of its own after them."""

ENVIRONMENT = {'LIBGUESTFS_BACKEND': 'direct', 'LIBGUESTFS_BACKEND_SETTINGS': 'force_tcg'}
"""libguestfs without libvirt, and without a KVM that may be there and not work."""


def write(disks, format='qcow2'):
    """Write files below /root of several disks, partition 1 of each, and read them back.

    ``disks`` are tuples (path of a disk, of that ``format``, scratch folder, injection.Secrets,
    subject of a message). Raises Failure.
    """
    arguments, script, expected = [], ['run'], []
    for letter, (path, scratch, files, subject) in zip('abcdefghijklmnopqrst', disks):
        arguments += [f'--format={format}', '-a', os.path.abspath(path)]
        commands, checks = _script(f'/dev/sd{letter}1', scratch, files)
        script += commands
        expected += [(subject, *check) for check in checks]
    done = _run(arguments, script)
    answers = done.stdout.decode(errors='replace').split()
    for answer, (subject, wanted, message) in zip(answers, expected):
        require(answer == wanted, subject, message)
    if done.returncode or len(answers) != len(expected):
        subject = expected[min(len(answers), len(expected) - 1)][0]
        raise Failure(f'{subject}: libguestfs: {process.last_line(done)}')
    for _, scratch, files, subject in disks:
        for count, file in enumerate(files):
            verify(scratch, f'out{count}', file, subject)


def replay_journal(path, subject):
    """Replay the journal in partition 1 of a raw image: the appliance's kernel does by mounting it."""
    done = _run(['--format=raw', '-a', os.path.abspath(path)],
                ['run', 'mount /dev/sda1 /', 'umount-all'])
    if done.returncode:
        raise Failure(f'{subject}: cannot replay the journal: {process.last_line(done)}')


def _run(arguments, script):
    import shutil
    if not shutil.which('guestfish'):
        raise Failure("libguestfs is needed here: 'guestfish' is not installed")
    return process.run(process.bound(['guestfish', '--rw', *arguments]), 'cannot use libguestfs',
                       input='\n'.join(script).encode() + b'\n', env={**os.environ, **ENVIRONMENT},
                       statuses=None)


def _script(device, scratch, files):
    """guestfish's commands for one disk, and what it must answer, with the message if it does not."""
    commands = [f'mount {device} /', 'is-dir /root']
    checks = [('true', '/root is not a directory')]
    for folder in sorted({os.path.dirname(file.path) for file in files} - {''}):
        commands += [f'-mkdir-mode /root/{folder} 0700', f'is-dir /root/{folder}']
        checks.append(('true', f'/root/{folder} is not a directory'))
    for count, file in enumerate(files):
        save(scratch, f'in{count}', file.content)
        inside, outside = f'/root/{file.path}', f'"{scratch}/'
        # rm-f does not follow a link, upload would.
        commands += [f'is-dir {inside}', f'rm-f {inside}', f'upload {outside}in{count}" {inside}',
                     f'chmod 0600 {inside}', f'chown 0 0 {inside}',
                     f'download {inside} {outside}out{count}"', f'is-file {inside}']
        checks += [('false', f'{inside} is a directory'), ('true', f'{inside} is no regular file')]
    return [*commands, 'umount-all'], checks
