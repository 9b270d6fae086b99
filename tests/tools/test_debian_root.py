"""tests/lab/debian-root: a fresh Debian for a command, of which nothing remains."""
import os
import signal
import subprocess
import time

import pytest

from lab import ROOT
from lab.needs import need

PROGRAM = ROOT / 'tests/lab/debian-root'


def run(*arguments):
    return subprocess.run([PROGRAM, *arguments], capture_output=True, text=True, check=False)


@pytest.mark.parametrize('arguments', [(), ('bookworm',), ('../etc', 'true'), ('', 'true')])
def test_wrong_usage(arguments):
    done = run(*arguments)
    assert (done.returncode, done.stdout) == (2, '')
    assert done.stderr == 'debian-root: name a release and commands; see debian-root --help\n'


@pytest.fixture
def roots():
    """Nothing of the root remains but what is kept for the next run."""
    if os.geteuid():
        pytest.skip('needs root')
    need('mmdebstrap')
    folder = ROOT / '.roots/bookworm'
    yield
    assert not folder.exists()
    with open('/proc/self/mounts', encoding='utf-8') as mounts:
        assert str(folder) not in mounts.read()


@pytest.mark.long
def test_commands_run_in_a_clone_and_pass_their_status_on(roots):
    done = run('bookworm', '. /etc/os-release; echo $VERSION_CODENAME; git rev-parse HEAD',
               'unshare -r true', 'exit 7', 'echo never')
    head = subprocess.run(['git', '-C', ROOT, 'rev-parse', 'HEAD'], capture_output=True, text=True,
                          check=True)
    assert done.returncode == 7, done
    assert f'\nbookworm\n{head.stdout}' in done.stdout and 'never' not in done.stdout


@pytest.mark.long
@pytest.mark.parametrize(('number', 'status'), [
    (signal.SIGTERM, 143), (signal.SIGINT, 130), (signal.SIGKILL, -9)])
def test_a_signal_leaves_no_process(roots, number, status):
    mark = f'3{os.getpid()}'
    script = f'setsid sleep {mark} & mount -t tmpfs x /opt; echo begun; sleep {mark}'
    running = subprocess.Popen(['env', '--default-signal=INT', PROGRAM, 'bookworm', script],
                               stdout=subprocess.PIPE, text=True)
    for line in running.stdout:
        if line == 'begun\n':
            break
    running.send_signal(number)
    assert running.wait() == status
    for _ in range(50):
        if subprocess.run(['pgrep', '-f', f'^sleep {mark}'], capture_output=True,
                          check=False).returncode:
            break
        time.sleep(0.1)
    else:
        pytest.fail('a process remains')
    run('bookworm', 'true')     # removes what a killed run left
