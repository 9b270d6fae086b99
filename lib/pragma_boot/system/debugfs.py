"""Read and write files of an ext2, ext3 or ext4 file system by debugfs(8).

All functions take the file system as a Confined, and a subject that begins the message of the
Failure that they raise.
"""
from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

from . import process
from .confinement import Confined
from .failure import Failure
from .scratch import Secret, require, save, verify

if TYPE_CHECKING:
    import subprocess

BANNER = r'debugfs \d[\w.]* \(|Allocated inode: \d+$'
"""All that debugfs prints on stderr where every command succeeds; it exits 0 where one fails."""

NAME = r'[A-Za-z0-9_.+@][A-Za-z0-9_.:+@-]*'
"""The file names of an image that debugfs reads as one word of a command."""

LABEL = 'security.selinux'
"""The attribute without which SELinux denies access to a file."""


class Entry(NamedTuple):
    """A file or folder in an image: its mode with the type (stat(2)), owner, group, and bytes."""

    mode: int
    uid: int
    gid: int
    size: int


class Status(NamedTuple):
    """What a file in an image is: 'regular', 'directory' and so on, '' for none; and its mode."""

    type: str
    mode: str


Listing = dict[str, dict[str, Entry]]
"""The entries of folders by their names: {folder: {name: Entry}}."""


def is_name(name: str) -> bool:
    """Whether ``name`` can be a word of a command and does not lead to another folder."""
    return bool(re.fullmatch(NAME, name)) and name not in ('.', '..')


def listing(volume: Confined, folders: Sequence[str], subject: str) -> Listing:
    """What ``folders`` hold, without names that debugfs cannot take; {} for a missing folder.

    Links in the path of a folder are followed, but for its last name.
    """
    done = volume.run(['debugfs', '-f', '-', volume.device], subject,
                      input=''.join(f'ls -p {folder}\n' for folder in folders).encode())
    found: Listing = {}
    entries: dict[str, Entry] = {}
    remaining = list(folders)
    for line in done.stdout.decode(errors='replace').split('\n'):
        # No name has a '/', so a name with a newline cannot imitate either kind of line.
        fields = re.fullmatch(r'/\d+/(\d+)/(\d+)/(\d+)/([^/]+)/(\d*)/', line)
        if remaining and line == f'debugfs: ls -p {remaining[0]}':
            entries = found.setdefault(remaining.pop(0), {})
        elif fields and is_name(fields[4]):
            entries[fields[4]] = Entry(int(fields[1], 8), int(fields[2]), int(fields[3]),
                                       int(fields[5] or 0))
    require(not remaining, subject, f'debugfs: {process.last_line(done)}')
    return found


def superblock(volume: Confined, subject: str) -> dict[str, str]:
    """The fields of the superblock, as debugfs prints them: {name: value}.

    Not by dumpe2fs(8): since e2fsprogs 1.47.1 it does not take ``?offset=``. Raises Failure for a
    file system that cannot be opened.
    """
    done = volume.run(['debugfs', '-R', 'show_super_stats -h', volume.device], subject)
    _require_success(done, subject)
    return dict(re.findall(r'^([^:\n]+):\s+(.*)$', done.stdout.decode(errors='replace'), re.M))


def content(volume: Confined, path: str, entry: Entry, subject: str) -> bytes:
    """The bytes of the file ``path``, which a listing has as ``entry``; raises Failure."""
    done = volume.run(['debugfs', '-R', f'cat {path}', volume.device], subject)
    require(len(done.stdout) == entry.size, subject,
            f"cannot read '{path}': {process.last_line(done)}")
    return done.stdout


def edit(volume: Confined, edits: Mapping[str, bytes | None], entries: Listing, seconds: int,
         subject: str) -> None:
    """Replace the content of files, or remove those whose new content is None; raises Failure.

    ``entries`` is the listing of their folders; ``seconds`` since the epoch is the time of the
    change. A new file with the mode, owners and label of the old one takes its place, so other
    hard links to the old file keep the old content.
    """
    commands, descriptors = [f'set_current_time @{seconds}'], []
    try:
        for path, data in edits.items():
            commands.append(f'rm {path}')
            if data is None:
                continue
            folder, name = os.path.split(path)
            entry, label = entries[folder][name], _label(volume, path, subject)
            descriptors.append(_in_memory(data))
            commands += [f'cd {folder}', f'write /dev/fd/{descriptors[-1]} {name}',
                         f'set_inode_field {path} mode 0{entry.mode:o}',
                         f'set_inode_field {path} uid {entry.uid}',
                         f'set_inode_field {path} gid {entry.gid}']
            if label:
                descriptors.append(_in_memory(label))
                commands.append(f'ea_set -f /dev/fd/{descriptors[-1]} {path} {LABEL}')
        run(volume, commands, subject, write=True, descriptors=descriptors)
    finally:
        for descriptor in descriptors:
            os.close(descriptor)
    _verify(volume, edits, entries, subject)


def _verify(volume: Confined, edits: Mapping[str, bytes | None], entries: Listing,
            subject: str) -> None:
    """Raise Failure unless the files are as ``edits`` changed them."""
    now = listing(volume, sorted({os.path.dirname(path) for path in edits}), subject)
    for path, data in edits.items():
        folder, name = os.path.split(path)
        entry = now[folder].get(name)
        expected = None if data is None else entries[folder][name]._replace(size=len(data))
        same = entry == expected
        if same and data is not None and entry is not None:
            same = content(volume, path, entry, subject) == data
        require(same, subject, f"'{path}' does not read back as written: is the file system full?")


def _in_memory(data: bytes) -> int:
    """The descriptor of a file in memory that holds ``data``."""
    descriptor = os.memfd_create('pragma')
    os.pwrite(descriptor, data, 0)
    return descriptor


def _label(volume: Confined, path: str, subject: str) -> bytes:
    """The SELinux label of a file, empty where it has none."""
    done = volume.run(['debugfs', '-R', f'ea_get -x -V {path} {LABEL}', volume.device], subject)
    return bytes.fromhex(done.stdout.decode())


def write(volume: Confined, scratch: str, files: Sequence[Secret], subject: str) -> None:
    """Write ``files`` below /root and read them back; raises Failure.

    debugfs works in the folder ``scratch`` and copies from and to files in it. No name of the
    image is a word of a command, since ``!`` in one would start a shell.
    """
    folders = sorted({f'/root/{os.path.dirname(file.path)}' for file in files} - {'/root/'})
    paths = [f'/root/{file.path}' for file in files]
    found = _found(volume, ['/root', *folders, *paths], subject)
    require(found['/root'].type == 'directory', subject, '/root is not a directory')
    commands = []
    for folder in folders:
        require(found[folder].type in ('', 'directory'), subject, f'{folder} is not a directory')
        if not found[folder].type:
            commands += [f'mkdir {folder}', f'set_inode_field {folder} mode 040700']
    for count, (path, file) in enumerate(zip(paths, files, strict=True)):
        require(found[path].type != 'directory', subject, f'{path} is a directory')
        if found[path].type:
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


def run(volume: Confined, commands: Iterable[str], subject: str, write: bool = False,
        descriptors: Sequence[int] = ()) -> str:
    """Run commands of debugfs; what they print. Raises Failure unless all succeed."""
    options = ['-w'] if write else []
    done = volume.run(['debugfs', *options, '-f', '-', volume.device], subject,
                      input='\n'.join(commands).encode() + b'\n', statuses=None,
                      descriptors=descriptors)
    _require_success(done, subject)
    return done.stdout.decode(errors='replace')


def _require_success(done: subprocess.CompletedProcess[bytes], subject: str) -> None:
    """Raise Failure unless every command of a finished debugfs succeeded."""
    complaints = [line for line in done.stderr.decode(errors='replace').splitlines()
                  if line.strip() and not re.match(BANNER, line)]
    if complaints or done.returncode:
        raise Failure(f'{subject}: debugfs: '
                      f'{complaints[0] if complaints else process.last_line(done)}')


def _found(volume: Confined, paths: Sequence[str], subject: str) -> dict[str, Status]:
    """The Status of each file in the image by its path; raises Failure."""
    done = volume.run(['debugfs', '-f', '-', volume.device], subject,
                      input=''.join(f'stat {path}\n' for path in paths).encode())
    found = _statuses(done.stdout.decode(errors='replace'), paths, subject)
    for path in paths:
        # What lies below no directory is not looked at.
        above = found.get(os.path.dirname(path))
        if not found[path].type and (above is None or above.type == 'directory') and (
                f'{path}: File not found'.encode() not in done.stderr):
            raise Failure(f'{subject}: {process.last_line(done)}')
    return found


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
