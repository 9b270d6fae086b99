"""Data that guests have written, and neighbours: other ledgers on the same host (rows 34 to 38)."""
import json
import os
import re
import shutil
import socket
import subprocess
from pathlib import Path

import pytest
from lxml import etree

from lab.images import make_image, pack, use_image
from lab.nodes import disks, mine
from lab.site import Site


def rebuilt(site):
    """Another image under the names of the site's entry."""
    image = make_image(site.folder / 'rebuilt.img', [('etc/new', b'new')], size='20M')
    use_image(site, pack(image))


def test_row_34_a_disk_stays_on_its_image(site):
    document = site.document(site.entry, 'vc-inject', 2)
    before = {name: Path(path).read_bytes() for name, path in disks(document).items()}
    rebuilt(site)
    again = site.run('vc-stage', input=document).stdout
    assert again == document
    assert site.run('vc-inject', input=again).stdout == document
    for name, path in disks(document).items():
        assert Path(path).read_bytes() == before[name]
        output = subprocess.run(['qemu-img', 'info', '-U', '--output=json', path],
                                capture_output=True, check=True).stdout
        disk = etree.fromstring(document).find(f"cluster/node[@name='{name}']/disk")
        assert json.loads(output)['backing-filename'] == disk.get('backing')


def test_row_34_an_image_that_disks_need_is_not_exchanged(site):
    document = site.document(site.entry, 'vc-inject', 0)
    image = Path(etree.fromstring(document).find("image[@role='frontend']").get('path'))
    content, times = image.read_bytes(), image.stat()
    image.unlink()
    # The same image again: it is staged under the same name.
    again = etree.fromstring(site.run('vc-stage', input=document).stdout)
    assert again.find("image[@role='frontend']").get('path') == str(image)
    assert image.exists()
    image.unlink()
    rebuilt(site)
    line = site.fails('vc-stage', input=document)
    assert f"staged image '{image}' of the frontend is missing or changed" in line
    assert 'the disks of frontend' in line
    assert 'is missing' in site.fails('vc-boot', input=document)
    image.write_bytes(content)
    image.chmod(0o444)
    os.utime(image, ns=(times.st_atime_ns, times.st_mtime_ns))
    # No node has a disk on the compute nodes' image: that one is staged anew.
    again = etree.fromstring(site.run('vc-stage', input=document).stdout)
    assert again.find("image[@role='frontend']").get('path') == str(image)


def test_row_35_a_disk_that_is_missing_is_not_made_anew(site):
    document = site.document(site.entry, 'vc-inject', 2)
    path = Path(disks(document)['compute-0'])
    path.rename(f'{path}.aside')
    line = site.fails('vc-inject', input=document)
    assert f"disk '{path}' of node 'compute-0' is missing: restore it, or remove" in line
    assert not path.exists()
    Path(f'{path}.aside').rename(path)
    assert site.run('vc-inject', input=document).stdout == document


def test_row_35_a_temporary_directory_that_was_moved(site):
    document = site.document(site.entry, 'vc-inject', 0)
    moved = site.folder / 'moved'
    site.temp.rename(moved)
    conf = site.conf.read_text()
    site.conf.write_text(conf.replace('temporary_directory = temp', 'temporary_directory = moved'))
    before = {path: path.read_bytes() for path in (moved / 'clusters' / site.entry).iterdir()}
    assert 'move the temporary directory back' in site.fails('vc-stage', input=document)
    assert 'is missing' in site.fails('vc-inject', input=document)
    assert 'is missing' in site.fails('vc-boot', input=document)
    assert {path: path.read_bytes() for path in before} == before
    site.conf.write_text(conf)
    moved.rename(site.temp)
    assert site.run('vc-inject', input=document).stdout == document


def test_row_37_a_copy_of_a_temporary_directory_is_refused(site):
    site.document(site.entry, 'vc-boot', 0)
    copy, conf = site.folder / 'copy', site.conf.read_text()
    shutil.copytree(site.temp, copy)
    site.conf.write_text(conf.replace('temporary_directory = temp', 'temporary_directory = copy'))
    for words in (['vc-clean', site.entry], ['vc-shutdown', site.entry], ['vc-status']):
        line = site.fails(*words)
        assert f"'{copy}' is a copy of '{site.temp}'" in line
        assert f"remove '{copy}/clusters'" in line
    shutil.rmtree(copy / 'clusters')
    (copy / 'identity').unlink()
    document = site.document(site.entry, 'vc-allocate', 0)
    site.run('vc-clean', site.entry)
    site.conf.write_text(conf)
    assert mine(site) == [f'{site.entry}-frontend']
    ours = etree.fromstring(site.run('vc-status', '--xml', site.entry).stdout).find('cluster')
    assert ours.get('ledger') != etree.fromstring(document).find('cluster').get('ledger')


def test_row_37_a_link_to_a_temporary_directory_is_the_same_one(site):
    site.document(site.entry, 'vc-allocate', 0)
    (site.folder / 'link').symlink_to(site.temp)
    site.conf.write_text(site.conf.read_text().replace('temporary_directory = temp',
                                                       'temporary_directory = link'))
    site.run('vc-clean', site.entry)
    assert site.clusters() == []


@pytest.fixture
def neighbour(site, little_image):
    """Another site on this machine, with an entry of the same name."""
    folder = site.folder / 'neighbour'
    folder.mkdir()
    other = Site(folder)
    other.entry, other.vc_in = site.entry, other.add_entry(site.entry, little_image)
    yield other
    for name in other.clusters():
        other.run('vc-clean', name)


def attributes(document, name):
    interfaces = etree.fromstring(document).iterfind('cluster/node/interface')
    return {interface.get(name) for interface in interfaces} - {None}


def test_row_36_two_ledgers_have_different_macs_and_ports(site, neighbour):
    one = site.document(site.entry, 'vc-boot', 2)
    two = neighbour.document(site.entry, 'vc-allocate', 2)
    assert not attributes(one, 'mac') & attributes(two, 'mac')
    # The first one's QEMUs hold its ports.
    assert not attributes(one, 'port') & attributes(two, 'port')


def test_row_36_a_port_is_probed_where_qemu_binds_it(site):
    document = site.document(site.entry, 'vc-stage')
    with open(site.conf, 'a', encoding='utf-8') as conf:
        conf.write('private_ports = 24990-24990\n')
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as taken:
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        taken.bind(('230.0.0.1', 24990))
        line = site.fails('vc-allocate', '--num-cpus', 0, input=document, status=3)
    assert "pool 'private_ports'" in line


def test_row_37_a_domain_of_another_ledger_is_not_ours(site, neighbour):
    theirs = site.document(site.entry, 'vc-boot', 0)
    name, = [domain for domain in site.domains() if domain.startswith(f'{site.entry}-')]
    ours = neighbour.document(site.entry, 'vc-inject', 0)
    line = neighbour.fails('vc-boot', '--paused', input=ours)
    assert f"has a domain '{name}' that is not ours" in line
    status = neighbour.run('vc-status', site.entry).stdout.decode().splitlines()[1].split()
    assert status[1:3] == ['frontend', '-']
    assert b'<state>' not in neighbour.run('vc-status', '--xml', site.entry).stdout
    neighbour.run('vc-shutdown', '--timeout', 1, site.entry)
    neighbour.run('vc-clean', site.entry)
    assert name in site.domains() and neighbour.clusters() == []
    assert b'<state>running</state>' in site.run('vc-status', '--xml', site.entry).stdout
    assert site.run('vc-boot', '--paused', input=theirs).stdout


def test_row_37_a_cluster_of_an_older_version_has_no_mark(site):
    document = re.sub(rb' ledger="[0-9a-f]{32}"', b'', site.document(site.entry, 'vc-inject', 0))
    (site.temp / 'clusters' / site.entry / 'document.xml').write_bytes(document)
    site.run('vc-boot', '--paused', input=document)
    assert b'<state>running</state>' in site.run('vc-status', '--xml', site.entry).stdout
    site.run('vc-clean', site.entry)
    assert site.clusters() == [] and f'{site.entry}-frontend' not in site.domains()


def test_row_37_the_identity_of_a_ledger(site):
    document = site.document(site.entry, 'vc-allocate', 0)
    identity = (site.temp / 'identity').read_text().strip()
    assert re.fullmatch('[0-9a-f]{32}', identity)
    assert etree.fromstring(document).find('cluster').get('ledger') == identity
    (site.temp / 'identity').write_text('x\n')
    assert 'is not the identity of a ledger' in site.fails('vc-clean', site.entry)
    (site.temp / 'identity').write_text(identity)


def test_row_38_a_bad_entry_stops_nobody(site):
    site.document(site.entry, 'vc-allocate', 0)
    path = site.temp / 'clusters' / site.entry / 'document.xml'
    path.write_text(re.sub(' memory="[0-9]+"', ' memory="0"', path.read_text()))
    document = site.run('vc-stage', input=site.run('vc-parse', site.vc_in).stdout).stdout
    done = site.run('vc-allocate', '--num-cpus', 0, '--name', f'{site.entry}-b', '--key', site.key,
                    input=document)
    line, = done.stderr.decode().splitlines()
    assert line.startswith(f"vc-allocate: cluster '{site.entry}' is left out: ")
    assert site.run('vc-status').stderr.decode().count('\n') == 1
    site.run('vc-clean', site.entry)

