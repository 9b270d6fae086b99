"""Malicious vc-in.xml files: each is refused or made harmless, and the domains are inspected."""
import os
import re
import shutil

import pytest
from lxml import etree

from lab import DATA
from lab.needs import uses_passt
from pragma_boot.document import permit

HOSTILE = DATA / 'hostile'
EXPECTED = {line.split('\t')[0]: [*line.split('\t'), ''][1:3]
            for line in (HOSTILE / 'expected.tsv').read_text().splitlines()}
"""By file: refused or defused, and a part of the message."""

QEMU = 'http://libvirt.org/schemas/domain/qemu/1.0'


@pytest.fixture
def place(empty_site, little_image):
    """The path of a vc-in.xml to be written, in an entry with an image, a link and a pipe."""
    folder = empty_site.base / 'entry'
    folder.mkdir()
    shutil.copy(little_image, folder / 'little.img.gz')
    (folder / 'link.img').symlink_to('/etc/passwd')
    os.mkfifo(folder / 'pipe.img')
    return folder / 'vc-in.xml'


def named(verdict):
    return pytest.mark.parametrize('name',
                                   [name for name, (how, _) in EXPECTED.items() if how == verdict])


def test_there_are_many_and_none_is_forgotten():
    assert len(EXPECTED) >= 40
    assert {path.stem for path in HOSTILE.glob('*.xml')} == set(EXPECTED)


@named('refused')
def test_row_01_03_05_07_08_refused(empty_site, place, name):
    shutil.copy(HOSTILE / f'{name}.xml', place)
    line = empty_site.fails('vc-parse', place)
    words = EXPECTED[name][1]
    assert words and words in line, line
    assert str(place) in line or re.search(r'line \d+|of the (frontend|compute)', line), line


def domains(site, vc_in):
    """The <domain>s that a vc-in.xml leads to, without what each allocation makes new."""
    document = site.run('vc-parse', vc_in).stdout
    for tool, *arguments in (('vc-stage',),
                             ('vc-allocate', '--num-cpus', 1, '--name', 'c', '--key', site.key),
                             ('vc-inject',)):
        document = site.run(tool, *arguments, input=document).stdout
    output = etree.fromstring(site.run('vc-boot', '--print', input=document).stdout)
    site.run('vc-clean', 'c')
    for given, by in (('started="[0-9]+"', 'started=""'), ('mac=[0-9a-f:]{17}', 'mac=MAC'),
                      ('<uuid>[0-9a-f-]{36}</uuid>', '<uuid/>'),
                      (r'127\.0\.0\.1:[0-9]+', '127.0.0.1:PORT'),
                      (r'230\.0\.0\.1:[0-9]+', '230.0.0.1:PORT')):
        output = etree.fromstring(re.sub(given, by, etree.tostring(output).decode()))
    return output


@named('defused')
def test_row_05_06_defused(empty_site, place, name):
    """The domains equal those of the harmless file."""
    shutil.copy(HOSTILE / 'harmless.xml', place)
    harmless = domains(empty_site, place)
    shutil.copy(HOSTILE / f'{name}.xml', place)
    found = domains(empty_site, place)
    # A console for viewers, but no address, port or password.
    for graphics in found.xpath("//graphics[@type='vnc'][count(@*)=1]"
                                "[listen[@type='socket'][count(@*)=1]]"):
        graphics.getparent().remove(graphics)
    assert etree.tostring(found, method='c14n2') == etree.tostring(harmless, method='c14n2')
    assert not list(empty_site.folder.rglob('pwned'))


OURS = {'domains', 'domain', 'name', 'uuid', 'metadata', '{urn:pragma_boot:node}node', 'memory',
        'vcpu', 'os', 'type',
        'boot', 'features', 'acpi', 'apic', 'pae', 'cpu', 'clock', 'on_poweroff', 'on_reboot',
        'on_crash', 'devices',
        'disk', 'driver', 'source', 'backingStore', 'format', 'target', 'controller', 'serial',
        'rng', 'backend', 'video', 'model', 'graphics', 'listen', 'firmware', 'feature',
        'memballoon', f'{{{QEMU}}}commandline', f'{{{QEMU}}}arg'}


PASST = {'interface', 'mac', 'ip', 'address', 'portForward', 'range'}


def test_a_domain_has_only_our_paths_and_addresses(empty_site, place):
    """Whatever the author wrote: all elements, paths and addresses are inspected."""
    shutil.copy(HOSTILE / 'harmless.xml', place)
    output = domains(empty_site, place)
    ours = OURS | PASST if uses_passt() else OURS
    assert {element.tag for element in output.iter(etree.Element)} <= ours
    paths = {value for element in output.iter(etree.Element)
             for value in [*element.values(), element.text or '']
             if value.startswith('/')}
    assert paths and all(path.startswith(f'{empty_site.temp}/') or path == '/dev/urandom'
                         for path in paths), paths


@pytest.mark.parametrize('kind', ['deep', 'attributes', 'large'])
def test_row_02_what_lxml_would_accept(empty_site, place, kind):
    """200,000 attributes, 100,000 levels, more than a MiB."""
    text = (HOSTILE / 'harmless.xml').read_text()
    more = {'deep': '<x>' * 100_000 + '</x>' * 100_000,
            'attributes': '<x ' + ' '.join(f'a{count}="1"' for count in range(200_000)) + '/>',
            'large': '<x>' + 'y' * (1 << 20) + '</x>'}[kind]
    place.write_text(text.replace('<networks>', f'{more}<networks>'))
    line = empty_site.fails('vc-parse', place)
    assert 'larger than 1 MiB' in line or 'not well-formed' in line, line


def test_what_is_permitted_is_permitted_again():
    """Nothing is dropped from a permitted <domain>."""
    author = etree.parse(HOSTILE / 'harmless.xml').find('frontend/domain')
    once = permit.permitted(author)
    assert etree.tostring(permit.permitted(once)) == etree.tostring(once)
    assert permit.dropped(once) == []
