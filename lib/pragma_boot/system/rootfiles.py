"""A node's own files below /root of an ext2, ext3 or ext4 file system, by debugfs(8).

All functions take the file system as a Confined, and a subject that begins the message of the
Failure that they raise.
"""
from __future__ import annotations

import os
import re
from collections.abc import Sequence
from typing import NamedTuple

from . import process
from .confinement import Confined
from .debugfs import run
from .failure import Failure
from .scratch import Secret, require, save, verify


class Status(NamedTuple):
    """The type of a file in an image ('regular' and so on, '' if it is missing), and its mode."""

    type: str
    mode: str


def write(volume: Confined, scratch: str, files: Sequence[Secret], subject: str) -> None:
    """Write ``files`` below /root and read them back; raises Failure.

    debugfs works in the folder ``scratch`` and copies from and to files in it. No name of the
    image is a word of a command, since ``!`` in one would start a shell.
    """
    folders = sorted({f'/root/{os.path.dirname(file.path)}' for file in files} - {'/root/'})
    paths = [f'/root/{file.path}' for file in files]
    before = _look_up(volume, ['/root', *folders, *paths], subject)
    require(before['/root'].type == 'directory', subject, '/root is not a directory')
    commands = []
    for folder in folders:
        require(before[folder].type in ('', 'directory'), subject, f'{folder} is not a directory')
        if not before[folder].type:
            commands += [f'mkdir {folder}', f'set_inode_field {folder} mode 040700']
    for count, (path, file) in enumerate(zip(paths, files, strict=True)):
        require(before[path].type != 'directory', subject, f'{path} is a directory')
        if before[path].type:
            # Removed first: a write through a link would change the file that it points to.
            commands.append(f'rm {path}')
        save(scratch, f'in{count}', file.content)
        commands += [f'cd {os.path.dirname(path)}',
                     f'write in{count} {os.path.basename(file.path)}',
                     f'set_inode_field {os.path.basename(file.path)} mode 0100600']
    run(volume, commands, subject, write=True)
    output = run(volume, [*(f'dump {path} out{count}' for count, path in enumerate(paths)),
                          *(f'stat {path}' for path in paths)], subject)
    written = _statuses(output, paths, subject)
    for count, (path, file) in enumerate(zip(paths, files, strict=True)):
        verify(scratch, f'out{count}', file, subject)
        require(written[path] == Status('regular', '0600'), subject,
                f'{path} is not a regular file of mode 0600')


def extents(volume: Confined, file: Secret, subject: str) -> list[tuple[int, int]]:
    """Where in the file system a written file lies: (offset, length) pairs in bytes, in order."""
    done = volume.run(['debugfs', '-f', '-', volume.device], subject,
                      input=f'show_super_stats -h\nblocks /root/{file.path}\n'.encode())
    output = done.stdout.decode(errors='replace')
    size = re.search(r'^Block size:\s+(\d+)$', output, re.M)
    _, echoed, numbers = output.rpartition(f'blocks /root/{file.path}\n')
    if not size or not echoed:
        raise Failure(f'{subject}: debugfs: {process.last_line(done)}')
    block, length = int(size[1]), len(file.content)
    return [(int(number) * block, min(block, length - index * block))
            for index, number in enumerate(numbers.split())]


def _look_up(volume: Confined, paths: Sequence[str], subject: str) -> dict[str, Status]:
    """The Status of each file in the image by its path; raises Failure."""
    done = volume.run(['debugfs', '-f', '-', volume.device], subject,
                      input=''.join(f'stat {path}\n' for path in paths).encode())
    statuses = _statuses(done.stdout.decode(errors='replace'), paths, subject)
    errors = done.stderr.decode(errors='replace').splitlines()
    for path in paths:
        above = statuses.get(os.path.dirname(path))
        # Where the parent is no directory, debugfs has another error, and the caller refuses it.
        if statuses[path].type or (above is not None and above.type != 'directory'):
            continue
        if not any(line.startswith(f'{path}: File not found') for line in errors):
            reason = next((line for line in errors if line.startswith(f'{path}: ')),
                          process.last_line(done))
            raise Failure(f'{subject}: {reason}')
    return statuses


def _statuses(output: str, paths: Sequence[str], subject: str) -> dict[str, Status]:
    """The Status of each file, by what a debugfs printed for ``stat`` of ``paths``, in this order.

    A link of the image may have lines in its target that imitate others: raises Failure.
    """
    lines = output.split('\n')
    places = [index for path in paths for index, line in enumerate(lines)
              if line == f'debugfs: stat {path}']
    require(len(places) == len(paths) and places == sorted(places), subject,
            'the output of debugfs cannot be understood')
    found = {}
    for path, start, end in zip(paths, places, [*places[1:], len(lines)], strict=True):
        first = re.search(r'^Inode: .* Type: (\w+( \w+)?)\s+Mode:\s+(\d+)',
                          '\n'.join(lines[start + 1:end]), re.M)
        found[path] = Status(first[1], first[3]) if first else Status('', '')
    return found
