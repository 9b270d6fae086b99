"""Programs of others, each run to its end in a session of its own, which ends with ours."""
import contextlib
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator

from . import interruption, process
from .failure import INTERRUPTED, SHORTAGE, Failure, cause

_running: set[subprocess.Popen] = set()
_terminated = False


def run(argv: list[str], subject: str, env: dict[str, str] | None = None) -> bytes:
    """Run ``argv`` to its end with an empty standard input; its standard output.

    Where this tool is interrupted, the program and all that it started get SIGTERM, and it is
    waited for. Its standard error is passed on when it succeeds. Where it fails, Failure quotes
    its last line, and has its status if that is 3 or 130.
    """
    # Files, not pipes: a machine that the program leaves running may keep its streams open.
    with (tempfile.TemporaryFile() as stdout, tempfile.TemporaryFile() as stderr,
          interruption.held() as release):
        try:
            child = subprocess.Popen(process.bound(argv), stdin=subprocess.DEVNULL, stdout=stdout,
                                     stderr=stderr, env=env, start_new_session=True)
        except OSError as error:
            raise Failure(f"{subject}: cannot run '{argv[0]}': {cause(error)}") from None
        _running.add(child)
        try:
            release()
            if _terminated:
                _terminate(child)
            child.wait()
        except BaseException:
            _terminate(child)
            child.wait()
            raise
        finally:
            _running.discard(child)
        stdout.seek(0)
        stderr.seek(0)
        done = subprocess.CompletedProcess(argv, child.returncode, stdout.read(), stderr.read())
    if done.returncode:
        failure = Failure(f'{subject}: {process.last_line(done)}')
        if done.returncode in (SHORTAGE, INTERRUPTED):
            failure.status = done.returncode
        raise failure
    sys.stderr.write(done.stderr.decode(errors='replace'))
    return done.stdout


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


def _terminate(child: subprocess.Popen) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(child.pid, signal.SIGTERM)
