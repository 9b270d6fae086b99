"""The host keys that guests report on their consoles, as known_hosts files for ssh."""
import contextlib
import os
import re

from ..engine import console
from ..system import files

KEY = re.compile(r'[a-z0-9@.-]+ [A-Za-z0-9+/]+=*')
"""A type and a key in base64. Nothing else that a guest writes gets into our file."""


def path(node, ledger):
    """The path of a node's known_hosts file, in its cluster's folder."""
    folder = ledger.folder(node.getparent().get('name'))
    return os.path.join(folder, f"{node.get('name')}.known_hosts")


def alias(node):
    """The node's name in that file. Its address and port may later belong to another cluster."""
    return f"{node.get('name')}.{node.getparent().get('name')}"


def known(node, engines, ledger):
    """Whether the node has a known_hosts file, which is made from its console log if necessary.

    The file stays until the node is started again: a console log grows, and its beginning is
    discarded.
    """
    file = path(node, ledger)
    if os.path.exists(file):
        return True
    said = console.reports(engines.storage(node, ledger).consoles([node])[node]).get('hostkey', '')
    if not KEY.fullmatch(said):
        return False
    files.write(file, f'{alias(node)} {said}\n'.encode(), 0o600)
    return True


def forget(node, ledger):
    """Remove a node's known_hosts file: the node reports its key again when it starts."""
    with contextlib.suppress(FileNotFoundError):
        os.unlink(path(node, ledger))
