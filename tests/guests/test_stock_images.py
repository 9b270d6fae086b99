"""Stock images by others' builders: vc-import makes an entry of them, and their clusters boot.

Nothing in them is ours. How each is made is a program in tests/images.
"""
import os
import shutil
import subprocess
import tempfile
from typing import NamedTuple

import pytest
from lxml import etree

from lab import SCRATCH, stock
from lab.needs import need
from lab.site import Site, lines

pytestmark = pytest.mark.guest

SIZE = 6 << 30


class Stock(NamedTuple):
    """What an image has: its firmware as its nodes see it, its file system, whether / grows."""

    name: str
    firmware: str
    filesystem: str
    grows: bool = True


UEFI = Stock('vmdb2-uefi', 'efi', 'ext4')
IMAGES = (UEFI, Stock('vmdb2-lvm', 'bios', 'xfs'), Stock('fai', 'bios', 'ext4'))

ASK = ('hostname -s; nproc; [ -d /sys/firmware/efi ] && echo efi || echo bios; '
       'df -k --output=fstype,size / | tail -n 1; cat /etc/machine-id; '
       'cat /etc/ssh/ssh_host_ed25519_key.pub')


class Cluster(Site):
    """A site with a key to log in, and the cluster of an image after it is imported."""

    def __init__(self, folder, image):
        super().__init__(folder, 'accel = auto\n')
        self.image, self.name = image, f't{os.getpid()}-{image.name}'
        self.key = self.folder / 'key.pub'
        subprocess.run(['ssh-keygen', '-q', '-t', 'ed25519', '-N', '', '-f', self.folder / 'key'],
                       check=True)

    def bring(self):
        """Import the image; what vc-import writes on standard error."""
        file = stock.image(self.image.name)
        return self.run('vc-import', file, '--name', self.image.name,
                        '--base_path', self.base).stderr.decode()

    def boot(self, num_cpus):
        self.run('pragma_boot', '--vcname', self.image.name, '--name', self.name, '--num_cpus',
                 num_cpus, '--key', self.key, '--disk-size', SIZE >> 20 << 20)
        self.wait(self.name)

    def nodes(self):
        return etree.parse(str(self.temp / 'clusters' / self.name / 'document.xml')).findall(
            'cluster/node')

    def on_frontend(self, command):
        return lines(self.run('vc-ssh', '-i', self.folder / 'key', self.name, command).stdout)


@pytest.fixture
def cluster(request):
    need('mkfs.vfat', 'mcopy')
    folder = tempfile.mkdtemp(prefix='pragma-', dir=SCRATCH)
    os.chmod(folder, 0o755)
    site = Cluster(folder, request.param)
    try:
        yield site
    finally:
        for name in site.clusters():
            site.run('vc-clean', name)
        shutil.rmtree(folder)


def as_asked(cluster):
    """Log in to each node by its name from the frontend, compare; what a second boot must keep."""
    lasting = {}
    for node in cluster.nodes():
        name = node.get('name')
        told = cluster.on_frontend(ASK if name == 'frontend' else f'ssh {name} {ASK!r}')
        hostname, cpus, firmware, size, machine, key = told
        filesystem, kib = size.split()
        assert hostname == node.get('fqdn').split('.')[0]
        assert (cpus, firmware, filesystem) == (node.get('cpus'), cluster.image.firmware,
                                                cluster.image.filesystem), told
        assert (int(kib) << 10 > 0.75 * SIZE) == cluster.image.grows, told
        lasting[name] = machine, key.split()[1]
    ids = {word for pair in lasting.values() for word in pair}
    assert len(ids) == 2 * len(lasting), lasting
    return lasting


@pytest.mark.parametrize('cluster', [UEFI], indirect=True, ids=lambda image: image.name)
def test_uefi_frontend_of_a_qcow2_image(cluster):
    cluster.bring()
    cluster.boot(0)
    assert len(as_asked(cluster)) == 1


@pytest.mark.long
@pytest.mark.parametrize('cluster', IMAGES, indirect=True, ids=lambda image: image.name)
def test_cluster_of_three_boots_twice(cluster):
    cluster.bring()
    # Each node has the two CPUs of cpus_per_node.
    cluster.boot(4)
    first = as_asked(cluster)
    assert sorted(first) == ['compute-0', 'compute-1', 'frontend']
    cluster.run('vc-shutdown', cluster.name)
    cluster.run('vc-start', cluster.name)
    cluster.wait(cluster.name)
    assert as_asked(cluster) == first


@pytest.mark.long
@pytest.mark.parametrize('cluster', [Stock('dib', 'bios', 'ext4')], indirect=True,
                         ids=lambda image: image.name)
def test_vc_check_names_what_a_frontend_of_diskimage_builder_lacks(cluster):
    """It is never ready: vc-check, which the time-out names, says what is missing."""
    cluster.bring()
    told = cluster.run('vc-check', cluster.base / 'dib' / 'vc-in.xml', status=1).stdout.decode()
    failed = [line for line in told.splitlines() if line.startswith('FAIL')]
    assert len(failed) == 1 and 'install nftables' in failed[0], told
