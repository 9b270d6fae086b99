"""The disks of a cluster's nodes: made where they are missing, entered into the ledger."""
import os
from collections.abc import Mapping

from lxml import etree

from ..document import disksize, tree
from ..engine.protocol import Storage
from ..engine.registry import Engines, engine_uri
from ..image import partition, staged
from ..system.failure import Failure
from ..system.settings import Settings
from . import capacity
from .ledger import Ledger


def make(root: etree._Element, settings: Settings) -> None:
    """Make the disks that nodes lack, set each node's <disk>, and write the document to the ledger.

    Raises Failure, and Shortage from an engine that places nodes itself.
    """
    nodes, name = tree.nodes(root), tree.cluster(root).get('name')
    ledger, engines = Ledger(settings.temporary_directory), Engines(settings)
    folder, known = ledger.require(root)
    disksize.check(root)
    capacity.check_edited(known, root, ledger.documents, settings)
    storages = {uri: engines[uri].storage(ledger)
                for uri in sorted({engine_uri(node.get('host')) for node in nodes})}

    def publish() -> None:
        with ledger.changing():
            ledger.require(root)
            ledger.write(root)

    plan = engines[min(storages)].plan(root, folder, storages, publish)
    with staged.using(settings), ledger.alone(name):
        # From the ledger's document: a disk that it has may hold a guest's own data.
        _, known = ledger.require(root)
        for role in {node.get('role') for node in nodes}:
            staged.require(known, role)
        existing = {node.get('name'): node.find('disk') for node in tree.nodes(known)}
        for place, some in engines.by_storage(tree.nodes(known), ledger):
            for node in place.lacking(some):
                disk = existing.pop(node.get('name'))
                if disk is not None:
                    # Its guest's data may be there: never made anew.
                    raise Failure(f"disk '{disk.get('path')}' of node '{node.get('name')}' is "
                                  f'missing: {_remedy(disk, folder, name)}')
        lacking = [node for node in nodes if node.get('name') not in existing]
        # First: the instances of Ganeti are made with their seed disks.
        _make_seeds(root, known, lacking, storages, engines, ledger, settings.number('jobs'))
        disks = {**existing, **plan.carry_out(lacking, settings.number('jobs'))}
        for node in nodes:
            tree.replace(node, 'disk', disks[node.get('name')])
        with ledger.changing():
            if not ledger.has(name):
                raise Failure(f"cluster '{name}' was removed meanwhile")
            ledger.write(root)


def _make_seeds(root: etree._Element, known: etree._Element, new: list[etree._Element],
                storages: Mapping[str, Storage], engines: Engines, ledger: Ledger,
                jobs: int) -> None:
    """Set the <seed> of each node that has a seed disk, and make the seed disks that are missing.

    All that is in one is in the ledger, so that it can be made again. ``new`` are the nodes without
    disks, ``known`` is the ledger's document.
    """
    seeded = [node for node in tree.nodes(root)
              if partition.is_seeded(tree.image(root, node.get('role')))]
    if not seeded:
        return
    from ..image import seed
    before = {node.get('name'): node for node in tree.nodes(known)}
    places = {node.get('name'): storages[engine_uri(node.get('host'))] for node in new}
    others = [before[node.get('name')] for node in seeded if node.get('name') not in places]
    for place, some in engines.by_storage(others, ledger):
        missing = set(place.lacking_seed(some))
        places.update((node.get('name'), place) for node in some
                      if node in missing or node.find('seed') is None)
    lacking = [node for node in seeded if node.get('name') in places]
    folder = ledger.folder(tree.cluster(root).get('name'))
    for place in {places[node.get('name')] for node in lacking}:
        place.prepare(folder)
    made = seed.make(root, folder, lacking, jobs,
                     lambda draft, node: places[node.get('name')].keep_seed(draft, node))
    for node in seeded:
        name = node.get('name')
        tree.replace(node, 'seed', made[name] if name in made else before[name].find('seed'))


def _remedy(disk: etree._Element, folder: str, name: str) -> str:
    """How to bring a disk back that a cluster's document names."""
    old = os.path.dirname(disk.get('path'))
    if disk.get('pool') is None and old != folder and os.path.exists(
            os.path.join(folder, os.path.basename(disk.get('path')))):
        return f"the cluster was made in '{old}', and is now in '{folder}': {staged.MOVE_BACK}"
    return f"restore it, or remove the cluster with 'vc-clean {name}'"
