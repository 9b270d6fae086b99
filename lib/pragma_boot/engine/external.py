"""External drivers as an engine: the optional executables of a driver (pragma_boot-driver(7)).

A node's ``host`` is driver:NAME, or any text that a driver wrote into a document of its own.
``status``, ``start``, ``shutdown`` and ``clean`` are called by position:
``EXECUTABLE temp_directory vc_out_path [host_name]``.
"""
import os
import re
from collections.abc import Callable, Iterator

from lxml import etree

from ..document.tree import domain_name, host_name
from ..system import executable, log, workers
from ..system.environment import WITHOUT_HOOKS
from ..system.failure import Failure, cause
from ..system.settings import Settings
from . import storage
from .protocol import (
    FAILED,
    MARK,
    READY,
    RUNNING,
    STOPPED,
    UNKNOWN,
    Domain,
    Folders,
    Plan,
    SavedStates,
    Snapshots,
    Unsupported,
)

NAME = '[A-Za-z0-9][A-Za-z0-9_.-]{0,62}'
"""A driver's name: that of a folder in drivers_path. A document cannot name any other folder."""

CALLS_AT_ONCE = 8

STATES = (RUNNING, READY, STOPPED, FAILED, UNKNOWN)
"""What ``status`` may print of a node."""

WITHOUT = {'status': 'the states of its nodes are not known',
           'start': 'it cannot start nodes again',
           'shutdown': 'it cannot shut nodes down',
           'clean': 'it cannot remove machines'}
"""What is not possible without each optional executable."""


def path_of(settings: Settings, name: str) -> str:
    """The folder of a driver; raises Failure for what is not a driver's name."""
    if not re.fullmatch(NAME, name):
        raise Failure(f'driver {name!r} is not the name of a folder in drivers_path')
    return os.path.join(settings.path_of('drivers_path'), name)


def environment(name: str) -> dict[str, str]:
    """The environment of a driver's executables; our tools see in it that a driver called them.

    They run no hooks: their caller does.
    """
    return {**os.environ, 'PRAGMA_DRIVER': name, WITHOUT_HOOKS: '1'}


class External:
    """The driver that booted a cluster."""

    server = ''
    reports = False
    resizes = False

    def __init__(self, uri: str, settings: Settings) -> None:
        self.uri = uri
        self._settings = settings
        self._temp = settings.temporary_directory

    def _name(self, cluster: str) -> str:
        """The name of the cluster's driver."""
        if name := self.uri.partition(':')[2]:
            return name
        try:
            with open(os.path.join(self._temp, 'clusters', cluster, MARK), 'rb') as file:
                return file.read().decode(errors='replace').strip()
        except FileNotFoundError:
            return self._settings['ve_driver']
        except OSError as error:
            raise Failure(f"cannot open '{error.filename}': {cause(error)}") from None

    def _call(self, name: str, cluster: str, *arguments: str, **variables: str) -> bytes:
        """Run an optional executable to its end; its output.

        Raises Failure, and Unsupported where the driver does not have it.
        """
        driver = self._name(cluster)
        folder = path_of(self._settings, driver)
        path = os.path.join(folder, name)
        if not os.path.isfile(path) or not os.access(path, os.X_OK):
            raise Unsupported(f"driver '{folder}' has no executable '{name}': {WITHOUT[name]}")
        if driver == os.environ.get('PRAGMA_DRIVER'):
            raise Failure(f"driver '{path}' would call itself: its cluster has no other engine")
        vc_out_path = os.path.join(self._temp, 'clusters', cluster, 'vc-out.xml')
        return executable.run([path, self._temp, vc_out_path, *arguments], f"driver '{path}'",
                              {**environment(driver), **variables})

    def capacity(self) -> tuple[int, int]:
        """Raises Failure: only the driver itself allocates."""
        raise Failure(f"driver '{self.uri}' allocates by itself")

    def domains(self, nodes: list | None = None) -> dict[str, Domain]:
        """The Domain of each of ``nodes`` that ``status`` names, by its name."""
        groups: dict[etree._Element, list] = {}
        for node in nodes or ():
            groups.setdefault(node.getparent(), []).append(node)

        def states(cluster: etree._Element) -> dict[str, str]:
            try:
                return dict(self._states(cluster))
            except Unsupported:
                raise
            except Failure as failure:
                if len(groups) == 1:
                    raise
                # One cluster that its driver cannot see does not hide the others.
                log.warn(failure)
                return {host_name(node): UNKNOWN for node in groups[cluster]}

        answers = workers.each(states, groups, CALLS_AT_ONCE)
        return {domain_name(node): Domain(answer[host_name(node)], int(node.get('cpus')),
                                          int(node.get('memory')), node.get('host'))
                for cluster, answer in zip(groups, answers, strict=True)
                for node in groups[cluster] if host_name(node) in answer}

    def _states(self, cluster: etree._Element) -> Iterator[tuple[str, str]]:
        """Each host_name of a cluster and its state, as ``status`` prints them."""
        name = cluster.get('name')
        known = {host_name(node) for node in cluster.iterfind('node')}
        for line in self._call('status', name).decode(errors='replace').splitlines():
            words = line.split()
            if not words:
                continue
            if len(words) != 2 or words[0] not in known or words[1] not in STATES:
                raise Failure(f"driver '{self._name(name)}': status printed {line!r}, not a node "
                              f"of the cluster and one of {', '.join(STATES)}")
            yield words[0], words[1]

    def marked(self, node: etree._Element, domain: Domain) -> bool:
        """True: only the driver knows whose its machines are."""
        return True

    def started(self, node: etree._Element) -> int:
        """The epoch: a driver does not show it."""
        return 0

    def probe(self) -> str | None:
        """None: the driver decides."""
        return None

    def storage(self, ledger: Folders, node: etree._Element | None = None) -> storage.Elsewhere:
        """Disks and consoles that only the driver knows."""
        return storage.Elsewhere(self)

    def definition(self, root: etree._Element, node: etree._Element, acceleration: str,
                   console: str, started: float) -> etree._Element:
        """Raises Failure: there is no libvirt <domain>."""
        raise Failure(f"node '{node.get('name')}' is not a libvirt domain: a driver made it")

    def plan(self, root: etree._Element, folder: str, storages: dict,
             publish: Callable[[], None]) -> Plan:
        """Raises Failure: only the driver makes disks."""
        raise Failure(f"the driver of '{self.uri}' makes the disks of its nodes itself")

    def start(self, node: etree._Element, define: Callable[[], etree._Element],
              paused: bool = False, validate: bool = True, known: bool = False) -> None:
        """Start a node by the driver's ``start``."""
        if paused:
            raise Failure(f"node '{node.get('name')}' cannot be started paused: a driver starts it")
        self._call('start', node.getparent().get('name'), host_name(node))

    def shutdown(self, nodes: list, seconds: int) -> None:
        """Shut nodes down by the driver's ``shutdown``: one call for all nodes of a cluster."""
        for cluster in {node.getparent() for node in nodes}:
            some = [node for node in nodes if node.getparent() is cluster]
            whole = len(some) == len(cluster.findall('node'))
            for names in [[]] if whole else [[host_name(node)] for node in some]:
                self._call('shutdown', cluster.get('name'), *names, PRAGMA_TIMEOUT=str(seconds))

    def destroy(self, node: etree._Element) -> None:
        """Raises Failure: the contract has no executable that stops a node at once."""
        raise Failure(f"node '{node.get('name')}' still runs: its driver did not shut it down")

    def remove(self, nodes: list) -> None:
        """Raises Failure: the contract has no executable that removes a part of a cluster."""
        raise Failure(f"node '{nodes[0].get('name')}' cannot be removed alone: a driver made it")

    def snapshots(self) -> Snapshots:
        """Raises Unsupported: the contract has no executable for it."""
        raise Unsupported(f"no snapshots: driver '{self.uri}' has no way to take them")

    def saved_states(self) -> SavedStates:
        """Raises Unsupported: the contract has no executable for it."""
        raise Unsupported(f"no saved states: driver '{self.uri}' has no way to take them")

    def clear(self, cluster: str, ledger: str) -> list:
        """Remove all machines of a cluster by the driver's ``clean``."""
        self._call('clean', cluster)
        return [cluster]
