"""Programs of others, each run to its end in a session of its own, which ends with ours."""
import contextlib
import os
import signal
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from typing import IO, cast

from . import interruption, log, process
from .failure import INTERRUPTED, SHORTAGE, Failure, cause

_running: set[subprocess.Popen] = set()
_terminated = False

GRACE_SECONDS = 5
"""The time to end after SIGTERM that a program with a time limit has."""


def run(argv: list[str], subject: str, env: dict[str, str] | None = None) -> bytes:
    """Run ``argv`` to its end with an empty standard input; its standard output.

    As ``finish``. Its standard error is passed on when it succeeds. Where it fails, Failure quotes
    its last line, and has its status if that is 3 or 130.
    """
    done = finish(argv, subject, env)
    if done.returncode:
        status = done.returncode if done.returncode in (SHORTAGE, INTERRUPTED) else None
        raise Failure(f'{subject}: {process.last_line(done)}', status)
    log.write(done.stderr.decode(errors='replace'))
    return done.stdout


def finish(argv: list[str], subject: str, env: dict[str, str] | None = None, input: bytes = b'',
           seconds: float | None = None) -> subprocess.CompletedProcess[bytes]:
    """Run ``argv`` to its end, whatever its status, with ``input`` on its standard input.

    The program and all that it started get SIGTERM where this tool is interrupted, where it is
    killed, and after ``seconds``. An interrupted tool waits for the program, and one whose
    ``seconds`` are over sends SIGKILL if it does not end. Raises Failure for that, and for a
    program that cannot be run.
    """
    # Files, not pipes: a machine that the program leaves running may keep its streams open.
    with (tempfile.TemporaryFile() as stdin, tempfile.TemporaryFile() as stdout,
          tempfile.TemporaryFile() as stderr, interruption.held() as release,
          _guard() as guarded):
        stdin.write(input)
        stdin.seek(0)
        try:
            child = subprocess.Popen(process.bound(argv), stdin=stdin, stdout=stdout,
                                     stderr=stderr, env=env, start_new_session=True)
        except OSError as error:
            raise Failure(f"{subject}: cannot run '{argv[0]}': {cause(error)}") from None
        _running.add(child)
        guarded(child.pid)
        try:
            release()
            if _terminated:
                _terminate(child)
            child.wait(seconds)
        except BaseException as error:
            _terminate(child)
            _await_end(child, seconds)
            if isinstance(error, subprocess.TimeoutExpired):
                raise Failure(f'{subject} did not end in {seconds:.0f} s: '
                              'it was terminated') from None
            raise
        finally:
            _running.discard(child)
        stdout.seek(0)
        stderr.seek(0)
        return subprocess.CompletedProcess(argv, child.returncode, stdout.read(), stderr.read())


@contextlib.contextmanager
def terminated() -> Iterator[None]:
    """Send SIGTERM to every program that runs now or is started by a thread in the block."""
    global _terminated
    _terminated = True
    try:
        for child in list(_running):
            _terminate(child)
        yield
    finally:
        _terminated = False


@contextlib.contextmanager
def _guard() -> Iterator[Callable[[object], None]]:
    """For the block, a process that sends SIGTERM to a session if we are killed; it gets its id.

    The parent-death signal of process.bound reaches the program alone, not what it started.
    """
    # If it gets no id, 'done' is what it reads first, and no process has that id.
    script = 'read -r group && { read -r line || kill -s TERM -- "-$group"; }'
    with subprocess.Popen(['sh', '-c', script], bufsize=0, stdin=subprocess.PIPE,
                          stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                          start_new_session=True) as guard:
        def tell(word: object) -> None:
            with contextlib.suppress(OSError):
                cast(IO[bytes], guard.stdin).write(f'{word}\n'.encode())

        try:
            yield tell
        finally:
            tell('done')


def _terminate(child: subprocess.Popen, number: int = signal.SIGTERM) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(child.pid, number)


def _await_end(child: subprocess.Popen, seconds: float | None) -> None:
    """Wait for a child that was terminated; one with a time limit is killed."""
    try:
        child.wait(None if seconds is None else GRACE_SECONDS)
    except subprocess.TimeoutExpired:
        _terminate(child, signal.SIGKILL)
        child.wait()
