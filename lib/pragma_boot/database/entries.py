"""Entries of the site's image database, whether it is a folder or on a web server.

What the second one needs is imported for it alone.
"""
from __future__ import annotations

from typing import TYPE_CHECKING

from ..system.failure import Failure
from ..system.settings import Settings
from . import vcdb

if TYPE_CHECKING:
    from .fetching import Site


def site(base_path: str, settings: Settings, folder: str | None = None,
         mirror: bool = False) -> Site:
    """What was, or will be, fetched of a database on a web server; raises Failure for a folder."""
    if not vcdb.is_remote(base_path):
        raise Failure(f"image database '{base_path}' is a folder: there is nothing to fetch")
    from . import fetching, remote
    return fetching.Site(remote.Remote(base_path, settings), settings, folder, mirror)


def local(base_path: str, name: str, settings: Settings, update: bool = False) -> str:
    """The path of the vc-in.xml of an entry, which is fetched if it is not here; raises Failure.

    An entry that was changed on the server since is not taken without ``update``: this is said,
    and the path is that of the one that is here.
    """
    if not vcdb.is_remote(base_path):
        return vcdb.entry(base_path, name)
    here = site(base_path, settings)
    here.fetch(name, update)
    return here.path(name)


def fetched(base_path: str, name: str, settings: Settings) -> str:
    """The path of the vc-in.xml of an entry that is here; raises Failure. No server is asked."""
    if not vcdb.is_remote(base_path):
        return vcdb.entry(base_path, name)
    here = site(base_path, settings)
    if not here.entry(vcdb.checked(name)):
        raise Failure(f"entry '{name}' of '{base_path}' is not fetched: run {here.command(name)}")
    return here.path(name)


def published(base_path: str, settings: Settings) -> dict[str, str]:
    """The entries of a database on a web server: {name: URL of its vc-in.xml}; raises Failure."""
    remote = site(base_path, settings).remote
    return {name: remote.at(path) for name, path in remote.entries.items()}
