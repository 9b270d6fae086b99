"""Stock images for tests, made by the programs of tests/images with others' builders, and kept.

As a program: `python -m lab.stock [NAME...]` makes those that are missing, or all of them.
"""
import fcntl
import hashlib
import os
import subprocess
import sys
from pathlib import Path

from lab import ROOT
from lab.needs import do_without

PROGRAMS = ROOT / 'tests' / 'images'
FOLDER = Path(os.environ.get('PRAGMA_TEST_IMAGES') or ROOT / '.images')

ENDINGS = {'vmdb2-uefi': 'qcow2', 'vmdb2-lvm': 'img.xz', 'fai': 'raw.zst', 'dib': 'qcow2'}
"""The images, and the endings of their files' names."""

SHARED = ('common.sh', 'partx-kpartx', 'uml-init')


def digest(name):
    """What the file's name holds: a changed program makes its image anew."""
    programs = [PROGRAMS / part for part in (name, *SHARED)]
    return hashlib.sha256(b''.join(path.read_bytes() for path in programs)).hexdigest()[:12]


def path_of(name):
    """The file of an image, which may not exist yet."""
    return FOLDER / f'{name}-{digest(name)}.{ENDINGS[name]}'


def make(name):
    """The file of an image, which is made if it is missing: minutes. CalledProcessError if not."""
    FOLDER.mkdir(mode=0o755, parents=True, exist_ok=True)
    path = path_of(name)
    with open(FOLDER / '.lock', 'w', encoding='ascii') as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not path.exists():
            subprocess.run(['nice', PROGRAMS / name, path], check=True, stdin=subprocess.DEVNULL)
            for old in FOLDER.glob(f'{name}-*.{ENDINGS[name]}'):
                if old != path:
                    old.unlink()
    return path


def image(name):
    """The file of an image for a test, which is skipped where the image cannot be made."""
    path = path_of(name)
    if not path.exists():
        if os.geteuid():
            do_without('stock images are made as root')
        needed = subprocess.run([PROGRAMS / name, '--packages'], check=True, capture_output=True)
        for package in needed.stdout.decode().split():
            state = subprocess.run(['dpkg-query', '-W', '-f', '${db:Status-Status}', package],
                                   check=False, capture_output=True)
            if state.stdout != b'installed':
                do_without(f"the package '{package}' is not installed")
    return make(name)


if __name__ == '__main__':
    for wanted in sys.argv[1:] or ENDINGS:
        print(make(wanted))
