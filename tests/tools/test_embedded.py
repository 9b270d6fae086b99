"""The embedded default where a machine has less: an ordinary user, and a host without FUSE."""
import os
import shutil
import signal
import subprocess
import tempfile
import time

import pytest
from lxml import etree

from lab import ROOT, SCRATCH
from lab.images import inside
from lab.leftovers import mounts, processes
from lab.needs import need
from lab.nodes import disks
from lab.site import Site, lines

NOBODY = 65534


@pytest.fixture
def user_site(little_image, public_tree):
    """A site of an ordinary user's, and how to become that user."""
    if os.geteuid():
        pytest.skip('is an ordinary user already: every other test shows it')
    folder = tempfile.mkdtemp(prefix='pragma-', dir=SCRATCH)
    runtime = tempfile.mkdtemp(prefix='pr-', dir='/tmp')
    site = Site(folder, f'drivers_path = {public_tree}/drivers\n')
    site.entry = f't{os.getpid()}-user'
    site.vc_in = site.add_entry(site.entry, little_image)
    site.become = ['setpriv', f'--reuid={NOBODY}', f'--regid={NOBODY}', '--clear-groups', 'env',
                   f'HOME={folder}', f'XDG_RUNTIME_DIR={runtime}', f'PRAGMA_SITE_CONF={site.conf}',
                   f"PATH={public_tree}/bin:{os.environ['PATH']}"]
    for path, _, files in os.walk(folder):
        for one in (path, *(os.path.join(path, name) for name in files)):
            os.chown(one, NOBODY, NOBODY)
    os.chown(runtime, NOBODY, NOBODY)
    yield site
    subprocess.run([*site.become, 'vc-clean', site.entry], check=False)
    for daemon in ('libvirtd', 'virtlogd'):
        end(f'{runtime}/libvirt/{daemon}.pid')
    for path in (folder, runtime):
        shutil.rmtree(path)


def end(pidfile):
    """End a session daemon, which would else end by itself after two idle minutes."""
    if not os.path.exists(pidfile):
        return
    with open(pidfile, encoding='ascii') as file:
        pid = int(file.read())
    os.kill(pid, signal.SIGTERM)
    for _ in range(100):
        if not os.path.exists(f'/proc/{pid}'):
            return
        time.sleep(0.1)


def test_an_ordinary_user_needs_no_privilege(user_site):
    """The whole pipe, FUSE injection and a session of libvirt's own included, as nobody."""
    pipe = ('vc-parse "$0" | vc-stage | vc-allocate --num-cpus 2 --key "$1" | vc-inject | '
            'vc-boot --paused --ignore-dependencies')
    done = subprocess.run([*user_site.become, 'bash', '-o', 'pipefail', '-c', pipe,
                           user_site.vc_in, user_site.key], capture_output=True, check=False)
    assert done.returncode == 0, done
    assert (b'libguestfs' in done.stderr) == (not os.access('/dev/fuse', os.W_OK))
    output = subprocess.run([*user_site.become, 'virsh', '-q', '-c', 'qemu:///session', 'list',
                           '--name'], capture_output=True, check=True)
    assert sorted(filter(None, lines(output.stdout))) == \
        [f'{user_site.entry}-compute-0', f'{user_site.entry}-frontend']
    owners = {os.stat(path).st_uid for path in disks(done.stdout).values()}
    assert owners == {NOBODY}
    subprocess.run([*user_site.become, 'vc-clean', user_site.entry], check=True)
    assert user_site.clusters() == []
    # The session's daemons have their home here too, and idle on.
    assert not [line for line in processes(user_site) if 'qemu' in line]
    assert mounts(user_site) == []


def test_a_temporary_directory_that_qemu_cannot_reach(site):
    if os.geteuid():
        pytest.skip('QEMU runs as this user')
    document = site.document(site.entry, 'vc-allocate', 0)
    os.chmod(site.folder, 0o700)
    line = site.fails('vc-inject', input=document)
    os.chmod(site.folder, 0o755)
    assert "user 'libvirt-qemu', which QEMU runs as, cannot reach" in line


@pytest.mark.guest
def test_row_23_without_fuse_the_slower_way_is_taken_and_said(site):
    """/dev/fuse that is something else, in a mount namespace of the test's own."""
    need('guestfish', 'unshare')
    if subprocess.run(['unshare', '--mount', 'true'], capture_output=True, check=False).returncode:
        pytest.skip('no right to a mount namespace here')
    document = site.document(site.entry, 'vc-allocate', 0)
    done = subprocess.run(
        ['unshare', '--mount', 'bash', '-c', 'mount --bind /dev/null /dev/fuse && exec "$0"',
         ROOT / 'bin/vc-inject'], input=document, capture_output=True, env=site.environment(),
        check=False)
    assert done.returncode == 0, done
    output = lines(done.stderr)
    assert len(output) == 1 and output[0].startswith('vc-inject: no FUSE (')
    assert 'through libguestfs, which is slower' in output[0]
    disk = disks(done.stdout)['frontend']
    assert inside(disk, 'cat', '/root/vc-out.xml') == site.run('vc-out', input=document).stdout
    key = (site.temp / 'clusters' / site.entry / 'id_ed25519').read_bytes()
    assert inside(disk, 'cat', '/root/.ssh/id_ed25519') == key
    assert etree.fromstring(done.stdout).find('cluster/node/disk') is not None
    assert processes(site) == [] and mounts(site) == []
