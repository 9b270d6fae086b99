"""Clusters that come and go, killed at random, for minutes (soak.py)."""
import subprocess
import sys

import pytest

from lab import ROOT
from lab.needs import need_fuse


@pytest.mark.long
def test_all_is_at_the_end_as_at_the_start():
    need_fuse()
    done = subprocess.run([sys.executable, '-m', 'lab.soak', '--clusters', '100'],
                          cwd=ROOT / 'tests',
                          capture_output=True, check=False, timeout=1200)
    assert done.returncode == 0, done.stdout + done.stderr
    assert '100 clusters in ' in done.stdout.decode()
