"""Call a function of ours in a child that is as confined as the programs of ``confinement``.

For what reads an author's image by a library, or by a program whose output a library takes. The
child starts no interpreter: nobody, as which it runs, need not be able to read our files.
"""
from __future__ import annotations

import contextlib
import os
import select
import signal
from collections.abc import Callable, Collection, Iterator, Sequence
from typing import TYPE_CHECKING, NoReturn

from . import confinement, interruption, process
from .failure import FAILED, Failure, cause

if TYPE_CHECKING:
    import subprocess

CLONE_NEWUSER, CLONE_NEWNET = 0x10000000, 0x40000000
PR_SET_PDEATHSIG, PR_SET_DUMPABLE, PR_SET_NO_NEW_PRIVS = 1, 4, 38
CAPABILITY_VERSION = 0x20080522
"""Of unshare(2), prctl(2) and capset(2), which Python 3.11 does not offer."""

WATCH_SECONDS = 0.02

CRASHED = 2
"""The exit status of a child that did not raise a Failure."""


def call(work: Callable[[], object], subject: str, descriptors: Collection[int], limit: int,
         memory: int, watch: Callable[[], object]) -> None:
    """Call ``work`` in a child of ours that is as confined as a program, and wait for it.

    It has only ``descriptors`` open, may make them ``limit`` bytes large, and may use ``memory``
    bytes of address space; so do programs that it starts. ``watch`` is called again and again
    meanwhile. Raises the Failure that ``work`` raised; for another end of the child one that begins
    with ``subject``.
    """
    isolated, parent = not confinement.refusal(), os.getpid()
    with interruption.held() as release:
        reader, writer = os.pipe()
        child = os.fork()
        if child == 0:
            _work(work, {*descriptors, writer}, writer, limit, memory, isolated, parent)
        status, said = None, b''
        try:
            os.close(writer)
            release()
            while True:
                if select.select([reader], [], [], WATCH_SECONDS)[0]:
                    data = os.read(reader, 4096)
                    if not data:
                        break
                    said = (said + data)[-4096:]
                watch()
            with interruption.held():
                # A child that has been waited for has no process id any more.
                status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        finally:
            os.close(reader)
            if status is None:
                os.kill(child, signal.SIGKILL)
                os.waitpid(child, 0)
    if status:
        lines = [''.join(filter(str.isprintable, line))
                 for line in said.decode(errors='backslashreplace').splitlines() if line.strip()]
        died = str(signal.strsignal(-status) if status < 0 else f'status {status}')
        reason = lines[-1] if lines else died
        raise Failure(reason if lines and status == FAILED else f'{subject}: {reason}')


class Told(Exception):
    """A program that the child started has failed, and has printed why."""


@contextlib.contextmanager
def program(argv: Sequence[str], descriptors: Sequence[int] = (),
            statuses: Collection[int] | None = (0,), stdin: int | None = None,
            stdout: int | None = None, stderr: int | None = None
            ) -> Iterator[subprocess.Popen[bytes]]:
    """Run a program in a child while the block lasts, and wait for it; it dies with the child.

    ``descriptors`` are open in it beside the standard streams. What it prints on stderr is the
    message of ``call``. Raises Failure where it is not installed, and Told for a status outside
    ``statuses`` (None accepts any); after an exception of the block it is killed.
    """
    import shutil
    import subprocess
    if not shutil.which(argv[0]):
        raise Failure(f"'{argv[0]}' is needed here, and is not installed")
    running = subprocess.Popen(process.bound(argv), pass_fds=descriptors, stdin=stdin,
                               stdout=stdout, stderr=stderr)
    try:
        yield running
    except BaseException:
        running.kill()
        raise
    finally:
        running.wait()
    if statuses is not None and running.returncode not in statuses:
        if running.returncode < 0:
            os.write(2, f'{argv[0]} was killed: {signal.strsignal(-running.returncode)}\n'.encode())
        raise Told


def _work(work: Callable[[], object], descriptors: Collection[int], stderr: int, limit: int,
          memory: int, isolated: bool, parent: int) -> NoReturn:
    """Give up rights, and call ``work``, in a child: exit with FAILED for a Failure."""
    status = CRASHED
    try:
        for each in interruption.NUMBERS:
            signal.signal(each, signal.SIG_DFL)
        null = os.open(os.devnull, os.O_RDWR)
        for standard, open_one in enumerate((null, null, stderr)):
            os.dup2(open_one, standard)
        for number in map(int, os.listdir('/proc/self/fd')):
            if number > 2 and number not in descriptors:
                with contextlib.suppress(OSError):
                    os.close(number)
        _give_up_rights(limit, memory, isolated)
        if os.getppid() == parent:
            work()
            status = 0
    except Failure as failure:
        os.write(stderr, f'{failure}\n'.encode(errors='backslashreplace'))
        status = FAILED
    except Told:
        pass
    except MemoryError:
        os.write(stderr, b'it needs too much memory\n')
    except OSError as error:
        os.write(stderr, f'{cause(error)}\n'.encode(errors='backslashreplace'))
    except BaseException as error:    # noqa: BLE001 - the caller of fork must never see it
        os.write(stderr, f'{error}\n'.encode(errors='backslashreplace'))
    finally:
        os._exit(status)


def _give_up_rights(limit: int, memory: int, isolated: bool) -> None:
    """What the commands of _stripped and _without_network do, for this process."""
    import ctypes
    import resource
    libc = ctypes.CDLL(None, use_errno=True)
    for kind, value in confinement.limits(limit, memory).values():
        resource.setrlimit(kind, (confinement.lowered(kind, value),) * 2)
    libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    if os.geteuid() == 0:
        os.setgroups([])
        os.setresgid(*[confinement.nobody().pw_gid] * 3)
        os.setresuid(*[confinement.nobody().pw_uid] * 3)
    if isolated:
        user, group = os.geteuid(), os.getegid()
        # Another user's process is not dumpable, and then does not own its files in /proc.
        libc.prctl(PR_SET_DUMPABLE, 1, 0, 0, 0)
        if libc.unshare(CLONE_NEWUSER | CLONE_NEWNET):
            raise OSError(ctypes.get_errno(), 'unshare')
        for name, content in (('setgroups', 'deny'), ('uid_map', f'{user} {user} 1'),
                              ('gid_map', f'{group} {group} 1')):
            with open(f'/proc/self/{name}', 'w', encoding='ascii') as file:
                file.write(content)
        words = ctypes.c_uint32
        libc.capset((words * 2)(CAPABILITY_VERSION, 0), (words * 6)())
    libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
