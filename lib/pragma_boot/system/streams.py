"""The standard streams of a filter: read up to a limit, written whole."""
import os
from typing import BinaryIO

from .failure import Failure, cause


def read(stream: BinaryIO | None, maximum: int, subject: str) -> bytes:
    """All of ``stream``; raises Failure where it is closed, empty or longer than ``maximum`` bytes.

    ``subject`` names it in messages.
    """
    if stream is None:
        raise Failure('standard input is closed')
    if stream.isatty():
        raise Failure(f'{subject} is a terminal: pipe a document in')
    data = stream.read(maximum + 1)
    if not data.strip():
        raise Failure('no document on standard input' if subject == 'standard input'
                      else f'{subject} is empty')
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
        # At exit the interpreter would write its buffer again, and report the error a second time.
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        raise Failure(f'cannot write standard output: {cause(error)}') from None
