"""Hooks of a site: programs in HOOKS_PATH/MOMENT.d that get a cluster's document (pragma_boot(7)).

What they do is the site's business: a hook that fails is a warning.
"""
from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Iterator

from lxml import etree

from ..document import tree
from ..engine.registry import Engines
from ..system import log, process
from ..system.environment import WITHOUT_HOOKS
from ..system.failure import Failure, cause
from ..system.settings import Settings
from . import readiness
from .ledger import Ledger
from .states import view_of

ALLOCATED, READY, FAILED, CLEANED = 'allocated', 'ready', 'failed', 'cleaned'
"""The moments in the life of a cluster that a site may have hooks for."""

MOMENT, CLUSTER = 'PRAGMA_HOOK', 'PRAGMA_CLUSTER'
"""Variables of a hook's environment."""


class Hooks:
    """The hooks of a site.

    They run with the rights of the user who runs the tool, so nobody else may be able to write to
    them. Raises Failure where others may. A tool that a hook or a driver called has none: a hook
    would otherwise run twice, or without end.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._path = ''
        self._seconds = settings.number('hook_timeout')
        if settings['hooks_path'] and not os.environ.keys() & {MOMENT, WITHOUT_HOOKS}:
            self._path = os.path.realpath(settings.path_of('hooks_path'))
            if not os.path.isdir(self._path):
                settings.refuse('hooks_path', 'a folder that exists')
            _check(self._path)

    def run(self, moment: str, cluster: str, document: bytes) -> None:
        """Run the hooks of a moment, by their names; never call it with the ledger's lock."""
        paths = self._of(moment)
        if paths:
            from ..system import executable
        for path in paths:
            try:
                done = executable.finish([path], f"hook '{path}'", {
                    **os.environ, MOMENT: moment, CLUSTER: cluster,
                    'PRAGMA_SITE_CONF': self._settings.path}, document, self._seconds or None)
            except Failure as failure:
                log.warn(failure)
                continue
            if done.returncode > 0:
                text = done.stderr.decode(errors='replace').strip().splitlines()
                log.warn(f"hook '{path}' exited with status {done.returncode}"
                         + (f': {text[-1]}' if text else ''))
            elif done.returncode:
                log.warn(f"hook '{path}' failed: {process.last_line(done)}")
            else:
                # Standard output is the tool's own document.
                log.write((done.stdout + done.stderr).decode(errors='replace'))

    def tell(self, moment: str, root: etree._Element) -> None:
        """Run the hooks of a moment with a document."""
        if self._path:
            self.run(moment, tree.cluster(root).get('name'), tree.serialize(root))

    def wait(self, root: etree._Element, chosen: list, engines: Engines, ledger: Ledger,
             seconds: int) -> None:
        """Wait until the ``chosen`` nodes are ready, as ``readiness.wait``, and run hooks.

        Those of READY run if all nodes of the cluster were awaited, and those of FAILED if the
        wait fails. Their document has the states.
        """
        try:
            readiness.wait(chosen, engines, ledger, seconds)
        except Failure:
            self._tell_states(FAILED, root, engines, ledger)
            raise
        if len(chosen) == len(tree.nodes(root)):
            self._tell_states(READY, root, engines, ledger)

    def _tell_states(self, moment: str, root: etree._Element, engines: Engines,
                     ledger: Ledger) -> None:
        if self._of(moment):
            view_of([root], engines, ledger)
            self.tell(moment, root)

    @contextlib.contextmanager
    def failing(self, root: etree._Element) -> Iterator[None]:
        """Run the hooks of FAILED if the block raises Failure. An interruption is none."""
        try:
            yield
        except Failure:
            self.tell(FAILED, root)
            raise

    def _of(self, moment: str) -> list[str]:
        """The paths of a moment's hooks, in the order of their names.

        Backups of editors, hidden files and what is not executable are none (run-parts(8)).
        """
        folder = os.path.join(self._path, f'{moment}.d')
        if not self._path or not os.path.isdir(folder):
            return []
        try:
            _check(folder)
            paths = [os.path.join(folder, name) for name in sorted(os.listdir(folder))
                     if not name.startswith('.') and not name.endswith('~')]
        except (Failure, OSError) as error:
            log.warn(f'{error}; its hooks are not run' if isinstance(error, Failure)
                     else f"cannot read '{folder}': {cause(error)}")
            return []
        return [path for path in paths if _runs(path)]


def _runs(path: str) -> bool:
    """Whether a file is a hook; a warning for one that others may write to."""
    if not os.path.isfile(path) or not os.access(path, os.X_OK):
        return False
    try:
        _check(path)
    except Failure as failure:
        log.warn(f'{failure}; it is not run')
        return False
    return True


def _check(path: str) -> None:
    """Raise Failure if anybody but root and the user may change a file or folder, or replace it.

    A folder above it with the sticky bit, such as /tmp, lets nobody replace what is another's.
    """
    path = where = os.path.realpath(path)
    while True:
        status = os.stat(where)
        owner, mode = status.st_uid, status.st_mode
        sticky = where != path and mode & stat.S_ISVTX
        if owner not in (0, os.geteuid()) or (mode & 0o022 and not sticky):
            raise Failure(f"hooks_path: others may write to '{where}': hooks run with your rights; "
                          'give it to root or to yourself, and chmod go-w')
        if where == '/':
            return
        where = os.path.dirname(where)
