"""Child processes: run to completion with their status checked, or run in the background."""
from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from . import interruption
from .failure import Failure, cause

if TYPE_CHECKING:
    import subprocess


def run(argv: Sequence[str], subject: str, input: bytes | None = None,
        env: Mapping[str, str] | None = None, statuses: Collection[int] | None = (0,),
        wrap: Sequence[str] = (),
        descriptors: Sequence[int] = ()) -> subprocess.CompletedProcess[bytes]:
    """Run ``argv`` to completion; its CompletedProcess, with the output as bytes.

    ``wrap`` is a command that starts ``argv``; ``descriptors`` are inherited. Raises Failure for a
    program that is not there and for a status outside ``statuses`` (None accepts any). The message
    begins with ``subject``: ``cannot probe 'disk.img'``.
    """
    import subprocess
    with interruption.held() as release:
        try:
            child = subprocess.Popen([*wrap, *argv], env=env, pass_fds=descriptors,
                                     stdin=subprocess.DEVNULL if input is None else subprocess.PIPE,
                                     stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        except OSError as error:
            reason = f"cannot run '{argv[0]}': {cause(error)}"
            # Not the subject's fault: too many open files, too many processes, no memory.
            ours = error.errno in (errno.EMFILE, errno.ENFILE, errno.EAGAIN, errno.ENOMEM)
            raise Failure(reason if ours else f'{subject}: {reason}') from None
        with child:
            try:
                release()
                output = child.communicate(input)
            except BaseException:
                child.kill()
                child.wait()
                raise
    done = subprocess.CompletedProcess(argv, child.returncode, *output)
    if statuses is not None and done.returncode not in statuses:
        raise Failure(f'{subject}: {last_line(done)}')
    return done


def last_line(done: subprocess.CompletedProcess[bytes]) -> str:
    """Why a finished process failed: its last line on stderr, otherwise its status."""
    if done.returncode < 0:
        import signal
        return f'{done.args[0]} was killed: {signal.strsignal(-done.returncode)}'
    lines = done.stderr.decode(errors='replace').strip().splitlines()
    return lines[-1] if lines else f'{done.args[0]} exited with status {done.returncode}'


def bound(argv: Sequence[str]) -> list[str]:
    """A command that runs ``argv`` as a child which gets SIGTERM when we die, however we die.

    setpriv(1) sets the parent-death signal, which survives an exec. A parent that died earlier
    sends no signal, so the shell compares its parent with us after the signal is set.
    """
    return ['setpriv', '--pdeathsig', 'TERM', '--',
            'sh', '-c', '[ "$PPID" = "$0" ] && exec "$@"', str(os.getpid()), *argv]


@contextlib.contextmanager
def daemon(argv: Sequence[str], subject: str, wrap: Sequence[str] = (),
           descriptors: Sequence[int] = (),
           folder: str | None = None) -> Iterator[subprocess.Popen[bytes]]:
    """Run ``argv`` in ``folder`` while the block lasts; it also dies with us, however we die.

    It gets SIGTERM at the end of the block. Raises Failure where its status is not 0 then.
    ``wrap`` and ``descriptors`` are those of ``run``.
    """
    import subprocess
    with interruption.held() as release:
        child = subprocess.Popen([*wrap, *bound(argv)], pass_fds=descriptors, cwd=folder,
                                 stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                                 stderr=subprocess.PIPE)
        try:
            release()
            yield child
        finally:
            child.terminate()
            stderr = child.communicate()[1]
    if child.returncode != 0:
        done = subprocess.CompletedProcess(argv, child.returncode, b'', stderr)
        raise Failure(f'{subject}: {last_line(done)}')
