"""Waiting until the nodes of a cluster are ready, as far as their engines can see it."""
import time

from lxml import etree

from ..document.tree import SSH
from ..engine.protocol import FAILED, READY, RUNNING, UNKNOWN, Unsupported
from ..engine.registry import Engines, engine_uri
from ..system import log, terminal
from ..system.failure import Failure
from . import frontend
from .ledger import Ledger
from .states import View

POLL_SECONDS = 0.5
ASK_SECONDS = 5
"""Between two reads of the consoles, and between two questions to the engines."""

BLAME_SECONDS = 60
"""Before this time, most images are not ready, and nothing is wrong with them."""

REST = 4
"""The shortest pause between two reads, as a multiple of the time that a read takes."""


def wait(chosen: list, engines: Engines, ledger: Ledger, seconds: int) -> None:
    """Wait until every node is ready, with a line for each on stderr.

    Raises Failure that names the nodes that failed, or that are not ready after ``seconds``.
    Nothing is stopped.
    """
    begin, asked = time.monotonic(), float('-inf')
    judge = _Judge(engines, ledger, begin + seconds)
    # The frontend first: the judgement of the compute nodes may follow from it.
    waiting = sorted(chosen, key=lambda node: node.get('role') != 'frontend')
    failed: list[str] = []
    with terminal.Progress() as progress:
        while waiting:
            now = time.monotonic()
            if ask := now - asked > ASK_SECONDS:
                asked = now
            judge.look(waiting, ask)
            looked = time.monotonic() - now
            before, waiting = waiting, []
            for node in before:
                state = judge.state(node)
                if state == RUNNING:
                    waiting.append(node)
                    continue
                if state == READY:
                    log.warn(f"{node.get('name')} is ready after {time.monotonic() - begin:.0f} s")
                    if warning := judge.warning(node):
                        log.warn(f"{node.get('name')} has a warning: {warning}")
                elif state is not None:
                    failed.append(f"'{node.get('name')}' {judge.reason(node)}")
            waited = time.monotonic() - begin
            if waited > seconds:
                break
            if waiting:
                left = f'{len(waiting)} nodes' if len(waiting) > 1 else waiting[0].get('name')
                ready = len(chosen) - len(waiting) - len(failed)
                progress.draw(f'waiting for {left}', ready / len(chosen),
                              f'{ready} of {len(chosen)} ready, {waited:.0f} s of {seconds} s'
                              + (judge.slowest(waiting) if progress else ''))
                # Of very many consoles, the reading must not take a whole CPU.
                time.sleep(max(POLL_SECONDS, REST * looked))
    if waiting:
        names = ', '.join(f"'{node.get('name')}'" for node in waiting)
        failed.append(f'{names} not ready after {seconds} s{judge.silence(waiting, seconds)}')
    if failed:
        name = chosen[0].getparent().get('name')
        raise Failure(f"cluster '{name}' is not ready: {'; '.join(failed)}"
                      + _consoles(chosen, ledger.folder(name)))


def _consoles(chosen: list, folder: str) -> str:
    """Where the console logs of the nodes are, if they are files on this machine."""
    local = all(node.find('disk') is not None and not node.find('disk').get('pool')
                for node in chosen)
    return f' (consoles: {folder}/*.console.log)' if local else ''


class _Judge:
    """What is known of the nodes' readiness at one moment.

    Guests of our own engines report it on their consoles. A driver's ``status`` may print 'ready'
    of a node. A driver that has printed only 'running' cannot see readiness: its frontend then
    counts as ready when a server answers on its ssh port, and a compute node when it runs. Without
    ``status``, only the frontend's ssh port is seen.
    """

    def __init__(self, engines: Engines, ledger: Ledger, deadline: float):
        self._engines = engines
        self._deadline = deadline
        self._view = View(engines, ledger)
        self._failures: dict[str, Failure] = {}
        self._sees: set[str] = set()
        self._warned: set[str] = set()

    def look(self, nodes: list, ask: bool) -> None:
        """Look at ``nodes`` now; without ``ask`` only at their consoles."""
        failures = self._view.look(nodes, ask)
        self._failures = failures
        for uri, failure in failures.items():
            if isinstance(failure, Unsupported) and uri not in self._warned:
                self._warned.add(uri)
                log.warn(f"{failure}; only the frontend's ssh port is awaited")
        self._sees.update(engine_uri(node.get('host')) for node in nodes
                          if self._view.state(node) == READY)

    def state(self, node: etree._Element) -> str | None:
        """READY; RUNNING, to be waited for; None, which cannot be seen; else a state of failure."""
        uri = engine_uri(node.get('host'))
        engine, state = self._engines[uri], self._view.state(node)
        if engine.reports:
            return state or UNKNOWN
        if isinstance(self._failures.get(uri), Unsupported):
            return self._by_port(node) if node.get('role') == 'frontend' else None
        if uri in self._failures:
            return UNKNOWN
        if state == RUNNING and uri not in self._sees:
            return self._by_port(node) if node.get('role') == 'frontend' else READY
        return RUNNING if state == UNKNOWN else state or FAILED

    def slowest(self, waiting: list) -> str:
        """What the node does that has come least far; '' where no console of a node is seen."""
        seen = [(*self._view.stage(node), node.get('name')) for node in waiting
                if self._engines[node.get('host')].reports]
        _, words, name = min(seen, key=lambda stage: stage[0], default=(0, '', ''))
        return f'; {name}: {words}' if name else ''

    def silence(self, waiting: list, seconds: int) -> str:
        """What is known of the first of the nodes that reported nothing in time, and the remedy."""
        first = next((node for node in waiting if self._engines[node.get('host')].reports), None)
        if first is None:
            return ''
        line = self._view.last_line(first)
        last = f"the last line on the console of '{first.get('name')}' is {line!r}" if line else (
            f"nothing is on the console of '{first.get('name')}'")
        if seconds < BLAME_SECONDS:
            return f'; {last}'
        source = first.getroottree().getroot().find('source')
        check = 'vc-check' if source is None else f"vc-check '{source.get('path')}'"
        return f"; {last}; {check} tells whether its image can be a node"

    def _by_port(self, node: etree._Element) -> str | None:
        """READY if the ssh port of a frontend answers, else RUNNING; None without an address."""
        if not frontend.reachable(node, self._engines[node.get('host')], SSH):
            log.warn(f"node '{node.get('name')}' has no public address: "
                     'whether it is ready cannot be seen')
            return None
        left = self._deadline - time.monotonic()
        return READY if frontend.answers(node, SSH, left) else RUNNING

    def warning(self, node: etree._Element) -> str:
        """What a node that is ready could not do, '' for nothing."""
        return self._view.reports(node).get('warning', '')

    def reason(self, node: etree._Element) -> str:
        """Why a node will not be ready."""
        state = self._view.state(node)
        if state == UNKNOWN:
            failure = self._failures.get(engine_uri(node.get('host')))
            return f'is unknown: {failure}' if failure else 'is in an unknown state'
        if state == FAILED:
            return self._view.reports(node).get('failed') or 'failed'
        return 'does not run'
