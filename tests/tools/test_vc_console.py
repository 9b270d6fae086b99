"""vc-console: shows the console logs of nodes, and follows them."""
import os
import pty
import shutil
import signal
import threading
import time

import pytest
from lxml import etree

from lab.nodes import boot, virsh
from lab.site import lines
from pragma_boot.cluster.ledger import Ledger
from pragma_boot.engine import console, volume
from pragma_boot.engine.registry import Engines
from pragma_boot.system.settings import Settings


@pytest.fixture
def log(site):
    """The console log of a frontend that was never started."""
    site.document(site.entry, 'vc-inject', 0)
    return site.temp / 'clusters' / site.entry / 'frontend.console.log'


def until(what):
    """Wait until a condition holds."""
    deadline = time.monotonic() + 60
    while not what():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_shows_the_log_and_the_one_before_it(site, log):
    log.with_name(f'{log.name}.0').write_bytes(b'one\r\n')
    log.write_bytes(b'two\r\nthree\r\nlogin: \xff')
    assert site.run('vc-console', '--no-follow',
                    site.entry).stdout == b'one\r\ntwo\r\nthree\r\nlogin: \xff'
    assert site.run('vc-console', '--no-follow', '-n', 2,
                    site.entry).stdout == b'three\r\nlogin: \xff'
    assert site.run('vc-console', '--no-follow', '-n', 0, site.entry, 'frontend').stdout == b''


def test_a_node_that_does_not_run_is_shown_to_its_end(site, log):
    done = site.run('vc-console', site.entry)
    assert done.stdout == b''
    assert lines(done.stderr) == ["vc-console: node 'frontend' is not running"]
    log.write_bytes(b'said\n')
    assert site.run('vc-console', site.entry).stdout == b'said\n'


@pytest.mark.parametrize('arguments, status, reason', [
    (['nothing'], 1, "no cluster 'nothing'"), (['../x'], 1, 'is not a name'), ([], 2, 'usage'),
    (['-n', 'x', 'any'], 2, "-n must be a whole number"), (['-n', '-1', 'any'], 2, '-n must be')])
def test_refuses(site, arguments, status, reason):
    assert reason in site.fails('vc-console', *arguments, status=status)


def test_names_a_node_that_is_not_there(site, log):
    assert "has no node 'compute-9'" in site.fails('vc-console', site.entry, 'compute-9')


def test_follows_until_the_node_ends(site):
    """The guest is paused; the test writes to its log."""
    boot(site, site.document(site.entry, 'vc-inject', 0))
    log = site.temp / 'clusters' / site.entry / 'frontend.console.log'
    running, output = site.start('vc-console', site.entry), []
    pieces = iter(lambda: os.read(running.stdout.fileno(), 99), b'')
    reader = threading.Thread(target=lambda: output.extend(pieces))
    reader.start()
    for text in (b'one\n', b'two\n', b'no end'):
        with open(log, 'ab') as file:
            file.write(text)
        until(lambda text=text: b''.join(output).endswith(text))
    virsh('destroy', f'{site.entry}-frontend')
    assert running.wait(60) == 0
    reader.join()
    assert b''.join(output) == b'one\ntwo\nno end'
    assert lines(running.stderr.read()) == ["vc-console: node 'frontend' is not running"]


def test_ctrl_c_ends_it(site):
    boot(site, site.document(site.entry, 'vc-inject', 0))
    (site.temp / 'clusters' / site.entry / 'frontend.console.log').write_bytes(b'said\n')
    running = site.start('vc-console', site.entry)
    assert running.stdout.readline() == b'said\n'
    running.send_signal(signal.SIGINT)
    assert running.wait(60) == 130 and lines(running.stderr.read()) == ['vc-console: interrupted']


COMMANDS = {
    b'\x1b[2J\x1b[1;31mcolour\x1b[0m': b'colour',
    b'a\x1b]0;title\x07b\x1b]52;c;eA==\x1b\\c': b'abc',
    b'a\x07\x08\x0e\x7f\tb': b'a\tb', b'\xc2\x9b31m \xc3\xa9': '31m \u00e9'.encode(),
    b'a\rb': b'ab',
    b'\x1bP+q544e\x1b\\x\x1bc\x1b(B': b'x', b'cut \x1b': b'cut ', b'end': b'end'}
"""The output of a guest, and what is shown of it."""


def test_control_sequences_are_removed(site, log):
    log.write_bytes(b''.join(said + b'\r\n' for said in COMMANDS))
    ours, theirs = pty.openpty()
    with os.fdopen(ours, 'rb', buffering=0) as screen:
        with os.fdopen(theirs, 'wb') as terminal:
            assert site.start('vc-console', '--no-follow', site.entry,
                              stdout=terminal).wait(60) == 0
        assert screen.read(4096) == b''.join(shown + b'\r\n' for shown in COMMANDS.values())


def test_a_console_that_is_a_volume_of_a_pool(site):
    """It grows as with QEMU, without libvirt."""
    folder, name = site.folder / 'pool', site.entry
    folder.mkdir()
    shutil.chown(folder, 'libvirt-qemu')
    host = Engines(Settings.read(str(site.conf)))['qemu:///session']
    host.virsh('pool-create-as', name, 'dir', '--target', str(folder))
    try:
        node = etree.fromstring(site.document(site.entry, 'vc-inject', 0)).find('cluster/node')
        ledger = Ledger(str(site.temp))
        place = volume.Pool(host, name, ledger)
        tail = place.tail(node)
        assert tail.read() == b''
        place.empty_console(node)
        assert tail.read() == b''
        for text in (b'one\n', b'two'):
            log = f'{site.entry}_frontend_{ledger.identity[:8]}.console.log'
            with open(folder / log, 'ab') as file:
                file.write(text)
            assert tail.read() == text and tail.read() == b''
    finally:
        host.virsh('pool-destroy', name)


def test_tail_follows_a_log_that_is_emptied_and_one_that_is_moved_away(tmp_path):
    log = tmp_path / 'x.console.log'
    tail = console.Tail(log)
    assert tail.read() == b''
    log.write_bytes(b'one')
    assert tail.read() == b'one' and tail.read() == b''
    log.write_bytes(b'2')
    assert tail.read() == b'2'
    with open(log, 'ab') as file:
        file.write(b'3')
    os.rename(log, tmp_path / 'x.console.log.0')
    assert tail.read() == b'3'
    log.write_bytes(b'four')
    assert tail.read() == b'four'
