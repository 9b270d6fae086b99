"""Writing files into an ext2/3/4 file system by debugfs(8), and reading them back."""
import os
import re

from . import process
from .failure import Failure
from .scratch import require, save, verify

BANNER = re.compile(r'debugfs \d[\w.]* \(|Allocated inode: \d+$')
"""All that debugfs says on stderr when every command succeeded: it returns 0 on failed ones too."""


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


def _run(volume, commands, subject, write=False):
    done = volume.run(['debugfs', *(['-w'] if write else []), '-f', '-', volume.device], subject,
                      input='\n'.join(commands).encode() + b'\n', statuses=None)
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
