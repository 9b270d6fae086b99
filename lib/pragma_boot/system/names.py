"""Names and numbers as users write them: one pattern each."""
import re

from .failure import Failure, Usage

PATTERN = re.compile(r'[A-Za-z0-9][A-Za-z0-9.-]{0,62}')
"""Also a host name's and a libvirt domain's: nothing that a shell or a path could read otherwise."""


def checked(name, what):
    """``name`` itself; raises Failure where it does not fit the pattern."""
    if not PATTERN.fullmatch(name):
        raise Failure(f"{what} {name!r} is not a name: letters, digits, '.' and '-', "
                      "63 at most, beginning with a letter or digit")
    return name


def number(text: str, what: str, maximum: int) -> int:
    """A whole number of ``what`` from 0 to ``maximum``, in plain digits; raises Usage."""
    if not re.fullmatch('[0-9]{1,9}', text or '') or int(text) > maximum:
        raise Usage(f"{what} must be a whole number from 0 to {maximum}, not '{text}'")
    return int(text)
