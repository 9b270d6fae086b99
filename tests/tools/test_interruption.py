"""Tools that are interrupted or killed: nothing incomplete is left, and they work again."""
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from lab import ROOT
from lab.leftovers import mounts, processes, settled
from lab.nodes import disks, mine, without_dependency
from lab.site import lines


@pytest.fixture
def quick(site):
    without_dependency(site)
    return site


def handles(pid, number):
    """Whether a process has a handler for a signal (proc_pid_status(5)), and so has started."""
    caught = re.search(r'^SigCgt:\s+(\w+)$', Path('/proc', str(pid), 'status').read_text(), re.M)
    return int(caught[1], 16) >> (number - 1) & 1


def feed(running, document):
    running.stdin.write(document)
    running.stdin.close()


@pytest.mark.parametrize('how', [signal.SIGINT, signal.SIGTERM])
def test_row_33_interrupted_staging_leaves_nothing(site, how):
    # Large enough that the signal arrives before all is unpacked.
    raw = site.vc_in.parent / 'calit2-119-222.img.gz'
    with open(raw, 'wb') as file:
        subprocess.run(['gzip', '-1'], input=os.urandom(200 << 20), stdout=file, check=True)
    running = site.start('vc-stage', '--types', 'frontend')
    feed(running, site.document(site.entry, 'vc-parse'))
    images = site.temp / 'images'
    while not (images.exists() and [name for name in os.listdir(images) if 'tmp' in name]):
        time.sleep(0.01)
    running.send_signal(how)
    assert running.wait() == 130
    assert lines(running.stderr.read()) == ['vc-stage: interrupted'] and not running.stdout.read()
    assert settled(site)
    assert not [name for name in os.listdir(images) if not name.endswith('.lock')]


@pytest.mark.parametrize('delay', [0.05 * count for count in range(1, 13)])
def test_row_28_a_killed_injection_works_again(site, delay):
    document = site.document(site.entry, 'vc-allocate')
    running = site.start('vc-inject')
    feed(running, document)
    time.sleep(delay)
    running.kill()
    running.wait()
    assert settled(site), processes(site)
    output = site.run('vc-inject', input=document).stdout
    folder = site.temp / 'clusters' / site.entry
    assert sorted(os.listdir(folder)) == \
        ['compute-0.qcow2', 'compute-1.qcow2', 'document.xml', 'frontend.qcow2', 'id_ed25519']
    assert mounts(site) == []
    for path in disks(output).values():
        done = subprocess.run(['qemu-img', 'check', '-f', 'qcow2', path], check=False,
                              capture_output=True)
        assert done.returncode == 0, done


@pytest.mark.parametrize('delay', [0, 0.2, 0.5, 0.8, 1.1, 1.4, 1.7, 2.0, 2.5])
def test_a_terminated_pragma_boot_removes_its_cluster(quick, delay):
    """SIGTERM at any moment: the cluster is complete, or nothing of it is left."""
    running = quick.start('pragma_boot', '--vcname', quick.entry, '--num_cpus', 4, '--key',
                          quick.key)
    while not handles(running.pid, signal.SIGTERM):
        time.sleep(0.005)
    time.sleep(delay)
    running.terminate()
    status = running.wait()
    assert status in (0, 130), running.stderr.read()
    assert settled(quick), processes(quick)
    # The signal may also come when all nodes are started, while pragma_boot shows them.
    if status == 0 or quick.clusters():
        assert len(mine(quick)) == 3
    else:
        assert mine(quick) == [] and mounts(quick) == []


def test_a_lost_terminal_removes_the_cluster(quick):
    """SIGHUP, with nobody to read standard error any more."""
    terminal, end = os.openpty()
    hangup = ('import os, signal, sys; signal.signal(signal.SIGHUP, signal.SIG_DFL); '
              'os.execv(sys.argv[1], sys.argv[1:])')
    running = subprocess.Popen(
        [sys.executable, '-c', hangup, ROOT / 'bin' / 'pragma_boot', '--vcname', quick.entry,
         '--num_cpus', '4', '--key', quick.key], env=quick.environment(), start_new_session=True,
        stdin=subprocess.DEVNULL, stdout=end, stderr=end)
    os.close(end)
    while not quick.clusters():
        assert running.poll() is None
        time.sleep(0.02)
    os.close(terminal)
    running.send_signal(signal.SIGHUP)
    assert running.wait() == 130
    assert settled(quick), processes(quick)
    assert mine(quick) == [] and quick.clusters() == [] and mounts(quick) == []


def test_a_signal_after_the_reservation_removes_it(quick):
    """All processes of the driver get SIGTERM when vc-allocate has finished its work."""
    copy = quick.folder / 'copy'
    shutil.copytree(ROOT / 'drivers', copy / 'drivers')
    (copy / 'bin').mkdir()
    for tool in (ROOT / 'bin').iterdir():
        (copy / 'bin' / tool.name).symlink_to(tool)
    (copy / 'bin' / 'vc-allocate').unlink()
    (copy / 'bin' / 'vc-allocate').write_text(
        f"#!/bin/sh\ntrap '' TERM\n'{ROOT}/bin/vc-allocate' \"$@\" && "
        f"touch '{copy}/reserved' && kill -TERM 0\n")
    (copy / 'bin' / 'vc-allocate').chmod(0o755)
    folder = quick.temp / 'clusters' / quick.entry
    done = subprocess.run([copy / 'drivers' / 'kvm' / 'allocate', '2', quick.vc_in,
                           folder / 'vc-out.xml',
                           quick.temp, quick.key], env=quick.environment(), start_new_session=True,
                          capture_output=True, check=False)
    assert (copy / 'reserved').exists() and done.returncode == 130, done
    assert quick.clusters() == [] and mounts(quick) == []


def test_clean_removes_what_killed_tools_left(quick):
    for delay in (0.3, 0.9, 1.5, 2.1):
        running = quick.start('pragma_boot', '--vcname', quick.entry, '--num_cpus', 4, '--key',
                              quick.key,
                              '--name', quick.entry)
        time.sleep(delay)
        running.kill()
        running.wait()
        assert settled(quick), processes(quick)
        quick.run('vc-clean', quick.entry)
        assert mine(quick) == [] and quick.clusters() == [] and mounts(quick) == []
