"""Firmware: what an image starts by, UEFI guests and their variables, and the display."""
import os
import re
import subprocess
import time
from pathlib import Path

import pytest
from lxml import etree

from lab.images import UEFI, disk, make_image, pack, uefi_image, use_image
from lab.needs import do_without, need, need_ovmf
from lab.site import connection
from pragma_boot.engine import session

ROOT = 'start=1MiB, size=8MiB, type=linux\n'
ESP = 'start=10MiB, size=4MiB, type=uefi\n'
BIOS_BOOT = 'start=9MiB, size=1MiB, type=21686148-6449-6E6F-744E-656564454649\n'
GRUB_CODE, PARTED_CODE = (0, b'\xeb\x63GRUB \0'), (0, b'\xfa\xb8\0\x10')


@pytest.fixture(scope='module')
def uefi(tmp_path_factory):
    """A packed image that starts by UEFI only."""
    need('mkfs.vfat', 'mcopy', 'grub-mkimage')
    if not Path('/usr/lib/grub/x86_64-efi').exists():
        do_without('grub-efi-amd64-bin is not installed')
    return pack(uefi_image(tmp_path_factory.mktemp('uefi') / 'uefi.img'))


def says(site, path):
    """The line of vc-check about the firmware."""
    found = subprocess.run([Path(__file__).parents[2] / 'bin' / 'vc-check', path],
                           capture_output=True, env=site.environment(), check=False)
    return [line for line in found.stdout.decode().splitlines()
            if re.search('it starts by|boot loader|the firmware that', line)]


@pytest.mark.parametrize('label, table, content, outcome', [
    ('gpt', ROOT, [], 'warn  there is no boot loader for BIOS or UEFI'),
    ('gpt', ROOT, [GRUB_CODE], 'ok    it starts by BIOS;'),
    ('gpt', ROOT + BIOS_BOOT, [(0, b'\xeb\x63'), (9 << 20, b'core')], 'ok    it starts by BIOS;'),
    ('dos', 'start=1MiB, type=83, bootable\n', [GRUB_CODE], 'ok    it starts by BIOS;'),
    ('dos', 'start=1MiB, type=83, bootable\n', [PARTED_CODE], 'ok    it starts by BIOS;'),
    ('dos', 'start=1MiB, type=83\n', [], 'warn  there is no boot loader'),
    # An ESP without a boot loader does not start, and parted's code starts nothing.
    ('gpt', ROOT + ESP, [], 'warn  there is no boot loader'),
    ('dos', 'start=1MiB, size=8MiB, type=83\nstart=10MiB, size=4MiB, type=ef\n', [PARTED_CODE],
     'warn  there is no boot loader'),
])
def test_what_an_image_starts_by(site, label, table, content, outcome):
    line, = says(site, disk(site, f'label: {label}\n{table}', content=content))
    assert line.startswith(outcome), line


def test_an_esp_is_read(site, uefi, tmp_path):
    line, = says(site, uefi)
    assert line.startswith("warn  it starts by UEFI only: write <os firmware='efi'>")
    other = uefi_image(tmp_path / 'other.img', loader='GRUBX64.EFI')
    assert says(site, other)[0].startswith('warn  there is no boot loader')
    with open(other, 'rb+') as file:
        file.write(GRUB_CODE[1])
    assert says(site, other)[0].startswith('ok    it starts by BIOS;')


def test_without_a_partition_table(site):
    path = site.folder / 'empty.img'
    path.write_bytes(bytes(1 << 20))
    assert says(site, path) == ['--    not checked: the firmware that starts it']


def test_a_mismatch_is_told_before_the_boot(site, uefi, tmp_path):
    use_image(site, uefi)
    line = next(line for line in says(site, site.vc_in) if 'starts by' in line)
    assert line.startswith("FAIL  frontend: it starts by UEFI only, and the domain has BIOS: write")
    parsed = site.run('vc-parse', site.vc_in).stdout
    assert ' of the frontend: it starts by UEFI only' in site.fails('vc-stage', input=parsed)
    site.ask_for(UEFI)
    assert 'ok    frontend: it starts by UEFI;' in '\n'.join(says(site, site.vc_in))
    bios = make_image(tmp_path / 'bios.img')
    with open(bios, 'rb+') as file:
        file.write(GRUB_CODE[1])
    use_image(site, pack(bios))
    assert ("FAIL  frontend: it starts by BIOS only, and the domain has UEFI: remove "
            "firmware='efi'") in '\n'.join(says(site, site.vc_in))


def variables(site):
    """The files with variables of the site's domains, by names."""
    folder = Path(session.HOME, '.config/libvirt/qemu/nvram') if os.geteuid() == 0 else Path(
        os.environ.get('XDG_CONFIG_HOME') or Path.home() / '.config', 'libvirt/qemu/nvram')
    return sorted(path for path in folder.glob(f'{site.entry}-*') if path.is_file())


@pytest.mark.parametrize('machine', ['q35', 'pc'])
def test_variables_live_as_long_as_their_node(site, machine):
    need_ovmf()
    site.ask_for(UEFI.replace('q35', machine))
    document = site.document(site.entry, 'vc-boot', 2)
    assert [path.name for path in variables(site)] == [
        f'{site.entry}-compute-0_VARS.fd', f'{site.entry}-frontend_VARS.fd']
    site.run('vc-shutdown', '--timeout', 1, site.entry)
    frontend = variables(site)[1]
    # As a guest that adds a boot entry.
    owner = frontend.stat()
    frontend.write_bytes(frontend.read_bytes()[:-4] + b'mine')
    os.chown(frontend, owner.st_uid, owner.st_gid)
    site.run('vc-boot', '--paused', '--ignore-dependencies', input=document)
    assert frontend.read_bytes().endswith(b'mine')
    site.run('vc-clean', site.entry)
    assert not variables(site)


def test_what_cannot_start_leaves_no_variables(site):
    need_ovmf()
    site.ask_for(UEFI)
    document = site.document(site.entry, 'vc-inject', 0)
    node_disk = etree.fromstring(document).xpath('string(//disk/@path[contains(., "clusters")])')
    os.truncate(node_disk, 100)
    site.fails('vc-boot', input=document)
    assert not variables(site) and f'{site.entry}-frontend' not in site.domains()


def test_a_host_without_uefi_is_named(site, monkeypatch):
    """The remedy is said where libvirt offers no UEFI."""
    site.ask_for(UEFI)
    document = site.document(site.entry, 'vc-inject', 0)
    program = site.folder / 'bin' / 'virsh'
    program.parent.mkdir()
    program.write_text('#!/bin/sh\ncase "$*" in\n*" define "*) cat >/dev/null; echo "error: none" '
                       '>&2; exit 1;;\n*domcapabilities*) echo "<domainCapabilities/>"; exit;;\n'
                       'esac\nexec /usr/bin/virsh "$@"\n')
    program.chmod(0o755)
    monkeypatch.setenv('PATH', f'{program.parent}:{os.environ["PATH"]}')
    line = site.fails('vc-boot', input=document)
    assert line == (f"vc-boot: libvirt at 'qemu:///session' has no UEFI for domain "
                    f"'{site.entry}-frontend': install ovmf on that host")


def test_a_console_for_viewers_is_a_socket(site):
    """No port is opened for it, and libvirt's own client finds it."""
    site.document(site.entry, 'vc-boot', 0)
    done = subprocess.run(['virsh', '-c', connection(), 'domdisplay', f'{site.entry}-frontend'],
                          capture_output=True, check=True)
    found = re.fullmatch(r'vnc(\+unix)?://.*?(/\S+)\s*', done.stdout.decode())
    assert found and Path(found[2]).is_socket(), done
    assert os.stat(found[2]).st_mode & 0o007 == 0 or os.stat(
        os.path.dirname(found[2])).st_mode & 0o007 == 0
    site.run('vc-clean', site.entry)
    assert not os.path.exists(found[2])


@pytest.mark.guest
def test_a_uefi_guest_starts(site, uefi):
    """Its boot loader, in the EFI system partition, writes a line."""
    need_ovmf()
    use_image(site, uefi)
    site.ask_for(UEFI)
    site.document(site.entry, 'vc-inject', 0)
    site.run('vc-start', site.entry)
    end = time.monotonic() + 600
    while b'a boot loader of UEFI' not in site.run('vc-console', '--no-follow', site.entry,
                                                   'frontend').stdout:
        assert time.monotonic() < end
        time.sleep(1)
    site.run('vc-clean', site.entry)
    assert not variables(site)
