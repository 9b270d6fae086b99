"""What a user asks for in the place of what the vc-in.xml says: the private subnet, the disk size.

pragma_boot hands it to vc-allocate, which the driver calls without options of ours, through the
environment.
"""
import os
from collections.abc import Mapping

from lxml import etree

from ..document import disksize
from ..system import names
from . import pool

SUBNET, SIZE = 'PRAGMA_PRIVATE_NETWORK', 'PRAGMA_DISK_SIZE'


def announce(options: Mapping[str, str | None]) -> None:
    """Check the options of pragma_boot, and put them into the environment; raises Usage."""
    if (word := options['--private-network']) is not None:
        os.environ[SUBNET] = str(pool.subnet_of(word))
    if (word := options['--disk-size']) is not None:
        os.environ[SIZE] = str(names.size(word, '--disk-size', disksize.MAXIMUM))


def apply(root: etree._Element, options: Mapping[str, str | None]) -> None:
    """Give a document what the options of vc-allocate or the environment name; raises Usage."""
    if (word := _given(options['--private-network'], SUBNET)) is not None:
        pool.set_private(root, pool.subnet_of(word))
    if (word := _given(options['--disk-size'], SIZE)) is not None:
        disksize.ask(root, names.size(word, '--disk-size', disksize.MAXIMUM))


def _given(option: str | None, variable: str) -> str | None:
    """The option, '' included, which is an error; otherwise the variable, where '' is none."""
    return option if option is not None else os.environ.get(variable) or None
