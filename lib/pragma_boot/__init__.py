"""pragma_boot: from an image database to a running virtual cluster.

Packages, top to bottom; imports run downwards only: cli, cluster, engine, image, document, system.

A module that takes milliseconds to import, and that not every use needs, is imported in the function that
needs it, so that a filter starts in little more time than lxml.
"""
import os
import sys

VERSION = '0.1.0'

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.realpath(__file__))))
"""The folder that holds bin/, lib/, drivers/ and site_conf.conf."""

# The tools run under the system's Python by their path, without activation: what
# requirements.txt pins is found in the virtual environment beside bin/, and nowhere else. Python's own
# search for packages (-S leaves it out) is a tenth of a filter's start.
sys.path.insert(0, os.path.join(ROOT, '.venv', 'lib', 'python%d.%d' % sys.version_info[:2],
                                'site-packages'))
