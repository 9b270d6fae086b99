"""What a user asks for in the place of what the vc-in.xml says: private subnet, disk size, user."""
from lxml import etree

from ..document import disksize
from ..system import names, sshkey
from . import handover, pool
from .handover import DISK, SUBNET, USER, Options

DEFAULT_USER = 'user'
"""The ordinary user of a cluster whose keys name none."""


def for_driver(options: Options) -> Options:
    """The options of pragma_boot as a driver gets them, with the disk size in bytes; raises Usage.

    What vc-allocate would refuse is refused here, before the driver is called.
    """
    result = dict(options)
    if found := handover.given(options, SUBNET):
        result[SUBNET] = str(pool.subnet_of(found.text))
    if found := handover.given(options, DISK):
        result[DISK] = str(_disk_size(found))
    if found := handover.given(options, USER):
        names.checked_user(found.text, found.source)
    return result


def apply(root: etree._Element, options: Options) -> None:
    """Give a document the subnet and disk size that are asked for; raises Usage."""
    if found := handover.given(options, SUBNET):
        pool.set_private(root, pool.subnet_of(found.text))
    if found := handover.given(options, DISK):
        disksize.ask(root, _disk_size(found))


def user(options: Options, keys: str) -> str:
    """The ordinary user of a cluster: the one that is named, or the owner of the keys."""
    if found := handover.given(options, USER):
        return names.checked_user(found.text, found.source)
    return sshkey.owner(keys) or DEFAULT_USER


def _disk_size(found: handover.Given) -> int:
    return names.size(found.text, found.source, disksize.MAXIMUM)
