"""A system libvirtd as the only host: domains are paused before their first instruction."""
import os
import subprocess

import pytest
from lxml import etree

from lab.images import UEFI
from lab.needs import need_ovmf
from lab.nodes import without_dependency
from lab.site import lines


def virsh(host, *command):
    return subprocess.run(['virsh', '-q', '-c', host.uri, *command], check=True,
                          capture_output=True).stdout.decode()


def test_disks_in_a_folder_that_the_host_shares(site, host):
    """The user of QEMU owns the overlay; root owns the image that all nodes share."""
    document = site.document(site.entry, 'vc-boot', 2)
    names = [f'{site.entry}-{node}' for node in ('compute-0', 'frontend')]
    assert sorted(virsh(host, 'list', '--name').split()) == names
    root = etree.fromstring(document)
    for image in root.iterfind('image'):
        found = os.stat(image.get('path'))
        assert (found.st_uid, found.st_mode & 0o777) == (0, 0o444)
    for disk in root.iterfind('cluster/node/disk'):
        assert os.stat(disk.get('path')).st_uid != 0 and disk.get('pool') is None
    assert site.run('vc-status').stdout.decode().count(' running ') == 2
    site.run('vc-clean', site.entry)
    assert virsh(host, 'list', '--all', '--name').split() == []
    assert site.clusters() == []


def test_interfaces_are_on_the_bridges_in_the_order_of_the_guest(site, host):
    site.document(site.entry, 'vc-boot', 2)
    for bridge, cards in (('private', 2), ('public', 1)):
        output = host.run(['ip', '-o', 'link', 'show', 'master', bridge],
                          capture_output=True).stdout
        assert len([line for line in lines(output) if 'uplink' not in line]) == cards
    domain = etree.fromstring(virsh(host, 'dumpxml', f'{site.entry}-frontend'))
    cards = domain.findall('devices/interface')
    assert [card.find('source').get('bridge') for card in cards] == ['private', 'public']
    assert [card.find('address').get('slot') for card in cards] == ['0x10', '0x11']
    assert domain.find('{http://libvirt.org/schemas/domain/qemu/1.0}commandline') is None
    assert 'ssh root@192.0.2.9' in site.run('vc-status').stdout.decode()


def test_a_bridge_that_is_not_there(site, host):
    site.conf.write_text(site.conf.read_text().replace('bridge:private', 'bridge:nowhere'))
    document = site.document(site.entry, 'vc-inject', 0)
    line = site.fails('vc-boot', '--paused', input=document)
    assert "nowhere" in line and 'No such device' in line
    assert virsh(host, 'list', '--all', '--name').split() == []


def test_a_vlan_that_libvirt_cannot_set(site, host):
    """libvirt before 11 refuses it; nothing is started without its VLAN."""
    with open(site.conf, 'a', encoding='utf-8') as conf:
        conf.write('vlans = 100-101\n')
    document = site.document(site.entry, 'vc-inject', 0)
    if int(virsh(host, 'version', '--daemon').split('daemon:')[-1].split('.')[0]) >= 11:
        pytest.skip('libvirt 11 and later can')
    assert 'vlan' in site.fails('vc-boot', '--paused', input=document).lower()
    assert virsh(host, 'list', '--all', '--name').split() == []


def test_row_31_a_libvirtd_that_is_gone(site, host):
    document = site.document(site.entry, 'vc-boot', 2)
    host.stop()
    output = site.run('vc-status')
    assert output.stdout.decode().count(' unknown ') == 2
    assert len(lines(output.stderr)) == 1 and host.uri in lines(output.stderr)[0]
    for tool, arguments, status in (('vc-allocate', ('--num-cpus', 2), 0),
                                    ('vc-boot', (), 1), ('vc-clean', (site.entry,), 1),
                                    ('vc-shutdown', (site.entry,), 1)):
        done = site.run(tool, *arguments, input=document, status=status)
        assert status == 0 or host.uri in done.stderr.decode()
    assert site.clusters() == [site.entry]
    host.start()
    # Its guests still run.
    assert site.run('vc-status').stdout.decode().count(' running ') == 2
    site.run('vc-clean', site.entry)
    assert site.clusters() == []


def test_a_cluster_in_a_pool_is_resized(site, host):
    """The volumes of nodes that leave are removed, and no others."""
    without_dependency(site)
    with open(site.conf, 'a', encoding='utf-8') as conf:
        conf.write('storage = pool:default\ncpus_per_node = 1\n')
    site.document(site.entry, 'vc-boot', 1)

    def volumes():
        names = [line.split()[0] for line in virsh(host, 'vol-list', 'default').splitlines()]
        return sorted('_'.join(name.split('_')[1:2]) + name[name.index('.'):]
                      for name in names if name.startswith(f'{site.entry}_'))

    before = volumes()
    assert before == ['compute-0.console.log', 'compute-0.qcow2', 'frontend.console.log',
                      'frontend.qcow2']
    # No guest runs that could be told.
    site.fails('vc-resize', '--num-cpus', 2, site.entry)
    assert volumes() == sorted([*before, 'compute-1.console.log', 'compute-1.qcow2'])
    site.fails('vc-resize', '--num-cpus', 1, '--force', site.entry)
    assert volumes() == before
    assert sorted(virsh(host, 'list', '--all', '--name').split()) == [
        f'{site.entry}-{name}' for name in ('compute-0', 'frontend')]


@pytest.mark.parametrize('storage', ['shared', 'pool:default'])
def test_variables_of_uefi_live_as_long_as_their_node(site, host, storage):
    need_ovmf()
    site.ask_for(UEFI)
    with open(site.conf, 'a', encoding='utf-8') as conf:
        conf.write(f'storage = {storage}\n')
    document = site.document(site.entry, 'vc-boot', 2)

    def variables():
        """The names of the files with variables, which libvirt makes at the first start."""
        done = host.run(['ls', '/var/lib/libvirt/qemu/nvram'], check=False, capture_output=True)
        return [name for name in lines(done.stdout) if name.startswith(site.entry)]

    names = [f'{site.entry}-{node}_VARS.fd' for node in ('compute-0', 'frontend')]
    assert sorted(variables()) == names
    domain = etree.fromstring(virsh(host, 'dumpxml', f'{site.entry}-frontend'))
    assert domain.findtext('os/loader') and domain.findtext('os/nvram')
    # A boot of stopped nodes keeps them.
    site.run('vc-shutdown', '--timeout', 0, site.entry)
    assert sorted(variables()) == names
    site.run('vc-boot', '--paused', '--ignore-dependencies', input=document)
    site.run('vc-clean', site.entry)
    assert variables() == [] and virsh(host, 'list', '--all', '--name').split() == []
