"""Tools that are killed at one step of their lives, by lab/kill_at.py."""
import subprocess
import sys

from lab import ROOT
from lab.needs import do_without

KILL_AT = [sys.executable, ROOT / 'tests' / 'lab' / 'kill_at.py']


def need_kill_at():
    """Skip a test where no process can be traced; in CI, where it can, fail it."""
    done = subprocess.run([*KILL_AT, 'KILL', '0', '/bin/true'], capture_output=True, check=False)
    if done.returncode:
        do_without(done.stderr.decode())
