"""Names and numbers as users write them: one pattern each."""
import re

from .failure import Failure, Usage

LABEL = '[A-Za-z0-9]([A-Za-z0-9-]*[A-Za-z0-9])?'
PATTERN = re.compile(rf'(?=.{{1,63}}\Z){LABEL}(\.{LABEL})*')
"""Names of clusters, nodes and database entries: labels with dots between them (RFC 1123, 2.1).

The guest part has the same rule, and so has the schema of documents. Such a name is also safe in a
path and in a shell.
"""


def checked(name: str, what: str) -> str:
    """``name`` itself, which is the name of ``what``; raises Failure unless it matches PATTERN."""
    if not PATTERN.fullmatch(name):
        raise Failure(f"{what} {name!r} is not a name: at most 63 letters, digits, '-' and '.', "
                      "with a letter or digit at both ends and on both sides of each '.'")
    return name


def number(text: str, what: str, maximum: int) -> int:
    """A whole number of ``what`` from 0 to ``maximum``, in plain digits; raises Usage."""
    if not re.fullmatch('[0-9]{1,9}', text or '') or int(text) > maximum:
        raise Usage(f"{what} must be a whole number from 0 to {maximum}, not '{text}'")
    return int(text)
