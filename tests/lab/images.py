"""Disks and images for tests: made, packed, put in the place of a site's, and looked into."""
import gzip
import os
import struct
import subprocess
import tempfile
from pathlib import Path


def make_image(path, files=(), size='16M', mkfs=('mke2fs', '-t', 'ext4'), table='type=83'):
    """A raw disk with an MBR and a file system with /root in partition 1, at 1 MiB."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder, 'root')
        (root / 'root').mkdir(parents=True)
        for name, content in files:
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            (root / name).write_bytes(content)
        subprocess.run(['truncate', '-s', size, path], check=True)
        subprocess.run(['sfdisk', '-q', path], input=f'label: dos\nstart=1MiB, {table}\n'.encode(),
                       check=True, capture_output=True)
        subprocess.run([*mkfs, '-q', '-F', '-d', root, '-E', 'offset=1048576', path,
                        f'{(os.path.getsize(path) >> 10) - 1024}k'], check=True,
                       capture_output=True)
    return path


def superblock(path):
    """What debugfs prints of the superblock of partition 1, at 1 MiB of a raw image."""
    return subprocess.run(['debugfs', '-R', 'show_super_stats -h', f'{path}?offset=1048576'],
                          capture_output=True,
                          check=True).stdout.decode()


def pack(path):
    """The .gz of a raw image, beside it."""
    packed = Path(f'{path}.gz')
    packed.write_bytes(gzip.compress(Path(path).read_bytes(), 1, mtime=0))
    return packed


def disk(site, table, size='16M', content=()):
    """A raw disk with an sfdisk script as its table, and (offset, bytes) written into it."""
    path = site.folder / 'disk.img'
    subprocess.run(['truncate', '-s', size, path], check=True)
    subprocess.run(['sfdisk', '-q', '--force', path], input=table.encode(), check=True,
                   capture_output=True)
    with open(path, 'rb+') as file:
        for offset, data in content:
            file.seek(offset)
            file.write(data)
    return path


def entry(start, count, kind=0x83):
    """An entry of a DOS partition table."""
    return struct.pack('<B3sB3sII', 0, bytes(3), kind, bytes(3), start, count)


FIRST = 446
"""Where the first entry of a DOS partition table lies."""


def inside(path, *command):
    """Output of a debugfs command on partition 1 of an overlay, by a copy of it as raw."""
    raw = f'{path}.raw-for-test'
    subprocess.run(['qemu-img', 'dd', '-f', 'qcow2', '-O', 'raw', f'if={path}', f'of={raw}',
                    'bs=1M', 'skip=1'], check=True, capture_output=True)
    try:
        return subprocess.run(['debugfs', '-R', ' '.join(command), raw], capture_output=True,
                              check=True).stdout
    finally:
        os.unlink(raw)


def use_image(site, path):
    for name in ('calit2-119-222.img.gz', 'hosted-vm-0-0-1.img.gz'):
        (site.vc_in.parent / name).write_bytes(path.read_bytes())
