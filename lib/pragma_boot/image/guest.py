"""What an image must hold to be a node: the guest part, and drivers for the hardware it gets.

debugfs reads the files of an ext2, ext3 or ext4 file system; nothing in it is run.
"""
from __future__ import annotations

import functools
import re
import stat
from collections.abc import Collection, Iterable

from ..document.requirement import Requirement
from ..system import debugfs
from ..system.confinement import Confined
from ..system.failure import Failure

PROGRAM, UNITS = 'pragma-guest', ('pragma-guest.service', 'pragma-guest-ready.service')

# The dot at the end makes debugfs follow a folder that is a link.
SBIN, SYSTEM, MODULES = '/usr/local/sbin/.', '/etc/systemd/system/.', '/lib/modules/.'
WANTS = '/etc/systemd/system/multi-user.target.wants/.'

MAXIMUM_BYTES = 16 << 20
"""Of a list of modules; Debian's have 600 kB."""

Modules = tuple[tuple[str, ...], ...]
"""Modules of Linux that a device needs: one of each tuple."""

VIRTIO = ('virtio_pci',)

BUSES: dict[str, Modules] = {
    'virtio': (VIRTIO, ('virtio_blk',)),
    # libvirt's choice where the author names no controller
    'scsi': (('sym53c8xx',), ('sd_mod',)),
    'scsi lsilogic': (('sym53c8xx',), ('sd_mod',)),
    'scsi lsisas1068': (('mptsas',), ('sd_mod',)),
    'scsi lsisas1078': (('megaraid_sas',), ('sd_mod',)),
    'scsi vmpvscsi': (('vmw_pvscsi',), ('sd_mod',)),
    **dict.fromkeys(('scsi virtio-scsi', 'scsi virtio-transitional',
                     'scsi virtio-non-transitional'), (VIRTIO, ('virtio_scsi',), ('sd_mod',))),
    'sata': (('ahci',), ('sd_mod',)),
    'ide': (('ata_piix', 'piix', 'ata_generic'), ('sd_mod', 'ide_gd_mod', 'ide_disk')),
}
"""For a disk on each bus of permit.DISK_BUSES, and on each model of SCSI controller."""

CARDS: dict[str, Modules] = {
    **dict.fromkeys(('virtio', 'virtio-transitional', 'virtio-non-transitional'),
                    (VIRTIO, ('virtio_net',))),
    'e1000': (('e1000',),),
    'e1000e': (('e1000e',),),
    'rtl8139': (('8139cp', '8139too'),),
}
"""For each model of network interface of permit.CARDS."""


class Inside:
    """The files of an image; ``subject`` begins messages."""

    def __init__(self, volume: Confined, subject: str, folders: Iterable[str] = ()) -> None:
        """``folders`` are those that are listed beside the ones of the guest part."""
        self.volume = volume
        self.subject = subject
        self._folders = list(dict.fromkeys([SBIN, SYSTEM, WANTS, MODULES, *folders]))

    @functools.cached_property
    def _entries(self) -> debugfs.Listing:
        return debugfs.listing(self.volume, self._folders, self.subject)

    def names(self, folder: str) -> list[str]:
        """The names in a folder, without '.' and '..'; none where there is no such folder."""
        return sorted(self._entries[folder])

    def content(self, path: str, folder: str, name: str) -> bytes:
        """The bytes of the regular file ``name`` in a folder, whose path is ``path``."""
        entry = self._entries[folder][name]
        if entry.size > MAXIMUM_BYTES:
            raise Failure(f"'{path}' is larger than {MAXIMUM_BYTES >> 20} MiB")
        return debugfs.content(self.volume, path, entry, self.subject)

    def mode(self, folder: str, name: str) -> int:
        """The mode of a file with its type (stat(2)), 0 where there is none."""
        entry = self._entries[folder].get(name)
        return entry.mode if entry else 0

    def kernels(self) -> list[str]:
        """The versions of the kernels that have modules."""
        return sorted(name for name, entry in self._entries[MODULES].items()
                      if stat.S_ISDIR(entry.mode))

    def modules(self, kernel: str) -> set[str]:
        """The names of a kernel's modules, including those that are built in; raises Failure."""
        folder = f'/lib/modules/{kernel}'
        entries = debugfs.listing(self.volume, [folder], self.subject)[folder]
        names = set()
        for file in {'modules.dep', 'modules.builtin'} & entries.keys():
            if entries[file].size > MAXIMUM_BYTES:
                raise Failure(f"'{folder}/{file}' is larger than {MAXIMUM_BYTES >> 20} MiB")
            content = debugfs.content(self.volume, f'{folder}/{file}', entries[file],
                                      self.subject)
            names |= module_names(content.decode(errors='replace'))
        return names


def module_names(text: str) -> set[str]:
    """The names of the modules in a modules.dep or modules.builtin of Linux."""
    return set(re.findall(r'^(?:[^:\s]*/)?([^:/\s]+)\.ko(?:\.\w+)?(?::|$)',
                          text.replace('-', '_'), re.M))


def _present(inside: Inside) -> str:
    missing = [name for name in UNITS if not stat.S_ISREG(inside.mode(SYSTEM, name))]
    program = inside.mode(SBIN, PROGRAM)
    if not (stat.S_ISREG(program) and program & 0o100):
        missing.insert(0, PROGRAM)
    if missing:
        raise Failure(f"the guest part is not there ({', '.join(missing)})")
    return 'the guest part is there'


def _enabled(inside: Inside) -> str:
    missing = [name for name in UNITS if not inside.mode(WANTS, name)]
    if missing:
        raise Failure(f"the guest part is not enabled ({', '.join(missing)})")
    return 'the guest part is enabled'


INSTALL = 'run images/guest/install in the image'

REQUIREMENTS = (
    Requirement('the guest part is there', _present, INSTALL, vital=False),
    Requirement('the guest part is enabled', _enabled, INSTALL, vital=False),
)
"""What the files of any image must be; their subject is an Inside."""


def drivers(buses: Iterable[str], models: Iterable[str]) -> list[Requirement]:
    """The Requirements that the kernels have drivers for disk buses and interface models."""
    return [*(_driven(f'a disk on the bus {bus}', BUSES[bus]) for bus in buses),
            *(_driven(f'a network interface {model}', CARDS[model]) for model in models)]


def lacking(names: Collection[str], modules: Modules) -> list[str]:
    """Those of ``modules`` of which a kernel with the modules ``names`` has none."""
    return [' or '.join(some) for some in modules if not set(some).intersection(names)]


def _driven(device: str, modules: Modules) -> Requirement:
    def look(inside: Inside) -> str:
        kernels = inside.kernels()
        if not kernels:
            raise Failure('there is no kernel in /lib/modules')
        for kernel in kernels:
            if missing := lacking(inside.modules(kernel), modules):
                raise Failure(f"kernel {kernel} has no {', no '.join(missing)} for {device}")
        return f"kernel {', '.join(kernels)} drives {device}"
    return Requirement(f'its kernel drives {device}', look,
                       'install one that has, or ask for what it drives in vc-in.xml', vital=False)
