"""Guests other than the demo image: built, checked, booted, and inspected over ssh."""
import os
import re
import shutil
import subprocess
import tempfile

import pytest

from lab import ROOT, SCRATCH
from lab.needs import need
from lab.site import Site, lines

pytestmark = [pytest.mark.guest, pytest.mark.long]

GUESTS = {'trixie-gpt': ('--suite', 'trixie', '--table', 'gpt'),
          'bookworm-xfs': ('--filesystem', 'xfs')}
"""Options of images/debian/build."""

SEEN = {'trixie-gpt': ('trixie', 'gpt', 'ext4'), 'bookworm-xfs': ('bookworm', 'dos', 'xfs')}
"""Release, partition table and file system that the guest reports."""

ASK = ('. /etc/os-release; echo $VERSION_CODENAME; lsblk -no PTTYPE /dev/vda1; '
       'findmnt -no FSTYPE,SOURCE /')


@pytest.fixture(scope='module', params=GUESTS)
def guest(request):
    """A site with a running cluster of one kind of guest, and the output of vc-check."""
    need('mkfs.xfs')
    folder = tempfile.mkdtemp(prefix='pragma-', dir=SCRATCH)
    os.chmod(folder, 0o755)
    site = Site(folder, 'accel = auto\ndisk_size = 3G\n')
    site.kind, site.name = request.param, f't{os.getpid()}-{request.param}'
    try:
        entry = site.base / site.kind
        entry.mkdir()
        (site.base / 'vcdb.txt').write_text(f'{site.kind},{site.kind}/vc-in.xml\n')
        site.vc_in = shutil.copy(ROOT / 'images/debian/vc-in.xml', entry)
        subprocess.run([ROOT / 'images/debian/build', *GUESTS[site.kind], entry / 'debian.img.gz'],
                       check=True)
        subprocess.run(['ssh-keygen', '-q', '-t', 'ed25519', '-N', '', '-f', site.folder / 'key'],
                       check=True)
        site.output = site.run('pragma_boot', '--vcname', site.kind, '--name', site.name,
                             '--num_cpus', 1,
                             '--key', site.folder / 'key.pub', '--wait')
        yield site
    finally:
        site.run('vc-clean', site.name)
        shutil.rmtree(folder)


@pytest.mark.parametrize('node', ['frontend', 'compute-0'])
def test_it_answers_over_ssh(guest, node):
    on = () if node == 'frontend' else ('--node', node)
    output = guest.run('vc-ssh', '-i', guest.folder / 'key', *on, guest.name,
                     f'hostname; {ASK}').stdout
    release, table, filesystem = SEEN[guest.kind]
    name = f'{guest.name}.local' if node == 'frontend' else node
    assert lines(output)[:3] == [name, release, table]
    assert re.fullmatch(rf'{filesystem} +/dev/vda1', lines(output)[3])


@pytest.mark.parametrize('node', ['frontend', 'compute-0'])
def test_the_root_file_system_is_as_large_as_the_disk(guest, node):
    on = () if node == 'frontend' else ('--node', node)
    kib = int(lines(guest.run('vc-ssh', '-i', guest.folder / 'key', *on, guest.name,
                              'df -k --output=size / | tail -n 1').stdout)[0])
    assert 3 << 20 > kib > 0.9 * (3 << 20)
    assert b' has a warning: ' not in guest.output.stderr


def test_vc_check_finds_no_fault(guest):
    """vc-check reports that it could not read XFS."""
    seen = guest.kind != 'bookworm-xfs'
    output = lines(guest.run('vc-check', guest.vc_in, status=0 if seen else 1).stdout)
    assert not [line for line in output if 'FAIL' in line]
    assert bool([line for line in output if line.lstrip().startswith('--')]) == (not seen)
