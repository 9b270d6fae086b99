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
from .scratch import require

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
    require_success(done, subject)
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


def run(volume: Confined, commands: Iterable[str], subject: str, write: bool = False,
        descriptors: Sequence[int] = ()) -> str:
    """Run commands of debugfs; what they print. Raises Failure unless all succeed."""
    options = ['-w'] if write else []
    done = volume.run(['debugfs', *options, '-f', '-', volume.device], subject,
                      input='\n'.join(commands).encode() + b'\n', statuses=None,
                      descriptors=descriptors)
    require_success(done, subject)
    return done.stdout.decode(errors='replace')


def require_success(done: subprocess.CompletedProcess[bytes], subject: str) -> None:
    """Raise Failure unless every command of a finished debugfs succeeded."""
    complaints = [line for line in done.stderr.decode(errors='replace').splitlines()
                  if line.strip() and not re.match(BANNER, line)]
    if complaints or done.returncode:
        raise Failure(f'{subject}: debugfs: '
                      f'{complaints[0] if complaints else process.last_line(done)}')
