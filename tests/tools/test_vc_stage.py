"""vc-stage: staged images, once, whole or not at all."""
import gzip
import os
import subprocess
import zlib

import pytest

from lab import ROOT
from lab.images import make_image, pack, superblock, use_image
from lab.nodes import files, parsed, staged


def test_golden(site, golden, replacements):
    golden('vc-stage', site.run('vc-stage', input=parsed(site)).stdout, *replacements)


def test_unpacks_whole_sparse_and_read_only(site, little_image):
    image = staged(site.run('vc-stage', input=parsed(site)).stdout)['frontend']
    with open(image.get('path'), 'rb') as raw:
        there = raw.read()
    # The profile rocks6_client removed one file, so its directory entry and blocks differ.
    source = gzip.decompress(little_image.read_bytes())
    assert len(there) == len(source) == int(image.get('size'))
    found = os.stat(image.get('path'))
    assert found.st_blocks * 512 < len(source) // 4 and found.st_mode & 0o777 == 0o444


def test_applies_the_profile_to_the_copy_alone(site, little_image):
    def rules(path):
        done = subprocess.run(['debugfs', '-R', 'stat /etc/udev/rules.d/70-persistent-net.rules',
                               f'{path}?offset=1048576'], capture_output=True, check=True)
        return b'Type: regular' in done.stdout

    before = little_image.read_bytes()
    image = staged(site.run('vc-stage', input=parsed(site)).stdout)['frontend']
    assert rules(str(little_image)[:-3]) and not rules(image.get('path'))
    assert (site.vc_in.parent / 'calit2-119-222.img.gz').read_bytes() == before


def test_same_content_is_one_image(site, little_image):
    site.add_entry('twin', little_image)
    twin = site.run('vc-parse', site.base / 'twin' / 'vc-in.xml').stdout
    first = staged(site.run('vc-stage', input=parsed(site)).stdout)
    second = staged(site.run('vc-stage', input=twin).stdout)
    assert first['frontend'].get('source') != second['frontend'].get('source')
    assert first['frontend'].get('path') == second['frontend'].get('path')


def test_types(site):
    assert list(staged(site.run('vc-stage', '--types', 'compute', input=parsed(site)).stdout)) \
        == ['compute']
    assert "unknown node type 'x'" in site.fails('vc-stage', '--types', 'x', status=2,
                                                    input=parsed(site))


def test_again_does_nothing_and_a_changed_source_is_noticed(site):
    first = site.run('vc-stage', input=parsed(site)).stdout
    path = staged(first)['frontend'].get('path')
    made = os.stat(path)
    assert site.run('vc-stage', input=parsed(site)).stdout == first
    assert os.stat(path) == made
    changed = pack(make_image(site.folder / 'changed.img', [('etc/changed', b'')]))
    # Older than the staged copy, as after cp -p or rsync: comparing times would miss it.
    os.utime(changed, (1, 1))
    use_image(site, changed)
    os.utime(site.vc_in.parent / 'calit2-119-222.img.gz', (1, 1))
    second = staged(site.run('vc-stage', input=parsed(site)).stdout)['frontend'].get('path')
    # A running guest may have the old file open.
    assert second != path and os.stat(path) == made


def test_row_30_remakes_an_image_that_was_removed_or_shrunk(site):
    first = site.run('vc-stage', input=parsed(site)).stdout
    path = staged(first)['frontend'].get('path')
    for harm in (os.unlink, lambda path: os.truncate(path, 4096)):
        harm(path)
        assert site.run('vc-stage', input=parsed(site)).stdout == first
        assert os.path.getsize(path) == int(staged(first)['frontend'].get('size'))


def test_two_at_once_make_one_copy(site):
    document = parsed(site)
    running = [subprocess.Popen([ROOT / 'bin/vc-stage'], stdin=subprocess.PIPE,
                                stdout=subprocess.PIPE, env=site.environment()) for _ in range(4)]
    for one in running:
        one.stdin.write(document)
        one.stdin.close()
    outputs = [one.stdout.read() for one in running]
    assert [one.wait() for one in running] == [0] * 4 and len(set(outputs)) == 1
    assert [name[-4:] for name in files(site)].count('.raw') == 2


def test_raw_image_without_gzip(site, little_image):
    for name in ('calit2-119-222.img.gz', 'hosted-vm-0-0-1.img.gz'):
        (site.vc_in.parent / name).unlink()
        (site.vc_in.parent / name[:-3]).write_bytes(gzip.decompress(little_image.read_bytes()))
    site.vc_in.write_text(site.vc_in.read_text().replace('.img.gz', '.img'))
    assert staged(site.run('vc-stage', input=parsed(site)).stdout)['compute'].get('size') \
        == str(16 << 20)


def sectors(count):
    return os.urandom(512 * count)


@pytest.mark.parametrize('content, reason', [
    (gzip.compress(sectors(9))[:-20], 'ended before the end-of-stream'),
    (gzip.compress(sectors(9))[:-8] + b'\1' * 8, 'CRC check failed'),
    (gzip.compress(sectors(9)) + b'garbage', 'has data after the end of its gzip, from byte '),
    (gzip.compress(sectors(9)) * 2 + b'\0' * 512 + b'x', 'has data after the end of its gzip'),
    (gzip.compress(sectors(9)) * 2 + b'\x1f\x8b', 'ended before the end-of-stream'),
    (gzip.compress(b''), 'is empty'),
    (b'', 'is not gzip, though its name says so'),
    (gzip.compress(sectors(9) + b'x'), 'not whole sectors of 512'),
    (gzip.compress(b'QFI\xfb' + sectors(9)[4:]), 'is qcow2, not raw'),
    (gzip.compress(bytes(512 * 9)), 'has no partition table'),
    (gzip.compress(bytes(2 << 20)), 'unpacks to more than 1048576 bytes'),
], ids=['truncated', 'crc', 'trailing', 'padded', 'second', 'empty gz', 'empty', 'odd', 'qcow2',
        'no table', 'bomb'])
def test_row_09_10_11_12_13_damaged_images(site, content, reason):
    with open(site.conf, 'a', encoding='utf-8') as conf:
        conf.write('image_max_size = 1M\n')
    (site.vc_in.parent / 'calit2-119-222.img.gz').write_bytes(content)
    assert reason in site.fails('vc-stage', '--types', 'frontend', input=parsed(site))
    assert files(site) == []


def test_row_10_accepts_several_members(site, little_image):
    raw = gzip.decompress(little_image.read_bytes())
    half = len(raw) // 2
    (site.vc_in.parent / 'calit2-119-222.img.gz').write_bytes(
        gzip.compress(raw[:half]) + gzip.compress(raw[half:]))
    document = site.run('vc-stage', '--types', 'frontend', input=parsed(site)).stdout
    assert staged(document)['frontend'].get('size') == str(len(raw))


@pytest.mark.parametrize('table, reason', [
    ('type=82', 'partition 1 is swap'),
    ('type=fd', 'partition 1 is a RAID member'),
    ('type=5', 'partition 1 is extended'),
])
def test_row_15_refuses_partitions_of_other_kinds(site, table, reason):
    use_image(site, pack(make_image(site.folder / 'other.img', table=table)))
    assert reason in site.fails('vc-stage', input=parsed(site))
    assert files(site) == []


def harm(path, *commands):
    """Damage the file system of a raw image by debugfs."""
    subprocess.run(['debugfs', '-w', '-f', '-', f'{path}?offset=1048576'],
                   input='\n'.join(commands).encode(), capture_output=True, check=True)


@pytest.mark.parametrize('commands, reason', [
    (['set_super_value state 2'], 'has its error flag set'),
    (['set_super_value last_orphan 12'], 'has orphaned inodes'),
    (['set_super_value blocks_count 999999'], 'damaged|larger than partition 1'),
    (['clri /root'], 'the file system is damaged'),
])
def test_row_16_refuses_unsound_file_systems(site, commands, reason):
    path = make_image(site.folder / 'harmed.img')
    harm(path, *commands)
    use_image(site, pack(path))
    line = site.fails('vc-stage', input=parsed(site))
    assert any(part in line for part in reason.split('|')), line
    assert files(site) == []


def test_row_17_replays_the_journal_of_the_copy(site):
    path = make_image(site.folder / 'crashed.img', [('etc/hostname', b'old\n')])
    # Write a transaction to the journal: the superblock then needs recovery.
    harm(path, 'journal_open', 'journal_write -b 14000 /dev/zero', 'journal_close')
    assert 'needs_recovery' in superblock(path)
    use_image(site, pack(path))
    image = staged(site.run('vc-stage', input=parsed(site)).stdout)['frontend']
    assert 'needs_recovery' not in superblock(image.get('path'))


def test_a_file_system_that_debugfs_does_not_know_goes_through_libguestfs(site):
    path = make_image(site.folder / 'inline.img',
                      mkfs=('mke2fs', '-t', 'ext4', '-O', 'inline_data'))
    use_image(site, pack(path))
    image = staged(site.run('vc-stage', input=parsed(site)).stdout)['frontend']
    assert image.get('inject') == 'guestfs'


def test_zlib_is_not_gzip(site):
    (site.vc_in.parent / 'calit2-119-222.img.gz').write_bytes(zlib.compress(sectors(9)))
    assert 'is not gzip' in site.fails('vc-stage', '--types', 'frontend', input=parsed(site))


@pytest.mark.parametrize('gone', [b' file=', b'<source file='])
def test_a_document_whose_image_is_not_named(site, gone):
    """A user may have edited the document."""
    changed = parsed(site).replace(gone, gone.replace(b'file', b'elif'))
    assert 'has no image file for a frontend: run vc-parse' in site.fails('vc-stage', input=changed)


@pytest.mark.parametrize('cut, reason', [
    (lambda raw: raw[:15 << 20], ('its GPT is cut short: it was written for a disk of '
                                  '16777216 bytes, and the image has 15728640')),
    (lambda raw: raw[:512] + bytes(512) + raw[1024:-512] + bytes(512), 'its GPT is damaged')])
def test_row_49_a_gpt_that_was_cut_short(site, cut, reason):
    path = site.folder / 'gpt.img'
    path.write_bytes(bytes(16 << 20))
    subprocess.run(['sfdisk', '-q', path], input=b'label: gpt\nstart=1MiB\n', check=True)
    path.write_bytes(cut(path.read_bytes()))
    use_image(site, pack(path))
    assert reason in site.fails('vc-stage', '--types', 'frontend', input=parsed(site))
