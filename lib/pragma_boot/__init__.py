"""pragma_boot: from an image database to a running virtual cluster.

The packages from top to bottom are cli, cluster, engine, image, document and system; a package
imports from those below it only (tests/unit/test_layout.py).

A module that takes milliseconds to import and is not always needed is imported in the function
that needs it, so that a filter starts in little more time than lxml takes.
"""
import os
import sys

VERSION = '0.1.0'

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.realpath(__file__))))
"""The folder that holds bin/, lib/, drivers/ and site_conf.conf."""

# The tools run under the system's Python without activation. The packages of requirements.txt are
# in the virtual environment beside bin/, and only there. Python's own search for packages, which
# option -S leaves out, would take a tenth of a filter's start-up time.
sys.path.insert(0, os.path.join(
    ROOT, '.venv', 'lib', f'python{sys.version_info[0]}.{sys.version_info[1]}', 'site-packages'))
