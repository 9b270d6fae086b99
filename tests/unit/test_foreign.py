"""What a driver left: its vc-out.xml checked, and the document that is made of it."""
import os
import re

import pytest
from lxml import etree

from lab import DATA
from pragma_boot.cluster import foreign
from pragma_boot.document import tree
from pragma_boot.system.failure import Failure

VC = '<vc><frontend><public fqdn="a.b" ip="192.0.2.1"/>{}</frontend><compute>{}</compute></vc>'


def nodes(*attributes):
    return VC.format('', ''.join(f'<node {text}/>' for text in attributes))


WRONG = {
    '': "vc-out.xml' is empty",
    '# no XML': 'is not well-formed XML',
    '<!DOCTYPE x [<!ENTITY e SYSTEM "file:///etc/passwd">]><vc>&e;</vc>': 'has a DOCTYPE',
    '<html/>': 'its root element is <html>, not <vc>',
    '<vc/>': 'it has no <frontend>',
    '<vc><frontend/></vc>': 'it has no <frontend><public>',
    '<vc><frontend><public/></frontend></vc>': "fqdn of <public> '' is not a name",
    '<vc><frontend/><frontend/></vc>': 'it has 2 <frontend>, not one',
    (DATA / 'vc-out-compute.xml').read_text(): 'it has no <frontend>',
    nodes(''): "name of <node> '' is not a name",
    nodes('name="../../x"'): r"name of <node> '\.\./\.\./x' is not a name",
    nodes('name="x;reboot"'): 'is not a name',
    nodes('name="-v"'): 'is not a name',
    nodes('name="x&#10;y"'): r"'x\\ny' is not a name",
    nodes('name="x"', 'name="y"', 'name="x"'): "duplicate name 'x'",
    nodes('name="a.b"'): "duplicate name 'a.b'",
    nodes('name="x" ip="10.1.1"'): "ip='10.1.1' of <node> is not an IPv4 address",
    nodes('name="x" mac="02:00"'): "mac='02:00' of <node> is not a MAC address",
    nodes('name="x" cpus="-1"'): "cpus='-1' of <node> is not a number of CPUs",
    VC.format('<private ip="::1"/>', ''): "ip='::1' of <private> is not an IPv4 address",
    VC.format('', '<private ip="10.1.1.2"/>'): 'it has a <compute><private>',
    nodes(*(f'name="n{number}"' for number in range(70_000))): 'it has 70000 compute nodes',
    nodes(*(f'name="n{number}"' for number in range(1_000_000))): 'is larger than 16 MiB'}


@pytest.mark.parametrize('number', range(len(WRONG)))
def test_a_wrong_vc_out_is_refused(tmp_path, number):
    text, reason = list(WRONG.items())[number]
    (tmp_path / 'vc-out.xml').write_text(text)
    with pytest.raises(Failure, match=reason) as failure:
        foreign.read(str(tmp_path / 'vc-out.xml'))
    assert '\n' not in str(failure.value) and len(str(failure.value)) < 400


@pytest.mark.parametrize('make', [os.mkfifo, os.mkdir, lambda path: os.symlink('/dev/zero', path)])
def test_what_is_no_file_is_refused(tmp_path, make):
    make(tmp_path / 'vc-out.xml')
    with pytest.raises(Failure, match=r"vc-out\.xml' is not a regular file"):
        foreign.read(str(tmp_path / 'vc-out.xml'))
    with pytest.raises(Failure, match='No such file'):
        foreign.read(str(tmp_path / 'none.xml'))


def made(tmp_path, text):
    (tmp_path / 'vc-out.xml').write_text(text)
    vc_out = foreign.read(str(tmp_path / 'vc-out.xml'))
    vc_in = tree.read_file(str(DATA / 'vc-in.xml'), 'vc-in')
    return foreign.document(vc_in, '/base/vc-in.xml', 'entry', vc_out, 'mine', 'seed')


def test_the_document_of_the_seeds_example(tmp_path):
    """All that it has, and the memory and the frontend's CPUs from vc-in.xml."""
    root = made(tmp_path, (DATA / 'vc-out-frontend.xml').read_text())
    cluster = root.find('cluster')
    told = [(node.get('role'), node.get('name'), node.get('fqdn'), node.get('cpus'),
             node.get('memory'), [dict(one.attrib) for one in node.findall('interface')])
            for node in cluster.iterfind('node')]
    private = {'network': 'private', 'netmask': '255.255.0.0'}
    public = {'network': 'public', 'netmask': '255.255.255.0', 'gw': '137.110.119.1'}
    assert told == [
        ('frontend', 'frontend', 'calit2-119-222.ucsd.edu', '1', '1048576',
         [{**private, 'ip': '10.1.1.1'}, {**public, 'ip': '137.110.119.222'}]),
        *(('compute', name, name, '2', '1048576',
           [{**private, 'mac': mac, 'ip': ip, 'gw': '10.1.1.1'}])
          for name, mac, ip in (('hosted-vm-0-1-0', '7a:77:6e:40:00:15', '10.1.0.254'),
                                ('hosted-vm-0-0-0', '7a:77:6e:40:00:14', '10.1.0.253')))]
    assert dict(cluster.find('dns').attrib) == {'ip': '8.8.8.8', 'search': 'local', 'domain': ''}
    assert cluster.findtext('key').startswith('ssh-rsa ') and cluster.get('name') == 'mine'
    assert {node.get('host') for node in cluster.iterfind('node')} == {'driver:seed'}
    assert dict(root.find('source').attrib) == {'path': '/base/vc-in.xml', 'name': 'entry'}
    assert tree.image_file(root, 'compute') == '/base/hosted-vm-0-0-1.img.gz'


def test_what_is_not_told_is_not_made_up(tmp_path):
    root = made(tmp_path, '<vc><frontend><public fqdn="a.b"/></frontend>'
                          '<compute><node name="frontend"/></compute></vc>')
    told = [(node.get('name'), node.get('cpus'), [dict(one.attrib) for one in node])
            for node in root.iterfind('cluster/node')]
    # No two nodes have one name.
    assert told == [('a.b', '1', [{'network': 'private'}]),
                    ('frontend', '1', [{'network': 'private'}])]


def test_our_own_drivers_documents_are_as_strict_as_before(tmp_path):
    root = made(tmp_path, VC.format('', ''))
    for host in ('qemu:///session', 'ganeti://master/node', 'driver', 'driver:', 'driver:../x'):
        root.find('cluster/node').set('host', host)
        with pytest.raises(Failure, match='is not valid'):
            tree.validate(root, 'document', 'it')


def test_the_image_of_a_role():
    vc_in = tree.read_file(str(DATA / 'vc-in.xml'), 'vc-in')
    assert foreign.image_path(vc_in, 'frontend', '/temp') == '/temp/calit2-119-222.img'
    source = vc_in.find('compute/domain/devices/disk/source')
    for file in ('', 'folder/', '..', '.gz'):
        source.set('file', file)
        with pytest.raises(Failure, match='no image file for a compute'):
            foreign.image_path(vc_in, 'compute', '/temp')


def test_a_document_that_lacks_a_node():
    vc_out = etree.fromstring(nodes('name="x"'))
    document = etree.fromstring('<vc><cluster><node role="frontend" fqdn="a.b" name="f"/></cluster>'
                                '</vc>')
    with pytest.raises(Failure, match=re.escape("document.xml has no node 'x'")):
        foreign.nodes(vc_out, document)
