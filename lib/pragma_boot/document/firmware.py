"""The firmware that an author's <os> asks for: BIOS, or UEFI with or without Secure Boot.

What only says UEFI is carried over as firmware='efi': the host's libvirt chooses the file. No path
of the author's is carried over; the variables of each node are its own.
"""
from __future__ import annotations

from lxml import etree

from ..system.failure import Failure
from .tree import text

UEFI = 'efi'
"""The value of firmware= (libvirt, "BIOS bootloader")."""

SECURE_BOOT, ENROLLED_KEYS = 'secure-boot', 'enrolled-keys'
FEATURES = (SECURE_BOOT, ENROLLED_KEYS)
"""What the firmware itself may be asked for. libvirt knows no others."""

FILES = ('ovmf', 'edk2', 'efi')
"""A word of these is in the path of each file of UEFI firmware that a distribution has."""

def asked_for(system: etree._Element) -> str | None:
    """The firmware= of an author's <os>, 'efi' for a <loader> that means it, None for BIOS.

    Raises Failure for a loader of another kind, and for variables of UEFI without UEFI.
    """
    asked, loader, variables = system.get('firmware'), system.find('loader'), system.find('nvram')
    flash = loader is not None and loader.get('type') == 'pflash'
    path = text(loader)
    known = any(word in path.lower() for word in FILES)
    if flash and path and not known:
        raise _refusal(loader, f"'{path}' is no firmware that nodes have")
    if flash and loader.get('readonly') == 'no':
        raise _refusal(loader, "nodes have variables of their own: add readonly='yes'")
    if asked is None and (flash or known):
        asked = UEFI
    if asked != UEFI and variables is not None:
        raise _refusal(variables, "only UEFI has variables: add firmware='efi' to <os>")
    return None if asked == 'bios' else asked


def _refusal(element: etree._Element, reason: str) -> Failure:
    return Failure(f'line {element.sourceline}: <{element.tag}> is refused: {reason}')


def complete(author: etree._Element, system: etree._Element) -> None:
    """Add the <feature> that <loader secure='yes'> means to a carried <os>."""
    loader = author.find("loader[@secure='yes']")
    asked = system.find(_feature(SECURE_BOOT))
    if system.get('firmware') != UEFI or loader is None or asked is not None:
        return
    firmware = system.find('firmware')
    if firmware is None:
        firmware = etree.SubElement(system, 'firmware')
    feature = etree.SubElement(firmware, 'feature', name=SECURE_BOOT, enabled='yes')
    firmware.sourceline = feature.sourceline = loader.sourceline


def check(domain: etree._Element) -> None:
    """Raise Failure for a carried <domain> whose machine cannot have its firmware."""
    secure = domain.find(f"os/{_feature(SECURE_BOOT)}[@enabled='yes']")
    if secure is not None and domain.xpath('string(os/type/@machine)') != 'q35':
        raise Failure(f'line {secure.sourceline}: Secure Boot is refused: it needs the machine q35')


def of(domain: etree._Element) -> str:
    """'UEFI' or 'BIOS': the firmware of a carried <domain>."""
    return 'UEFI' if domain.xpath('string(os/@firmware)') == UEFI else 'BIOS'


def element(domain: etree._Element) -> etree._Element | None:
    """The <firmware> of a node with UEFI, whose features are off unless the author's are on.

    None for BIOS.
    """
    if of(domain) != 'UEFI':
        return None
    firmware = etree.Element('firmware')
    asked = {feature.get('name'): feature.get('enabled')
             for feature in domain.findall('os/firmware/feature')}
    secure = asked.get(SECURE_BOOT, 'no')
    # Without a value for the keys, libvirt takes those that are enrolled.
    wanted = {SECURE_BOOT: secure, ENROLLED_KEYS: asked.get(ENROLLED_KEYS, secure)}
    for name, enabled in wanted.items():
        etree.SubElement(firmware, 'feature', enabled=enabled, name=name)
    return firmware


def _feature(name: str) -> str:
    return f"firmware/feature[@name='{name}']"
