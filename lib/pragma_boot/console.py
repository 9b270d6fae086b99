"""A node's serial console, kept in its cluster's folder: where its guest says that it is ready."""
import os
import re

MOST_BYTES = 4 << 20
"""More than virtlogd keeps in one file before it begins the next (2 MiB, virtlogd.conf)."""


def path(folder, name):
    """The console log of the node ``name`` in its cluster's folder."""
    return os.path.join(folder, f'{name}.console.log')


def said(folder, name):
    """What the guest said since its domain started: {'ready': '', 'failed': reason, …}.

    A line is ``pragma_boot: WORD NAME`` with whatever follows, which the guest part's
    pragma-guest writes; vc-boot empties the log at each start.
    """
    log, found = path(folder, name), {}
    for part in (f'{log}.0', log):
        try:
            with open(part, 'rb') as file:
                data = file.read(MOST_BYTES)
        except FileNotFoundError:
            continue
        for word, rest in re.findall(
                rb'^pragma_boot: (ready|failed|hostkey) %s(?:[: ] *([^\r\n]*))?\r*$'
                % re.escape(name.encode()), data, re.M):
            found[word.decode()] = rest.decode(errors='replace')
    return found
