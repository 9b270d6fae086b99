"""Two sites on one machine with the default settings: their guests do not meet (rows 36, 37)."""
import os
import shutil
import tempfile

import pytest
from lxml import etree

from lab import ROOT, SCRATCH
from lab.needs import need
from lab.site import Site, lines

pytestmark = pytest.mark.guest

NAME = f'two-{os.getpid()}'
"""The name of the cluster of either site, but for a letter: one libvirt runs both."""


class Place:
    """A site with the default pools and a running cluster of the demo image."""

    def __init__(self, folder, num_cpus):
        os.chmod(folder, 0o755)
        self.site = Site(folder, f'base_path = {ROOT}/images\naccel = auto\n')
        self.site.use_default_pools()
        self.name = f'{NAME}-{num_cpus}'
        key = self.site.make_key()
        self.site.run('pragma_boot', '--vcname', 'debian', '--name', self.name,
                      '--num_cpus', num_cpus, '--key', f'{key}.pub')

    def private(self):
        """The private interfaces of the cluster's nodes, by the nodes' names."""
        root = etree.parse(self.site.temp / 'clusters' / self.name / 'document.xml')
        return {node.get('name'): node.find("interface[@network='private']")
                for node in root.iterfind('cluster/node')}

    def ssh(self, command):
        """What a command writes that root runs on the frontend."""
        key = self.site.folder / 'key'
        return lines(self.site.run('vc-ssh', '-i', key, self.name, command).stdout)


@pytest.fixture(scope='module')
def places():
    need('ssh')
    folders = [tempfile.mkdtemp(prefix='pragma-', dir=SCRATCH) for _ in range(2)]
    found = []
    try:
        for folder, num_cpus in zip(folders, (1, 0), strict=True):
            found.append(Place(folder, num_cpus))
        for place in found:
            place.site.wait(place.name)
        yield found
    finally:
        for place in found:
            place.site.run('vc-clean', place.name)
        for folder in folders:
            shutil.rmtree(folder)


def test_row_36_nothing_is_given_twice(places):
    one, two = ({name: {interface.get(name) for interface in place.private().values()}
                 for name in ('mac', 'port', 'ip')} for place in places)
    assert not one['mac'] & two['mac'] and not one['port'] & two['port']
    # The vc-in.xml names them: each network is its cluster's own.
    assert one['ip'] & two['ip']


def test_row_36_guests_do_not_meet(places):
    one, two = places
    address = one.private()['compute-0'].get('ip')
    ask = f'timeout 60 bash -c "</dev/tcp/{address}/22" && echo there || echo nobody'
    assert one.ssh(ask) == ['there']
    assert two.ssh(ask.replace('timeout 60', 'timeout 20')) == ['nobody']
    # Who has the address: nobody on the other site's network answered.
    neighbours = ' '.join(two.ssh(f'ip neighbour show {address}'))
    assert one.private()['compute-0'].get('mac') not in neighbours


def test_row_37_each_site_sees_its_own(places):
    one, two = places
    for place, other in ((one, two), (two, one)):
        told = lines(place.site.run('vc-status').stdout)
        assert all(line.split()[0] in ('CLUSTER', place.name) for line in told)
        place.site.run('vc-clean', other.name)
    assert all(' ready ' in line for line in lines(one.site.run('vc-status').stdout)[1:])
    assert all(' ready ' in line for line in lines(two.site.run('vc-status').stdout)[1:])
