"""What an engine offers: the Protocols that each engine and each storage implements.

An engine is where domains run and how they are asked about. A node is a <node> of a document; its
domain is named CLUSTER-NODE (tree.domain_name). Every method raises Failure where the engine does
not answer or refuses.
"""
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from typing import NamedTuple, Protocol

from lxml import etree

from ..system.failure import Failure

RUNNING, READY, PAUSED = 'running', 'ready', 'paused'
STOPPED, FAILED, UNKNOWN = 'stopped', 'failed', 'unknown'
"""States of a domain. Only an engine that sees into its guests says READY of one."""

ACTIVE = (RUNNING, READY, PAUSED)
"""The states of a domain that has a process."""

MARK = 'driver'
"""The file in a cluster's folder that holds the name of the driver that pragma_boot called."""


class Unsupported(Failure):
    """The engine has no way to do what was asked: its driver has no such executable."""


class Domain(NamedTuple):
    """What an engine knows of a domain: ``memory`` in KiB, ``host`` the URI where it is now.

    ``mark`` tells whose it is: what the engine's ``marked`` compares.
    """

    state: str
    cpus: int
    memory: int
    host: str
    mark: str = ''


class Tail(Protocol):
    """A console log that is read as it grows, about every ``seconds``."""

    seconds: float

    def read(self) -> bytes:
        """What was added since the last call; the first time the whole log."""


class Storage(Protocol):
    """Where the disks and console logs of nodes lie; ``key`` tells two storages apart."""

    key: tuple
    reads_images: bool
    """Whether disks are made on the staged images of this machine."""

    def prepare(self, folder: str) -> None:
        """Make the cluster's folder on this machine fit for use by the engine; safe to repeat."""

    def receive(self, path: str) -> str:
        """Have the staged image at ``path`` where domains can read it; its path there."""

    def keep(self, draft: str, node: etree._Element, backing: str) -> etree._Element:
        """Make the finished overlay at ``draft`` the node's disk; its <disk>."""

    def keep_seed(self, draft: str, node: etree._Element) -> str:
        """Make the finished seed disk at ``draft`` the node's; its path on the node's host."""

    def reading(self, node: etree._Element,
                folder: str) -> AbstractContextManager[tuple[str, str]]:
        """The node's disk and its backing image as files of this machine, for the block.

        Where they are on another, they are copied to files without a name in ``folder``. Raises
        Unsupported where the disk is not an overlay that we made.
        """

    def lacking(self, nodes: list) -> list:
        """Those of ``nodes`` whose disk does not exist."""

    def lacking_seed(self, nodes: list) -> list:
        """Those of ``nodes`` whose seed disk does not exist."""

    def console(self, node: etree._Element) -> str:
        """The path of the node's console log on its host."""

    def empty_console(self, node: etree._Element) -> None:
        """Begin the node's console log anew."""

    def consoles(self, nodes: list) -> dict:
        """The end of each node's console log: bytes by node."""

    def tail(self, node: etree._Element) -> Tail:
        """The node's console log, to be read as it grows."""

    def discard(self, nodes: list) -> None:
        """Remove disks and console logs of ``nodes``, which have no domain any more."""

    def remove(self, cluster: str) -> None:
        """Remove disks and console logs of a cluster that has no domain any more."""


class Folders(Protocol):
    """The folders of clusters on this machine: the ledger, with the identity of its own."""

    @property
    def identity(self) -> str:
        """32 hexadecimal digits."""

    def folder(self, name: str) -> str:
        """The absolute path of a cluster's folder."""


class Snapshots(Protocol):
    """Snapshots of the engine's domains, each by a label that the caller chose."""

    def suspend(self, nodes: Iterable[etree._Element]) -> None:
        """Stop the CPUs of running domains."""

    def resume(self, nodes: Iterable[etree._Element]) -> None:
        """Let suspended domains go on."""

    def take(self, node: etree._Element, label: str) -> bool:
        """Take a snapshot of a stopped or suspended domain; whether it has the domain's memory."""

    def revert(self, node: etree._Element, label: str) -> bool:
        """Bring a stopped node back to a snapshot; whether its domain is suspended now."""

    def delete(self, node: etree._Element, label: str) -> None:
        """Delete a snapshot; no error where there is none."""

    def labels(self, node: etree._Element) -> list[str]:
        """The labels of all snapshots of a node, whoever took them."""


class SavedStates(Protocol):
    """States of running guests, each of which other domains can be started from."""

    def version(self) -> str:
        """What must be the same where a state is saved and where it is restored."""

    def share(self, folder: str, *paths: str) -> None:
        """Let the user that QEMU runs as into a folder, and give that user the files ``paths``."""

    def save(self, node: etree._Element, path: str) -> None:
        """Stop the node's domain, and save its state in the new file ``path``."""

    def restore(self, node: etree._Element, definition: etree._Element, path: str,
                draft: str, paused: bool) -> None:
        """Define the node's domain, and start it from the state in ``path``, all or nothing.

        The domain has the same devices as the saved one. ``draft`` is the path of a file that is
        there meanwhile.
        """


class Plan(Protocol):
    """The disks that a document's nodes are to have."""

    def carry_out(self, nodes: list, jobs: int) -> dict:
        """Make the disks of ``nodes``, ``jobs`` at a time, each whole or not at all.

        Returns their <disk>s by node name.
        """


class Engine(Protocol):
    """One engine, by its URI. A new engine is a module with such a class, and a line in KINDS."""

    uri: str
    server: str
    """The [user@]name of the server in the URI; '' for this machine."""
    reports: bool
    """Whether this machine can read the consoles on which guests report that they are ready."""
    resizes: bool
    """Whether nodes can be added to its clusters and removed from them."""

    def capacity(self) -> tuple:
        """CPUs, and memory in KiB, that the engine has in all."""

    def domains(self, nodes: list | None = None) -> dict:
        """The Domain of each domain by its name: at least those of ``nodes``.

        Where ``nodes`` is None: of all domains, ours or not. Only then are CPUs and memory needed.
        """

    def marked(self, node: etree._Element, domain: Domain) -> bool:
        """Whether a domain of the node's name is the node's own, and not another ledger's."""

    def started(self, node: etree._Element) -> int:
        """When the node's domain was started, in seconds since the epoch."""

    def probe(self) -> str | None:
        """None where guests run under KVM, else the reason why they do not."""

    def storage(self, ledger: Folders, node: etree._Element | None = None) -> Storage:
        """The Storage that the node's disk is in; without a node, that of new disks."""

    def definition(self, root: etree._Element, node: etree._Element, acceleration: str,
                   console: str, started: float) -> etree._Element:
        """The libvirt <domain> of a node; Failure for an engine that has none."""

    def plan(self, root: etree._Element, folder: str, storages: dict,
             publish: Callable[[], None]) -> Plan:
        """How the disks of a document's nodes are made. ``storages`` are by engine URI.

        ``publish`` writes the document to the ledger, for an engine whose own hosts read it there.
        """

    def start(self, node: etree._Element, define: Callable[[], etree._Element],
              paused: bool = False, validate: bool = True, known: bool = False) -> None:
        """Start the node's domain, all or nothing.

        ``define`` makes its definition; ``validate`` has it checked by the engine's schema;
        ``known``: an old definition exists, which is replaced.
        """

    def shutdown(self, nodes: list, seconds: int) -> None:
        """Ask the guests of ``nodes`` to shut down within ``seconds``.

        No error where a domain is gone.
        """

    def destroy(self, node: etree._Element) -> None:
        """Stop the node's domain at once and keep its definition; no error where it is gone."""

    def remove(self, nodes: list) -> None:
        """Destroy and undefine the domains of ``nodes``, complete or not; no error for none.

        A domain that is not the node's own is left alone.
        """

    def snapshots(self) -> Snapshots:
        """The snapshots of the engine's domains; Unsupported for an engine that has none."""

    def saved_states(self) -> SavedStates:
        """The states that the engine saves and restores; Unsupported for an engine that cannot."""

    def clear(self, cluster: str, ledger: str) -> list:
        """Destroy and undefine every domain of a cluster, complete or not; their names.

        ``ledger`` is the identity of the ledger: a domain of another one's cluster is left alone.
        """
