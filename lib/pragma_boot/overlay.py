"""Overlays: a qcow2 file a node on a read-only backing image; and a partition exported as a file."""
import contextlib
import os
import time

from . import process
from .failure import Failure

EXPORT_SECONDS = 30


class NoFuse(Failure):
    """This host exports nothing by FUSE: no /dev/fuse, or not the right to use it."""


def create(path, backing):
    """Make an empty qcow2 overlay at ``path`` on the raw image ``backing`` (absolute)."""
    process.run(['qemu-img', 'create', '-q', '-f', 'qcow2', '-F', 'raw', '-b', backing, path],
                f"cannot make overlay '{path}'")


def locked(path):
    """Whether a QEMU has the image open (qemu-img takes the same locks)."""
    done = process.run(['qemu-img', 'info', '-f', 'qcow2', path], f"cannot open '{path}'",
                       statuses=(0, 1))
    return b'lock' in done.stderr


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


def _wait_for(daemon, mountpoint, length, subject):
    """Wait until the export is there: the empty file has the partition's length."""
    deadline = time.monotonic() + EXPORT_SECONDS
    while os.stat(mountpoint).st_size != length:
        if daemon.poll() is not None:
            return_early(daemon, subject)
        if time.monotonic() > deadline:
            raise Failure(f'{subject}: no export after {EXPORT_SECONDS} s')
        time.sleep(0.002)


def return_early(daemon, subject):
    """Raise the Failure of a daemon that ended before its export was there."""
    lines = daemon.stderr.read().decode(errors='replace').strip().splitlines()
    raise Failure(f'{subject}: {lines[-1] if lines else "it ended at once"}')
