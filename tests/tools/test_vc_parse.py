"""vc-parse: what an image author may write."""
import os
import shutil

import pytest
from lxml import etree

from lab import DATA


def test_golden(site, golden, replacements):
    golden('vc-parse', site.run('vc-parse', site.vc_in).stdout, *replacements)


def test_standard_input_needs_its_folder(site):
    document = site.vc_in.read_bytes()
    assert '--base DIR' in site.fails('vc-parse', input=document, status=2)
    tree = etree.fromstring(
        site.run('vc-parse', '--base', site.vc_in.parent, input=document).stdout)
    assert tree.find('source').get('path') == str(site.vc_in)
    assert tree.find('.//disk/source').get('file').startswith(f'{site.vc_in.parent}/')


def edit(site, change):
    """Change the site's vc-in.xml by a function of its tree."""
    tree = etree.parse(site.vc_in)
    change(tree.getroot())
    tree.write(site.vc_in)


def add(where, xml):
    return lambda root: root.find(where).append(etree.fromstring(xml))


def put(where, **attributes):
    return lambda root: root.find(where).attrib.update(attributes)


def remove(where):
    return lambda root: root.find(where).getparent().remove(root.find(where))


def set_text(where, text):
    return lambda root: setattr(root.find(where), 'text', text)


QEMU = 'xmlns:q="http://libvirt.org/schemas/domain/qemu/1.0"'


@pytest.mark.parametrize('change, reason', [
    (remove('frontend'), 'is not valid'),
    (remove('networks'), 'is not valid'),
    (remove('frontend/domain'), 'is not valid'),
    (put('virtualization', engine='xen'), 'is not valid'),
    (set_text('driver', '../../etc'), 'is not valid'),
    (set_text('networks/network/ipaddress', '10.1.1.256'), 'is not valid'),
    (set_text('networks/frontend/public', 'eth0'), 'is not valid'),
    (put('compute/boot_dependency/wait', value='-1'), 'is not valid'),
    (put('compute/domain', type='no such engine'), "type='no such engine'> is refused"),
    (remove('frontend/domain/devices/interface'), 'has 1 network interfaces, not 2'),
    (add('compute/domain/devices', '<interface type="user"/>'), 'has 2 network interfaces, not 1'),
    (remove('compute/domain/devices/disk'), 'has 0 disks, not one'),
    (put('compute/domain/devices/disk/driver', type='vmdk'), 'must be raw'),
    (put('compute/domain/devices/disk', type='block'), "not a <disk type='file'"),
    (add('frontend/domain/devices', '<filesystem type="mount"><source dir="/"/><target dir="x"/>'
         '</filesystem>'), 'shares a folder of the host'),
    (add('frontend/domain/devices', '<hostdev mode="subsystem" type="usb"/>'),
     'takes a device of the host'),
    (add('frontend/domain/devices', '<serial type="file"><source path="/etc/passwd"/></serial>'),
     'reaches a file or port of the host'),
    (add('frontend/domain/devices/interface', '<script path="/bin/sh"/>'), 'runs a script'),
    (add('frontend/domain/os', '<kernel>/etc/shadow</kernel>'), 'boots a file of the host'),
    (add('frontend/domain', f'<q:commandline {QEMU}><q:arg value="-s"/></q:commandline>'),
     "adds to QEMU's command line"),
])
def test_refuses(site, change, reason):
    edit(site, change)
    line = site.fails('vc-parse', site.vc_in)
    assert reason in line and 'line ' in line


@pytest.mark.parametrize('file, reason', [
    ('/etc/passwd', 'is an absolute path'),
    ('../../site_conf.conf', "lies outside the vc-in.xml's folder"),
    ('link.img', "lies outside the vc-in.xml's folder"),
    ('nbd:localhost', "':' and control characters are refused"),
    ('pipe.img', 'is not a regular file'),
    ('none.img', 'No such file or directory'),
])
def test_row_08_refuses_image_paths(site, file, reason):
    (site.vc_in.parent / 'link.img').symlink_to('/etc/passwd')
    os.mkfifo(site.vc_in.parent / 'pipe.img')
    edit(site, put('compute/domain/devices/disk/source', file=file))
    assert reason in site.fails('vc-parse', site.vc_in)


def test_row_02_refuses_what_is_too_large(site):
    site.vc_in.write_bytes(site.vc_in.read_bytes() + b' ' * (1 << 20))
    assert 'is larger than 1 MiB' in site.fails('vc-parse', site.vc_in)


def test_missing_file(site):
    assert "cannot open '/nonexistent'" in site.fails('vc-parse', '/nonexistent')


def test_takes_an_entry_without_compute_nodes(site):
    edit(site, remove('compute'))
    assert b'<compute' not in site.run('vc-parse', site.vc_in).stdout


def test_file_outside_the_database_has_no_name(site):
    folder = site.folder / 'elsewhere'
    shutil.copytree(site.vc_in.parent, folder)
    shutil.copy(DATA / 'vc-in.xml', folder)
    source = etree.fromstring(site.run('vc-parse', folder / 'vc-in.xml').stdout).find('source')
    assert dict(source.attrib) == {'path': f'{folder}/vc-in.xml'}


@pytest.mark.parametrize('hidden', ['<!-- -->', '<?target data?>'])
def test_row_04_comments_change_no_value(site, hidden):
    """A part of a word before a comment is not the word."""
    text = site.vc_in.read_text()
    plain = etree.fromstring(site.document(site.entry, 'vc-allocate', 2))
    site.run('vc-clean', site.entry)
    changed = text
    for begin, end in (('<memory>1048', '576<'), ('<type>h', 'vm<'), ('<driver>rocks6', '_client<'),
                       ('>10.1', '.1.1<')):
        changed = changed.replace(begin + end, begin + hidden + end)
    assert changed.count(hidden) == 6
    site.vc_in.write_text(changed)
    output = etree.fromstring(site.document(site.entry, 'vc-allocate', 2))
    for what in ('cluster/node/@memory', 'cluster/node/interface/@ip', 'image/@path'):
        assert output.xpath(what) == plain.xpath(what), what
