"""Colours and progress on a terminal, and only there."""
import fcntl
import os
import pty
import re
import struct
import subprocess
import termios
import threading

import pytest

from lab import ROOT
from lab.images import make_image, pack
from lab.nodes import boot, without_dependency

CONTROL = re.compile(r'\x1b\[[0-9;]*[A-Za-z]|\r')


def seen(site, tool, *arguments, input=b'', streams=('stderr',), columns=80, status=0,
         **environment):
    """The output on a terminal, which is some of a tool's streams; the others are files."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack('4H', 24, columns, 0, 0))
    output = []

    def read():
        try:
            while data := os.read(ours, 4096):
                output.append(data)
        except OSError:     # on Linux: the other end is closed
            pass

    reader = threading.Thread(target=read)
    running = subprocess.Popen(
        [ROOT / 'bin' / tool, *map(str, arguments)], stdin=subprocess.PIPE,
        **{name: theirs if name in streams else subprocess.DEVNULL
           for name in ('stdout', 'stderr')},
        env={**site.environment(), 'TERM': 'xterm', 'NO_COLOR': '', **environment})
    os.close(theirs)
    reader.start()
    running.stdin.write(input)
    running.stdin.close()
    found = running.wait(600)
    reader.join()
    os.close(ours)
    output = b''.join(output).decode().replace('\r\n', '\n')
    assert found == status, output
    return output


def drawings(output):
    """The successive progress lines, without control sequences."""
    return [CONTROL.sub('', one) for one in output.split('\r\x1b[K')]


@pytest.fixture
def large(site):
    """The document of an entry whose two images take a moment to stage."""
    for name in ('calit2-119-222.img.gz', 'hosted-vm-0-0-1.img.gz'):
        image = make_image(site.folder / 'large.img', [('noise', os.urandom(40 << 20))], size='64M')
        os.replace(pack(image), site.vc_in.parent / name)
    return site.run('vc-parse', site.vc_in).stdout


def test_staging_two_images_is_one_bar(site, large):
    output = seen(site, 'vc-stage', input=large)
    lines = [line for line in drawings(output) if line]
    pattern = r'staging 2 images  \[(#*\.*)\]  +(\d+) %(, \d+ MB/s, \d+ s left|, checking)?'
    shares = [int(re.fullmatch(pattern, line)[2]) for line in lines]
    assert shares == sorted(shares) and len(set(shares)) > 1
    assert max(map(len, lines)) < 80
    assert output.endswith('\r\x1b[K') and '\x1b[32m' in output
    # Staged already: no progress.
    assert CONTROL.sub('', seen(site, 'vc-stage', input=large)) == ''


@pytest.mark.parametrize('environment, coloured, drawn', [
    ({'NO_COLOR': '1'}, False, True), ({'TERM': 'dumb'}, False, False)], ids=['NO_COLOR', 'dumb'])
def test_staging_on_a_terminal_with_less(site, large, environment, coloured, drawn):
    output = seen(site, 'vc-stage', input=large, **environment)
    assert ('\x1b[32m' in output) == coloured and bool(output) == drawn


def test_a_failure_is_a_line_of_its_own(site, large):
    (site.vc_in.parent / 'hosted-vm-0-0-1.img.gz').write_bytes(b'no gzip')
    output = seen(site, 'vc-stage', input=large, status=1)
    assert drawings(output)[-1].startswith('vc-stage: image ') and output.endswith('says so\n')


def test_a_narrow_terminal_has_no_bar(site, large):
    lines = [line for line in drawings(seen(site, 'vc-stage', input=large, columns=30)) if line]
    assert lines and max(map(len, lines)) < 30 and not any('[' in line for line in lines)


def test_waiting_shows_how_many_and_how_long(site):
    document = site.document(site.entry, 'vc-inject')
    output = seen(site, 'vc-boot', '--paused', '--ignore-dependencies', '--wait', '--timeout', 2,
                input=document, status=1)
    lines = drawings(output)
    waiting = re.compile(r'waiting for 3 nodes  \[\.+\]  0 of 3 ready, \d s of 2 s; '
                         'frontend: firmware')
    assert any(map(waiting.fullmatch, lines)), output
    assert max(map(len, lines[:-1])) < 80
    assert "not ready after 2 s" in lines[-1] and lines[-1].endswith('\n')


def test_no_progress_without_a_terminal(site, large):
    """Nor where only another stream is a terminal."""
    assert site.run('vc-stage', input=large).stderr == b''
    assert seen(site, 'vc-parse', input=large, streams=('stdout',)).replace('\n', '') == \
        large.decode().replace('\n', '')


def test_the_table_of_a_terminal(site):
    """States have colours, columns stay aligned; HOST is left out on a narrow terminal."""
    boot(site, site.document(site.entry, 'vc-inject'))
    subprocess.run([ROOT / 'bin/vc-shutdown', '--timeout', '0', site.entry], env=site.environment(),
                   check=True,
                   capture_output=True)
    plain = site.run('vc-status').stdout.decode()
    assert '\x1b' not in plain and ' HOST ' in plain
    wide = seen(site, 'vc-status', streams=('stdout',), columns=200)
    assert wide != plain and CONTROL.sub('', wide) == plain
    assert wide.count('\x1b[2mstopped\x1b[0m') == 3 and wide.startswith('\x1b[1mCLUSTER')
    for environment in ({'NO_COLOR': '1'}, {'TERM': 'dumb'}):
        assert seen(site, 'vc-status', streams=('stdout',), columns=200, **environment) == plain
    narrow = CONTROL.sub('', seen(site, 'vc-status', streams=('stdout',), columns=80)).splitlines()
    assert 'HOST' not in narrow[0] and [line.split()[:3] for line in narrow] == \
        [line.split()[:3] for line in plain.splitlines()]


def test_pragma_boot_shows_progress_and_what_comes_next(site, large):
    """The driver's stderr is a pipe, but the tools that it calls draw on the terminal."""
    without_dependency(site)
    private = site.folder / 'user key'
    private.write_text('')
    output = seen(site, 'pragma_boot', '--vcname', site.entry, '--num_cpus', 2, '--key', site.key,
                streams=('stdout', 'stderr'), columns=200)
    assert any(line.startswith('staging 2 images  [') for line in drawings(output))
    *table, empty, login, watch, remove = drawings(output)[-1].splitlines()
    assert table[0].startswith('CLUSTER') and len(table) == 3 and empty == ''
    assert login == f"Log in:  {ROOT}/bin/vc-ssh -i '{private}' {site.entry}"
    assert watch == f'Watch:   {ROOT}/bin/vc-console {site.entry}'
    assert remove == f'Remove:  {ROOT}/bin/vc-clean {site.entry}'
