"""The host keys of nodes, which their guests say on their consoles, as ssh is told of them."""
import contextlib
import os
import re

from ..engine import console
from ..system import files

KEY = re.compile(r'[a-z0-9@.-]+ [A-Za-z0-9+/]+=*')
"""A type and a key in base64. A guest is not trusted to say one: nothing else gets into our file."""


def path(node, ledger):
    """The known_hosts file of a node, in its cluster's folder, with which it goes."""
    return os.path.join(ledger.folder(node.getparent().get('name')), f"{node.get('name')}.known_hosts")


def alias(node):
    """The name of a node in that file: addresses and ports are used again by other clusters."""
    return f"{node.get('name')}.{node.getparent().get('name')}"


def known(node, engines, ledger):
    """Whether the known_hosts file is there, made from the console where it was not.

    What a node said when it was first asked for stays until it is started again: a console's log
    grows, and its beginning is thrown away.
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
    """Forget a node's key, as it is started, with what may be a new disk, and says its key again."""
    with contextlib.suppress(FileNotFoundError):
        os.unlink(path(node, ledger))
