"""Formats of images: each is staged as the same raw image; hostile and damaged ones are refused."""
import itertools
import os
import struct
import subprocess
import time

import pytest

from lab.images import PACKERS, make_image, packed_by, qcow2, use_file
from lab.leftovers import processes
from lab.nodes import files, parsed, staged
from pragma_boot.image import formats
from pragma_boot.image import qcow2 as module

SIZE = 16 << 20


@pytest.fixture
def raw(site):
    return make_image(site.folder / 'image.img', [('random', os.urandom(3 << 20))])


def stage(site):
    document = site.run('vc-stage', '--types', 'frontend', input=parsed(site)).stdout
    return staged(document)['frontend']


def refused(site, path, reason, kind=''):
    """vc-stage refuses a file in one line, and leaves nothing."""
    use_file(site, path, kind)
    line = site.fails('vc-stage', '--types', 'frontend', input=parsed(site))
    assert reason in line, line
    assert files(site) == [] == processes(site)


def same(image, raw):
    """Whether a staged image is a raw one, with holes where that has zeros."""
    with open(image.get('path'), 'rb') as file:
        content = file.read()
    assert os.stat(image.get('path')).st_blocks * 512 < SIZE // 2
    return content == raw.read_bytes()


@pytest.mark.parametrize('suffix', ['', *PACKERS])
@pytest.mark.parametrize('kind', ['raw', 'qcow2'])
def test_each_format_is_the_same_image(site, raw, kind, suffix):
    path = qcow2(raw) if kind == 'qcow2' else raw
    use_file(site, packed_by(path, suffix) if suffix else path, kind)
    site.vc_in.write_text(site.vc_in.read_text().replace('rocks6_client', 'generic'))
    assert same(stage(site), raw)
    assert len(files(site)) == 2


@pytest.mark.parametrize('options', [
    ('-c',), ('-c', '-o', 'compression_type=zstd'), ('-o', 'compat=0.10'),
    ('-o', 'cluster_size=512'), ('-o', 'cluster_size=2M,extended_l2=on'),
    ('-o', 'lazy_refcounts=on'), ('-o', 'refcount_bits=64')])
def test_variants_of_qcow2(site, raw, options):
    use_file(site, qcow2(raw, *options), 'qcow2')
    site.vc_in.write_text(site.vc_in.read_text().replace('rocks6_client', 'generic'))
    assert same(stage(site), raw)


def test_snapshots_and_bitmaps_are_harmless(site, raw):
    path = qcow2(raw)
    subprocess.run(['qemu-img', 'snapshot', '-c', 'one', path], check=True)
    subprocess.run(['qemu-img', 'bitmap', '--add', '-f', 'qcow2', path, 'two'], check=True)
    use_file(site, path, '')
    site.vc_in.write_text(site.vc_in.read_text().replace('rocks6_client', 'generic'))
    assert same(stage(site), raw)


def test_root_reads_a_qcow2_that_others_cannot_read(site, raw):
    path = qcow2(raw)
    path.chmod(0o600)
    use_file(site, path, 'qcow2')
    copy = site.vc_in.parent / path.name
    before = copy.stat()
    assert stage(site).get('size') == str(SIZE)
    assert (copy.stat().st_mode, copy.stat().st_ctime_ns) == (before.st_mode, before.st_ctime_ns)


@pytest.mark.parametrize('content, kind, reason', [
    ('raw', 'qcow2', "is raw, not qcow2, as <driver type='qcow2'> of its disk says"),
    ('qcow2', 'raw', "is qcow2, not raw, as <driver type='raw'> of its disk says")])
@pytest.mark.parametrize('suffix', ['', '.xz'])
def test_row_12_what_the_author_says_is_checked(site, raw, content, kind, reason, suffix):
    path = qcow2(raw).rename(site.folder / 'of.img') if content == 'qcow2' else raw
    refused(site, packed_by(path, suffix) if suffix else path, reason, kind)


@pytest.mark.parametrize('name', ['a.qcow2', 'a.raw.gz', 'a.gz', 'a.img.zst'])
def test_row_12_a_name_that_promises_another_format(site, raw, name):
    path = packed_by(qcow2(raw) if 'raw' in name else raw, '.gz' if 'raw' in name else '.xz')
    refused(site, path.rename(site.folder / name), 'though its name says so')


def test_a_compressed_file_in_another(site, raw):
    refused(site, packed_by(packed_by(raw, '.xz'), '.gz'), 'is xz inside its gzip: unpack it once')


def with_header(path, *changes):
    """A qcow2 file with (format, offset, value) changes of its header."""
    with open(path, 'rb+') as file:
        for form, offset, value in changes:
            file.seek(offset)
            file.write(struct.pack(form, value))
    return path


def with_backing(site, raw, other='/etc/hostname'):
    path = site.folder / 'overlay.img'
    subprocess.run(['qemu-img', 'create', '-q', '-f', 'qcow2', '-F', 'raw', '-b', other, path,
                    '1M'], check=True)
    return path


def with_data_file(site, raw):
    path = site.folder / 'external.img'
    subprocess.run(['qemu-img', 'create', '-q', '-f', 'qcow2', '-o',
                    f'data_file={site.folder}/data,data_file_raw=on', path, '1M'], check=True)
    return path


def nested(site, raw):
    inner = qcow2(raw)
    return qcow2(inner)


HOSTILE = [
    (with_backing, 'has a backing file: convert it'),
    (with_data_file, 'has an external data file: convert it'),
    (lambda site, raw: with_header(qcow2(raw), ('>I', 32, 2)), 'is encrypted: convert it'),
    (lambda site, raw: with_header(qcow2(raw), ('>I', 32, 1)), 'is encrypted: convert it'),
    (lambda site, raw: with_header(qcow2(raw), ('>Q', 24, 1 << 60)), 'unpacks to more than'),
    (lambda site, raw: with_header(qcow2(raw), ('>Q', 24, 0)), 'is empty'),
    (lambda site, raw: with_header(qcow2(raw), ('>Q', 24, 777)), 'not whole sectors'),
    (lambda site, raw: with_header(qcow2(raw), ('>I', 4, 1)), 'is qcow2 of version 1, not 2 or 3'),
    (lambda site, raw: with_header(qcow2(raw), ('>I', 20, 40)), 'its qcow2 header is damaged'),
    (lambda site, raw: with_header(qcow2(raw), ('>I', 100, 8)), 'its qcow2 header is damaged'),
    (lambda site, raw: with_header(qcow2(raw), ('>Q', 72, 1 << 40)),
     'needs features of qcow2 that are not known (incompatible features 0x10000000000)'),
    (lambda site, raw: with_header(qcow2(raw), ('>Q', 72, 2)), 'is marked as corrupt: repair it'),
    (lambda site, raw: with_header(qcow2(raw), ('>Q', 40, 1 << 62)), 'is cut short: its L1 table'),
    (lambda site, raw: with_header(qcow2(raw), ('>I', 36, 1 << 31)), 'is cut short: its L1 table'),
    (lambda site, raw: with_header(qcow2(raw), ('>Q', 48, 1 << 62)), 'cannot unpack image'),
    (nested, 'is qcow2 inside its qcow2'),
]


@pytest.mark.parametrize('make, reason', HOSTILE)
def test_hostile_qcow2(site, raw, make, reason):
    refused(site, make(site, raw), reason)


@pytest.mark.parametrize('suffix', PACKERS)
@pytest.mark.parametrize('make, reason', [HOSTILE[0], HOSTILE[-1]])
def test_hostile_qcow2_in_each_compression(site, raw, make, reason, suffix):
    refused(site, packed_by(make(site, raw), suffix), reason)


def test_a_corrupt_l1_table(site, raw):
    """Each entry leads beyond the file, or into the header."""
    path = qcow2(raw)
    with open(path, 'rb') as file:
        offset = struct.unpack_from('>Q', file.read(72), 40)[0]
    for entry in (0x8000_ffff_ffff_0000, 0x8000_0000_0000_0000 + 512, (1 << 64) - 1):
        refused(site, with_header(path, ('>Q', offset, entry)), 'cannot unpack image')


@pytest.mark.parametrize('length', [5, 71, 80, 111, 65536 * 3])
def test_a_qcow2_that_is_cut_short(site, raw, length):
    path = qcow2(raw)
    os.truncate(path, length)
    refused(site, path, 'cut short')


def test_garbage_in_the_refcounts(site, raw):
    """They say which clusters are free, and a program that checks the tables finds it."""
    path = qcow2(raw)
    with open(path, 'rb') as file:
        table = struct.unpack_from('>Q', file.read(72), 48)[0]
        file.seek(table)
        block = struct.unpack('>Q', file.read(8))[0]
    with open(path, 'rb+') as file:
        file.seek(block)
        file.write(bytes(4096))
    refused(site, path, 'its tables are damaged')


def test_nothing_but_the_image_is_opened(site, raw, monkeypatch):
    """A header that changes after it was checked: the confined qemu-img opens no backing file."""
    monkeypatch.setattr(module, 'require_harmless', lambda *_: 1 << 20)
    other = site.folder / 'other'
    other.write_bytes(b'secret'.ljust(1 << 20))
    path = with_backing(site, raw, other)
    with open(site.folder / 'out', 'wb+') as file:
        formats.unpack(str(path), file, SIZE, str(site.folder))
        file.seek(0)
        assert file.read() == bytes(1 << 20)


def damaged(how, packed):
    content = packed.read_bytes()
    return {'truncated': content[:-20], 'cut in half': content[:len(content) // 2],
            'garbage after its end': content + b'garbage!',
            'zeros after its end': content + bytes(511),
            'changed': content[:5000] + bytes(64) + content[5064:]}[how]


@pytest.mark.parametrize('suffix, how', [
    *itertools.product(PACKERS, ['truncated', 'cut in half', 'garbage after its end', 'changed']),
    # gzip ignores them.
    *itertools.product(['.xz', '.zst', '.bz2'], ['zeros after its end'])])
def test_row_09_10_damaged_files(site, raw, suffix, how):
    packed = packed_by(raw, suffix)
    packed.write_bytes(damaged(how, packed))
    refused(site, packed, 'cannot unpack image' if 'after' not in how else "image '")


@pytest.mark.parametrize('suffix', ['.gz', '.bz2'])
def test_row_49_trailing_data_has_its_position(site, raw, suffix):
    packed = packed_by(raw, suffix)
    length = packed.stat().st_size
    packed.write_bytes(packed.read_bytes() + b'garbage!')
    refused(site, packed, f'from byte {length} on')


@pytest.mark.parametrize('suffix', PACKERS)
def test_row_10_several_members(site, raw, suffix):
    content = raw.read_bytes()
    parts = []
    for index, part in enumerate((content[:SIZE // 2], content[SIZE // 2:])):
        path = site.folder / f'part{index}'
        path.write_bytes(part)
        parts.append(packed_by(path, suffix).read_bytes())
    path = site.folder / f'whole.img{suffix}'
    path.write_bytes(b''.join(parts))
    use_file(site, path)
    site.vc_in.write_text(site.vc_in.read_text().replace('rocks6_client', 'generic'))
    assert same(stage(site), raw)


@pytest.fixture(scope='module')
def bombs(tmp_path_factory):
    """Files that unpack to gigabytes, of zeros and of a text: {suffix: paths}."""
    folder = tmp_path_factory.mktemp('bombs')
    made = {}
    for suffix, packer in PACKERS.items():
        made[suffix] = []
        for name, source in (('zeros', 'head -c 2G /dev/zero'), ('text', 'yes | head -c 34M')):
            path = folder / f'{name}.img{suffix}'
            with open(path, 'wb') as file:
                subprocess.run(['sh', '-c', f"{source} | {' '.join(packer)} -c"], stdout=file,
                               check=True)
            made[suffix].append(path)
    return made


@pytest.mark.parametrize('suffix', PACKERS)
def test_row_11_bombs_end_at_the_cap(site, bombs, suffix):
    with open(site.conf, 'a', encoding='utf-8') as conf:
        conf.write('image_max_size = 32M\n')
    for path in bombs[suffix]:
        begin = time.monotonic()
        refused(site, path, 'unpacks to more than 33554432 bytes')
        assert time.monotonic() - begin < 20


def test_a_dictionary_that_needs_too_much_memory(site, raw):
    path = site.folder / 'long.img.zst'
    # A frame of a window of 2 GiB (RFC 8878): descriptor, then exponent 21.
    path.write_bytes(b'\x28\xb5\x2f\xfd' + bytes([0, 21 << 3]) + b'\x01\x00\x00')
    refused(site, path, 'memory')
