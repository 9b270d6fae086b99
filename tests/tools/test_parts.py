"""Images in parts, in documents as the repositories of the first pragma_boot have them."""
import bz2
import gzip
import hashlib

import pytest
from lxml import etree

from lab.images import make_image, packed_by, qcow2
from lab.site import Site, lines
from lab.web import serving

FILES = '''  <files>
    <file type="splited_gzip" filename="calit2-119-222.img">
      <part>frontend.vda.gz.a</part>
      <part>frontend.vda.gz.b</part>
      <!-- the last one -->
      <part>frontend.vda.gz.c</part>
    </file>
    <file type="gzip" filename="unused.vda">
      <part>unused.vda.gz</part>
    </file>
    <file type="raw">
      <part>dummy.py</part>
    </file>
    <file type="splited" filename="hosted-vm-0-0-1.img">
      <part>compute-copy.vda.a</part>
      <part>compute-copy.vda.b</part>
      <part>compute-copy.vda.c</part>
      <part>compute-copy.vda.d</part>
    </file>
  </files>
</vc>'''
"""As in the README of the first version: <files> beside the roles."""

WITHIN = ('<file type="splited_gzip"><part>frontend.vda.gz.a</part><part>frontend.vda.gz.b</part>'
          '<part>frontend.vda.gz.c</part></file>')
"""As its last version reads it: <file> in a role, about the <source> of its disk."""


@pytest.fixture
def raw(site):
    return make_image(site.folder / 'raw.img').read_bytes()


@pytest.fixture
def split(site, raw):
    """A site whose images are in parts: a split .gz, and a split raw image."""
    folder = site.vc_in.parent
    for path in folder.glob('*.img.gz'):
        path.unlink()
    cut(folder / 'frontend.vda.gz', gzip.compress(raw), 3)
    cut(folder / 'compute-copy.vda', raw, 4)
    text = site.vc_in.read_text().replace('.img.gz', '.img').replace('</vc>', FILES)
    site.vc_in.write_text(text)
    return site


def cut(path, content, count):
    """Write ``count`` parts of unequal size, PATH.a, PATH.b, …"""
    size, start = len(content) // count, 0
    for number, letter in enumerate('abcdefgh'[:count]):
        end = len(content) if number == count - 1 else start + size - 100 + number
        path.with_name(f'{path.name}.{letter}').write_bytes(content[start:end])
        start = end


def staged(site):
    """The raw images of both roles, by the whole pipe."""
    document = site.run('vc-stage', input=site.run('vc-parse', site.vc_in).stdout).stdout
    return {image.get('role'): open(image.get('path'), 'rb').read()
            for image in etree.fromstring(document).iterfind('image')}


def test_split_and_split_gzip_are_joined(split, raw):
    assert lines(split.run('vc-list').stdout) == [split.entry]
    document = split.run('vc-parse', split.vc_in).stdout
    parts = etree.fromstring(document).findall('source/part')
    folder = split.vc_in.parent
    assert [(part.get('role'), part.get('path')) for part in parts] == [
        *(('frontend', f'{folder}/frontend.vda.gz.{one}') for one in 'abc'),
        *(('compute', f'{folder}/compute-copy.vda.{one}') for one in 'abcd')]
    # What the author wrote stays, and a document that was parsed passes again.
    assert b'<part>frontend.vda.gz.a</part>' in document
    assert split.run('vc-parse', input=document).stdout == document
    assert staged(split) == {'frontend': raw, 'compute': raw}
    assert split.run('vc-check', split.vc_in, status=1).stdout.decode().count(' parts') == 2
    split.run('pragma_boot', '--vcname', split.entry, '--key', split.key, '--dry-run')


def test_a_role_with_its_parts(split, raw):
    text = split.vc_in.read_text()
    before, rest = text.split('  <files>')
    split.vc_in.write_text(before.replace('</frontend>', f'{WITHIN}</frontend>', 1) + '  <files>'
                           + rest.replace('calit2-119-222.img', 'other.img'))
    assert staged(split) == {'frontend': raw, 'compute': raw}


def test_both_roles_share_parts(split, raw):
    split.vc_in.write_text(split.vc_in.read_text().replace(
        "file='hosted-vm-0-0-1.img'", "file='calit2-119-222.img'"))
    assert staged(split) == {'frontend': raw, 'compute': raw}
    assert len(list((split.temp / 'images').glob('*.raw'))) == 1


@pytest.mark.parametrize('kind', ['gzip', 'gzip-without-name', 'joined'])
def test_other_types(split, raw, kind):
    """A single .gz by the name that it has unpacked, and a file that was joined already."""
    folder = split.vc_in.parent
    text = split.vc_in.read_text()
    if kind == 'joined':
        (folder / 'calit2-119-222.img').write_bytes(raw)
        for part in folder.glob('frontend*'):
            part.unlink()
    else:
        (folder / 'calit2-119-222.img.gz').write_bytes(gzip.compress(raw))
        named = ' filename="calit2-119-222.img"' if kind == 'gzip' else ''
        split.vc_in.write_text(text.replace('<file type="splited_gzip" filename="calit2-119-222.img'
                                            '">', f'<file type="gzip"{named}><part>'
                                            'calit2-119-222.img.gz</part></file><file>'))
    assert staged(split)['frontend'] == raw


@pytest.mark.parametrize('suffix', ['.xz', '.zst', '.bz2', '.qcow2', '.bz2 of two streams'])
def test_parts_of_other_formats(split, raw, suffix):
    """The content of the joined file tells its format."""
    path = split.folder / 'raw.img'
    if suffix == '.qcow2':
        content = qcow2(path).read_bytes()
        split.vc_in.write_text(split.vc_in.read_text().replace(" type='raw'", ''))
    elif 'two' in suffix:
        content = bz2.compress(raw[:5 << 20]) + bz2.compress(raw[5 << 20:])
    else:
        content = packed_by(path, suffix).read_bytes()
    cut(split.vc_in.parent / 'frontend.vda.gz', content, 3)
    assert staged(split)['frontend'] == raw


def test_a_part_that_changes_is_another_image(split, raw):
    staged(split)
    part = split.vc_in.parent / 'compute-copy.vda.d'
    part.write_bytes(part.read_bytes()[:-512] + bytes([7]) * 512)
    assert staged(split)['compute'] == raw[:-512] + bytes([7]) * 512


@pytest.mark.parametrize('change, reason', [
    (('<part>frontend.vda.gz.b</part>', ''), "cannot unpack image '"),
    (('frontend.vda.gz.c<', 'none<'), "cannot open part 3 '"),
    (('frontend.vda.gz.c<', '../x<'), "lies outside the vc-in.xml's folder"),
    (('frontend.vda.gz.c<', '/etc/passwd<'), 'is an absolute path'),
    (('frontend.vda.gz.c<', 'https://x.example/y<'), "':' and control characters"),
    (('frontend.vda.gz.c<', '<'), 'part 3 of <file> has no path'),
    (('"splited_gzip"', '"torrent"'), "<file> has type 'torrent', not one of splited, "),
    (('filename="unused.vda"', 'filename="calit2-119-222.img"'),
     "<file> has the filename 'calit2-119-222.img' of the <file> in line "),
    (('"splited_gzip"', '"raw"'), 'a filename and 3 parts: only splited and splited_gzip join'),
    (('type="splited" filename="hosted-vm-0-0-1.img"', 'type="splited"'), 'no filename'),
    (('<part>frontend.vda.gz.b</part>', '<part>b</part>' * 1000), '1002 parts'),
])
def test_parts_that_are_refused(split, change, reason):
    split.vc_in.write_text(split.vc_in.read_text().replace(*change))
    if reason.startswith('cannot unpack'):
        document = split.run('vc-parse', split.vc_in).stdout
        assert reason in split.fails('vc-stage', input=document)
        assert len(list((split.temp / 'images').glob('*.raw'))) <= 1
    else:
        assert reason in split.fails('vc-parse', split.vc_in)


def test_a_file_of_a_role_needs_a_type(split):
    text = split.vc_in.read_text().replace('</frontend>', '<file filename="x"/></frontend>')
    split.vc_in.write_text(text)
    assert '<file> has no type: it is one of splited, ' in split.fails('vc-parse', split.vc_in)


def test_parts_are_bounded(split):
    """A bomb in parts ends at the limit, like any other."""
    with open(split.conf, 'a', encoding='utf-8') as conf:
        conf.write('image_max_size = 8M\n')
    document = split.run('vc-parse', split.vc_in).stdout
    assert 'unpacks to more than 8388608 bytes' in split.fails('vc-stage', input=document)


def test_parts_from_a_web_server(split, raw):
    split.run('vc-publish')
    sums = (split.base / 'SHA256SUMS').read_text()
    assert sums.count('.vda') == 7 and 'dummy' not in sums and 'unused' not in sums
    with serving(split.base) as server:
        server.misbehave('breaks_off', 'gz.b')
        (split.folder / 'other').mkdir()
        other = Site(split.folder / 'other')
        path = other.run('vc-fetch', '--base_path', server.url, split.entry).stdout.decode()
    parsed = other.run('vc-parse', path.strip()).stdout
    document = other.run('vc-stage', input=parsed).stdout
    for image in etree.fromstring(document).iterfind('image'):
        with open(image.get('path'), 'rb') as file:
            assert hashlib.sha256(file.read()).digest() == hashlib.sha256(raw).digest()
