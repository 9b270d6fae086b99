"""The transfer of one file from a web server: bounded, and resumed where it broke off.

The validator of a half transferred file, its ETag or time of modification, lies beside it: by
If-Range (RFC 9110, 13.1.5), a server goes on only with the same file.
"""
from __future__ import annotations

import contextlib
import hashlib
import io
import os
import re
import time
from collections.abc import Callable, Iterator
from typing import BinaryIO

import urllib3

from . import files, terminal
from .failure import Failure, cause
from .web import ANNOUNCED, Broken, Missing, Stalled, Web, short

CHUNK = 1 << 20

ATTEMPTS, FRUITLESS = 50, 3
"""Connections for one file: in all, and in a row that bring no byte."""

SLOWEST = 1024
"""Bytes a second that a server must send, over any time of `fetch_timeout` seconds."""

WRITE_OUT = 32 << 20
"""Bytes after which the kernel is asked to write them, so that the sync at the end is short."""

VALIDATOR = '.validator'

DRAW_SECONDS = 0.1

Watch = Callable[[int, int], object]
"""Is called with the bytes of a file that are here, and with those that it has, 0 if not known."""


class Excess(Failure):
    """The file is larger than it may be."""


def small(web: Web, url: str, maximum: int) -> bytes:
    """A file of at most ``maximum`` bytes, in memory; raises Failure."""
    content = io.BytesIO()
    _Transfer(web, url, content, '', 'sha256', maximum, lambda done, total: None).run()
    return content.getvalue()


def to_file(web: Web, url: str, path: str, algorithm: str, maximum: int, watch: Watch) -> str:
    """Bring a file of at most ``maximum`` bytes to ``path``, synced; its digest, hexadecimal.

    What an earlier call left at ``path`` is the beginning of it. After Broken the file is kept for
    the next call, after other Failures it is removed.
    """
    try:
        with open(path, 'a+b', buffering=0) as file:
            os.fchmod(file.fileno(), 0o600)
            transfer = _Transfer(web, url, file, path + VALIDATOR, algorithm, maximum, watch)
            transfer.run()
            os.fsync(file.fileno())
            return transfer.digest.hexdigest()
    except Broken as broken:
        if not (done := os.path.getsize(path) >> 10):
            raise
        raise type(broken)(f'{broken}; {done} KiB are kept: run the same again to go on') from None
    except OSError as error:
        raise Failure(f"cannot write '{path}': {cause(error)}") from None
    except Failure:
        forget(path)
        raise


@contextlib.contextmanager
def drawn(subject: str) -> Iterator[Watch]:
    """Draw how far a transfer is, on a terminal, while the block lasts."""
    with terminal.Progress() as progress:
        last = 0.0

        def watch(done: int, total: int) -> None:
            nonlocal last
            if progress and time.monotonic() - last > DRAW_SECONDS:
                last = time.monotonic()
                progress.draw_bytes(subject, done, total or done)
        yield watch


def forget(path: str) -> None:
    """Remove a half transferred file, if there is one."""
    for each in (path, path + VALIDATOR):
        files.remove(each)


class _Transfer:
    """A file on its way: how much of it is here, and the digest of that."""

    def __init__(self, web: Web, url: str, file: BinaryIO | io.FileIO, validator: str,
                 algorithm: str, maximum: int, watch: Watch) -> None:
        self._web = web
        self._url = url
        self._file = file
        self._validator_path = validator
        self._algorithm = algorithm
        self._maximum = maximum
        self._watch = watch
        self._validator = ''
        self._position = self._sent = 0
        self.digest = hashlib.new(algorithm)

    def run(self) -> None:
        """Transfer until the file is whole, over several connections; raises Failure."""
        self._resume()
        fruitless = 0
        for attempt in range(1, ATTEMPTS + 1):
            before = self._position
            try:
                self._connect()
                return
            except Broken as broken:
                fruitless = fruitless + 1 if self._position <= before else 0
                if isinstance(broken, Stalled) or fruitless == FRUITLESS or attempt == ATTEMPTS:
                    raise
                time.sleep(fruitless)

    def _start(self) -> None:
        """Begin with no byte."""
        self.digest = hashlib.new(self._algorithm)
        self._position = self._sent = 0
        self._file.seek(0)
        self._file.truncate()

    def _resume(self) -> None:
        """Begin after what is there of the file, if its validator is known."""
        with (contextlib.suppress(OSError, UnicodeDecodeError),
              open(self._validator_path, encoding='utf-8') as file):
            self._validator = file.read()
        if not self._validator.isprintable() or not self._validator:
            self._start()
            return
        self._file.seek(0)
        while data := self._file.read(CHUNK):
            self.digest.update(data)
            self._position += len(data)
        self._sent = self._position

    def _connect(self) -> None:
        """Read one answer of the server to its end; raises Broken where it ends too early."""
        headers = {}
        if self._position and self._validator:
            headers = {'Range': f'bytes={self._position}-', 'If-Range': self._validator}
        answer = self._web.open(self._url, headers)
        if (answer.status == 416 and self._position
                and answer.headers.get('Content-Range') == f'bytes */{self._position}'):
            answer.close()
            return    # a process was killed when all of it was here
        try:
            self._read(answer, self._expect(answer))
        except urllib3.exceptions.HTTPError as error:
            raise self._web.failure(self._url, error) from None
        finally:
            answer.close()

    def _expect(self, answer: urllib3.BaseHTTPResponse) -> int | None:
        """The bytes that the server announces; raises Failure for what cannot be the file."""
        status, announced = answer.status, answer.headers.get(ANNOUNCED)
        expected = int(announced) if announced else None
        if status == 206:
            place = re.fullmatch(r'bytes (\d{1,18})-(\d{1,18})/(?:\d+|\*)',
                                 answer.headers.get('Content-Range', ''))
            if not place or int(place[1]) != self._position or not self._position:
                self._start()
                raise Broken(f"'{self._url}': the server sends another part than was asked for")
            expected = int(place[2]) - int(place[1]) + 1
        elif status == 416:
            self._start()
            raise Broken(f"'{self._url}': the server does not have the part that was asked for")
        elif status == 200:
            if self._position:
                self._start()
            self._remember(answer)
        elif status in (404, 410):
            raise Missing(f"the server has no '{self._url}'")
        else:
            kind = Broken if status in (408, 425, 429) or status >= 500 else Failure
            raise kind(f"cannot read '{self._url}': status {status} "
                       f"{short(answer.reason or '')}".strip())
        if self._position + (expected or 0) > self._maximum:
            raise self._excess()
        return expected

    def _remember(self, answer: urllib3.BaseHTTPResponse) -> None:
        """Keep the validator of the file that begins now; a weak ETag is none."""
        etag = answer.headers.get('ETag', '')
        self._validator = etag if etag.startswith('"') else answer.headers.get('Last-Modified', '')
        if self._validator_path:
            with open(self._validator_path, 'w', encoding='utf-8') as file:
                file.write(self._validator)

    def _read(self, answer: urllib3.BaseHTTPResponse, expected: int | None) -> None:
        begin, count = self._position, 0
        total = begin + (expected or 0) if expected is not None else 0
        window, counted = time.monotonic(), 0
        while True:
            try:
                data = answer.read1(CHUNK, decode_content=False)
            except urllib3.exceptions.ReadTimeoutError:
                # A server that does not close the connection, though it was asked to.
                if count == expected:
                    return
                raise
            if not data:
                break
            count += len(data)
            if expected is not None and count > expected:
                raise Failure(f"'{self._url}': the server sends more than the {expected} bytes "
                              'that it announced')
            if begin + count > self._maximum:
                raise self._excess()
            self._take(data)
            self._watch(self._position, total)
            now = time.monotonic()
            if now - window >= self._web.seconds:
                if count - counted < SLOWEST * (now - window):
                    raise Stalled(f"'{self._url}': the server sends less than {SLOWEST} bytes a "
                                  'second')
                window, counted = now, count
        if expected is not None and count < expected:
            raise Broken(f"'{self._url}' breaks off after {self._position} of {total} bytes")

    def _take(self, data: bytes) -> None:
        self.digest.update(data)
        self._position += len(data)
        view = memoryview(data)
        while view:
            view = view[self._file.write(view):]
        if self._validator_path and self._position - self._sent >= WRITE_OUT:
            os.posix_fadvise(self._file.fileno(), self._sent, self._position - self._sent,
                             os.POSIX_FADV_DONTNEED)
            self._sent = self._position

    def _excess(self) -> Failure:
        return Excess(f"'{self._url}' has more than {self._maximum} bytes: it is refused")
