"""Overlays: a qcow2 file for each node on a read-only backing image; a partition as a file."""
from __future__ import annotations

import contextlib
import os
import stat
import time
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, BinaryIO, NamedTuple

from ..system import confinement, process
from ..system.confinement import Confined
from ..system.failure import Failure, cause
from . import sparse

if TYPE_CHECKING:
    import subprocess

    from .partition import Partition

EXPORT_SECONDS = 30

EXPORT = 'partition'
"""The name of the export in its scratch folder."""

Extents = Sequence[tuple[int, int]]
"""Where the bytes of a file lie: (offset, length) pairs in bytes, in order."""


class NoFuse(Failure):
    """This host cannot export by FUSE: /dev/fuse is missing, or we may not use it."""


def create(path: str, backing: str, size: str | None = None) -> None:
    """Make an empty qcow2 overlay at ``path`` on the raw image ``backing``; raises Failure.

    ``size`` is the disk's in bytes, the image's if it is None.
    """
    process.run(['qemu-img', 'create', '-q', '-f', 'qcow2', '-F', 'raw', '-b', backing, path,
                 *([size] if size else [])], f"cannot make overlay '{path}'")


@contextlib.contextmanager
def described(path: str, backing: str | None, size: int = 0,
              writing: bool = False) -> Iterator[Confined]:
    """The overlay ``path`` for QEMU's programs in the block, on the raw image ``backing`` or none.

    They run as the owner of the overlay, which stays as it is, and open what is named here,
    whatever the header of the overlay says. They may make files of ``size`` bytes, or of the
    overlay's, and a little more.
    """
    import json
    with contextlib.ExitStack() as stack:
        files = [stack.enter_context(open(path, 'rb+' if writing else 'rb'))]
        disk = {'driver': 'qcow2', 'file': _file(files[0]), 'read-only': not writing,
                'backing': None}
        if backing:
            files.append(stack.enter_context(open(backing, 'rb')))
            disk['backing'] = {'driver': 'raw', 'file': _file(files[1]), 'read-only': True}
        limit = max(os.path.getsize(path), size) + confinement.MORE
        yield Confined(f'json:{json.dumps(disk)}',
                       confinement.as_owner(files[0].fileno(), limit),
                       [file.fileno() for file in files])


def _file(file: BinaryIO) -> dict[str, str]:
    return {'driver': 'file', 'filename': f'/dev/fd/{file.fileno()}'}


def snapshot(path: str, option: str, label: str) -> None:
    """Make (-c), apply (-a) or delete (-d) an internal snapshot of an overlay that nobody uses."""
    with described(path, None, writing=True) as disk:
        disk.run(['qemu-img', 'snapshot', option, label, disk.device],
                 f"snapshot '{label}' of '{path}'")


def snapshots(path: str) -> list[str]:
    """The labels of the internal snapshots of an overlay."""
    import json
    with described(path, None) as disk:
        done = disk.run(['qemu-img', 'info', '--output=json', disk.device],
                        f"cannot look into '{path}'")
    return [one['name'] for one in json.loads(done.stdout).get('snapshots', ())]


class Template(NamedTuple):
    """A finished overlay; copies of it differ in the content of one file.

    ``content`` is the whole overlay, ``extents`` tell where in it the bytes of the file lie.
    """

    content: bytes
    extents: Extents

    def copy(self, path: str, content: bytes) -> None:
        """Make the overlay ``path`` with ``content`` in the file; raises Failure.

        ``content`` has the length of the template's.
        """
        whole, begin = bytearray(self.content), 0
        for offset, length in self.extents:
            whole[offset:offset + length] = content[begin:begin + length]
            begin += length
        try:
            # Closed to others from the beginning: the content may have a private key.
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
            with open(descriptor, 'wb+') as file:
                sparse.write(file.fileno(), whole)
                same = begin == len(content) and file.read() == whole
        except OSError as error:
            raise Failure(f"cannot make overlay '{path}': {cause(error)}") from None
        if not same:
            raise Failure(f"overlay '{path}' does not read back as written")


def template(path: str, extents: Extents, content: bytes) -> Template | None:
    """The Template of the overlay ``path``; None where the file's bytes are not found in it.

    ``extents`` tell where in the disk the ``content`` of the file lies; qemu-img(1) maps ranges of
    the disk to the overlay.
    """
    import json
    done = process.run(['qemu-img', 'map', '-f', 'qcow2', '--output=json', path],
                       f"cannot map overlay '{path}'")
    own = [part for part in json.loads(done.stdout)
           if part['depth'] == 0 and part['data'] and 'offset' in part]
    inside = []
    for offset, length in extents:
        part = next((part for part in own if part['start'] <= offset
                     and offset + length <= part['start'] + part['length']), None)
        if part is None:
            return None
        inside.append((part['offset'] + offset - part['start'], length))
    with open(path, 'rb') as file:
        whole = file.read()
    found = b''.join(whole[offset:offset + length] for offset, length in inside)
    return Template(whole, inside) if found == content else None


def empty_template(path: str) -> Template:
    """The Template of an overlay into which nothing is written."""
    with open(path, 'rb') as file:
        return Template(file.read(), ())


@contextlib.contextmanager
def exported(path: str, format: str, partition: Partition, scratch: str,
             backing: str | None = None) -> Iterator[Confined]:
    """Export a partition of the image ``path`` as a file while the block lasts; yields it.

    e2fsprogs replay a journal in a partition, but not in a disk. A qemu-storage-daemon serves the
    export in the folder ``scratch``, where only programs that the Confined runs see it. ``backing``
    is the raw image of an overlay, whatever its header says. Raises NoFuse where FUSE cannot be
    used, and Failure for any other error.
    """
    if not os.access('/dev/fuse', os.R_OK | os.W_OK):
        raise NoFuse('/dev/fuse cannot be used here')
    subject = f"cannot export '{path}'"
    limit = partition.length + confinement.MORE
    with contextlib.ExitStack() as stack:
        image = stack.enter_context(open(path, 'rb+')).fileno()
        folder = os.open(scratch, os.O_RDONLY | os.O_DIRECTORY)
        stack.callback(os.close, folder)
        kind = 'host_device' if stat.S_ISBLK(os.fstat(image).st_mode) else 'file'
        descriptors, nodes = [image], [f'driver={kind},node-name=file,filename=/dev/fd/{image}']
        if backing:
            descriptors.append(stack.enter_context(open(backing, 'rb')).fileno())
            file = f'/dev/fd/{descriptors[1]}'
            nodes += [f'driver=file,node-name=backing-file,filename={file},read-only=on',
                      'driver=raw,node-name=backing,file=backing-file,read-only=on',
                      f'driver={format},node-name=disk,file=file,backing=backing']
        else:
            nodes.append(f'driver={format},node-name=disk,file=file')
        nodes.append('driver=raw,node-name=partition,file=disk,'
                     f'offset={partition.offset},size={partition.length}')
        for descriptor in (image, folder):
            stack.enter_context(confinement.group_access(descriptor))
        with open(os.path.join(scratch, EXPORT), 'wb'):
            pass
        export = f'type=fuse,id=export,node-name=partition,writable=on,mountpoint={EXPORT}'
        argv = ['qemu-storage-daemon', *(word for node in nodes for word in ('--blockdev', node)),
                '--export', export]
        daemon = stack.enter_context(
            process.daemon(argv, subject, confinement.isolate(limit), descriptors, scratch))
        _wait_for(daemon, subject)
        yield Confined(EXPORT, confinement.enter(daemon.pid, limit))


@contextlib.contextmanager
def scratch_folder(path: str) -> Iterator[str]:
    """A folder beside ``path`` for the block, in the place of an older one, closed to others."""
    folder = scratch_of(path)
    discard(folder)
    os.mkdir(folder, 0o700)
    try:
        yield folder
    finally:
        discard(folder)


def scratch_of(path: str) -> str:
    """The path of the scratch_folder of ``path``."""
    return f'{path}.scratch'


def discard(folder: str) -> None:
    """Remove a folder with all files in it, if it is there."""
    if os.path.lexists(folder):
        import shutil
        shutil.rmtree(folder)


def _wait_for(daemon: subprocess.Popen[bytes], subject: str) -> None:
    """Wait until the daemon has mounted its export; raises NoFuse or Failure."""
    deadline = time.monotonic() + EXPORT_SECONDS
    while not _mounted(daemon):
        if daemon.poll() is not None:
            if refusal := confinement.refusal():
                raise NoFuse(refusal)
            output = daemon.stderr.read() if daemon.stderr else b''
            lines = output.decode(errors='replace').strip().splitlines()
            reason = lines[-1] if lines else 'it exited at once'
            raise (NoFuse if 'fuse' in reason.lower() else Failure)(f'{subject}: {reason}')
        if time.monotonic() > deadline:
            raise Failure(f'{subject}: no export after {EXPORT_SECONDS} s')
        time.sleep(0.002)


def _mounted(daemon: subprocess.Popen[bytes]) -> bool:
    """Whether the daemon has mounted its export, as its own mount namespace shows."""
    try:
        with open(f'/proc/{daemon.pid}/mountinfo', encoding='utf-8',
                  errors='surrogateescape') as file:
            # The mount point is the fifth field, the type the first one after '-' (proc(5)).
            return any(line.split()[4].endswith(f'/{EXPORT}') and ' - fuse' in line
                       for line in file)
    except OSError:
        return False
