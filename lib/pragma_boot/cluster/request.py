"""One request to pragma_boot: the calls of a driver, and what is undone when one of them fails."""
import os

from lxml import etree

from ..document import tree
from ..engine.registry import Engines
from ..system import interruption, log
from ..system.failure import Failure, Said
from ..system.settings import Settings
from . import foreign, kinds, mark, removal
from .driver import Driver
from .hooks import ALLOCATED, Hooks
from .ledger import Ledger


class Request:
    """A cluster of an entry of the database, to be booted by the site's driver."""

    def __init__(self, entry: str, vc_in_path: str, wanted: kinds.Wanted, key: str,
                 name: str | None, settings: Settings):
        self._entry = entry
        self._vc_in_path = vc_in_path
        self._kinds = wanted
        self._key = key
        self._wanted = name
        self._settings = settings
        self._temp = settings.temporary_directory
        self._ledger = Ledger(self._temp)
        self._driver = Driver(settings)
        self._hooks = Hooks(settings)
        self.name = ''
        """The cluster's name, once it is chosen."""

    def boot(self) -> etree._Element:
        """Call the driver until all nodes are started; the cluster's document.

        Raises Failure when the cluster is removed again, as far as the driver can remove it.
        """
        vc_in = tree.read_file(self._vc_in_path, 'vc-in')
        os.makedirs(self._temp, exist_ok=True)
        self._driver.fix_images(self._vc_in_path, self._temp,
                                'frontend,compute' if self._kinds.num_cpus else 'frontend')
        allocated = False
        with interruption.held() as release:
            self._begin()
            vc_out_path = os.path.join(self._ledger.folder(self.name), 'vc-out.xml')
            try:
                release()
                with mark.allocating(self._ledger.folder(self.name)):
                    self._driver.allocate(self._kinds.num_cpus, self._vc_in_path, vc_out_path,
                                          self._temp, self._key)
                allocated = True
                document, nodes = self._result(vc_in, vc_out_path)
                self._hooks.tell(ALLOCATED, document)
                with self._hooks.failing(document):
                    self._driver.boot(nodes, self._temp, vc_out_path,
                                      self._settings.number('jobs'))
            except BaseException as error:
                if not allocated:
                    self._clean_up(vc_out_path)
                    raise
                if isinstance(error, Failure) and not isinstance(error, Said):
                    # Before what the removal may have to say.
                    log.warn(error)
                    self._remove()
                    raise Said(str(error), error.status) from error
                self._remove()
                raise
        return document

    def wait(self, document: etree._Element, seconds: int) -> None:
        """Wait until every node is ready; raises Failure that names the nodes that are not."""
        self._hooks.wait(document, tree.nodes(document), Engines(self._settings), self._ledger,
                         seconds)

    def has_consoles(self, document: etree._Element) -> bool:
        """Whether vc-console can show the consoles of the cluster's nodes."""
        engines = Engines(self._settings)
        return all(engines[node.get('host')].reports for node in tree.nodes(document))

    def _begin(self) -> None:
        """Choose the name of the cluster, and make its folder; raises Failure if it is taken."""
        while True:
            self.name = self._wanted or self._ledger.free_name(self._entry)
            try:
                return self._ledger.begin(self.name, self._driver.name)
            except FileExistsError:
                # Another pragma_boot was faster.
                if self._wanted:
                    raise self._ledger.taken(self.name) from None

    def _result(self, vc_in: etree._Element,
                vc_out_path: str) -> tuple[etree._Element, list[tuple[str, str]]]:
        """The document of the cluster, and the file_path and host_name of each node to boot."""
        try:
            vc_out = foreign.read(vc_out_path)
            document = self._ledger.document(self.name)
            nodes = foreign.nodes(vc_out, document)
            for option in kinds.ignored(self._kinds, *foreign.sizes(vc_out, document)):
                log.warn(f"driver '{self._driver.folder}' does not obey {option}: the nodes have "
                         'other CPUs or memory')
            if document is None:
                document = foreign.document(vc_in, self._vc_in_path, self._entry, vc_out, self.name,
                                            self._driver.name)
                with self._ledger.changing():
                    self._ledger.write(document)
            elif tree.cluster(document).get('name') != self.name:
                raise Failure(f"document.xml is of cluster '{tree.cluster(document).get('name')}'")
            return document, [
                (node.path or foreign.image_path(vc_in, node.role, self._temp), node.host_name)
                for node in nodes]
        except Failure as error:
            raise Failure(f"driver '{self._driver.folder}' left a wrong result: {error}") from None

    def _clean_up(self, vc_out_path: str) -> None:
        """Remove what an allocate that failed left, though it should have left nothing."""
        folder = os.path.dirname(vc_out_path)
        if os.path.exists(os.path.join(folder, 'document.xml')) or (
                os.path.exists(vc_out_path) and self._driver.has('clean')):
            self._remove()
        else:
            with self._ledger.changing():
                self._ledger.remove(self.name)

    def _remove(self) -> None:
        """Remove the cluster; where that fails, say so, and keep its entry."""
        try:
            removal.remove(self.name, self._settings)
        except Failure as failure:
            log.warn(failure)
