"""Disk images: an author's raw or .gz file, unpacked to a sparse raw file."""
import contextlib
import io
import os
import stat

from ..system.failure import Failure, cause

BLOCK = 4096
CHUNK = 1 << 20
SECTOR = 512
GZIP_MAGIC = b'\x1f\x8b'

DISGUISES = {
    b'QFI\xfb': 'qcow2', b'QED\0': 'qed', b'KDMV': 'vmdk', b'COWD': 'vmdk', b'# Disk DescriptorFile': 'vmdk',
    b'conectix': 'vpc', b'vhdxfile': 'vhdx', b'<<< ': 'vdi', b'LUKS\xba\xbe': 'luks',
    b'WithoutFreeSpace': 'parallels', b'WithouFreSpacExt': 'parallels', b'Bochs Virtual HD': 'bochs',
}
"""How formats begin that QEMU would recognize: an image that is one of them is not raw."""

WRITE_OUT = 32 << 20
"""Bytes after which what was written is sent to the disk, so that syncing it at the end is short."""

_ZEROS = bytes(CHUNK)


def open_source(path):
    """An author's image opened to read; raises Failure where it is not a regular file."""
    try:
        # O_NONBLOCK: a FIFO would block here for good.
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    except OSError as error:
        raise Failure(f"cannot open image '{path}': {cause(error)}") from None
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise Failure(f"image '{path}' is not a regular file")
    return open(descriptor, 'rb', buffering=0)


def identity(path):
    """What tells whether a source file changed: its place, size, inode and times."""
    with open_source(path) as file:
        found = os.fstat(file.fileno())
    return f'{path}\n{found.st_size} {found.st_ino} {found.st_mtime_ns} {found.st_ctime_ns}'


class _Hashed(io.RawIOBase):
    """A file that is hashed as it is read."""

    def __init__(self, file, meter):
        self._file = file
        self._meter = meter
        self._position = 0
        import hashlib
        self.digest = hashlib.sha256()

    def readable(self):
        return True

    def readinto(self, buffer):
        count = self._file.readinto(buffer)
        self.digest.update(memoryview(buffer)[:count])
        if self._meter is not None:
            self._tell(count)
        return count

    def _tell(self, count):
        """Write a byte to the meter for each CHUNK that was read."""
        before = self._position // CHUNK
        self._position += count
        with contextlib.suppress(OSError):
            os.write(self._meter, b'.' * (self._position // CHUNK - before))


def unpack(path, target, most, meter=None):
    """Write the raw image of the file ``path`` sparse to ``target``, an open empty file.

    A file that begins as gzip is unpacked by ISA-L, every member of it, CRC and length checked
    (RFC 1952). Returns the SHA-256 of the source, hexadecimal. Raises Failure for one that is
    damaged, empty, not raw, not whole sectors, or larger than ``most`` bytes unpacked. How far it is
    in the source is told on ``meter``, a descriptor: a byte a CHUNK.
    """
    with open_source(path) as file:
        hashed = _Hashed(file, meter)
        packed = file.read(2) == GZIP_MAGIC
        if path.endswith('.gz') and not packed:
            raise Failure(f"image '{path}' is not gzip, though its name says so")
        file.seek(0)
        try:
            if packed:
                # Unpacked by a thread of the library's beside this one, which writes.
                from isal import igzip_threaded
                with igzip_threaded.open(hashed, block_size=CHUNK) as stream:
                    size = _copy_sparse(stream, target, most, path)
            else:
                size = _copy_sparse(hashed, target, most, path)
        except (EOFError, ValueError) as error:
            raise Failure(f"cannot unpack image '{path}': {error}") from None
        except OSError as error:
            # igzip.BadGzipFile is an OSError without a number.
            reason = error if error.errno is None else cause(error)
            raise Failure(f"cannot unpack image '{path}': {reason}") from None
        except Exception as error:
            if type(error).__module__.startswith(('isal', 'igzip', 'zlib')):
                raise Failure(f"cannot unpack image '{path}': {error}") from None
            raise
        while hashed.read(CHUNK):
            pass
    _refuse_size(size, most, path)
    return hashed.digest.hexdigest()


@contextlib.contextmanager
def readable(path, most, folder):
    """An author's image as a raw file for the block: its path, and what it is.

    One in .gz, and as root one that others may not read, is unpacked into a sparse file without a name in
    ``folder``, so that nothing is left of it whatever ends us. The author's file is read, no more.
    """
    with open_source(path) as file:
        head, found = file.read(CHUNK), os.fstat(file.fileno())
    # As root, programs that read it are nobody's.
    if head[:2] != GZIP_MAGIC and not path.endswith('.gz') and (os.geteuid() or found.st_mode & 0o044 == 0o044):
        _refuse_disguise(head, path)
        _refuse_size(found.st_size, most, path)
        yield path, f'the image is raw ({found.st_size >> 20} MiB)'
        return
    import tempfile
    with tempfile.TemporaryFile(dir=folder) as scratch:
        unpack(path, scratch, most)
        there = os.fstat(scratch.fileno())
        yield f'/dev/fd/{scratch.fileno()}', (
            f"the image is raw{', in .gz' * (head[:2] == GZIP_MAGIC)} ({there.st_size >> 20} MiB; "
            f'{there.st_blocks * 512 >> 20} MiB of {folder} to look)')


def _refuse_disguise(head, path):
    for magic, kind in DISGUISES.items():
        if head.startswith(magic):
            raise Failure(f"image '{path}' is {kind}, not raw: convert it with qemu-img")


def _refuse_size(size, most, path):
    if size == 0:
        raise Failure(f"image '{path}' is empty")
    if size > most:
        raise Failure(f"image '{path}' unpacks to more than {most} bytes "
                      "(image_max_size in site_conf.conf)")
    if size % SECTOR:
        raise Failure(f"image '{path}' has {size} bytes, not whole sectors of {SECTOR}: "
                      "it is cut short, or no disk image")


def _copy_sparse(stream, target, most, path):
    """Copy ``stream`` leaving a hole for each block of zeros; returns the bytes in all."""
    position = sent = 0
    buffer = bytearray(CHUNK)
    view = memoryview(buffer)
    descriptor = target.fileno()
    while True:
        count = _fill(stream, view)
        if position == 0:
            _refuse_disguise(buffer, path)
        if position + count > most:
            _refuse_size(position + count, most, path)
        if count < CHUNK or buffer != _ZEROS:
            _write_blocks(descriptor, buffer, count, position)
        position += count
        if position - sent >= WRITE_OUT:
            # Linux begins to write dirty pages that are not needed, and keeps them meanwhile.
            os.posix_fadvise(descriptor, sent, position - sent, os.POSIX_FADV_DONTNEED)
            sent = position
        if count < CHUNK:
            break
    os.ftruncate(descriptor, position)
    return position


def _fill(stream, view):
    """Read until ``view`` is full or the stream ends; returns the bytes read."""
    count = 0
    while count < len(view):
        got = stream.readinto(view[count:])
        if not got:
            break
        count += got
    return count


def _write_blocks(descriptor, buffer, count, position):
    """Write the runs of blocks among the first ``count`` bytes that are not all zeros."""
    start = None
    for offset in range(0, count, BLOCK):
        end = min(offset + BLOCK, count)
        # Compared as bytes: a memoryview is compared element by element, fifty times slower.
        if buffer[offset:end] == _ZEROS[:end - offset]:
            if start is not None:
                _write_all(descriptor, memoryview(buffer)[start:offset], position + start)
                start = None
        elif start is None:
            start = offset
    if start is not None:
        _write_all(descriptor, memoryview(buffer)[start:count], position + start)


def _write_all(descriptor, view, position):
    while view:
        count = os.pwrite(descriptor, view, position)
        view, position = view[count:], position + count
