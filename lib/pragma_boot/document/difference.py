"""Parts of an author's <domain> that nodes have differently, and guests can do without.

They are dropped, and named in a warning. vc-in.xml(5) has the same table.
"""
from __future__ import annotations

from lxml import etree

from .hardware import AGENT

CPU = 'nodes have the CPU of their host, or all that QEMU emulates'
CPUS = 'nodes have all their CPUs from the start'
MEMORY = 'nodes have their <memory> from the start, and no more'
CLOCK = "the clock of a node starts with its host's"
NETWORK = 'the site connects the interfaces of nodes'
ABSENT = 'nodes have none'

DIFFERENT = (
    ("cpu[not(@mode) or @mode='custom']/model", CPU), ('cpu/vendor', CPU), ('cpu/topology', CPU),
    ('cpu/feature', CPU), ('cpu/numa', CPU),
    ('vcpu[@current][@current != normalize-space()]', CPUS), ("vcpus/vcpu[@enabled='no']", CPUS),
    ('maxMemory', MEMORY), ('devices/memory', MEMORY),
    ("clock[@adjustment][@adjustment != 'reset'][number(@adjustment) != 0]", CLOCK),
    ('devices/interface/mtu', NETWORK), ('devices/interface/vlan', NETWORK),
    ("devices/watchdog[not(@model='itco')]", ABSENT), ('devices/iommu', ABSENT),
    ('devices/tpm', ABSENT), ('devices/panic', ABSENT),
    ('devices/disk/geometry', ABSENT), ("os/smbios[not(@mode='emulate')]", ABSENT),
    ('sysinfo', ABSENT),
    (("devices/channel[not(@type='spicevmc' or @type='spiceport' or @type='qemu-vdagent')]"
      f"[target[@type='virtio' and not(@name='{AGENT}')]]"), ABSENT),
)
"""XPaths from <domain>, and what nodes have instead.

What virt-install adds to every domain is not here: timers, a USB tablet, sound, a balloon, a source
of random numbers, and the watchdog that is part of the machine q35.
"""


def found(author: etree._Element, role: str) -> list[str]:
    """A message for each element of an author's <domain> that nodes have differently."""
    return [f'line {element.sourceline}: <{etree.QName(element).localname}> of the {role} is '
            f'dropped: {reason}'
            for where, reason in DIFFERENT for element in author.xpath(where)[:1]]
