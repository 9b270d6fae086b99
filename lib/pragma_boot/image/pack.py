"""Compress a stream of bytes by several threads, as gzip or zstd."""
from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from typing import BinaryIO

from ..system import interruption, process
from ..system.failure import Failure
from .sparse import CHUNK

GZIP_LEVEL = 1
"""Of ISA-L, 0 to 3: files of level 3 are not smaller, and take three times as long."""


def gzip(chunks: Iterable[bytes | bytearray], file: BinaryIO) -> None:
    """Write ``chunks`` to the open file as one gzip member, by ISA-L."""
    from isal import igzip_threaded
    with igzip_threaded.open(file, 'wb', compresslevel=GZIP_LEVEL, threads=threads(),
                             block_size=CHUNK) as stream:
        for chunk in chunks:
            stream.write(chunk)


def zstd(chunks: Iterable[bytes | bytearray], file: BinaryIO) -> None:
    """Write ``chunks`` to the open file as one frame of zstd(1); raises Failure."""
    import shutil
    import subprocess
    if not shutil.which('zstd'):
        raise Failure("'zstd' is needed for --format zst, and is not installed")
    with interruption.held() as release:
        running = subprocess.Popen(process.bound(['zstd', '-q', '-T0', '-c']),
                                   stdin=subprocess.PIPE, stdout=file, stderr=subprocess.PIPE)
        with running:
            try:
                release()
                assert running.stdin
                for chunk in chunks:
                    running.stdin.write(chunk)
                stderr = running.communicate()[1]
            except BrokenPipeError:
                stderr = running.communicate()[1]
            except BaseException:
                running.kill()
                raise
    if running.returncode:
        done = subprocess.CompletedProcess(['zstd'], running.returncode, b'', stderr)
        raise Failure(f'cannot compress: {process.last_line(done)}')


def threads() -> int:
    """The CPUs that we may use."""
    return len(os.sched_getaffinity(0))


FORMATS: dict[str, Callable[[Iterable[bytes | bytearray], BinaryIO], None]] = {
    'gz': gzip, 'zst': zstd}
"""The functions that compress to a file, by the suffix of its name."""
