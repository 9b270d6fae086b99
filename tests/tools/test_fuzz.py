"""The fuzzer: for a short time, and that it finds what is wrong."""
import re
import subprocess
import sys
import time

import pytest
from hypothesis import strategies as st

from lab import ROOT
from lab.fuzz import Finding, Target
from pragma_boot.system.failure import Failure


def fuzz(*arguments):
    return subprocess.run([sys.executable, '-m', 'lab.fuzz', *map(str, arguments)],
                          cwd=ROOT / 'tests',
                          capture_output=True, check=False, timeout=1200)


@pytest.mark.parametrize('seconds', [20, pytest.param(300, marks=pytest.mark.long)])
def test_finds_nothing(tmp_path, seconds):
    """With one seed in the short run; make fuzz has a new one each time."""
    known = fuzz('--list').stdout.decode().split('\n')[:-1]
    done = fuzz('--seconds', seconds, '--keep', tmp_path, *(['--seed', 1] if seconds == 20 else []))
    assert done.returncode == 0, (done.stdout + done.stderr).decode()
    counts = dict(re.findall(r'^(.+): (\d+) examples$', done.stdout.decode(), re.M))
    assert list(counts) == known and min(map(int, counts.values())) >= seconds / len(known)


def crash(argv, stdin, stdout):
    raise KeyError('x')


def hang(argv, stdin, stdout):
    time.sleep(600)


def half(argv, stdin, stdout):
    stdout.write(b'<vc>')
    stdout.flush()
    raise Failure('x')


def silent(argv, stdin, stdout):
    return 1


def strange(argv, stdin, stdout):
    return 7


def litter(site):
    def leave(argv, stdin, stdout):
        (site.temp / '.x.tmp').write_text('')
        stdout.write(b'<vc/>')
        return 0
    return leave


@pytest.mark.parametrize('wrong, output', [
    (crash, 'internal error'), (hang, 'hangs'), (half, 'status 1'), (silent, 'status 1'),
    (strange, 'status 7'),
    (litter, 'left')], ids=lambda value: getattr(value, '__name__', None))
def test_finds_what_is_wrong(site, monkeypatch, wrong, output):
    monkeypatch.setattr('lab.fuzz.HANGS', 1)
    site.temp.mkdir()
    target = Target(site, 'vc-x', litter(site) if wrong is litter else wrong, st.just(((), b'')))
    with pytest.raises(Finding, match=output):
        target.run(1, 1)
