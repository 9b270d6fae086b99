"""The drivers that are tested alike. Their executables are wrapped: they record calls, and fail."""
import contextlib
import os
import signal
import time

from lxml import etree

from lab import ROOT
from lab.leftovers import processes
from lab.nodes import mine

FOLDERS = {'kvm': ROOT / 'drivers/kvm', 'ganeti': ROOT / 'drivers/ganeti',
           'own': ROOT / 'examples/drivers/own', 'record': ROOT / 'tests/drivers/record',
           'seed': ROOT / 'tests/drivers/seed', 'perl': ROOT / 'tests/drivers/perl'}
REQUIRED = ('fix_images', 'allocate', 'boot')
OPTIONAL = ('boot_compute', 'status', 'start', 'shutdown', 'clean')

# A file NAME-fails has it fail before its work, NAME-fails-after when its work is done; NAME-waits
# and NAME-waits-after have it wait. A host_name in the file restricts this to that node.
WRAPPER = '''trap 'kill $! 2>/dev/null; exit 143' TERM
(printf '{name}'; printf '|%s' "$@"; echo) >>'{site}/calls'
demanded() {{
    [ -e '{site}/{name}-'$1 ] || return 1
    host=$(cat '{site}/{name}-'$1)
    [ -z "$host" ] || [ "$host" = "$2" ]
}}
! demanded waits "$2" || {{ sh -c 'echo >"$0"; exec sleep 600' '{site}/waits' & wait $!; }}
! demanded fails "$2" || {{ echo '{name}: refused' >&2; exit 7; }}
'{real}' "$@" || exit $?
! demanded waits-after "$2" || {{ sh -c 'echo >"$0"; exec sleep 600' '{site}/waits' & wait $!; }}
! demanded fails-after "$2" || {{ echo '{name}: refused' >&2; exit 7; }}
'''


class Wrapped:
    """A site whose driver is one of FOLDERS, with its executables wrapped."""

    def __init__(self, site, name, without=()):
        self.site = site
        self.name = name
        self.folder = site.folder / 'drivers' / name
        self.folder.mkdir(parents=True)
        for executable in (*REQUIRED, *OPTIONAL):
            real = FOLDERS[name] / executable
            if real.exists() and executable not in without:
                self.write(executable,
                           WRAPPER.format(name=executable, site=site.folder, real=real))
        with open(site.conf, 'a', encoding='utf-8') as conf:
            conf.write(f'drivers_path = drivers\nve_driver = {name}\n')

    def has(self, executable):
        return (self.folder / executable).exists()

    def demand(self, what, host=''):
        """Have an executable fail or wait: 'boot-fails'."""
        (self.site.folder / what).write_text(host)

    def forgive(self, what):
        """Take a demand back."""
        (self.site.folder / what).unlink()

    def write(self, executable, script):
        """Put a script in the place of an executable."""
        (self.folder / executable).write_text(f'#!/bin/sh\n{script}\n')
        (self.folder / executable).chmod(0o755)

    def calls(self):
        path = self.site.folder / 'calls'
        return [line.split('|') for line in path.read_text().splitlines()] if path.exists() else []

    def called(self):
        return [call[0] for call in self.calls()]

    def boot(self, *arguments, num_cpus=4, status=0):
        """pragma_boot the site's entry under its own name."""
        site = self.site
        return site.run('pragma_boot', '--vcname', site.entry, '--key', site.key,
                        '--num_cpus', num_cpus, *arguments, status=status)

    def start(self):
        """As ``boot``, in the background, until an executable waits."""
        site = self.site
        running = site.start('pragma_boot', '--vcname', site.entry, '--key', site.key,
                             '--num_cpus', 4)
        self.await_demand(running)
        return running

    def await_demand(self, running):
        """Wait until an executable that ``running`` called waits, as was demanded."""
        while not (self.site.folder / 'waits').exists():
            assert running.poll() is None, running.stderr.read()
            time.sleep(0.02)
        (self.site.folder / 'waits').unlink()

    def folder_of(self, name=None):
        return self.site.temp / 'clusters' / (name or self.site.entry)

    def host_names(self):
        """The names of vc-out.xml, the frontend's FQDN first."""
        root = etree.parse(self.folder_of() / 'vc-out.xml').getroot()
        return [root.find('frontend/public').get('fqdn'),
                *(node.get('name') for node in root.iterfind('compute/node'))]

    def machines(self):
        """What runs or is defined of all clusters: domains, or the processes of a test's driver."""
        return mine(self.site) if self.name in ('kvm', 'own') else sorted(self._processes())

    def _processes(self):
        path = self.site.temp / 'machines'
        told = [line.split() for line in path.read_text().splitlines()] if path.exists() else []
        return [host for host, process in told if runs(process)]

    def end(self):
        """Remove all that there is, whatever the driver can do."""
        for demand in (*self.site.folder.glob('*-waits*'), *self.site.folder.glob('*-fails*')):
            demand.unlink()
        for name in self.site.clusters():
            self.site.run('vc-clean', '--forget', name)
        for line in processes(self.site):
            if ' sleep 600' in line:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(int(line.split()[0]), signal.SIGKILL)


def runs(process):
    """Whether a process is there, and no zombie."""
    with contextlib.suppress(OSError), open(f'/proc/{process}/stat', encoding='utf-8') as file:
        return file.read().rsplit(')', 1)[1].split()[0] != 'Z'
    return False
