"""Guests in which another network service has a configuration that contradicts the document.

Each image is built here. Its cluster is booted twice; after each boot, addresses, routes and names
are those of the document.
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
from lab.site import Site, lines

pytestmark = [pytest.mark.guest, pytest.mark.long]

SHARED_ID = '0123456789abcdef0123456789abcdef'
WANTS = 'etc/systemd/system/multi-user.target.wants'

PACKAGES = {'networkd': '', 'NetworkManager': 'network-manager', 'netplan': 'netplan.io',
            'ifupdown': 'ifupdown,isc-dhcp-client'}

SERVICES = {'networkd': 'systemd-networkd', 'NetworkManager': 'NetworkManager',
            'netplan': 'systemd-networkd', 'ifupdown': 'networking'}

FILES = {
    'networkd': {'etc/systemd/network/00-all.network':
                 '[Match]\nName=eth*\n'
                 '[Network]\nDHCP=yes\nAddress=10.9.9.9/24\nGateway=10.9.9.1\n'},
    'NetworkManager': {'etc/NetworkManager/system-connections/eth0.nmconnection':
                       '[connection]\nid=eth0\ntype=ethernet\ninterface-name=eth0\n'
                       '[ipv4]\nmethod=manual\naddress1=10.9.9.9/24,10.9.9.1\n'},
    'netplan': {'etc/netplan/01-all.yaml':
                'network:\n  version: 2\n  renderer: networkd\n  ethernets:\n    all:\n'
                '      match: {name: "eth*"}\n      dhcp4: true\n      addresses: [10.9.9.9/24]\n'},
    'ifupdown': {'etc/network/interfaces':
                 'auto lo\niface lo inet loopback\nauto eth0\niface eth0 inet static\n'
                 '    address 10.9.9.9/24\n    gateway 10.9.9.1\n'
                 'allow-hotplug eth1\niface eth1 inet dhcp\n'},
}

ASK = ('hostname; ip -o -4 address show scope global; ip -4 route show default; '
       'cat /etc/resolv.conf /etc/machine-id; cat /var/lib/dbus/machine-id; systemctl is-active %s')


def overlay(folder, renderer):
    """The files of --overlay: the contradicting configuration, and a machine-id."""
    for name, text in {**FILES[renderer], 'var/lib/dbus/machine-id': f'{SHARED_ID}\n'}.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        path.chmod(0o600 if 'system-connections' in name or 'netplan' in name else 0o644)
    if renderer == 'networkd':
        (folder / WANTS).mkdir(parents=True)
        unit = 'systemd-networkd.service'
        (folder / WANTS / unit).symlink_to(f'/lib/systemd/system/{unit}')
    return folder


@pytest.fixture(scope='module', params=PACKAGES)
def guest(request):
    """A site with a running cluster whose image has one renderer."""
    folder = tempfile.mkdtemp(prefix='pragma-', dir=SCRATCH)
    os.chmod(folder, 0o755)
    site = Site(folder, 'accel = auto\n')
    site.renderer, site.name = request.param, f't{os.getpid()}-{request.param.lower()}'
    try:
        entry = site.base / 'entry'
        entry.mkdir()
        (site.base / 'vcdb.txt').write_text('entry,entry/vc-in.xml\n')
        site.vc_in = shutil.copy(ROOT / 'images/debian/vc-in.xml', entry)
        subprocess.run([ROOT / 'images/debian/build', '--include', PACKAGES[site.renderer],
                        '--overlay', overlay(site.folder / 'overlay', site.renderer),
                        entry / 'debian.img.gz'], check=True)
        subprocess.run(['ssh-keygen', '-q', '-t', 'ed25519', '-N', '', '-f', site.folder / 'key'],
                       check=True)
        site.run('pragma_boot', '--vcname', 'entry', '--name', site.name, '--num_cpus', 1,
                 '--key', site.folder / 'key.pub', '--wait')
        yield site
    finally:
        site.run('vc-clean', site.name)
        shutil.rmtree(folder)


def as_told(site):
    """Compare each node with the document; the machine-ids."""
    root = etree.parse(str(site.temp / 'clusters' / site.name / 'document.xml'))
    ids = []
    for node in root.iterfind('cluster/node'):
        on = () if node.get('role') == 'frontend' else ('--node', node.get('name'))
        told = lines(site.run('vc-ssh', '-i', site.folder / 'key', *on, site.name,
                              ASK % SERVICES[site.renderer]).stdout)
        text = '\n'.join(told)
        assert told[0] == node.get('fqdn')
        wanted = [str(ipaddress.IPv4Interface(f"{card.get('ip')}/{card.get('netmask')}"))
                  for card in node.findall('interface')]
        assert re.findall(r' inet (\S+)', text) == wanted
        card = node.findall('interface')[-1]
        assert re.findall('^default via (\\S+) dev (eth[01])', text, re.M) == [
            (card.get('gw'), f'eth{len(wanted) - 1}')]
        assert f"nameserver {root.find('cluster/dns').get('ip')}" in told
        assert told[-1] == 'active'
        assert told[-2] == told[-3] != SHARED_ID
        ids.append(told[-2])
    return ids


def test_row_47_addresses_are_as_told_after_two_boots(guest):
    first = as_told(guest)
    assert len(set(first)) == len(first)
    guest.run('vc-shutdown', guest.name)
    guest.run('vc-start', '--wait', guest.name)
    assert as_told(guest) == first


def test_vc_check_names_the_service(guest):
    told = lines(guest.run('vc-check', guest.vc_in).stdout)
    found = [line for line in told if line.startswith('warn') and 'interfaces' in line]
    assert len(found) == 1 and guest.renderer in found[0], told
