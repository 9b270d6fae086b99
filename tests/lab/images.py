"""Disks and images for tests: made, packed, put in the place of a site's, and looked into."""
import gzip
import os
import re
import shutil
import struct
import subprocess
import tempfile
from pathlib import Path

UEFI = "<os firmware='efi'><type machine='q35'>hvm</type></os>"
"""What a vc-in.xml says of an image that starts by UEFI."""


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


def use_file(site, path, kind='raw', partition=''):
    """Make a file the image of both roles, by its own name; what the author says of it."""
    shutil.copy(path, site.vc_in.parent)
    text = re.sub('<partition>.*?</partition>', '', site.vc_in.read_text())
    text = re.sub("<source file='[^']*'", f"<source file='{path.name}'", text)
    text = re.sub(" type='(raw|qcow2)'", f" type='{kind}'" if kind else '', text)
    named = f'<partition>{partition}</partition>' if partition else ''
    site.vc_in.write_text(text.replace('<domain', f'{named}<domain'))


def qcow2(path, *options):
    """The qcow2 of a raw image, beside it."""
    converted = Path(f'{path}.qcow2')
    subprocess.run(['qemu-img', 'convert', '-f', 'raw', '-O', 'qcow2', *options, path, converted],
                   check=True)
    return converted


PACKERS = {'.gz': ('gzip', '-1'), '.xz': ('xz', '-0'), '.zst': ('zstd', '-q'),
           '.bz2': ('bzip2', '-1')}


def packed_by(path, suffix):
    """A file packed by the real program, beside it."""
    packed = Path(f'{path}{suffix}')
    packed.write_bytes(subprocess.run([*PACKERS[suffix], '-c', path], capture_output=True,
                                      check=True).stdout)
    return packed


def parted(path, script, contents, size='64M'):
    """A raw disk by an sfdisk script, with {offset in MiB: (a program of mkfs, files, MiB)}."""
    subprocess.run(['truncate', '-s', size, path], check=True)
    subprocess.run(['sfdisk', '-q', path], input=script.encode(), check=True, capture_output=True)
    for offset, (mkfs, files, length) in contents.items():
        with tempfile.TemporaryDirectory() as folder:
            part, root = Path(folder, 'part'), Path(folder, 'root')
            (root / 'root').mkdir(parents=True)
            for name, content in files:
                (root / name).parent.mkdir(parents=True, exist_ok=True)
                (root / name).write_bytes(content)
            part.write_bytes(bytes(length << 20))
            with_files = ['-d', root] if 'mke2fs' in mkfs[0] else []
            subprocess.run([*mkfs, *with_files, part], check=True, capture_output=True)
            with open(path, 'rb+') as file:
                file.seek(offset << 20)
                file.write(part.read_bytes())
    return path


GRUB = '''serial --unit=0 --speed=115200
terminal_output serial
echo "a boot loader of UEFI"
sleep --interruptible 3600
'''
"""The configuration of a boot loader that writes a line to the serial console."""


def uefi_image(path, files=(), esp='32M', loader='BOOTX64.EFI'):
    """A GPT disk whose GRUB, in the EFI system partition 2, writes a line; / is in 1."""
    make_image(path, files, size='40M')
    with tempfile.TemporaryDirectory() as folder:
        config, core, fat = (Path(folder, name) for name in ('grub.cfg', 'core.efi', 'esp'))
        config.write_text(GRUB)
        subprocess.run(['grub-mkimage', '-O', 'x86_64-efi', '-o', core, '-c', config, '-p', '/',
                        'serial', 'terminal', 'echo', 'sleep', 'normal'], check=True)
        subprocess.run(['truncate', '-s', esp, fat], check=True)
        subprocess.run(['mkfs.vfat', fat], check=True, capture_output=True)
        subprocess.run(['mmd', '-i', fat, '::/EFI', '::/EFI/BOOT'], check=True)
        subprocess.run(['mcopy', '-i', fat, core, f'::/EFI/BOOT/{loader}'], check=True)
        size = os.path.getsize(fat)
        subprocess.run(['truncate', '-s', f'+{size + (1 << 20)}', path], check=True)
        with open(path, 'rb+') as file:
            # The DOS table and what is before partition 1 go.
            file.write(bytes(1 << 20))
        table = (f'label: gpt\nstart=1MiB, size=39MiB, type=linux\n'
                 f'start=40MiB, size={size >> 20}MiB, type=uefi\n')
        subprocess.run(['sfdisk', '-q', path], input=table.encode(), check=True,
                       capture_output=True)
        with open(path, 'rb+') as file:
            file.seek(40 << 20)
            file.write(fat.read_bytes())
    return path
