"""Reservations: a new cluster enters the ledger, with all of its nodes or not at all."""
import contextlib
import os
from collections.abc import Iterator

from lxml import etree

from ..document import tree
from ..image import staged
from ..system import names, sshkey
from ..system.failure import Usage
from ..system.settings import Settings
from . import allocation, pool
from .capacity import Capacity, port_free
from .hooks import ALLOCATED, CLEANED, Hooks
from .kinds import Wanted
from .ledger import LONGEST, Ledger


def checked_name(name: str | None) -> str | None:
    """The name that a user gives a new cluster, None for none; raises Failure and Usage."""
    if name and len(names.checked_cluster(name, '--name')) > LONGEST:
        raise Usage(f'--name has more than {LONGEST} characters')
    return name


def exists(root: etree._Element, ledger: Ledger) -> bool:
    """Whether the cluster of a document is in the ledger."""
    known = root.find('cluster')
    return known is not None and ledger.has(known.get('name'))


@contextlib.contextmanager
def made(root: etree._Element, name: str | None, wanted: Wanted, key: str,
         user: str, settings: Settings) -> Iterator[None]:
    """Allocate the cluster of a document, and enter it into the ledger, for a block.

    ``name`` is the cluster's, None for one of the document's; ``user`` is its ordinary user. Raises
    Shortage and Failure. If the block fails, the reservation is released: nobody knows of it who
    could release it.
    """
    ledger, hooks = Ledger(settings.temporary_directory), Hooks(settings)
    # Ask the engines before taking the lock: changes by our own tools meanwhile are in the ledger.
    capacity = Capacity(settings)
    with ledger.changing():
        # From here on the ledger says that they are in use.
        missing = staged.missing(root)
        if missing:
            from ..image import staging
            staging.restage(root, missing, settings)
        name, cluster = _allocate(root, name, wanted, key, user, settings, capacity, ledger)
        with ledger.entering(name) as folder:
            public = sshkey.make_pair(f'root@{name}', os.path.join(folder, 'id_ed25519'))
            allocation.add_cluster_keys(cluster, public)
            ledger.write(root)
    try:
        hooks.tell(ALLOCATED, root)
        yield
    except BaseException:
        with ledger.changing():
            ledger.remove(name)
        hooks.tell(CLEANED, root)
        raise


@contextlib.contextmanager
def shown(root: etree._Element, name: str | None, wanted: Wanted, key: str,
          user: str, settings: Settings) -> Iterator[None]:
    """Allocate the cluster of a document as ``made`` does, and reserve nothing."""
    ledger, capacity = Ledger(settings.temporary_directory), Capacity(settings)
    with ledger.changing():
        _allocate(root, name, wanted, key, user, settings, capacity, ledger)
    yield


def _allocate(root: etree._Element, name: str | None, wanted: Wanted, key: str,
              user: str, settings: Settings, capacity: Capacity,
              ledger: Ledger) -> tuple[str, etree._Element]:
    """Add the <cluster>; its name and the element."""
    name = name or ledger.proposed_name(root)
    if ledger.document(name) is not None:
        raise ledger.taken(name)
    documents = ledger.documents()
    cluster = allocation.allocate(root, name, wanted, key, settings, capacity.free(documents),
                                  pool.Taken.by(documents, ledger.identity), port_free)
    cluster.set('user', user)
    return name, tree.replace(root, 'cluster', cluster)
