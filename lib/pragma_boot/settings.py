"""The site's settings: ``key = value`` lines of site_conf.conf, read by make and by us."""
import os
import re

from . import ROOT
from .failure import Failure, cause
from .tool import number

DEFAULTS = {
    'drivers_path': os.path.join(ROOT, 'drivers'),
    've_driver': 'kvm',
    'temporary_directory': '',
    'base_path': os.path.join(ROOT, 'images'),
    'hosts': 'qemu:///session',
    'session_user': 'libvirt-qemu',
    'accel': 'auto',
    'cpus_per_node': '2',
    'cpu_overcommit': '4',
    'reserved_cpus': '0',
    'reserved_memory': '512M',
    'private_network': 'socket',
    'private_ports': '23000-23999',
    'public_network': 'user',
    'ssh_ports': '22000-22999',
    'dns': '10.0.2.3',
    'search': 'local',
    'mac_prefix': '52:54:00',
    'image_max_size': '64G',
    'jobs': '2',
}

CHOICES = {
    'accel': ('auto', 'kvm', 'tcg'),
    'private_network': ('socket',),
    'public_network': ('user',),
}

UNITS = {'': 1, 'K': 1 << 10, 'M': 1 << 20, 'G': 1 << 30, 'T': 1 << 40}


class Settings:
    """The settings of one file over the embedded default."""

    def __init__(self, values, path):
        self.path = path
        self._values = {**DEFAULTS, **values}
        for key, choices in CHOICES.items():
            if self[key] not in choices:
                self._refuse(key, 'one of ' + ', '.join(choices))

    @classmethod
    def read(cls, path=None):
        """Settings of ``path``, else of $PRAGMA_SITE_CONF, else of our site_conf.conf.

        Relative paths in it are taken from the file's own folder. Raises Failure.
        """
        path = os.path.abspath(path or os.environ.get('PRAGMA_SITE_CONF')
                               or os.path.join(ROOT, 'site_conf.conf'))
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
            match = re.fullmatch(r'([a-z_]+)\s*=\s*(.*)', line)
            if not match:
                raise Failure(f"{path}:{count}: not a 'key = value' line: '{line}'")
            values[match[1]] = match[2]
        return cls(values, path)

    def __getitem__(self, key):
        return self._values[key]

    def _refuse(self, key, wanted):
        raise Failure(f"{self.path}: {key} must be {wanted}, not '{self[key]}'")

    def path_of(self, key):
        """A setting that names a file or folder, absolute."""
        return os.path.join(os.path.dirname(self.path), os.path.expanduser(self[key]))

    def number(self, key):
        """A setting that is a whole number."""
        try:
            return number(self[key], key, 10 ** 9)
        except Failure:
            self._refuse(key, 'a whole number')

    def ratio(self, key):
        """A setting that is a decimal number above 0."""
        if not re.fullmatch(r'[0-9]+(\.[0-9]+)?', self[key]) or float(self[key]) <= 0:
            self._refuse(key, 'a number above 0')
        return float(self[key])

    def size(self, key):
        """A setting that is a size, such as 512M, in bytes."""
        match = re.fullmatch('([0-9]+)([KMGT]?)', self[key])
        if not match:
            self._refuse(key, 'a size such as 512M')
        return int(match[1]) * UNITS[match[2]]

    def ports(self, key):
        """A setting that is a range of ports, such as 22000-22999."""
        match = re.fullmatch('([0-9]{4,5})-([0-9]{4,5})', self[key])
        if not match or not 1024 <= int(match[1]) <= int(match[2]) <= 65535:
            self._refuse(key, 'a range of ports such as 22000-22999')
        return range(int(match[1]), int(match[2]) + 1)

    def mac_prefix(self):
        """The first three bytes of every MAC we give, lowercase; locally administered or libvirt's."""
        prefix = self['mac_prefix'].lower()
        if not re.fullmatch('[0-9a-f][02468ace](:[0-9a-f]{2}){2}', prefix):
            self._refuse('mac_prefix', 'three bytes of a unicast MAC such as 52:54:00')
        return prefix

    def host(self):
        """The libvirt URI of the one host."""
        hosts = self['hosts'].split()
        if len(hosts) != 1:
            self._refuse('hosts', 'one libvirt URI (several hosts are not supported yet)')
        return hosts[0]

    @property
    def temporary_directory(self):
        """The folder of staged images and of the ledger, absolute.

        $PRAGMA_TEMP, which the drivers set, comes before the setting. Without either: /var/lib/pragma_boot for root, else the user's own data folder
        (XDG Base Directory Specification).
        """
        if os.environ.get('PRAGMA_TEMP'):
            return os.path.abspath(os.environ['PRAGMA_TEMP'])
        if self['temporary_directory']:
            return self.path_of('temporary_directory')
        if os.geteuid() == 0:
            return '/var/lib/pragma_boot'
        data = os.environ.get('XDG_DATA_HOME') or os.path.expanduser('~/.local/share')
        return os.path.join(data, 'pragma_boot')
