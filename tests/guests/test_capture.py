"""A cluster that ran is captured, and runs twice at once at other sites, without its secrets."""
import os
import shutil
import subprocess
import tempfile

import pytest
from lxml import etree

from lab import ROOT, SCRATCH
from lab.needs import need
from lab.site import Site, lines

pytestmark = [pytest.mark.guest, pytest.mark.long]

NAME = f'cap-{os.getpid()}'

PREPARE = """set -e
mkdir -p /opt/tool/bin /home/ann/.ssh
printf '#!/bin/sh\\necho result\\n' >/opt/tool/bin/tool && chmod 755 /opt/tool/bin/tool
echo data >/home/ann/results && chown 1234:1234 /home/ann/results && chmod 640 /home/ann/results
cat /proc/sys/kernel/random/uuid >/root/deleted && cat /root/deleted && sync && rm /root/deleted
cat /root/.ssh/id_ed25519 /etc/ssh/ssh_host_ed25519_key /etc/machine-id /root/vc-out.xml
echo 'a command with a password' >/root/.bash_history
sync
"""

WHO = ("cat /etc/machine-id; cut -d' ' -f2 /etc/ssh/ssh_host_ed25519_key.pub; "
       "cut -d' ' -f2 /etc/ssh/ssh_host_ecdsa_key.pub")


class Place:
    """A site with a temporary directory of its own; libvirt and the database are shared."""

    def __init__(self, folder, base):
        os.chmod(folder, 0o755)
        self.site = Site(folder, f'base_path = {base}\naccel = auto\n')
        # They begin elsewhere in each temporary directory.
        self.site.use_default_pools()
        self.key = self.site.make_key()
        self.name = ''

    def boot(self, entry, name):
        self.name = name
        self.site.run('pragma_boot', '--vcname', entry, '--name', name, '--num_cpus', 1,
                      '--key', f'{self.key}.pub')

    def ssh(self, command):
        return lines(self.site.run('vc-ssh', '-i', self.key, self.name, command).stdout)

    def end(self):
        if self.name:
            self.site.run('vc-clean', self.name)
        shutil.rmtree(self.site.folder)


@pytest.fixture(scope='module')
def round_trip():
    """The words that must not travel, the images, and two places that run the captured entry."""
    need('ssh', 'zstd')
    places = []
    base = tempfile.mkdtemp(prefix='pragma-', dir=SCRATCH)
    os.chmod(base, 0o755)
    try:
        first = Place(tempfile.mkdtemp(prefix='pragma-', dir=SCRATCH), f'{ROOT}/images')
        places.append(first)
        first.boot('debian', NAME)
        first.site.wait(NAME)
        secrets = first.ssh(PREPARE)
        old = first.ssh(WHO) + first.ssh(f'ssh compute-0 "{WHO}"')
        said = lines(first.site.run('vc-capture', NAME, '--as', 'prepared', '--base_path', base,
                                    '--shutdown', '--timeout', 300).stdout)
        first.site.run('vc-clean', NAME)
        first.name = ''
        for count in range(2):
            places.append(Place(tempfile.mkdtemp(prefix='pragma-', dir=SCRATCH), base))
            places[-1].boot('prepared', f'{NAME}-{count}')
        for place in places[1:]:
            place.site.wait(place.name)
        yield base, secrets, old, said, places[1:]
    finally:
        for place in places:
            place.end()
        shutil.rmtree(base)


def test_what_was_prepared_is_there(round_trip):
    for place in round_trip[-1]:
        assert place.ssh('/opt/tool/bin/tool; cat /home/ann/results; stat -c "%u %g %a" '
                         '/home/ann/results; ls /root/.bash_history 2>&1 | grep -c "No such"'
                         ) == ['result', 'data', '1234 1234 640', '1']


def test_every_node_is_another_machine(round_trip):
    _, _, old, _, places = round_trip
    seen = list(old)
    for place in places:
        seen += place.ssh(WHO) + place.ssh(f'ssh compute-0 "{WHO}"')
    assert len(seen) == len(set(seen)) == 18
    # The settings are those of the new site.
    for place in places:
        root = etree.parse(place.site.temp / 'clusters' / place.name / 'document.xml')
        address = root.xpath("string(//node[@name='compute-0']/interface/@ip)")
        assert place.ssh(f"hostname; ssh compute-0 'hostname; ip -4 -o address' | grep -c "
                         f"'compute-0\\|{address}/'") == [f'{place.name}.local', '2']


def test_no_secret_travelled(round_trip):
    base, secrets, old, said, _ = round_trip
    # Lines that belong to this cluster alone: keys in base64, identities, the deleted file.
    words = {line.strip() for line in secrets if len(line.strip()) >= 32 and '-----' not in line}
    words = {word for word in words if ' ' not in word} | set(old) | {
        'a command with a password', NAME, 'OPENSSH PRIVATE KEY-----\nb3Blbn'}
    assert len(words) > 15
    for role in ('frontend', 'compute'):
        data = subprocess.run(['gzip', '-dc', f'{base}/prepared/prepared-{role}.img.gz'],
                              capture_output=True, check=True).stdout
        assert [word for word in words if word.encode() in data] == []
    assert said[0].startswith("frontend: node 'frontend', ")
