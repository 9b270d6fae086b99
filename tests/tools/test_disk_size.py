"""Disks that are larger than their images: who asks for them, and what they become."""
import json
import re
import subprocess

import pytest
from lxml import etree

from lab.drivers import Wrapped
from lab.images import inside
from lab.nodes import disks

IMAGE = 16 << 20
"""The size of a site's image."""


def sizes(document):
    return [node.get('disk_size') for node in etree.fromstring(document).iterfind('cluster/node')]


def allocate(site, document, *options, **keywords):
    return site.run('vc-allocate', '--num-cpus', 4, '--key', site.key, *options, input=document,
                    **keywords).stdout


def ask_in_vc_in(site, capacity):
    """Have the vc-in.xml of a site ask for a size, in the disk of each role."""
    text, count = re.subn('(<source file=[^>]*>)', rf'\1{capacity}', site.vc_in.read_text())
    assert count == 2
    site.vc_in.write_text(text)


def virtual_size(path):
    done = subprocess.run(['qemu-img', 'info', '--output=json', path], capture_output=True,
                          check=True)
    return json.loads(done.stdout)['virtual-size']


@pytest.fixture
def document(site):
    return site.document(site.entry, 'vc-stage')


@pytest.mark.parametrize('size, count', [('1G', 1 << 30), ('20480K', 20 << 20),
                                         ('20971521', 21 << 20), ('2T', 2 << 40)])
def test_by_option_by_environment_and_by_setting(site, document, monkeypatch, size, count):
    wanted = [str(count)] * 3
    assert sizes(allocate(site, document, '--disk-size', size, '--dry-run')) == wanted
    monkeypatch.setenv('PRAGMA_DISK_SIZE', size)
    assert sizes(allocate(site, document, '--dry-run')) == wanted
    monkeypatch.delenv('PRAGMA_DISK_SIZE')
    with open(site.conf, 'a', encoding='utf-8') as conf:
        conf.write(f'disk_size = {size}\n')
    assert sizes(allocate(site, document, '--dry-run')) == wanted


def test_the_driver_gets_one_form(site):
    """A size in bytes, and a subnet with the length of its prefix."""
    driver = Wrapped(site, 'kvm')
    driver.write('allocate', 'echo "$PRAGMA_DISK_SIZE $PRAGMA_PRIVATE_NETWORK" '
                 f">'{site.folder}/told'; exit 3")
    driver.boot('--disk-size', '1G', '--private-network', '10.2.0.0/255.255.0.0', status=3)
    assert (site.folder / 'told').read_text() == f'{1 << 30} 10.2.0.0/16\n'


def test_the_image_alone_decides_where_nobody_asks(site, document):
    assert sizes(allocate(site, document, '--dry-run')) == [None] * 3
    assert sizes(allocate(site, document, '--disk-size', '16M', '--dry-run')) == [None] * 3
    # Of a site, a size is the least that its nodes have.
    with open(site.conf, 'a', encoding='utf-8') as conf:
        conf.write('disk_size = 8M\n')
    assert sizes(allocate(site, document, '--dry-run')) == [None] * 3


def test_by_vc_in(site):
    """It goes before the site's setting, and after the user's option."""
    ask_in_vc_in(site, '<capacity unit="GiB">3</capacity>')
    with open(site.conf, 'a', encoding='utf-8') as conf:
        conf.write('disk_size = 2G\n')
    parsed = site.run('vc-parse', site.vc_in)
    assert parsed.stderr == b''
    document = site.run('vc-stage', input=parsed.stdout).stdout
    assert sizes(allocate(site, document, '--dry-run')) == [str(3 << 30)] * 3
    assert sizes(allocate(site, document, '--disk-size', '1G', '--dry-run')) == [str(1 << 30)] * 3


@pytest.mark.parametrize('capacity, said', [
    ('<capacity unit="GiB">x</capacity>', "<capacity> is 'x' GiB, which is not a whole number"),
    ('<capacity unit="GiB">0</capacity>', 'which is not a whole number between 1 byte and 64 TiB'),
    ('<capacity unit="TiB">65</capacity>', 'which is not a whole number between'),
    ('<capacity>-1</capacity>', "<capacity> is '-1' bytes"),
    ('<capacity unit="fathoms">1</capacity>', "<capacity unit='fathoms'> is not valid"),
])
def test_a_wrong_capacity_is_refused(site, capacity, said):
    ask_in_vc_in(site, capacity)
    line = site.fails('vc-parse', site.vc_in)
    assert said in line and re.search('line [0-9]+: ', line)


@pytest.mark.parametrize('size', ['0', '1X', '-1', '1.5G', '65T', '9999999999999999G', '٣G',
                                  '1G;x', '1 G', '10GB'])
def test_a_wrong_option_is_wrong_usage(site, document, size):
    for tool, arguments in (('vc-allocate', ('--num-cpus', 0)),
                            ('pragma_boot', ('--vcname', site.entry, '--key', site.key))):
        line = site.fails(tool, *arguments, f'--disk-size={size}', input=document, status=2)
        assert '--disk-size must be a whole number with K, M, G or T, such as 20G' in line
    assert site.clusters() == []


def test_less_than_the_image_is_refused(site, document):
    line = site.fails('vc-allocate', '--num-cpus', 0, '--disk-size', '15M', input=document)
    assert line == ('vc-allocate: the disk of the frontend would have 15 MiB, which is less than '
                    f'the {IMAGE >> 20} MiB of its image: ask for more (--disk-size, or '
                    '<capacity>), or for nothing to have the size of the image')
    assert site.clusters() == []


def test_less_in_an_edited_document_is_refused(site, document):
    allocated = allocate(site, document, '--disk-size', '1G')
    small = allocated.replace(b'disk_size="1073741824"', b'disk_size="1048576"', 1)
    assert 'is less than' in site.fails('vc-inject', input=small)
    bad = allocated.replace(b'disk_size="1073741824"', b'disk_size="1G"', 1)
    assert 'disk_size="1G"' in site.fails('vc-inject', input=bad)
    injected = site.run('vc-inject', input=allocated).stdout
    late = injected.replace(b'disk_size="1073741824"', b'disk_size="2147483648"', 1)
    assert 'disk_size="2147483648", but "1073741824" in the ledger' in site.fails(
        'vc-inject', input=late)


def test_overlays_are_as_large_and_the_guest_is_told(site, document):
    """The first disk of a kind, and those that are copies of it."""
    output = site.run('vc-inject', input=allocate(site, document, '--disk-size', '1G')).stdout
    for name, path in disks(output).items():
        assert virtual_size(path) == 1 << 30
        vc_out = inside(path, 'cat', '/root/vc-out.xml')
        assert vc_out == site.run('vc-out', '--node', name, input=output).stdout
        root = etree.fromstring(vc_out)
        assert root.find('frontend' if name == 'frontend' else 'compute').get('disk_size') == \
            str(1 << 30)
        subprocess.run(['qemu-img', 'check', '-f', 'qcow2', path], check=True, capture_output=True)
    assert site.run('vc-inject', input=output).stdout == output


def test_disks_of_other_sizes_are_no_copies(site, document):
    allocated = allocate(site, document, '--disk-size', '1G')
    edited = allocated.replace(b' disk_size="1073741824"', b'', 2)
    output = site.run('vc-inject', input=edited).stdout
    assert [virtual_size(path) for path in disks(output).values()] == [IMAGE, IMAGE, 1 << 30]


def test_pragma_boot_hands_it_to_the_driver(site):
    output = site.run('pragma_boot', '--vcname', site.entry, '--key', site.key, '--num_cpus', 1,
                      '--disk-size', '1G', '--dry-run').stdout
    assert sizes(output) == [str(1 << 30)] * 2
