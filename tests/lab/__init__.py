"""What tests share: sites, images, hosts and Ganeti clusters on this machine, and long tests.

Test files do not import each other: what two of them need is here, or a fixture in conftest.py.
"""
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
DATA = ROOT / 'tests' / 'data'

# The folder for sites. If we are root, QEMU runs as another user and must reach it; the path of
# its monitor's socket can have 107 bytes.
SCRATCH = '/var/tmp'

sys.path.insert(0, str(ROOT / 'lib'))
