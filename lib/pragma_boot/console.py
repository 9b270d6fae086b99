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


def read(log):
    """The end of a console log that lies here, and of the one that virtlogd began before it."""
    data = b''
    for part in (f'{log}.0', log):
        try:
            with open(part, 'rb') as file:
                data += file.read(MOST_BYTES) + b'\n'
        except FileNotFoundError:
            continue
    return data


def said(data):
    """What a guest said on its console since vc-boot emptied it: {'ready': '', 'failed': reason, …}."""
    return {word.decode(): rest.decode(errors='replace') for word, rest in LINE.findall(data)}
