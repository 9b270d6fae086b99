"""vc-boot, vc-status and vc-clean on real domains, paused before their first instruction."""
import os
import re
import subprocess

import pytest
from lxml import etree

from lab import ROOT
from lab.drivers import Wrapped
from lab.leftovers import mounts, processes
from lab.needs import uses_passt
from lab.nodes import all_nodes, boot, mine, virsh, without_dependency
from lab.site import connection, lines

QEMU = '{http://libvirt.org/schemas/domain/qemu/1.0}'


@pytest.fixture
def document(site):
    return site.document(site.entry, 'vc-inject')


def printed(site, document, node):
    return etree.fromstring(site.run('vc-boot', '--print', '--node', node, input=document).stdout)


def test_golden(site, document, golden, replacements):
    replacements += [('<uuid>[^<]*', '<uuid>@UUID@'), ('230.0.0.1:[0-9]*', '230.0.0.1:@PRIVATE@'),
                     ('127.0.0.1:[0-9]*', '127.0.0.1:@SSH@'),
                     ('range start="[0-9]*"', 'range start="@SSH@"')]
    # libvirt 11 has passt for the frontend's public network.
    name = 'vc-boot-print-passt' if uses_passt() else 'vc-boot-print'
    golden(name, site.run('vc-boot', '--print', input=document).stdout, *replacements)
    assert mine(site) == []
    golden('vc-boot', boot(site, document).stdout, *replacements)
    golden('vc-status', site.run('vc-status', '--xml').stdout, *replacements)


@pytest.mark.parametrize('node', ['frontend', 'compute-0'])
def test_domains_are_valid_for_libvirt(site, document, node):
    path = site.folder / 'domain.xml'
    path.write_bytes(site.run('vc-boot', '--print', '--node', node, input=document).stdout)
    done = subprocess.run(['virt-xml-validate', path, 'domain'], capture_output=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_row_05_only_what_is_permitted_remains(site, document):
    """The example's emulator, MACs, bridges, image, VNC, tty, network boot and type are gone."""
    domain = printed(site, document, 'frontend')
    output = etree.tostring(domain).decode()
    for gone in ('qemu-kvm', '7a:77:6e', 'eth0.2', 'eth1', 'img.gz', '/dev/pts', 'network'):
        assert gone not in output.replace('net-private', '').replace('net-public', ''), gone
    assert domain.get('type') == 'qemu'
    assert [domain.findtext('vcpu'), domain.findtext('memory')] == ['1', '1048576']
    # Carried over: the features, the disk's bus, the model of the interfaces.
    assert [flag.tag for flag in domain.find('features')] == ['acpi', 'apic', 'pae']
    assert domain.find('devices/disk/target').attrib == {'dev': 'hda', 'bus': 'ide'}
    cards = [arg.get('value') for arg in domain.iter(f'{QEMU}arg') if 'mac=' in arg.get('value')]
    assert {card.split(',')[0] for card in cards} == {'virtio-net-pci'}
    assert 'netdev=private' in cards[0]
    if uses_passt():
        assert domain.xpath('devices/interface/model/@type') == ['virtio'] and len(cards) == 1
    else:
        assert 'netdev=public' in cards[1] and len(cards) == 2


def test_networks_stay_on_the_loopback_interface(site, document):
    domains = [printed(site, document, node) for node in ('frontend', 'compute-0')]
    backends = [arg.get('value') for domain in domains for arg in domain.iter(f'{QEMU}arg')
                if arg.get('value').startswith(('user,', 'socket,'))]
    forwards = [one for domain in domains for one in domain.xpath('devices/interface/portForward')]
    assert len(backends) + len(forwards) == 3 and len(forwards) == uses_passt()
    assert all('localaddr=127.0.0.1' in one or 'hostfwd=tcp:127.0.0.1:' in one for one in backends)
    assert all(one.get('address') == '127.0.0.1' for one in forwards)


def test_verbose_names_what_was_dropped(site, document):
    done = site.run('vc-boot', '--print', '-v', '--node', 'compute-0', input=document)
    assert "vc-boot: not carried over from the compute's <domain>: devices/emulator" \
        in lines(done.stderr)


@pytest.mark.parametrize('node, gone, message', [
    ('frontend', 'devices/disk', 'the <domain> has 0 disks, not one'),
    ('compute-0', 'devices/disk/target', 'the <disk> has no <target dev=…>'),
    ('frontend', 'devices', 'the <domain> has 0 disks, not one')])
def test_a_domain_that_lost_an_element_is_refused(site, document, node, gone, message):
    root = etree.fromstring(document)
    element = root.find(f"{node.split('-')[0]}/domain/{gone}")
    element.getparent().remove(element)
    line = site.fails('vc-boot', '--print', '--node', node, input=etree.tostring(root))
    assert re.fullmatch(f'vc-boot: line [0-9]+: {re.escape(message)}', line), line


@pytest.mark.parametrize('role', ['frontend', 'compute'])
def test_a_domain_that_lost_an_interface_is_refused(site, document, role):
    root = etree.fromstring(document)
    element = root.find(f'{role}/domain/devices/interface')
    element.getparent().remove(element)
    line = site.fails('vc-boot', '--print', input=etree.tostring(root))
    assert re.search(f'<domain> of the {role} (has|lacks) devices/interface', line), line


def test_starts_resumes_and_cleans(site, document):
    output = boot(site, document).stdout
    assert mine(site) == all_nodes(site)
    states = {node.get('name'): node.findtext('state')
              for node in etree.fromstring(output).iterfind('cluster/node')}
    assert states == {'frontend': 'running', 'compute-0': 'running', 'compute-1': 'running'}
    table = site.run('vc-status', site.entry).stdout.decode().splitlines()
    assert len(table) == 4 and table[0].split()[:3] == ['CLUSTER', 'NODE', 'STATE']
    assert table[1].split()[1:3] == ['frontend', 'running'] and 'ssh -p ' in table[1]
    before = virsh('domuuid', all_nodes(site)[0]), virsh('domid', all_nodes(site)[0])
    virsh('destroy', all_nodes(site)[2])
    assert 'stopped' in site.run('vc-status', site.entry).stdout.decode()
    # What runs is not touched, what is stopped is started.
    assert b'<state>stopped' not in boot(site, document).stdout
    assert before == (virsh('domuuid', all_nodes(site)[0]), virsh('domid', all_nodes(site)[0]))
    for _ in range(2):
        site.run('vc-clean', site.entry)
        assert mine(site) == [] and site.clusters() == []
        assert processes(site) == [] and mounts(site) == []
    assert 'no cluster' in site.fails('vc-status', site.entry)
    assert site.run('vc-status').stdout == b''


def test_two_at_once_start_each_node_once(site, document):
    running = [site.start('vc-boot', '--paused', '--ignore-dependencies') for _ in range(3)]
    output = [one.communicate(document) for one in running]
    assert [one.returncode for one in running] == [0, 0, 0], output
    assert mine(site) == all_nodes(site)
    for name in all_nodes(site):
        facts = virsh('dominfo', name)
        assert 'paused' in facts and re.search('Persistent: +yes', facts), facts


def test_shutdown_destroys_what_does_not_stop(site, document):
    """A paused guest does not react to ACPI; its cluster stays, and can be started again."""
    output = boot(site, document).stdout
    done = site.run('vc-shutdown', '--timeout', 1, site.entry)
    assert sorted(lines(done.stderr)) == [
        f"vc-shutdown: domain '{name}' did not shut down in 1 s: it is destroyed"
        for name in all_nodes(site)]
    assert site.run('vc-status', site.entry).stdout.decode().count(' stopped ') == 3
    assert site.run('vc-shutdown', site.entry).stderr == b''
    assert boot(site, document).stdout == output
    assert 'no cluster' in site.fails('vc-shutdown', 'nothing')


def test_a_domain_that_vanished_is_started_again(site, document):
    """A domain that somebody undefined counts as never started."""
    boot(site, document)
    name = f'{site.entry}-compute-1'
    virsh('destroy', name)
    virsh('undefine', name)
    output = lines(site.run('vc-status', site.entry).stdout)[1:]
    assert [line.split()[2] for line in output] == ['running', 'running', '-']
    site.run('vc-shutdown', '--timeout', 0, site.entry)
    boot(site, document)
    assert mine(site) == all_nodes(site)
    virsh('destroy', name)
    virsh('undefine', name)
    site.run('vc-clean', site.entry)
    assert mine(site) == []


def test_only_the_named_nodes(site, document):
    boot(site, document, '--node', 'compute-1', '--node', f'{site.entry}.local')
    assert mine(site) == [all_nodes(site)[1], all_nodes(site)[2]]
    assert "has no node 'x'" in site.fails('vc-boot', '--node', 'x', input=document)


def test_metadata_names_the_cluster(site, document):
    boot(site, document, '--node', 'frontend')
    mark = virsh('metadata', f'{site.entry}-frontend', 'urn:pragma_boot:node')
    assert f'cluster="{site.entry}"' in mark and 'name="frontend"' in mark


def test_row_31_leaves_a_foreign_domain_of_our_name_alone(site, document):
    name = f'{site.entry}-frontend'
    subprocess.run(['virsh', '-q', '-c', connection(), 'define', '/dev/stdin'], check=True,
                   input=f'<domain type="qemu"><name>{name}</name><memory>65536</memory>'
                         '<os><type>hvm</type></os></domain>'.encode(), capture_output=True)
    try:
        line = site.fails('vc-boot', '--paused', '--node', 'frontend', input=document)
        assert f"has a domain '{name}' that is not ours" in line
        site.run('vc-clean', site.entry)
        assert mine(site) == [name]
    finally:
        virsh('undefine', name)


def test_a_node_without_disk(site, document):
    output = site.document(site.entry, 'vc-allocate', 0)
    assert 'has no disk: run vc-inject' in site.fails('vc-boot', input=output)
    os.unlink(site.temp / 'clusters' / site.entry / 'frontend.qcow2')
    assert 'has no disk: run vc-inject' in site.fails('vc-boot', input=document)


def test_what_cannot_start_is_not_left_defined(site, document):
    (site.temp / 'clusters' / site.entry / 'frontend.qcow2').write_bytes(b'no qcow2')
    line = site.fails('vc-boot', '--paused', '--node', 'frontend', input=document)
    assert "libvirt at 'qemu:///session'" in line
    assert mine(site) == []


def test_dependency_on_a_parent_that_does_not_run(site, document):
    line = site.fails('vc-boot', '--paused', '--node', 'compute-0', input=document)
    assert "depends on 'frontend', which does not run" in line


def test_dependency_by_the_clock(site):
    site.vc_in.write_text(site.vc_in.read_text().replace("value='300'", "value='3'"))
    document = site.document(site.entry, 'vc-inject')
    site.run('vc-boot', '--paused', input=document)
    started = {name: int(virsh('metadata', name, 'urn:pragma_boot:node').split('started="')[1]
                         .split('"')[0]) for name in all_nodes(site)}
    parent = started.pop(f'{site.entry}-frontend')
    assert all(3 <= start - parent <= 10 for start in started.values()), started


def test_dependency_on_readiness_has_a_bound(site):
    site.vc_in.write_text(site.vc_in.read_text()
                          .replace("type='clock' value='300'", "type='ready' value='1'"))
    document = site.document(site.entry, 'vc-inject')
    line = site.fails('vc-boot', '--paused', input=document)
    assert "'frontend' not ready after 1 s" in line
    assert mine(site) == [f'{site.entry}-frontend']


@pytest.mark.parametrize('port, output', [
    ('', "port 22 of 'frontend' does not answer after 1 s"),
    ("port='80'", "port 80 of 'frontend' cannot be reached from here")])
def test_dependency_on_a_port_has_a_bound(site, port, output):
    """QEMU accepts the connection, but a paused guest does not answer."""
    site.vc_in.write_text(site.vc_in.read_text().replace(
        "type='clock' value='300'", f"type='port' value='1' {port}"))
    document = site.document(site.entry, 'vc-inject')
    assert output in site.fails('vc-boot', '--paused', input=document)
    assert mine(site) == [f'{site.entry}-frontend']


def test_a_document_that_names_another_host_than_the_ledger(site, document):
    line = site.fails('vc-boot', input=document.replace(b'qemu:///session', b'qemu:///system'))
    assert "is on 'qemu:///session' by the ledger, on 'qemu:///system' by the document" in line


def test_status_of_many_clusters_asks_a_host_once(site):
    """All requests to libvirt go through virsh, whose calls are counted."""
    output = site.document(site.entry, 'vc-stage')
    for _ in range(12):
        site.run('vc-allocate', '--num-cpus', 0, input=output)
    counted = site.folder / 'bin'
    counted.mkdir()
    (counted / 'virsh').write_text(
        f'#!/bin/sh\necho x >>{site.folder}/count\nexec /usr/bin/virsh "$@"\n')
    (counted / 'virsh').chmod(0o755)
    done = subprocess.run([ROOT / 'bin/vc-status'], capture_output=True, check=True,
                          env={**site.environment(), 'PATH': f"{counted}:{os.environ['PATH']}"})
    assert len(done.stdout.splitlines()) == 13
    assert (site.folder / 'count').read_text() == 'x\n'


def test_row_31_a_host_that_does_not_answer(site, document):
    boot(site, document, '--node', 'frontend')
    text = site.conf.read_text()
    gone = 'qemu+unix:///system?socket=/nonexistent'
    path = site.temp / 'clusters' / site.entry / 'document.xml'
    path.write_bytes(document.replace(b'<node role="compute" name="compute-0" fqdn="compute-0" '
                                      b'host="qemu:///session"',
                                      b'<node role="compute" name="compute-0" fqdn="compute-0" '
                                      b'host="%s"' % gone.encode()))
    site.conf.write_text(text + f'hosts = qemu:///session {gone}\nprivate_network = bridge:br0\n')
    output = site.run('vc-status', site.entry)
    assert [line.split()[2] for line in lines(output.stdout)[1:]] == ['running', 'unknown', '-']
    assert f"vc-status: libvirt at '{gone}'" in output.stderr.decode()
    assert gone in site.fails('vc-boot', input=path.read_bytes())
    assert gone in site.run('vc-shutdown', '--timeout', 0, site.entry, status=1).stderr.decode()
    assert 'stays in the ledger' in site.fails('vc-clean', site.entry)
    assert site.clusters() == [site.entry]
    # Removed from the settings.
    site.conf.write_text(text)
    done = site.run('vc-clean', site.entry)
    assert lines(done.stderr) == [(f"vc-clean: '{gone}' is not one of the site's hosts any more: "
                                   'what is on it stays there')]
    assert mine(site) == [] and site.clusters() == []


@pytest.mark.parametrize('seconds', [1, pytest.param(60, marks=pytest.mark.long)])
def test_row_32_timeout_names_the_nodes_and_stops_nothing(site, document, seconds):
    done = site.run('vc-boot', '--paused', '--ignore-dependencies', '--wait', '--timeout', seconds,
                    input=document, status=1)
    assert not done.stdout
    line = lines(done.stderr)[-1]
    assert f"'frontend', 'compute-0', 'compute-1' not ready after {seconds} s" in line
    assert "nothing is on the console of 'frontend'" in line
    # Early, the image is not to blame.
    assert (f"; vc-check '{site.vc_in}' tells whether" in line) == (seconds == 60)
    assert mine(site) == all_nodes(site)


def test_timeout_names_what_the_console_says(site):
    """The little image has no boot loader: a node of it is silent but for SeaBIOS."""
    without_dependency(site)
    document = site.document(site.entry, 'vc-inject', 0)
    done = site.run('vc-boot', input=document)
    log = site.temp / 'clusters' / site.entry / 'frontend.console.log'
    with open(log, 'ab') as file:
        file.write(b'GNU GRUB\r\n\x1b[1mgrub> \x1b[0m')
    done = site.run('vc-boot', '--wait', '--timeout', 1, input=done.stdout, status=1)
    line = lines(done.stderr)[-1]
    assert "the last line on the console of 'frontend' is 'grub>'" in line


def test_incomplete_clusters(site, document):
    os.unlink(site.temp / 'clusters' / site.entry / 'document.xml')
    done = site.run('vc-status')
    assert (f"cluster '{site.entry}' is being allocated, or was left by a killed tool: 'vc-clean "
            f"{site.entry}' removes it") in done.stderr.decode()
    site.run('vc-clean', site.entry)
    assert site.clusters() == []


def test_a_cluster_that_is_being_allocated(site):
    """Its driver has not left a document: vc-clean would end the boot."""
    driver = Wrapped(site, 'perl')
    driver.demand('allocate-waits')
    running = driver.start()
    try:
        assert site.fails('vc-status', site.entry) == (
            f"vc-status: cluster '{site.entry}' is being allocated: wait until pragma_boot has "
            'started it')
        running.kill()
        running.communicate()
        assert (f"or was left by a killed tool: 'vc-clean {site.entry}' removes it"
                in site.fails('vc-status', site.entry))
    finally:
        driver.end()


def test_a_ledger_that_may_not_be_read_is_not_incomplete(site, public_tree):
    if os.geteuid():
        pytest.skip('needs root')
    site.document(site.entry, 'vc-allocate')
    path = site.temp / 'clusters' / site.entry / 'document.xml'
    for tool, *words in (('vc-status',), ('vc-start',), ('vc-resize', '--num-cpus', '1'),
                         ('vc-snapshot', '--list'), ('vc-capture', '--as', 'x')):
        done = subprocess.run(
            ['setpriv', '--reuid=65534', '--regid=65534', '--clear-groups',
             public_tree / 'bin' / tool, *words, site.entry], capture_output=True, check=False,
            env=site.environment())
        assert done.returncode == 1
        assert lines(done.stderr) == [f"{tool}: cannot read '{path}': Permission denied"]


def test_status_of_one_cluster_is_its_document(site, document):
    output = site.run('vc-status', '--xml', site.entry).stdout
    assert output == document
    assert boot(site, output, '--node', 'frontend').stdout.count(b'<state>running') == 1


def test_status_of_a_document(site, document):
    assert site.run('vc-status', '-', input=document).stdout == \
        site.run('vc-status', site.entry).stdout


def test_acceleration_is_probed_by_running_something(site, document):
    """The guest of the probe ends by itself if KVM works; otherwise there is one message."""
    site.conf.write_text(site.conf.read_text().replace('accel = tcg', 'accel = auto'))
    first = site.run('vc-boot', '--print', input=document)
    answer = (site.temp / 'accel').read_text().split()[-1]
    output = lines(first.stderr)
    assert answer in ('kvm', 'tcg')
    assert (answer == 'tcg') == (len(output) == 1 and 'KVM cannot be used' in output[0])
    assert {domain.get('type') for domain in etree.fromstring(first.stdout)} == \
        {'kvm' if answer == 'kvm' else 'qemu'}
    again = site.run('vc-boot', '--print', input=document)
    assert again.stdout == first.stdout and not again.stderr
    assert not [name for name in site.domains() if 'probe' in name]
