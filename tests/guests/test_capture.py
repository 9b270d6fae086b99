"""A cluster that ran is captured, and runs twice at once at other sites, without its secrets.

Once of the demo image, and once of the HPC image, whose jobs and munge key are looked at too.
"""
import base64
import os
import shlex
import shutil
import subprocess
import tempfile
from typing import NamedTuple

import pytest
from lxml import etree

from lab import ROOT, SCRATCH
from lab.needs import need
from lab.site import Site, lines

pytestmark = [pytest.mark.guest, pytest.mark.long]

USER = 'ann'
COMPUTES = {'debian': 1, 'hpc': 2}
"""The entries that are captured, and how many compute nodes each cluster has."""

PREPARE = """set -e
mkdir -p /opt/tool/bin /home/ann/.ssh
printf '#!/bin/sh\\necho result\\n' >/opt/tool/bin/tool && chmod 755 /opt/tool/bin/tool
echo data >/home/ann/results && chown 1234:1234 /home/ann/results && chmod 640 /home/ann/results
cat /proc/sys/kernel/random/uuid >/root/deleted && cat /root/deleted && sync && rm /root/deleted
cat /root/.ssh/id_ed25519 /etc/ssh/ssh_host_ed25519_key /etc/machine-id /root/vc-out.xml
if [ -e /etc/munge/munge.key ]; then base64 -w 0 /etc/munge/munge.key; echo; fi
echo 'a command with a password' >/root/.bash_history
sync
"""

PACKAGE = """set -e
mkdir -p /tmp/package/DEBIAN /tmp/package/usr/share/site
echo packaged >/tmp/package/usr/share/site/file
printf '%s\\n' 'Package: site-tool' 'Version: 1.0' 'Architecture: all' 'Maintainer: the site' \
    'Description: a tool' >/tmp/package/DEBIAN/control
dpkg-deb -b /tmp/package /tmp/site-tool.deb && dpkg -i /tmp/site-tool.deb
rm -r /tmp/package /tmp/site-tool.deb && sync
"""

WHO = ("cat /etc/machine-id; cut -d' ' -f2 /etc/ssh/ssh_host_ed25519_key.pub; "
       "cut -d' ' -f2 /etc/ssh/ssh_host_ecdsa_key.pub")


class Place:
    """A site with a temporary directory of its own; libvirt and the database are shared."""

    def __init__(self, folder, base):
        os.chmod(folder, 0o755)
        self.site = Site(folder, f'base_path = {base}\naccel = auto\ncpus_per_node = 1\n')
        # They begin elsewhere in each temporary directory.
        self.site.use_default_pools()
        self.key = self.site.make_key()
        self.name, self.nodes = '', []

    def boot(self, vcname, name, computes):
        self.name = name
        self.site.run('pragma_boot', '--vcname', vcname, '--name', name, '--num_cpus', computes,
                      '--key', f'{self.key}.pub', '--user', USER)
        self.nodes = [f'compute-{count}' for count in range(computes)]

    def ssh(self, command):
        return lines(self.site.run('vc-ssh', '-i', self.key, self.name, command).stdout)

    def everywhere(self, command):
        """What a command prints on the frontend, and then on each compute node."""
        return self.ssh(command) + [line for node in self.nodes
                                    for line in self.ssh(f'ssh {node} {shlex.quote(command)}')]

    def end(self):
        if self.name:
            self.site.run('vc-clean', self.name)
        shutil.rmtree(self.site.folder)


class Trip(NamedTuple):
    """What a round trip left: the database, and the two places that run the captured entry."""

    entry: str
    name: str
    base: str
    secrets: list
    old: list
    said: list
    places: list


@pytest.fixture(scope='module', params=COMPUTES)
def trip(request):
    """A Trip: a cluster was prepared, captured and removed, and runs twice at other sites."""
    need('ssh', 'zstd')
    entry, name = request.param, f'cap-{os.getpid()}-{request.param}'
    computes = COMPUTES[entry]
    subprocess.run(['make', '--no-print-directory', '-C', ROOT,
                    ROOT / f'images/{entry}/{entry}.img.gz'],
                   check=True, stdin=subprocess.DEVNULL)
    places = []
    base = tempfile.mkdtemp(prefix='pragma-', dir=SCRATCH)
    os.chmod(base, 0o755)
    try:
        first = Place(tempfile.mkdtemp(prefix='pragma-', dir=SCRATCH), f'{ROOT}/images')
        places.append(first)
        first.boot(entry, name, computes)
        first.site.wait(name)
        secrets = first.ssh(PREPARE)
        first.ssh(PACKAGE)
        first.ssh(f'ssh {first.nodes[-1]} "echo also here >/var/site-file; sync"')
        old = first.everywhere(WHO)
        said = lines(first.site.run('vc-capture', name, '--as', 'prepared', '--base_path', base,
                                    '--node', first.nodes[-1], '--shutdown', '--timeout',
                                    900).stdout)
        first.site.run('vc-clean', name)
        first.name = ''
        for count in range(2):
            places.append(Place(tempfile.mkdtemp(prefix='pragma-', dir=SCRATCH), base))
            places[-1].boot('prepared', f'{name}-{count}', computes)
        for place in places[1:]:
            place.site.wait(place.name)
        yield Trip(entry, name, base, secrets, old, said, places[1:])
    finally:
        for place in places:
            place.end()
        shutil.rmtree(base)


def test_what_was_prepared_is_there(trip):
    for place in trip.places:
        assert place.ssh('/opt/tool/bin/tool; cat /home/ann/results; stat -c "%u %g %a" '
                         '/home/ann/results; ls /root/.bash_history 2>&1 | grep -c "No such"; '
                         'cat /usr/share/site/file; dpkg-query -W -f "\\${Version}\\n" site-tool'
                         ) == ['result', 'data', '1234 1234 640', '1', 'packaged', '1.0']
        for node in place.nodes:
            assert place.ssh(f'ssh {node} cat /var/site-file') == ['also here']


def test_every_node_is_another_machine(trip):
    seen = list(trip.old)
    for place in trip.places:
        seen += place.everywhere(WHO)
    assert len(seen) == len(set(seen)) == 3 * 3 * (1 + COMPUTES[trip.entry])
    # The settings are those of the new site.
    for place in trip.places:
        root = etree.parse(place.site.temp / 'clusters' / place.name / 'document.xml')
        address = root.xpath("string(//node[@name='compute-0']/interface/@ip)")
        assert place.ssh(f"hostname; ssh compute-0 'hostname; ip -4 -o address' | grep -c "
                         f"'compute-0\\|{address}/'") == [f'{place.name}.local', '2']


def test_the_scheduler_runs_a_job_at_both_sites(trip):
    if trip.entry != 'hpc':
        pytest.skip('the demo image has no scheduler')
    keys = set()
    for place in trip.places:
        assert sorted(place.ssh(f'runuser -u {USER} -- srun -D / -N 2 hostname')) == place.nodes
        key, = set(place.everywhere('sha256sum </etc/munge/munge.key'))
        keys.add(key)
    assert len(keys) == 2


def test_no_secret_travelled(trip):
    # Lines that belong to this cluster alone: keys in base64, identities, the deleted file.
    words = {line.strip() for line in trip.secrets
             if len(line.strip()) >= 32 and '-----' not in line}
    words = {word.encode() for word in words if ' ' not in word} | {
        *(word.encode() for word in trip.old), b'a command with a password', trip.name.encode(),
        b'OPENSSH PRIVATE KEY-----\nb3Blbn'}
    if trip.entry == 'hpc':
        # The key is bytes, of which base64 was printed.
        words.add(base64.b64decode(trip.secrets[-1])[:64])
    assert len(words) > 15
    for role in ('frontend', 'compute'):
        data = subprocess.run(['gzip', '-dc', f'{trip.base}/prepared/prepared-{role}.img.gz'],
                              capture_output=True, check=True).stdout
        assert [word for word in words if word in data] == []
    assert trip.said[0].startswith("frontend: node 'frontend', ")
