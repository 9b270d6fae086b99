"""Look into a stock image: whether it can be a node, and what its vc-in.xml must ask for."""
from __future__ import annotations

from typing import NamedTuple

from ..system import confinement
from ..system.failure import Failure
from . import bootable, formats, guest, operating_system, root, source
from .bootable import Bootable
from .operating_system import System

GUESTS = ('x86_64', 'i386')
"""Architectures whose guests run on the machines that nodes have."""

SEED = 'NoCloud'
"""cloud-init's data source for seed disks."""

DRIVERS = (*guest.BUSES['virtio'], *guest.CARDS['virtio'])


class Found(NamedTuple):
    """What an image is: its format where it is not packed, else '', its system and firmware."""

    format: str
    system: System
    firmware: Bootable


def look(path: str, maximum: int, folder: str) -> Found:
    """Look into the image ``path``; raises Failure where no node can start it, with the remedy.

    Another format than raw is unpacked to a file without a name in ``folder``. ``maximum`` is the
    largest size in bytes when unpacked.
    """
    subject = f"image '{path}'"
    with source.open_file(path) as file:
        head = file.read(formats.SECTOR)
    name = formats.recognize(head).name
    with formats.readable(path, maximum, folder) as (raw, _):
        with confinement.opened(raw) as image:
            firmware = bootable.look(bootable.Disk(image, raw, subject))
        partition = root.find(raw, path)
        if partition.inject == 'debugfs':
            with confinement.opened(raw) as image:
                found = operating_system.read(image.at(partition.offset), subject)
        else:
            found = operating_system.read_through_guestfish(raw, partition.device, subject)
    _refuse(found, firmware, subject)
    return Found(name if name in ('raw', 'qcow2') else '', found, firmware)


def _refuse(found: System, firmware: Bootable, subject: str) -> None:
    """Raise Failure for a system that cannot be a node's."""
    if not found.release:
        raise Failure(f'{subject} has no os-release(5): it is not a Linux that we know of')
    if found.architecture and found.architecture not in GUESTS:
        raise Failure(f'{subject} is for {found.architecture}: nodes are x86_64, take the image '
                      'for amd64 or x86_64')
    if not any(firmware):
        raise Failure(f'{subject} has no boot loader for BIOS or UEFI: install one in it, or take '
                      'an image that boots')
    if not found.modules:
        raise Failure(f'{subject} has no kernel in /lib/modules: take an image of a virtual '
                      'machine, not of a container')
    for kernel, names in found.modules.items():
        if missing := guest.lacking(names, DRIVERS):
            raise Failure(f"{subject}: its kernel{f' {kernel}' if kernel else ''} has no "
                          f"{', no '.join(missing)}: install a kernel with the drivers of virtio")
    if found.guest_part:
        return
    if not found.cloud_init:
        raise Failure(f'{subject} ({found.name}) has neither cloud-init nor the guest part, or '
                      'they are not enabled: install cloud-init in it, or run '
                      'images/guest/install in it')
    if found.sources and SEED not in found.sources:
        raise Failure(f"{subject}: its cloud-init looks for settings in "
                      f"{', '.join(found.sources)} only: take the image for generic clouds, or add "
                      f'{SEED} to datasource_list in /etc/cloud/cloud.cfg.d')
