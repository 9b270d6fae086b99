"""What a user asks for beyond what the vc-in.xml says: private subnet, disk size, ordinary user.

pragma_boot hands it to vc-allocate, which the driver calls without options of ours, through the
environment.
"""
import os
from collections.abc import Mapping

from lxml import etree

from ..document import disksize
from ..system import names, sshkey
from . import pool

SUBNET, SIZE, USER = 'PRAGMA_PRIVATE_NETWORK', 'PRAGMA_DISK_SIZE', 'PRAGMA_USER'

DEFAULT_USER = 'user'
"""The ordinary user of a cluster whose keys name none."""


def announce(options: Mapping[str, str | None]) -> None:
    """Check the options of pragma_boot, and put them into the environment; raises Usage."""
    if (word := options['--private-network']) is not None:
        os.environ[SUBNET] = str(pool.subnet_of(word))
    if (word := options['--disk-size']) is not None:
        os.environ[SIZE] = str(names.size(word, '--disk-size', disksize.MAXIMUM))
    if (word := options['--user']) is not None:
        os.environ[USER] = names.checked_user(word, '--user')


def apply(root: etree._Element, options: Mapping[str, str | None]) -> None:
    """Give a document what the options of vc-allocate or the environment name; raises Usage."""
    if (word := _given(options['--private-network'], SUBNET)) is not None:
        pool.set_private(root, pool.subnet_of(word))
    if (word := _given(options['--disk-size'], SIZE)) is not None:
        disksize.ask(root, names.size(word, '--disk-size', disksize.MAXIMUM))


def user(options: Mapping[str, str | None], keys: str) -> str:
    """The ordinary user of a cluster: the one that is named, or the owner of the keys."""
    word = _given(options['--user'], USER)
    if word is not None:
        return names.checked_user(word, '--user' if options['--user'] is not None else USER)
    return sshkey.owner(keys) or DEFAULT_USER


def _given(option: str | None, variable: str) -> str | None:
    """The option, '' included, which is an error; otherwise the variable, where '' is none."""
    return option if option is not None else os.environ.get(variable) or None
