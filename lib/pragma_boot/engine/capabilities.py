"""What a host's libvirt offers to domains, by its <domainCapabilities>."""
from __future__ import annotations

import contextlib
from typing import Any

from lxml import etree

from ..document import firmware
from ..system.failure import Failure

SCHEMA = '/usr/share/libvirt/schemas/domaincaps.rng'
"""libvirt's schema of <domainCapabilities>. To ask libvirt itself takes 20 ms."""


def knows(device: str) -> bool:
    """Whether the schema has an element for a device; True where there is no schema."""
    with contextlib.suppress(OSError), open(SCHEMA, encoding='utf-8') as file:
        return f'"{device}"' in file.read()
    return True


def values(libvirt: Any, device: str, what: str) -> list[str]:
    """The values of the <enum> ``what`` of a device; [] where this libvirt does not say."""
    answer = etree.fromstring(libvirt.virsh('domcapabilities', '--virttype', 'qemu').stdout)
    return list(map(str, answer.xpath(f'//{device}/enum[@name=$what]/value/text()', what=what)))


def explained(failure: Failure, definition: etree._Element, libvirt: Any) -> Failure:
    """The failure to define a domain, with the remedy where the host has no UEFI for it."""
    wanted = firmware.of(definition)
    if wanted != 'UEFI' or firmware.UEFI in values(libvirt, 'os', 'firmware'):
        return failure
    return Failure(f"libvirt at '{libvirt.uri}' has no {wanted} for domain "
                   f"'{definition.findtext('name')}': install ovmf on that host")
