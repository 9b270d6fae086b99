"""A stock image with cloud-init: nodes get their settings and the guest part from seed disks.

The image is built here, of Debian packages alone, and has nothing of ours in it. Its nodes have
disks that are larger than the image. The cluster is booted twice.
"""
import ipaddress
import os
import re
import shutil
import subprocess
import tempfile

import pytest
from lxml import etree

from lab import ROOT, SCRATCH
from lab.needs import need
from lab.site import Site, lines

pytestmark = [pytest.mark.guest, pytest.mark.long]

ASK = ('hostname; ip -o -4 address show scope global; ip -4 route show default; '
       'cat /etc/resolv.conf; cat /etc/machine-id; cat /etc/ssh/ssh_host_ed25519_key.pub; '
       'systemctl list-units --state=failed --plain --no-legend; df -k --output=size / | tail -n 1')

SIZE = 3 << 30


@pytest.fixture(scope='module')
def guest():
    """A site with a running cluster of a frontend and two compute nodes, and the key to log in."""
    need('mkfs.vfat', 'mcopy', 'mmdebstrap')
    folder = tempfile.mkdtemp(prefix='pragma-', dir=SCRATCH)
    os.chmod(folder, 0o755)
    site = Site(folder, 'accel = auto\ndisk_size = 3G\n')
    site.name = f't{os.getpid()}-stock'
    try:
        entry = site.base / 'entry'
        entry.mkdir()
        (site.base / 'vcdb.txt').write_text('entry,entry/vc-in.xml\n')
        text = (ROOT / 'images/debian/vc-in.xml').read_text()
        for old, new in (('<driver>debian', '<driver>cloud_init'),
                         ('<memory>262144', '<memory>524288')):
            assert old in text
            text = text.replace(old, new)
        (entry / 'vc-in.xml').write_text(text)
        subprocess.run([ROOT / 'images/debian/build', '--cloud-init', entry / 'debian.img.gz'],
                       check=True)
        subprocess.run(['ssh-keygen', '-q', '-t', 'ed25519', '-N', '', '-f', site.folder / 'key'],
                       check=True)
        site.run('pragma_boot', '--vcname', 'entry', '--name', site.name, '--num_cpus', 4,
                 '--key', site.folder / 'key.pub')
        site.wait(site.name)
        yield site
    finally:
        site.run('vc-clean', site.name)
        shutil.rmtree(folder)


def on_frontend(site, command):
    return lines(site.run('vc-ssh', '-i', site.folder / 'key', site.name, command).stdout)


def as_told(site):
    """Compare each node with the document, from the frontend by its name; what must not change."""
    root = etree.parse(str(site.temp / 'clusters' / site.name / 'document.xml'))
    lasting = {}
    for node in root.iterfind('cluster/node'):
        name = node.get('name')
        told = on_frontend(site, ASK if name == 'frontend' else f'ssh {name} {ASK!r}')
        text = '\n'.join(told)
        assert told[0] == node.get('fqdn')
        cards = node.findall('interface')
        assert re.findall(r' inet (\S+)', text) == [
            str(ipaddress.IPv4Interface(f"{card.get('ip')}/{card.get('netmask')}"))
            for card in cards]
        assert re.findall('^default via (\\S+) ', text, re.M) == [cards[-1].get('gw')]
        assert f"nameserver {root.find('cluster/dns').get('ip')}" in told
        # The last lines: no failed unit is between them.
        key, size = told[-2:]
        assert key.startswith('ssh-ed25519 '), told
        assert int(node.get('disk_size')) == SIZE > int(size) << 10 > 0.9 * SIZE
        lasting[name] = told[-3], key.split()[1]
    # Machine-ids and host keys.
    assert len({word for pair in lasting.values() for word in pair}) == 2 * len(lasting) == 6
    return lasting


def test_row_47_a_stock_image_is_a_node_after_two_boots(guest):
    first = as_told(guest)
    assert on_frontend(guest, 'cat /root/machinefile') == [
        f'compute-{count}' for count in (0, 0, 1, 1)]
    assert on_frontend(guest, 'ssh compute-1 ping -c 1 -W 9 192.0.2.1 >/dev/null; '
                              'nft list table ip pragma_boot | grep -c masquerade') == ['1']
    guest.run('vc-shutdown', guest.name)
    guest.run('vc-start', guest.name)
    guest.wait(guest.name)
    assert as_told(guest) == first


def test_what_cloud_init_says(guest):
    """It ended without an error on each node, and has taken the node for a new instance once."""
    for node in ('frontend', 'compute-0', 'compute-1'):
        command = 'cloud-init status; ls -d /var/lib/cloud/instances/*; cat /root/vc-out.xml'
        told = on_frontend(guest, command if node == 'frontend' else f'ssh {node} {command!r}')
        assert told[0] == 'status: done'
        assert [line.count('/pragma-') for line in told[1:3]] == [1, 0]
        document = (guest.temp / 'clusters' / guest.name / 'document.xml').read_bytes()
        assert told[2:] == lines(guest.run('vc-out', '--node', node, input=document).stdout)
