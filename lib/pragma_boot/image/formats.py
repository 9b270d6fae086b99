"""Formats of disk images: recognize an author's file and unpack it to a sparse raw file.

FORMATS is the one table. A format that can be unpacked has a decoder there, all others are
refused; a new one is one more entry.
"""
from __future__ import annotations

import contextlib
import importlib
import os
from collections.abc import Callable, Iterator, Sequence
from typing import BinaryIO, NamedTuple

from ..system import child, confinement
from ..system.failure import Failure
from . import decode, qcow2
from .decode import Decoder, Trailing
from .meter import Follower
from .source import Source
from .sparse import CHUNK, Excess

SECTOR = 512

MEMORY = 1 << 30
"""Bytes of address space of a decoder, unless its entry has more: RLIMIT_AS kills it beyond."""


class Format(NamedTuple):
    """A format of image files: its name, and the ``magic`` bytes that files of it begin with.

    A file whose name ends in ``suffix`` must have the format. ``decode`` unpacks it in a confined
    child of at most ``memory`` bytes of address space; None refuses the format. ``module`` is
    imported before: nobody, as which the child runs, may not be able to read it. ``packed`` formats
    hold a file of another format.
    """

    name: str
    magic: bytes
    suffix: str = ''
    decode: Decoder | None = None
    memory: int = MEMORY
    packed: bool = False
    module: str = ''


RAW = Format('raw', b'', '.raw', decode.copy)
QCOW2 = Format('qcow2', qcow2.MAGIC, '.qcow2', qcow2.convert, 2 * MEMORY)

FORMATS = (
    Format('gzip', b'\x1f\x8b', '.gz', decode.gunzip, packed=True,
           module='isal.igzip_threaded'),
    Format('xz', b'\xfd7zXZ\0', '.xz', decode.unxz, packed=True),
    Format('zstd', b'\x28\xb5\x2f\xfd', '.zst', decode.unzstd, packed=True),
    # the skippable frame that files of pzstd begin with
    Format('zstd', b'\x50\x2a\x4d\x18', '', decode.unzstd, packed=True),
    Format('bzip2', b'BZh', '.bz2', decode.bunzip2, packed=True),
    QCOW2,
    *(Format(name, magic) for name, magic in (
        ('qed', b'QED\0'), ('vmdk', b'KDMV'), ('vmdk', b'COWD'), ('vmdk', b'# Disk DescriptorFile'),
        ('vpc', b'conectix'), ('vhdx', b'vhdxfile'), ('vdi', b'<<< '), ('luks', b'LUKS\xba\xbe'),
        ('parallels', b'WithoutFreeSpace'), ('parallels', b'WithouFreSpacExt'),
        ('bochs', b'Bochs Virtual HD'))),
    RAW,
)
"""In order; the last one matches every file. The names and magic bytes are those of QEMU."""


def recognize(head: bytes) -> Format:
    """The format of a file that begins with ``head``."""
    return next(one for one in FORMATS if head.startswith(one.magic))


def unpack(path: str, target: BinaryIO, maximum: int, folder: str, type: str = '',
           meter: int | None = None, parts: Sequence[str] = ()) -> str:
    """Write the raw image of the file ``path`` sparse to ``target``, an open empty file.

    ``parts`` are the files of an image in parts. Returns the SHA-256 of the source file,
    hexadecimal. Intermediate files have no name, and lie in ``folder``. Raises Failure for a source
    that is damaged, empty, of a refused format, not of ``type`` (inside its compression), not whole
    sectors, or larger than ``maximum`` bytes when unpacked. Progress is reported to the descriptor
    ``meter``.
    """
    import tempfile
    with Source(parts or [path]) as source, contextlib.ExitStack() as stack:
        outer, inner = _formats(source, path, type)
        convert = inner == QCOW2
        direct = convert and not outer.packed and _is_readable(source)
        # QEMU opens the file anew, so its position is not ours: what it has written is as much.
        follow = Follower(source, meter, (lambda: os.fstat(target.fileno()).st_blocks * 512)
                           if direct else source.position)
        packed = source
        if not direct:
            first = stack.enter_context(tempfile.TemporaryFile(dir=folder)) if convert else target
            _decode(outer if outer.packed else RAW, source, first, maximum, path, follow)
            if convert:
                packed = stack.enter_context(Source([f'/proc/self/fd/{first.fileno()}']))
        if convert:
            number, = packed.descriptors
            size = qcow2.require_harmless(number, maximum, f"image '{path}'")
            _require_size(size, maximum, path)
            os.ftruncate(target.fileno(), size)
            with (confinement.group_access(number, writing=False),
                  confinement.group_access(target.fileno())):
                _decode(QCOW2, packed, target, maximum, path, follow)
        _require_size(os.fstat(target.fileno()).st_size, maximum, path)
        found = recognize(os.pread(target.fileno(), CHUNK, 0))
        if found != RAW:
            raise Failure(f"image '{path}' is {found.name} inside its {inner.name}: "
                          'convert it with qemu-img to raw or qcow2')
        return follow.digest()


def _decode(format: Format, source: Source, target: BinaryIO, maximum: int, path: str,
            follow: Callable[[], object] = lambda: None, begin: bool = False) -> None:
    """Decode ``source`` to ``target`` in a confined child; raises Failure.

    With ``begin``, only ``maximum`` bytes of what may be more.
    """
    def work() -> None:
        assert format.decode
        try:
            with source.joined() as descriptor:
                format.decode(descriptor, target.fileno(), maximum)
        except Excess:
            if not begin:
                raise Failure(_too_large(path, maximum)) from None
        except Trailing as trailing:
            raise Failure(f"image '{path}' has data after the end of its {format.name}, from byte "
                          f'{trailing.args[0]} on: it was damaged on its way, or appended to'
                          ) from None
    if format.module:
        importlib.import_module(format.module)
    child.call(work, f"cannot unpack image '{path}'", {*source.descriptors, target.fileno()},
               maximum, format.memory, follow)


def temporary_folder() -> str:
    """Where images are unpacked to be looked into: TMPDIR, or /var/tmp, which is on a disk.

    Raises Failure where there is no such folder.
    """
    folder = os.environ.get('TMPDIR') or '/var/tmp'
    if not os.path.isdir(folder):
        raise Failure(f"TMPDIR '{folder}' of the environment is not a folder")
    return folder


@contextlib.contextmanager
def readable(path: str, maximum: int, folder: str,
             type: str = '', parts: Sequence[str] = ()) -> Iterator[tuple[str, str]]:
    """An author's image as a raw file for the block: its path, and a sentence for the user.

    Another format is unpacked to a sparse file without a name in ``folder``, which disappears
    however we exit. So is, if we are root, an image that others cannot read, since the programs
    that read it run as nobody. The other parameters and the Failures are those of ``unpack``.
    """
    with Source(parts or [path]) as file:
        outer, inner = _formats(file, path, type)
        size, open_to_us = file.size, _is_readable(file)
    if outer == RAW and open_to_us:
        _require_size(size, maximum, path)
        yield path, f'the image is raw ({size >> 20} MiB)'
        return
    import tempfile
    with tempfile.TemporaryFile(dir=folder) as scratch:
        unpack(path, scratch, maximum, folder, type, parts=parts)
        raw = os.fstat(scratch.fileno())
        yield f'/proc/{os.getpid()}/fd/{scratch.fileno()}', (
            f"the image is {inner.name}{f', in {outer.suffix}' if outer.packed else ''} "
            f'({raw.st_size >> 20} MiB; {raw.st_blocks * 512 >> 20} MiB of {folder} to look)')


def _formats(source: Source, path: str, type: str) -> tuple[Format, Format]:
    """The format of the open image ``path``, and of the file that it holds where it is packed.

    Otherwise both are the same. Raises Failure for a refused one.
    """
    outer = inner = recognize(source.head(CHUNK))
    _require_open(outer, path)
    _require_name(outer, path)
    if outer.packed:
        with open(os.memfd_create('pragma'), 'w+b') as begin:
            _decode(outer, source, begin, CHUNK, path, begin=True)
            source.rewind()
            inner = recognize(os.pread(begin.fileno(), CHUNK, 0))
        if inner.packed:
            raise Failure(f"image '{path}' is {inner.name} inside its {outer.name}: unpack it once")
        _require_open(inner, path)
        _require_name(inner, path.removesuffix(outer.suffix), path)
    if type not in ('', inner.name):
        raise Failure(f"image '{path}' is {inner.name}, not {type}, as <driver type='{type}'> of "
                      'its disk says')
    return outer, inner


def _require_name(found: Format, name: str, path: str | None = None) -> None:
    for one in FORMATS:
        if one.suffix and name.endswith(one.suffix) and one.name != found.name:
            raise Failure(f"image '{path or name}' is not {one.name}, though its name says so")


def _require_open(found: Format, path: str) -> None:
    if found.decode is None:
        raise Failure(f"image '{path}' is {found.name}, not raw or qcow2: convert it with qemu-img")


def _is_readable(source: Source) -> bool:
    """Whether the user that confined programs run as can open an author's one file."""
    return len(source.descriptors) == 1 and (
        os.geteuid() != 0 or os.fstat(source.descriptors[0]).st_mode & 0o044 == 0o044)


def _require_size(size: int, maximum: int, path: str) -> None:
    if size == 0:
        raise Failure(f"image '{path}' is empty")
    if size > maximum:
        raise Failure(_too_large(path, maximum))
    if size % SECTOR:
        raise Failure(f"image '{path}' has {size} bytes, not whole sectors of {SECTOR}: "
                      "it is cut short, or no disk image")


def _too_large(path: str, maximum: int) -> str:
    return f"image '{path}' unpacks to more than {maximum} bytes (image_max_size in site_conf.conf)"
