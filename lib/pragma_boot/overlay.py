"""Overlays: a qcow2 file a node on a read-only backing image; and a partition exported as a file."""
import contextlib
import os
import time
from typing import NamedTuple

from . import process
from .failure import Failure, cause

EXPORT_SECONDS = 30


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


def _quoted(value):
    """A value inside a QEMU option string, where a comma is written twice."""
    return str(value).replace(',', ',,')


@contextlib.contextmanager
def exported(path, format, partition, mountpoint):
    """Export ``partition`` of the image ``path`` as the file ``mountpoint`` for the block.

    The export is the partition itself, not the disk, so that e2fsprogs replay its journal. It is
    served by a qemu-storage-daemon that ends with the block and dies with us. Yields
    ``mountpoint``; raises NoFuse where FUSE cannot be used, Failure for what else goes wrong.
    """
    if not os.access('/dev/fuse', os.R_OK | os.W_OK):
        raise NoFuse('/dev/fuse cannot be used here')
    subject = f"cannot export '{path}'"
    argv = ['qemu-storage-daemon',
            '--blockdev', f'driver=file,node-name=file,filename={_quoted(path)}',
            '--blockdev', f'driver={format},node-name=disk,file=file',
            '--blockdev', f'driver=raw,node-name=partition,file=disk,'
                          f'offset={partition.offset},size={partition.length}',
            '--export', 'type=fuse,id=export,node-name=partition,writable=on,'
                        f'mountpoint={_quoted(mountpoint)}']
    release(mountpoint)
    with open(mountpoint, 'wb'):
        pass
    try:
        with process.kept(argv, subject) as daemon:
            _wait_for(daemon, mountpoint, partition.length, subject)
            yield mountpoint
    except Failure as error:
        if 'fuse' in str(error).lower():
            raise NoFuse(str(error)) from None
        raise
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(mountpoint)


def release(path):
    """Unmount what a qemu-storage-daemon that was killed left at ``path`` or below it."""
    with open('/proc/self/mounts', encoding='utf-8', errors='surrogateescape') as file:
        # A space is written as \040 there (fstab(5)).
        points = [line.split()[1].encode('latin-1', 'replace').decode('unicode_escape')
                  for line in file if ' fuse' in line]
    for point in points:
        if point == path or point.startswith(f'{path}/'):
            process.run(['fusermount3', '-u', '-z', point], f"cannot unmount '{point}'")


def discard(folder):
    """Remove a scratch folder with all in it, a dead export included; one that is gone is fine."""
    import shutil
    release(folder)
    shutil.rmtree(folder, ignore_errors=not os.path.lexists(folder))


def _wait_for(daemon, mountpoint, length, subject):
    """Wait until the export is there: the empty file has the partition's length."""
    deadline = time.monotonic() + EXPORT_SECONDS
    while os.stat(mountpoint).st_size != length:
        if daemon.poll() is not None:
            lines = daemon.stderr.read().decode(errors='replace').strip().splitlines()
            raise Failure(f'{subject}: {lines[-1] if lines else "it ended at once"}')
        if time.monotonic() > deadline:
            raise Failure(f'{subject}: no export after {EXPORT_SECONDS} s')
        time.sleep(0.002)
