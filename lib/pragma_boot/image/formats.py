"""Formats of disk images: recognize an author's file and unpack it to a sparse raw file.

FORMATS is the one table. A format that can be unpacked has an opener there, all others are
refused; a new one is one more entry.
"""
from __future__ import annotations

import contextlib
import io
import os
import stat
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import BinaryIO, NamedTuple

from ..system.failure import Failure, cause
from . import sparse
from .meter import Meter
from .sparse import CHUNK, Stream

SECTOR = 512


Opener = Callable[[io.RawIOBase], AbstractContextManager[Stream]]


class Format(NamedTuple):
    """A format of image files: its name, and the ``magic`` bytes that files of it begin with.

    ``open`` takes an open source file and gives a Stream of the raw image; None refuses the format.
    A file whose name ends in ``suffix`` must have the format.
    """

    name: str
    magic: bytes
    open: Opener | None = None
    suffix: str = ''


def _gunzip(source: io.RawIOBase) -> AbstractContextManager[Stream]:
    """Unpack by ISA-L in a second thread: all members, CRC and length checked (RFC 1952)."""
    from isal import igzip_threaded
    return igzip_threaded.open(source, block_size=CHUNK)


RAW = Format('raw', b'', contextlib.nullcontext)

FORMATS = (
    Format('gzip', b'\x1f\x8b', _gunzip, '.gz'),
    *(Format(name, magic) for name, magic in (
        ('qcow2', b'QFI\xfb'), ('qed', b'QED\0'), ('vmdk', b'KDMV'), ('vmdk', b'COWD'),
        ('vmdk', b'# Disk DescriptorFile'), ('vpc', b'conectix'), ('vhdx', b'vhdxfile'),
        ('vdi', b'<<< '), ('luks', b'LUKS\xba\xbe'), ('parallels', b'WithoutFreeSpace'),
        ('parallels', b'WithouFreSpacExt'), ('bochs', b'Bochs Virtual HD'))),
    RAW,
)
"""In order; the last one matches every file. The names and magic bytes are those of QEMU."""


def recognize(head: bytes) -> Format:
    """The format of a file that begins with ``head``."""
    return next(one for one in FORMATS if head.startswith(one.magic))


def open_source(path: str) -> io.FileIO:
    """Open an author's image for reading; raises Failure where it is not a regular file."""
    try:
        # Without O_NONBLOCK, opening a FIFO would wait for a writer.
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    except OSError as error:
        raise Failure(f"cannot open image '{path}': {cause(error)}") from None
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise Failure(f"image '{path}' is not a regular file")
    return open(descriptor, 'rb', buffering=0)


def identity(path: str) -> str:
    """A text that changes with the source file: its path, size, inode and times."""
    with open_source(path) as file:
        found = os.fstat(file.fileno())
    return f'{path}\n{found.st_size} {found.st_ino} {found.st_mtime_ns} {found.st_ctime_ns}'


class _Hashed(io.RawIOBase):
    """A file that is hashed as it is read."""

    def __init__(self, file: io.FileIO, meter: Meter) -> None:
        import hashlib
        self._file = file
        self._meter = meter
        self.digest = hashlib.sha256()

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview, /) -> int:    # type: ignore[override]
        count = self._file.readinto(buffer)
        self.digest.update(memoryview(buffer)[:count])
        self._meter.advance(count)
        return count


def unpack(path: str, target: BinaryIO, maximum: int, meter: int | None = None) -> str:
    """Write the raw image of the file ``path`` sparse to ``target``, an open empty file.

    Returns the SHA-256 of the source file, hexadecimal. Raises Failure for a source that is
    damaged, empty, of a refused format, not whole sectors, or larger than ``maximum`` bytes when
    unpacked. Progress is reported to the descriptor ``meter``.
    """
    with open_source(path) as file:
        head = file.read(CHUNK)
        file.seek(0)
        hashed = _Hashed(file, Meter(meter))
        opener = _opener(head, path)
        try:
            with opener(hashed) as stream:
                # A packed file may hold any format.
                size = sparse.copy(stream, target.fileno(), maximum,
                                   lambda content: _require_open(recognize(content), path))
        except (EOFError, ValueError) as error:
            if isinstance(error, EOFError) and (trailing := _trailing(path)):
                raise Failure(f"image '{path}' has data after the end of its gzip, from byte "
                              f'{trailing} on: it was damaged on its way, or appended to') from None
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
    _require_size(size, maximum, path)
    return hashed.digest.hexdigest()


def _trailing(path: str) -> int:
    """Where data follows the last member of a gzip file that cannot be a member; 0 for none.

    ISA-L reports it in the same words as a file that is cut short.
    """
    import zlib
    with open_source(path) as file:
        while True:
            member, data = zlib.decompressobj(zlib.MAX_WBITS | 16), b''
            try:
                while not member.eof:
                    data = member.unconsumed_tail or file.read(CHUNK)
                    if not data:
                        return 0
                    member.decompress(data, CHUNK)
            except zlib.error:
                return 0
            end = file.tell() - len(member.unused_data)
            file.seek(end)
            following = file.read(2)
            if not following:
                return 0
            if not FORMATS[0].magic.startswith(following):
                return end
            file.seek(end)


@contextlib.contextmanager
def readable(path: str, maximum: int, folder: str) -> Iterator[tuple[str, str]]:
    """An author's image as a raw file for the block: its path, and a sentence for the user.

    A packed image is unpacked to a sparse file without a name in ``folder``, which disappears
    however we exit. So is, if we are root, an image that others cannot read, since the programs
    that read it run as nobody. ``maximum`` and the Failures are those of ``unpack``.
    """
    with open_source(path) as file:
        head, found = file.read(CHUNK), os.fstat(file.fileno())
    packed = recognize(head) != RAW
    _opener(head, path)
    if not packed and (os.geteuid() or found.st_mode & 0o044 == 0o044):
        _require_size(found.st_size, maximum, path)
        yield path, f'the image is raw ({found.st_size >> 20} MiB)'
        return
    import tempfile
    with tempfile.TemporaryFile(dir=folder) as scratch:
        unpack(path, scratch, maximum)
        raw = os.fstat(scratch.fileno())
        yield f'/dev/fd/{scratch.fileno()}', (
            f"the image is raw{', in .gz' * packed} ({raw.st_size >> 20} MiB; "
            f'{raw.st_blocks * 512 >> 20} MiB of {folder} to look)')


def _opener(head: bytes, path: str) -> Opener:
    """What opens the image ``path``, which begins with ``head``; raises Failure."""
    found = recognize(head)
    for one in FORMATS:
        if one.suffix and path.endswith(one.suffix) and one != found:
            raise Failure(f"image '{path}' is not {one.name}, though its name says so")
    return _require_open(found, path)


def _require_open(found: Format, path: str) -> Opener:
    if found.open is None:
        raise Failure(f"image '{path}' is {found.name}, not raw: convert it with qemu-img")
    return found.open


def _require_size(size: int, maximum: int, path: str) -> None:
    if size == 0:
        raise Failure(f"image '{path}' is empty")
    if size > maximum:
        raise Failure(f"image '{path}' unpacks to more than {maximum} bytes "
                      "(image_max_size in site_conf.conf)")
    if size % SECTOR:
        raise Failure(f"image '{path}' has {size} bytes, not whole sectors of {SECTOR}: "
                      "it is cut short, or no disk image")
