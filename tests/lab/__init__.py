"""What tests share: sites, disks and images, hosts and Ganeti clusters of this machine's own, and programs that test for long.

No test file is imported by another: what two of them need is here, and fixtures are in conftest.py.
"""
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
DATA = ROOT / 'tests' / 'data'

# QEMU runs as an unprivileged user where we are root: it must reach what lies in here, and the
# monitor's socket has 107 bytes for its path.
SCRATCH = '/var/tmp'

sys.path.insert(0, str(ROOT / 'lib'))
