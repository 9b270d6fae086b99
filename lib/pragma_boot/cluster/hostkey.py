"""The host keys that guests report on their consoles, as known_hosts files for ssh."""
import os
import re

from lxml import etree

from ..engine import console
from ..engine.registry import Engines
from ..system import files
from .ledger import Ledger

KEY = r'[a-z0-9@.-]+ [A-Za-z0-9+/]+=*'
"""A type and a key in base64. Nothing else that a guest writes gets into our file."""


def path(node: etree._Element, ledger: Ledger) -> str:
    """The path of a node's known_hosts file, in its cluster's folder."""
    folder = ledger.folder(node.getparent().get('name'))
    return os.path.join(folder, f"{node.get('name')}.known_hosts")


def alias(node: etree._Element) -> str:
    """The node's name in that file. Its address and port may later belong to another cluster."""
    return f"{node.get('name')}.{node.getparent().get('name')}"


def known(node: etree._Element, engines: Engines, ledger: Ledger) -> bool:
    """Whether the node has a known_hosts file, which is made from its console log if necessary.

    The file stays until the node is started again: a console log grows, and its beginning is
    discarded.
    """
    file = path(node, ledger)
    if os.path.exists(file):
        return True
    reports = console.reports(engines.storage(node, ledger).consoles([node])[node])
    key = reports.get('hostkey', '')
    if not re.fullmatch(KEY, key):
        return False
    files.write(file, f'{alias(node)} {key}\n'.encode(), 0o600)
    return True


def forget(node: etree._Element, ledger: Ledger) -> None:
    """Remove a node's known_hosts file: the node reports its key again when it starts."""
    files.remove(path(node, ledger))
