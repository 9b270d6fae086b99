"""What an image must hold to be a node's: the guest part, and drivers for the hardware that we give it.

Read by debugfs from an ext2/3/4 file system in a Confined; nothing in it is run, or taken for true
beyond that.
"""
import functools
import re
import stat

from ..document.requirement import Requirement
from ..system import debugfs
from ..system.failure import Failure

PROGRAM, UNITS = 'pragma-guest', ('pragma-guest.service', 'pragma-guest-ready.service')

# With a dot at the end, so that a folder that is a link counts as what it leads to.
SBIN, SYSTEM, MODULES = '/usr/local/sbin/.', '/etc/systemd/system/.', '/lib/modules/.'
WANTS = '/etc/systemd/system/multi-user.target.wants/.'

MOST_BYTES = 16 << 20
"""Of a list of modules; those of Debian have 600 kB."""

VIRTIO = ('virtio_pci',)

BUSES = {
    'virtio': (VIRTIO, ('virtio_blk',)),
    'scsi': (VIRTIO, ('virtio_scsi',), ('sd_mod',)),
    'sata': (('ahci',), ('sd_mod',)),
    'ide': (('ata_piix', 'piix', 'ata_generic'), ('sd_mod', 'ide_gd_mod', 'ide_disk')),
}
"""Modules of Linux for a disk on each bus of permit.DISK_BUSES: one of each tuple."""

CARDS = {'virtio': (VIRTIO, ('virtio_net',)), 'e1000': (('e1000',),), 'e1000e': (('e1000e',),),
         'rtl8139': (('8139cp', '8139too'),)}
"""The same for network cards, those of permit.CARDS."""


class Inside:
    """The files of an image, in a Confined; ``subject`` begins messages."""

    def __init__(self, volume, subject):
        self._volume = volume
        self._subject = subject

    @functools.cached_property
    def _there(self):
        return debugfs.listing(self._volume, [SBIN, SYSTEM, WANTS, MODULES], self._subject)

    def kind(self, folder, name):
        """A file's type and mode, 0 where there is none."""
        return getattr(self._there[folder].get(name), 'mode', 0)

    def kernels(self):
        """The versions of the kernels that modules were installed for."""
        return sorted(name for name, entry in self._there[MODULES].items() if stat.S_ISDIR(entry.mode))

    def modules(self, kernel):
        """The names of a kernel's modules, and of those compiled in."""
        folder = f'/lib/modules/{kernel}'
        there, names = debugfs.listing(self._volume, [folder], self._subject)[folder], set()
        for file in {'modules.dep', 'modules.builtin'} & there.keys():
            if there[file].size > MOST_BYTES:
                raise Failure(f"'{folder}/{file}' is larger than {MOST_BYTES >> 20} MiB")
            told = debugfs.content(self._volume, f'{folder}/{file}', there[file], self._subject)
            names |= set(re.findall(r'^(?:[^:\s]*/)?([^:/\s]+)\.ko(?:\.\w+)?(?::|$)',
                                    told.decode(errors='replace').replace('-', '_'), re.M))
        return names


def _present(inside):
    missing = [name for name in UNITS if not stat.S_ISREG(inside.kind(SYSTEM, name))]
    program = inside.kind(SBIN, PROGRAM)
    if not (stat.S_ISREG(program) and program & 0o100):
        missing.insert(0, PROGRAM)
    if missing:
        raise Failure(f"the guest part is not there ({', '.join(missing)})")
    return 'the guest part is there'


def _enabled(inside):
    missing = [name for name in UNITS if not inside.kind(WANTS, name)]
    if missing:
        raise Failure(f"the guest part is not enabled ({', '.join(missing)})")
    return 'the guest part is enabled'


INSTALL = 'run images/guest/install in the image'

REQUIREMENTS = (
    Requirement('the guest part is there', _present, INSTALL, vital=False),
    Requirement('the guest part is enabled', _enabled, INSTALL, vital=False),
)
"""Of the files of any image, an Inside."""


def drivers(buses, cards):
    """The Requirements that kernels of an Inside drive disks on ``buses`` and ``cards`` of those models."""
    return [*(_driven(f'a disk on the bus {bus}', BUSES[bus]) for bus in buses),
            *(_driven(f'a network card {card}', CARDS[card]) for card in cards)]


def _driven(device, modules):
    def look(inside):
        kernels = inside.kernels()
        if not kernels:
            raise Failure('there is no kernel in /lib/modules')
        for kernel in kernels:
            names = inside.modules(kernel)
            lacking = [' or '.join(some) for some in modules if not names.intersection(some)]
            if lacking:
                raise Failure(f"kernel {kernel} has no {', no '.join(lacking)} for {device}")
        return f"kernel {', '.join(kernels)} drives {device}"
    return Requirement(f'its kernel drives {device}', look,
                       'install one that has, or ask for what it drives in vc-in.xml', vital=False)
