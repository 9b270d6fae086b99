"""Writing a node's own files into /root of its overlay, without a mount on the host.

Two writers: debugfs on the partition exported by FUSE, milliseconds a node, for ext2/3/4; and
guestfish, an appliance of seconds, for any other file system and where there is no FUSE.
"""
import contextlib
import os
import re
import subprocess
import threading
from typing import NamedTuple

from . import overlay, partition, process, tool
from .document import image
from .failure import Failure
from .files import temporary
from .vcout import Projection

BANNER = re.compile(r'debugfs \d[\w.]* \(|Allocated inode: \d+$|debugfs: ')
"""All that debugfs says when every command succeeded: it returns 0 on failed commands too."""

GUESTFS_ENVIRONMENT = {'LIBGUESTFS_BACKEND': 'direct', 'LIBGUESTFS_BACKEND_SETTINGS': 'force_tcg'}
"""libguestfs without libvirt, and without a KVM that may be there and not work."""


class Secret(NamedTuple):
    """A file for /root of a guest: its path below /root, fixed by us, and its bytes; mode 0600."""

    path: str
    content: bytes


class Plan:
    """What is to be written into each node's disk of a document."""

    def __init__(self, root, folder, host):
        self._root = root
        self._folder = folder
        self._host = host
        self._projection = Projection(root)
        with open(os.path.join(folder, 'id_ed25519'), 'rb') as file:
            self._private_key = file.read()

    def files(self, node):
        """The files of one node: vc-out.xml, and on the frontend the key to the compute nodes."""
        files = [Secret('vc-out.xml', self._projection.of(node.get('name')))]
        if node.get('role') == 'frontend':
            files.append(Secret('.ssh/id_ed25519', self._private_key))
        return files

    def path(self, node):
        """Where a node's disk is, or will be."""
        return os.path.join(self._folder, f"{node.get('name')}.qcow2")

    def carry_out(self, node):
        """Make a node's disk, whole or not at all. Raises Failure."""
        found = image(self._root, node.get('role'))
        part = partition.Partition(int(found.get('offset')), int(found.get('length')),
                                   found.get('filesystem'), found.get('inject'))
        path = self.path(node)
        draft = temporary(path)
        try:
            overlay.create(draft, found.get('path'))
            inject(draft, part, self.files(node), f"node '{node.get('name')}'")
            with open(draft, 'rb+') as file:
                os.fsync(file.fileno())
            self._host.give(draft, 0o600)
            os.replace(draft, path)
        finally:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(draft)


def inject(path, part, files, subject):
    """Write ``files`` (Secrets) into the overlay at ``path``, and read them back.

    ``part`` is the image's Partition. Raises Failure. Where the quick way cannot be gone for
    want of FUSE, and for no other reason, the slow one is, with a line that says so.
    """
    scratch = f'{path}.scratch'
    overlay.discard(scratch)
    os.mkdir(scratch, 0o700)
    try:
        if part.inject == 'debugfs' and not _told_no_fuse.is_set():
            try:
                mountpoint = os.path.join(scratch, 'partition')
                with overlay.exported(path, 'qcow2', part, mountpoint) as device:
                    _debugfs(device, scratch, files, subject)
                    partition.check(device, subject)
                return
            except overlay.NoFuse as error:
                if not _told_no_fuse.is_set():
                    _told_no_fuse.set()
                    tool.warn(f'no FUSE ({error}): writing through libguestfs, which is slower')
        _guestfish(path, scratch, files, subject)
    finally:
        overlay.discard(scratch)


_told_no_fuse = threading.Event()


def _debugfs(device, scratch, files, subject):
    """Write by debugfs commands of fixed words alone: ``!`` in one would run a shell."""
    folders = sorted({os.path.dirname(file.path) for file in files} - {''})
    _require(_stat(device, '/root', subject) == 'directory', subject, '/root is not a directory')
    commands = []
    for folder in folders:
        kind = _stat(device, f'/root/{folder}', subject)
        _require(kind in (None, 'directory'), subject, f'/root/{folder} is a {kind}')
        if kind is None:
            commands += [f'mkdir /root/{folder}',
                         f'set_inode_field /root/{folder} mode 040700']
    for count, file in enumerate(files):
        kind = _stat(device, f'/root/{file.path}', subject)
        _require(kind != 'directory', subject, f'/root/{file.path} is a directory')
        if kind is not None:
            # Removed first: a write through a link would reach what it leads to.
            commands.append(f'rm /root/{file.path}')
        _save(scratch, f'in{count}', file.content)
        commands += [f'cd /root/{os.path.dirname(file.path)}',
                     f'write in{count} {os.path.basename(file.path)}',
                     f'set_inode_field {os.path.basename(file.path)} mode 0100600']
    _run_debugfs(device, scratch, commands, subject, write=True)
    _run_debugfs(device, scratch, [f'dump /root/{file.path} out{count}'
                                   for count, file in enumerate(files)], subject)
    for count, file in enumerate(files):
        _verify(scratch, f'out{count}', file, subject)
        _require(_stat(device, f'/root/{file.path}', subject, '0600') == 'regular', subject,
                 f'/root/{file.path} is not a regular file of mode 0600')


def _require(condition, subject, message):
    if not condition:
        raise Failure(f'{subject}: {message}')


def _save(scratch, name, content):
    with open(os.path.join(scratch, name), 'xb') as file:
        file.write(content)


def _verify(scratch, name, file, subject):
    try:
        with open(os.path.join(scratch, name), 'rb') as back:
            same = back.read() == file.content
    except FileNotFoundError:
        same = False
    _require(same, subject, f'/root/{file.path} does not read back as written: '
                            'is the file system full?')


def _run_debugfs(device, scratch, commands, subject, write=False):
    done = subprocess.run(['debugfs', *(['-w'] if write else []), '-f', '-', device],
                          input='\n'.join(commands).encode() + b'\n', cwd=scratch,
                          capture_output=True, check=False)
    complaints = [line for line in done.stderr.decode(errors='replace').splitlines()
                  if line.strip() and not BANNER.match(line)]
    if complaints or done.returncode:
        raise Failure(f"{subject}: debugfs: {complaints[0] if complaints else done.returncode}")


def _stat(device, path, subject, mode=None):
    """The type of a file of the guest, None where there is none or its mode is another."""
    done = process.run(['debugfs', '-R', f'stat {path}', device], subject)
    found = re.search(r'Type: (\w+( \w+)?)\s+Mode:\s+(\d+)', done.stdout.decode(errors='replace'))
    if not found:
        if b'File not found' not in done.stderr:
            raise Failure(f'{subject}: {process.last_line(done)}')
        return None
    return found[1] if mode in (None, found[3]) else None


def _guestfish(path, scratch, files, subject):
    """Write by libguestfs, whose appliance mounts the root file system in a guest of its own."""
    script = ['run', 'mount /dev/sda1 /']
    folders = sorted({os.path.dirname(file.path) for file in files} - {''})
    for folder in folders:
        script += [f'-mkdir-mode /root/{folder} 0700']
    for name in ('', *folders):
        script.append(f'is-dir /root/{name}')
    for count, file in enumerate(files):
        _save(scratch, f'in{count}', file.content)
        # rm-f does not follow a link; upload would.
        script += [f'rm-f /root/{file.path}', f'upload in{count} /root/{file.path}',
                   f'chmod 0600 /root/{file.path}', f'chown 0 0 /root/{file.path}',
                   f'download /root/{file.path} out{count}']
    script += ['umount-all']
    try:
        done = subprocess.run(
            ['guestfish', '--format=qcow2', '--rw', '-a', os.path.abspath(path)],
            input='\n'.join(script).encode() + b'\n', cwd=scratch, capture_output=True,
            env={**os.environ, **GUESTFS_ENVIRONMENT}, check=False)
    except FileNotFoundError:
        raise Failure(f"{subject}: this image needs libguestfs: 'guestfish' is not installed") \
            from None
    if done.returncode:
        raise Failure(f'{subject}: libguestfs: {process.last_line(done)}')
    _require(b'false' not in done.stdout, subject, '/root or a folder in it is not a directory')
    for count, file in enumerate(files):
        _verify(scratch, f'out{count}', file, subject)
