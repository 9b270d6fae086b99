"""The names of databases' entries, clusters and nodes: one pattern, checked at the door."""
import re

from .failure import Failure

PATTERN = re.compile(r'[A-Za-z0-9][A-Za-z0-9.-]{0,62}')
"""Also a host name's and a libvirt domain's: nothing that a shell or a path could read otherwise."""


def checked(name, what):
    """``name`` itself; raises Failure where it does not fit the pattern."""
    if not PATTERN.fullmatch(name):
        raise Failure(f"{what} {name!r} is not a name: letters, digits, '.' and '-', "
                      "63 at most, beginning with a letter or digit")
    return name
