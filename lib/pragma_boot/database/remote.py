"""An image database on a web server: its digests, its signature and its entries, verified."""
from __future__ import annotations

import functools
import os
import re
from urllib.parse import quote, urlsplit

from ..system import log, openpgp, transfer
from ..system.failure import Failure
from ..system.settings import Settings
from ..system.transfer import Watch
from ..system.web import Missing, Web
from . import sums, vcdb
from .sums import Digest

MAXIMUM = 16 << 20
"""Bytes of vcdb.txt and of the digests."""

MAXIMUM_SIGNATURE = 1 << 20


class Remote:
    """The database at ``url``. Nothing of it is taken that its digests do not have."""

    def __init__(self, url: str, settings: Settings) -> None:
        self.url = url.rstrip('/')
        self._web = Web(settings)
        self._web.check(self.url)
        self._keyring = settings['database_keyring'] and settings.path_of('database_keyring')
        self._maximum = settings.size('image_max_size')
        self.signer = ''
        """Who signed the digests, where there is a keyring and they were read."""

    @functools.cached_property
    def digests(self) -> dict[str, Digest]:
        """The digests by path below the database, verified by their signature; raises Failure."""
        name, content = self._first(tuple(sums.FILES), '', MAXIMUM)
        if not name:
            raise Failure(f"'{self.url}' has neither {' nor '.join(sums.FILES)}: nothing can be "
                          'verified; its publisher runs vc-publish')
        if self._keyring:
            suffix, signature = self._first(sums.SIGNATURES, name, MAXIMUM_SIGNATURE)
            if not suffix:
                raise Failure(f"'{self.at(name)}' is not signed, and database_keyring is set: "
                              'nothing of it is taken')
            self.signer = openpgp.verify(content, signature, self._keyring,
                                         f"the signature of '{self.at(name)}' is refused")
            log.detail(f"'{self.at(name)}' is signed by {self.signer}")
        return sums.parse(content, sums.FILES[name], f"'{self.at(name)}'")

    @functools.cached_property
    def entries(self) -> dict[str, str]:
        """The entries: {name: path of the vc-in.xml below the database}; raises Failure.

        Bad lines are named on stderr, and skipped.
        """
        wanted = self.digest(vcdb.FILE)
        content = transfer.small(self._web, self.at(vcdb.FILE), MAXIMUM)
        import hashlib
        if hashlib.new(wanted.algorithm, content).hexdigest() != wanted.hex:
            raise Failure(f"{self._other(vcdb.FILE)}; if it was published just now, try again")
        found = {}
        for name, path in vcdb.parse(content, self.at(vcdb.FILE), vcdb.skipped).items():
            try:
                relative = sums.checked(path, 'vc-in.xml')
                self.digest(relative)
                found[name] = relative
            except Failure as failure:
                log.warn(f"entry '{name}' is not listed: {failure}")
        return found

    def digest(self, path: str) -> Digest:
        """The published digest of a file; raises Failure where it has none."""
        if path not in self.digests:
            raise Failure(f"'{self.at(path)}' is not in the digests of its database: nothing can "
                          'be verified; its publisher runs vc-publish')
        return self.digests[path]

    def bring(self, path: str, target: str, watch: Watch, maximum: int = 0) -> None:
        """Bring a file to ``target``, going on after a break, and verify it; raises Failure.

        The file is kept after a break only. ``maximum`` is in bytes.
        """
        wanted, begun = self.digest(path), os.path.exists(target)

        def transferred() -> str:
            try:
                return transfer.to_file(self._web, self.at(path), target, wanted.algorithm,
                                        maximum or self._maximum, watch)
            except transfer.Excess as excess:
                if maximum:
                    raise
                raise Failure(f'{excess} (image_max_size in site_conf.conf)') from None
        found = transferred()
        if found != wanted.hex and begun:
            # What was there may have been the beginning of another file.
            transfer.forget(target)
            found = transferred()
        if found != wanted.hex:
            transfer.forget(target)
            raise Failure(self._other(path))

    def folder_name(self) -> str:
        """A name for the folder of what is fetched, of the server's name and a digest."""
        import hashlib
        host = re.sub('[^A-Za-z0-9.-]+', '-', urlsplit(self.url).netloc).lstrip('.-')
        return f'{host}-{hashlib.sha256(self.url.encode()).hexdigest()[:8]}'

    def at(self, path: str) -> str:
        """The URL of a file below the database."""
        return f'{self.url}/{quote(path)}'

    def _other(self, path: str) -> str:
        algorithm = self.digest(path).algorithm.upper()
        return (f"'{self.at(path)}' is not the file that {algorithm}SUMS has: it was damaged or "
                'exchanged, and is not used')

    def _first(self, names: tuple[str, ...], before: str, maximum: int) -> tuple[str, bytes]:
        """The first of these files that the server has, '' where it has none; raises Failure."""
        for name in names:
            try:
                return name, transfer.small(self._web, self.at(before + name), maximum)
            except Missing:
                continue
        return '', b''
