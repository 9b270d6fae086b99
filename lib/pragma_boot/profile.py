"""Guest profiles: what staging mends inside an image of a kind, named by vc-in.xml's <driver>.

A profile is a text file in drivers/kvm/profiles/, a line ``remove /path/of/a/file`` each.
"""
import os
import re

from . import ROOT
from .failure import Failure, cause

FOLDER = os.path.join(ROOT, 'drivers', 'kvm', 'profiles')
LINE = re.compile(r'remove (/[A-Za-z0-9_./-]+)')


def find(name):
    """The file of the profile ``name``, or of ``generic``, the fallback."""
    path = os.path.join(FOLDER, name)
    return path if os.path.isfile(path) else os.path.join(FOLDER, 'generic')


def read(path):
    """The paths that a profile removes from an image; raises Failure for a line of another kind."""
    try:
        with open(path, encoding='utf-8') as file:
            lines = [line.split('#', 1)[0].strip() for line in file]
    except OSError as error:
        raise Failure(f"cannot open profile '{path}': {cause(error)}") from None
    matches = [(line, LINE.fullmatch(line)) for line in lines if line]
    for line, match in matches:
        if not match:
            raise Failure(f"profile '{path}': not a 'remove /path' line: '{line}'")
    return [match[1] for _, match in matches]


def apply(removals, volume):
    """Remove ``removals`` from an ext2/3/4 Confined; what is not there is not missed."""
    for path in removals:
        volume.run(['debugfs', '-w', '-R', f'rm {path}', volume.device],
                   f"cannot remove '{path}' from the image")
