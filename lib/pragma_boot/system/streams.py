"""The standard streams of a filter: read to a limit, written whole."""
import os
from typing import BinaryIO

from .failure import Failure, cause


def read(stream: BinaryIO | None, maximum: int, subject: str) -> bytes:
    """All bytes of ``stream``, at most ``maximum``; raises Failure for a closed, empty or longer one."""
    if stream is None:
        raise Failure('standard input is closed')
    if stream.isatty():
        raise Failure(f'{subject} is a terminal: pipe a document in')
    data = stream.read(maximum + 1)
    if not data.strip():
        raise Failure(f"no document on {subject}" if subject == 'standard input' else f'{subject} is empty')
    if len(data) > maximum:
        raise Failure(f'{subject} is larger than {maximum >> 20} MiB')
    return data


def write(stdout: BinaryIO | None, data: bytes) -> None:
    """Write all of ``data``; raises Failure where the output is closed or full."""
    if stdout is None:
        raise Failure('standard output is closed')
    try:
        stdout.write(data)
        stdout.flush()
    except OSError as error:
        # The interpreter would try to write its buffer again at exit, and report the error again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        raise Failure(f'cannot write standard output: {cause(error)}') from None
