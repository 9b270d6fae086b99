"""The operating system in an image: what it is, and what of it makes it a node.

debugfs reads it from ext2, ext3 and ext4, in milliseconds, guestfish from all others. Nothing of an
image is run.
"""
from __future__ import annotations

import re
import stat
from typing import NamedTuple

from ..system import guestfish
from ..system.confinement import Confined
from ..system.failure import Failure
from . import guest, services
from .guest import Inside

MACHINES = {3: 'i386', 40: 'armv7', 62: 'x86_64', 183: 'aarch64', 21: 'ppc64', 22: 's390x',
            243: 'riscv64'}
"""Architectures by e_machine (elf(5)), with the names of libguestfs."""

PROGRAMS = ('env', 'true', 'ls', 'coreutils', 'bash', 'busybox', 'dash')
"""One of these shows the architecture."""

ETC, LIB, CLOUD, CLOUD_PARTS = '/etc/.', '/usr/lib/.', '/etc/cloud/.', '/etc/cloud/cloud.cfg.d/.'
FOLDERS = (ETC, LIB, CLOUD, CLOUD_PARTS, *services.FOLDERS)


class System(NamedTuple):
    """An operating system: its os-release(5), its architecture, '' where it is not known.

    ``settings`` is the text of cloud-init's configuration. ``modules`` are those of each kernel.
    ``doubts`` is what it lacks to be a node, as far as it was looked for.
    """

    release: dict[str, str]
    architecture: str
    guest_part: bool
    cloud_init: bool
    settings: str
    modules: dict[str, set[str]]
    doubts: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """What people call it."""
        return self.release.get('PRETTY_NAME') or self.release.get('ID') or 'unknown system'

    @property
    def family(self) -> set[str]:
        """ID and ID_LIKE of os-release(5)."""
        return {self.release.get('ID', ''), *self.release.get('ID_LIKE', '').split()}

    @property
    def sources(self) -> list[str]:
        """The data sources that cloud-init is told to look for; [] where it looks for all."""
        lists = re.findall(r'^datasource_list:\s*(\[[^\]]*\]|(?:\n\s*-[^\n]*)+)', self.settings,
                           re.M)
        return re.findall(r'[\w-]+', lists[-1].replace('- ', ' ')) if lists else []


def read(volume: Confined, subject: str) -> System:
    """The System in an ext2, ext3 or ext4 file system; raises Failure."""
    inside = Inside(volume, subject, FOLDERS)

    def content(folder: str, name: str) -> bytes:
        if not stat.S_ISREG(inside.mode(folder, name)):
            return b''
        return inside.content(f'{folder[:-1]}{name}', folder, name)
    # /etc/os-release is a link to the first, where it is none.
    release = content(LIB, 'os-release') or content(ETC, 'os-release')
    program = next((found for folder in services.PROGRAMS for name in PROGRAMS
                    if (found := content(folder, name))), b'')
    settings = [content(CLOUD, 'cloud.cfg'),
                *(content(CLOUD_PARTS, name) for name in inside.names(CLOUD_PARTS)
                  if name.endswith('.cfg'))]
    guest_part = all(_met(requirement, inside) for requirement in guest.REQUIREMENTS)
    return System(_release(release), _architecture(program), guest_part,
                  any(inside.mode(folder, 'cloud-init') for folder in services.PROGRAMS)
                  and not inside.mode(CLOUD, 'cloud-init.disabled'),
                  b'\n'.join(settings).decode(errors='replace'),
                  {kernel: inside.modules(kernel) for kernel in inside.kernels()},
                  tuple(services.doubts(inside, guest_part)))


def _met(requirement: guest.Requirement, inside: Inside) -> bool:
    try:
        requirement.look(inside)
    except Failure:
        return False
    return True


def _release(content: bytes) -> dict[str, str]:
    found = re.findall(r'^([A-Z_]+)=(["\']?)(.*)\2\s*$', content.decode(errors='replace'), re.M)
    return {key: ''.join(filter(str.isprintable, value)) for key, _, value in found}


def _architecture(program: bytes) -> str:
    if not program.startswith(b'\x7fELF'):
        return ''
    order = 'little' if program[5] == 1 else 'big'
    number = int.from_bytes(program[18:20], order)    # type: ignore[arg-type]
    return MACHINES.get(number, f'ELF machine {number}')


COMMANDS = (
    '-cat /etc/os-release',
    *(f'-file-architecture /usr/bin/{name}' for name in PROGRAMS[:3]),
    f'-is-symlink {guest.WANTS[:-1]}{guest.UNITS[0]}',
    '-is-file /usr/bin/cloud-init followsymlinks:true',
    '-is-file /etc/cloud/cloud-init.disabled',
    '-cat /etc/cloud/cloud.cfg', '-glob cat /etc/cloud/cloud.cfg.d/*.cfg',
    '-glob cat /lib/modules/*/modules.dep', '-glob cat /lib/modules/*/modules.builtin',
)
"""What guestfish is asked, in the order in which ``read_through_guestfish`` takes the answers.

It gives no file of more than 4 MiB.
"""


def read_through_guestfish(path: str, device: str, subject: str) -> System:
    """The System in the file system ``device`` of a raw image; raises Failure."""
    answers = guestfish.ask(path, device, COMMANDS, subject)
    release, *rest = answers
    machines, (part, cloud, disabled, *settings), lists = rest[:3], rest[3:-2], rest[-2:]
    modules = {name for text in lists for name in guest.module_names(text)}
    return System(_release(release.encode()), next(filter(None, map(str.strip, machines)), ''),
                  part.strip() == 'true', (cloud.strip(), disabled.strip()) == ('true', 'false'),
                  '\n'.join(settings), {'': modules} if modules else {})
