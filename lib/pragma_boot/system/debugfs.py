"""Reading and writing files of an ext2/3/4 file system by debugfs(8)."""
import os
import re
from typing import NamedTuple

from . import process
from .failure import Failure
from .scratch import require, save, verify

BANNER = re.compile(r'debugfs \d[\w.]* \(|Allocated inode: \d+$')
"""All that debugfs says on stderr when every command succeeded: it returns 0 on failed ones too."""

NAME = re.compile(r'[A-Za-z0-9_.+@][A-Za-z0-9_.:+@-]*')
"""Names of an image's that may be words of a command: debugfs reads none of them otherwise."""

LABEL = 'security.selinux'
"""The attribute without which SELinux lets nobody at a file."""


class Entry(NamedTuple):
    """A file or folder of the guest: its mode with the type (stat(2)), its owners, its size in bytes."""

    mode: int
    uid: int
    gid: int
    size: int


def is_name(name):
    """Whether ``name`` may be a word of a command, and leads to no other folder."""
    return bool(NAME.fullmatch(name)) and name not in ('.', '..')


def listing(volume, folders, subject):
    """What ``folders`` of a Confined hold: {folder: {name: Entry}}, {} for one that is not there.

    Links above a folder's last name are followed. Names that are no word of a command are left out.
    """
    done = volume.run(['debugfs', '-f', '-', volume.device], subject,
                      input=''.join(f'ls -p {folder}\n' for folder in folders).encode())
    found, now, left = {}, None, list(folders)
    for line in done.stdout.decode(errors='replace').split('\n'):
        # No name has a '/', so that one with a newline in it looks like neither kind of line.
        entry = re.fullmatch(r'/\d+/(\d+)/(\d+)/(\d+)/([^/]+)/(\d*)/', line)
        if left and line == f'debugfs: ls -p {left[0]}':
            now = found.setdefault(left.pop(0), {})
        elif entry and is_name(entry[4]):
            now[entry[4]] = Entry(int(entry[1], 8), int(entry[2]), int(entry[3]), int(entry[5] or 0))
    require(not left, subject, f'debugfs: {process.last_line(done)}')
    return found


def superblock(volume, subject):
    """The fields of the superblock of a Confined, as debugfs(8) prints them: {name: value}.

    Not by dumpe2fs(8): that of e2fsprogs 1.47.1 and later takes no ``?offset=``. Raises Failure for a
    file system that cannot be opened.
    """
    done = volume.run(['debugfs', '-R', 'show_super_stats -h', volume.device], subject)
    _refuse_complaints(done, subject)
    return dict(re.findall(r'^([^:\n]+):\s+(.*)$', done.stdout.decode(errors='replace'), re.M))


def content(volume, path, entry, subject):
    """The bytes of a file whose Entry a listing has; raises Failure where they are not all there."""
    done = volume.run(['debugfs', '-R', f'cat {path}', volume.device], subject)
    require(len(done.stdout) == entry.size, subject, f"cannot read '{path}': {process.last_line(done)}")
    return done.stdout


def mend(volume, edits, there, moment, subject):
    """Remove and rewrite files of a Confined: ``edits`` has each one's new bytes, None to remove it.

    ``there`` is the listing of their folders. A file is rewritten as a new one in its place, of the
    old one's mode, owners and label, so that its other names, if it has any, keep the old bytes.
    """
    commands, descriptors = [f'set_current_time @{moment}'], []
    try:
        for path, data in edits.items():
            folder, name = os.path.split(path)
            if data is not None:
                entry, label = there[folder][name], _label(volume, path, subject)
                source = _in_memory(data, descriptors)
            commands.append(f'rm {path}')
            if data is not None:
                commands += [f'cd {folder}', f'write {source} {name}',
                             f'set_inode_field {path} mode 0{entry.mode:o}',
                             f'set_inode_field {path} uid {entry.uid}',
                             f'set_inode_field {path} gid {entry.gid}']
                if label:
                    commands.append(f'ea_set -f {_in_memory(label, descriptors)} {path} {LABEL}')
        _run(volume, commands, subject, write=True, descriptors=descriptors)
    finally:
        for descriptor in descriptors:
            os.close(descriptor)
    now = listing(volume, sorted({os.path.dirname(path) for path in edits}), subject)
    for path, data in edits.items():
        folder, name = os.path.split(path)
        entry = now[folder].get(name)
        wanted = None if data is None else there[folder][name]._replace(size=len(data))
        require(entry == wanted and (data is None or content(volume, path, entry, subject) == data), subject,
                f"'{path}' is not as mended: is the file system full?")


def _in_memory(data, descriptors):
    """The name by which a confined program reads ``data``; its open file is added to ``descriptors``."""
    descriptors.append(os.memfd_create('pragma'))
    os.pwrite(descriptors[-1], data, 0)
    return f'/dev/fd/{descriptors[-1]}'


def _label(volume, path, subject):
    """The SELinux label of a file, empty where it has none."""
    done = volume.run(['debugfs', '-R', f'ea_get -x -V {path} {LABEL}', volume.device], subject)
    return bytes.fromhex(done.stdout.decode())


def write(volume, scratch, files, subject):
    """Write ``files`` (injection.Secret) below /root of the file system in a Confined.

    By commands of fixed words alone: ``!`` in one would run a shell. ``scratch`` is the folder
    that it works in, for what it reads and writes. Raises Failure that begins with ``subject``.
    """
    folders = sorted({os.path.dirname(file.path) for file in files} - {''})
    require(_stat(volume, '/root', subject) == 'directory', subject, '/root is not a directory')
    commands = []
    for folder in folders:
        kind = _stat(volume, f'/root/{folder}', subject)
        require(kind in (None, 'directory'), subject, f'/root/{folder} is not a directory')
        if kind is None:
            commands += [f'mkdir /root/{folder}',
                         f'set_inode_field /root/{folder} mode 040700']
    for count, file in enumerate(files):
        kind = _stat(volume, f'/root/{file.path}', subject)
        require(kind != 'directory', subject, f'/root/{file.path} is a directory')
        if kind is not None:
            # Removed first: a write through a link would reach what it leads to.
            commands.append(f'rm /root/{file.path}')
        save(scratch, f'in{count}', file.content)
        commands += [f'cd /root/{os.path.dirname(file.path)}',
                     f'write in{count} {os.path.basename(file.path)}',
                     f'set_inode_field {os.path.basename(file.path)} mode 0100600']
    _run(volume, commands, subject, write=True)
    _run(volume, [f'dump /root/{file.path} out{count}' for count, file in enumerate(files)], subject)
    for count, file in enumerate(files):
        verify(scratch, f'out{count}', file, subject)
        require(_stat(volume, f'/root/{file.path}', subject, '0600') == 'regular', subject,
                 f'/root/{file.path} is not a regular file of mode 0600')


def places(volume, file, subject):
    """Where the content of a written Secret lies in a Confined: (byte offset, length) pairs in order."""
    done = volume.run(['debugfs', '-f', '-', volume.device], subject,
                      input=f'show_super_stats -h\nblocks /root/{file.path}\n'.encode())
    told = done.stdout.decode(errors='replace')
    size = int(re.search(r'^Block size:\s+(\d+)$', told, re.M)[1])
    blocks = [int(number) for number in told.rsplit(f'blocks /root/{file.path}\n', 1)[1].split()]
    length = len(file.content)
    return [(block * size, min(size, length - index * size)) for index, block in enumerate(blocks)]


def _run(volume, commands, subject, write=False, descriptors=()):
    done = volume.run(['debugfs', *(['-w'] if write else []), '-f', '-', volume.device], subject,
                      input='\n'.join(commands).encode() + b'\n', statuses=None, descriptors=descriptors)
    _refuse_complaints(done, subject)


def _refuse_complaints(done, subject):
    """Raise Failure unless every command of a finished debugfs succeeded."""
    complaints = [line for line in done.stderr.decode(errors='replace').splitlines()
                  if line.strip() and not BANNER.match(line)]
    if complaints or done.returncode:
        raise Failure(f"{subject}: debugfs: {complaints[0] if complaints else done.returncode}")


def _stat(volume, path, subject, mode=None):
    """The type of a file of the guest, None where there is none or its mode is another."""
    done = volume.run(['debugfs', '-R', f'stat {path}', volume.device], subject)
    found = re.search(r'Type: (\w+( \w+)?)\s+Mode:\s+(\d+)', done.stdout.decode(errors='replace'))
    if not found:
        if b'File not found' not in done.stderr:
            raise Failure(f'{subject}: {process.last_line(done)}')
        return None
    return found[1] if mode in (None, found[3]) else None
