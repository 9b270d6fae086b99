"""The site's settings: ``key = value`` lines of site_conf.conf, which make reads too."""
from __future__ import annotations

import os
import re
from collections.abc import Collection, Mapping
from typing import NoReturn

from .. import ROOT
from .failure import Failure, cause
from .names import byte_count, number

DEFAULTS = {
    'drivers_path': os.path.join(ROOT, 'drivers'),
    've_driver': 'kvm',
    'temporary_directory': '',
    'profiles_path': '',
    # In an installed tree this is a link to the folder below share.
    'base_path': os.path.realpath(os.path.join(ROOT, 'images')),
    'database_keyring': '',
    'database_ca': '',
    'database_http': 'no',
    'fetch_timeout': '30',
    'hosts': 'qemu:///session',
    'session_user': 'libvirt-qemu',
    'accel': 'auto',
    'cpus_per_node': '2',
    'memory_per_cpu': '0',
    'cpu_overcommit': '4',
    'reserved_cpus': '0',
    'reserved_memory': '512M',
    'storage': 'shared',
    'from_saved': 'no',
    'private_network': 'socket',
    'private_ports': '23000-23999',
    'vlans': '',
    'public_network': 'user',
    'ssh_ports': '22000-22999',
    'public_ips': '',
    'netmask': '',
    'gateway': '',
    'dns': '',
    'search': 'local',
    'mac_prefix': '52:54:00',
    'hooks_path': '',
    'hook_timeout': '60',
    'ganeti_master': '',
    'ganeti_credentials': '',
    'ganeti_ca': '',
    'ganeti_disk_template': 'sharedfile',
    'image_max_size': '64G',
    'disk_size': '0',
    'jobs': '2',
}

NAME = r'[A-Za-z0-9][A-Za-z0-9_.-]{0,14}'
"""A name on the hosts; the kernel takes 15 characters for a network link (IFNAMSIZ)."""


class Settings:
    """The settings of one file over the embedded default."""

    def __init__(self, values: Mapping[str, str], path: str) -> None:
        self.path = path
        self._values = {**DEFAULTS, **values}
        if self['accel'] not in ('auto', 'kvm', 'tcg'):
            self.refuse('accel', 'one of auto, kvm, tcg')

    @classmethod
    def read(cls, path: str | None = None) -> Settings:
        """The settings in ``path``, or in $PRAGMA_SITE_CONF, or in our own site_conf.conf.

        Relative paths in the file are below its own folder. Raises Failure.
        """
        # In an installed tree ours is a link to the file below /etc.
        path = os.path.abspath(path or _default_path())
        try:
            with open(path, encoding='utf-8') as file:
                lines = file.read().splitlines()
        except (OSError, UnicodeDecodeError) as error:
            reason = cause(error) if isinstance(error, OSError) else 'not UTF-8 text'
            raise Failure(f"cannot read site configuration '{path}': {reason}") from None
        values = {}
        for count, line in enumerate(lines, 1):
            line = line.split('#', 1)[0].strip()
            if not line:
                continue
            match = re.fullmatch(r'([A-Za-z_]+)\s*=\s*(.*)', line)
            if not match:
                raise Failure(f"{path}:{count}: not a 'key = value' line: '{line}'")
            if match[1] not in DEFAULTS:
                raise Failure(f"{path}:{count}: unknown setting '{match[1]}'{_similar(match[1])}")
            values[match[1]] = match[2]
        return cls(values, path)

    def __getitem__(self, key: str) -> str:
        return self._values[key]

    def refuse(self, key: str, wanted: str) -> NoReturn:
        """Raise a Failure for a wrong setting; ``wanted`` describes a right one."""
        raise Failure(f"{self.path}: {key} must be {wanted}, not '{self[key]}'")

    def path_of(self, key: str) -> str:
        """The absolute path that a setting names."""
        return os.path.join(os.path.dirname(self.path), os.path.expanduser(self[key]))

    def yes(self, key: str) -> bool:
        """Whether a setting that is yes or no is yes; raises Failure."""
        if self[key] not in ('yes', 'no'):
            self.refuse(key, 'yes or no')
        return self[key] == 'yes'

    def number(self, key: str) -> int:
        """The value of a setting that is a whole number; raises Failure."""
        try:
            return number(self[key], key, 10 ** 9)
        except Failure:
            self.refuse(key, 'a whole number')

    def ratio(self, key: str) -> float:
        """The value of a setting that is a decimal number above 0; raises Failure."""
        if not re.fullmatch(r'[0-9]+(\.[0-9]+)?', self[key]) or float(self[key]) <= 0:
            self.refuse(key, 'a number above 0')
        return float(self[key])

    def size(self, key: str) -> int:
        """The bytes of a setting that is a size, such as 512M; raises Failure."""
        size = byte_count(self[key])
        if size is None:
            self.refuse(key, 'a size such as 512M')
        return size

    def kind(self, key: str, words: Collection[str]) -> tuple[str, str]:
        """A setting that is one of ``words``, and the name after a ':': ('bridge:', 'br0').

        Raises Failure.
        """
        word, colon, name = self[key].partition(':')
        if word + colon not in words or (colon and not re.fullmatch(NAME, name)):
            self.refuse(key, ' or '.join(each + 'NAME' * each.endswith(':') for each in words))
        return word + colon, name

    @property
    def base_path(self) -> str:
        """The image database: the absolute path of a folder, or a URL."""
        return self['base_path'] if '://' in self['base_path'] else self.path_of('base_path')

    @property
    def option(self) -> list[str]:
        """The option with which another tool reads these settings; [] where it does without."""
        default = os.path.abspath(_default_path())
        return [] if self.path == default else ['--site-conf', self.path]

    @property
    def temporary_directory(self) -> str:
        """The folder of staged images and of the ledger, absolute.

        $PRAGMA_TEMP, which the drivers set, overrides the setting. The default is
        /var/lib/pragma_boot for root, and the user's data folder for others (XDG Base Directory
        Specification).
        """
        if os.environ.get('PRAGMA_TEMP'):
            return os.path.abspath(os.environ['PRAGMA_TEMP'])
        if self['temporary_directory']:
            return self.path_of('temporary_directory')
        if os.geteuid() == 0:
            return '/var/lib/pragma_boot'
        data = os.environ.get('XDG_DATA_HOME') or os.path.expanduser('~/.local/share')
        return os.path.join(data, 'pragma_boot')


def _default_path() -> str:
    return (os.environ.get('PRAGMA_SITE_CONF')
            or os.path.realpath(os.path.join(ROOT, 'site_conf.conf')))


def _similar(key: str) -> str:
    """The hint at the setting that a misspelt ``key`` resembles, '' where it resembles none."""
    if key.lower() in DEFAULTS:
        return ': settings are in lower case'
    import difflib
    similar = difflib.get_close_matches(key, DEFAULTS, 1)
    return f": is it '{similar[0]}'?" if similar else ''
