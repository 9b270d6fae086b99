"""Telling a running frontend its new document: by ssh, whatever its engine.

The frontend accepts the cluster's own key for `pragma-guest update` alone (allocation.UPDATE). A
file in the cluster's folder marks a resize that is not finished: new nodes are to be started, or
the frontend does not know its document. vc-boot reads it at each start, so that what a frontend is
told with is imported for that alone.
"""
import contextlib
import os

from lxml import etree

from ..document import tree
from ..engine import console
from ..engine.registry import Engines
from ..system import files, log
from ..system.failure import Failure
from ..system.settings import Settings
from .ledger import Ledger

REQUEST = 'pragma-guest update'
"""What the client asks sshd for: the forced command reads the option after it."""

SECONDS = 600
"""The time that a guest has to configure itself again and to be ready."""

BUSY, SSH_FAILED = 3, 255
"""Exit statuses of pragma-guest(8) and ssh(1)."""

MAXIMUM_BYTES = 1 << 20
"""What a guest may write to our standard output or standard error."""

FILE = 'resizing'


class Busy(Failure):
    """The frontend has not drained the nodes that are to leave, and keeps its old document."""


def begin(name: str, ledger: Ledger, joining: list[str]) -> None:
    """Note that a resize of a cluster is not finished, and which nodes it is to start."""
    content = ''.join(f'{node}\n' for node in joining).encode()
    files.write(os.path.join(ledger.folder(name), FILE), content, 0o600)


def begun(name: str, ledger: Ledger) -> list[str] | None:
    """The nodes that an unfinished resize is to start, None where none is unfinished."""
    with contextlib.suppress(FileNotFoundError), \
            open(os.path.join(ledger.folder(name), FILE), encoding='utf-8') as file:
        return file.read().split()
    return None


def end(name: str, ledger: Ledger) -> None:
    """Note that a resize is finished."""
    files.remove(os.path.join(ledger.folder(name), FILE))


def tell(root: etree._Element, engines: Engines, ledger: Ledger,
         drain: int | None = None) -> None:
    """Tell the frontend of a cluster its document, and wait until it is ready with it.

    The frontend drains the nodes that it lacks within ``drain`` seconds, None for no draining.
    Raises Busy, and Failure for a frontend that cannot be reached or is not ready with it.
    """
    from ..document.vcout import Projection
    from ..system import executable
    from . import ssh
    name = tree.cluster(root).get('name')
    key = os.path.join(ledger.folder(name), 'id_ed25519')
    program, *words = ssh.command(root, None, engines, ledger, key)
    request = REQUEST if drain is None else f'{REQUEST} --drain {drain}'
    done = executable.finish(
        ['prlimit', f'--fsize={MAXIMUM_BYTES}:', '--', program, '-T', '-o', 'BatchMode=yes',
         '-o', f'ConnectTimeout={ssh.CONNECT_SECONDS}', '-o', 'ServerAliveInterval=30',
         '-o', 'ServerAliveCountMax=4', *words, request],
        'ssh to its frontend', input=Projection(root).of(tree.frontend(root).get('name')),
        seconds=ssh.CONNECT_SECONDS + SECONDS + (drain or 0))
    if done.returncode == 0:
        log.detail(f"the frontend of cluster '{name}' is told")
        return
    # Like a console, the output is a guest's.
    reason = console.last_line(done.stderr).removeprefix('pragma-guest: ') or (
        f'ssh exited with status {done.returncode}')
    if done.returncode == BUSY:
        raise Busy(f'the nodes are not idle after {drain} s: {reason}')
    where = 'cannot be reached' if done.returncode == SSH_FAILED else 'is not ready'
    raise Failure(f'its frontend {where}: {reason}')


def settle(root: etree._Element, settings: Settings) -> None:
    """After a boot: tell the frontend of nodes that filters have added, with a warning if not."""
    name, ledger = tree.cluster(root).get('name'), Ledger(settings.temporary_directory)
    if begun(name, ledger) is None:
        return
    try:
        tell(root, Engines(settings), ledger)
    except Failure as failure:
        log.warn(f"cluster '{name}': {failure}; {remedy(root)}")
    else:
        end(name, ledger)


def remedy(root: etree._Element) -> str:
    """What to type when a frontend that was not told can be reached."""
    from . import growth
    name = tree.cluster(root).get('name')
    return (f"when it can be reached, 'vc-resize --num-cpus {growth.num_cpus(root)} {name}' "
            'tells it its nodes')
