"""A node's serial console, kept in its cluster's folder: where its guest says that it is ready."""
import os
import re

MOST_BYTES = 4 << 20
"""More than virtlogd keeps in one file before it begins the next (2 MiB, virtlogd.conf)."""


def path(folder, name):
    """The console log of the node ``name`` in its cluster's folder."""
    return os.path.join(folder, f'{name}.console.log')


LINE = re.compile(rb'^pragma_boot: (ready|failed|hostkey) [^\s:]+:? *([^\r\n]*)\r*$', re.M)
"""What the guest part says: ``pragma_boot: WORD NAME`` and what follows. The name is not asked for:
a guest that could not read its document does not know it."""


def said(folder, name):
    """What the guest said since vc-boot emptied its log: {'ready': '', 'failed': reason, …}."""
    log, found = path(folder, name), {}
    for part in (f'{log}.0', log):
        try:
            with open(part, 'rb') as file:
                data = file.read(MOST_BYTES)
        except FileNotFoundError:
            continue
        for word, rest in LINE.findall(data):
            found[word.decode()] = rest.decode(errors='replace')
    return found
