"""Overlays: a qcow2 file a node on a read-only backing image; and a partition exported as a file."""
import contextlib
import os
import stat
import time
from typing import NamedTuple

from ..system import confinement, process
from ..system.failure import Failure, cause

EXPORT_SECONDS = 30

EXPORT = 'partition'
"""The export's name in its scratch folder."""


class NoFuse(Failure):
    """This host exports nothing by FUSE: no /dev/fuse, or not the right to use it."""


def create(path, backing):
    """Make an empty qcow2 overlay at ``path`` on the raw image ``backing`` (absolute)."""
    process.run(['qemu-img', 'create', '-q', '-f', 'qcow2', '-F', 'raw', '-b', backing, path],
                f"cannot make overlay '{path}'")


class Template(NamedTuple):
    """A finished overlay, of which others are made that differ from it in one file's content alone.

    ``content`` is the overlay whole, ``places`` tells where in it the file's bytes lie: (offset,
    length) pairs in their order.
    """

    content: bytes
    places: list

    def copy(self, path, content):
        """Make the overlay at ``path`` with ``content`` in the file, as long as the template's; raises Failure."""
        whole, begin = bytearray(self.content), 0
        for offset, length in self.places:
            whole[offset:offset + length] = content[begin:begin + length]
            begin += length
        try:
            with open(path, 'xb+') as file:
                file.write(whole)
                file.seek(0)
                same = begin == len(content) and file.read() == whole
        except OSError as error:
            raise Failure(f"cannot make overlay '{path}': {cause(error)}") from None
        if not same:
            raise Failure(f"overlay '{path}' does not read back as written")


def template(path, places, content):
    """The Template of the overlay at ``path``; None where a file's bytes cannot be told in it.

    ``places`` tells where in the disk the file's ``content`` lies: (offset, length) pairs. Where
    a range of the disk lies in the overlay qemu-img(1), map, says.
    """
    import json
    done = process.run(['qemu-img', 'map', '-f', 'qcow2', '--output=json', path],
                       f"cannot map overlay '{path}'")
    own = [part for part in json.loads(done.stdout)
           if part['depth'] == 0 and part['data'] and 'offset' in part]
    inside = []
    for offset, length in places:
        part = next((part for part in own if part['start'] <= offset
                     and offset + length <= part['start'] + part['length']), None)
        if part is None:
            return None
        inside.append((part['offset'] + offset - part['start'], length))
    with open(path, 'rb') as file:
        whole = file.read()
    found = b''.join(whole[offset:offset + length] for offset, length in inside)
    return Template(whole, inside) if found == content else None


@contextlib.contextmanager
def exported(path, format, partition, scratch, backing=None):
    """Export ``partition`` of the image ``path`` as a file for the block: yields it, a Confined.

    The export is the partition itself, not the disk, so that e2fsprogs replay its journal. It is
    served by a qemu-storage-daemon that ends with the block and dies with us, in the folder
    ``scratch``, where only what is run on the Confined sees it. ``backing`` is the raw image that an
    overlay is on, whatever its header says. Raises NoFuse where FUSE cannot be used, Failure
    for what else goes wrong.
    """
    if not os.access('/dev/fuse', os.R_OK | os.W_OK):
        raise NoFuse('/dev/fuse cannot be used here')
    if confinement.refusal():
        raise NoFuse(confinement.refusal())
    subject = f"cannot export '{path}'"
    most = partition.length + confinement.MORE
    with contextlib.ExitStack() as stack:
        image = stack.enter_context(open(path, 'rb+')).fileno()
        folder = os.open(scratch, os.O_RDONLY | os.O_DIRECTORY)
        stack.callback(os.close, folder)
        kind = 'host_device' if stat.S_ISBLK(os.fstat(image).st_mode) else 'file'
        descriptors, nodes = [image], [f'driver={kind},node-name=file,filename=/dev/fd/{image}']
        if backing:
            descriptors.append(stack.enter_context(open(backing, 'rb')).fileno())
            nodes += [f'driver=file,node-name=backing-file,filename=/dev/fd/{descriptors[1]},read-only=on',
                      'driver=raw,node-name=backing,file=backing-file,read-only=on',
                      f'driver={format},node-name=disk,file=file,backing=backing']
        else:
            nodes.append(f'driver={format},node-name=disk,file=file')
        nodes.append('driver=raw,node-name=partition,file=disk,'
                     f'offset={partition.offset},size={partition.length}')
        for descriptor in (image, folder):
            stack.enter_context(confinement.shared(descriptor))
        with open(os.path.join(scratch, EXPORT), 'wb'):
            pass
        argv = ['qemu-storage-daemon', *(word for node in nodes for word in ('--blockdev', node)),
                '--export', 'type=fuse,id=export,node-name=partition,writable=on,mountpoint=' + EXPORT]
        daemon = stack.enter_context(process.kept(argv, subject, confinement.apart(most), descriptors,
                                                  scratch))
        _wait_for(daemon, subject)
        yield confinement.Confined(EXPORT, confinement.beside(daemon.pid, most))


def discard(folder):
    """Remove a scratch folder with all in it; one that is gone is fine."""
    import shutil
    shutil.rmtree(folder, ignore_errors=not os.path.lexists(folder))


def _wait_for(daemon, subject):
    """Wait until the export is mounted, where the daemon sees it; raises NoFuse or Failure."""
    deadline = time.monotonic() + EXPORT_SECONDS
    while not _mounted(daemon):
        if daemon.poll() is not None:
            lines = daemon.stderr.read().decode(errors='replace').strip().splitlines()
            reason = lines[-1] if lines else 'it ended at once'
            raise (NoFuse if 'fuse' in reason.lower() else Failure)(f'{subject}: {reason}')
        if time.monotonic() > deadline:
            raise Failure(f'{subject}: no export after {EXPORT_SECONDS} s')
        time.sleep(0.002)


def _mounted(daemon):
    """Whether the daemon has mounted its export."""
    try:
        with open(f'/proc/{daemon.pid}/mountinfo', encoding='utf-8', errors='surrogateescape') as file:
            # The mount point is the fifth field, the type the first after a '-' (proc(5)).
            return any(line.split()[4].endswith(f'/{EXPORT}') and ' - fuse' in line for line in file)
    except OSError:
        return False
