"""Skip a test whose programs or rights are missing here; in CI, where all are, fail it."""
import os
import shutil
import subprocess

import pytest


def do_without(reason):
    """Skip a test that cannot run here; in CI, where all can, fail it."""
    pytest.fail(reason) if os.environ.get('CI') else pytest.skip(reason)


def need(*programs):
    """Skip a test whose programs are not installed; in CI, where all are, fail it."""
    for program in programs:
        if not shutil.which(program):
            do_without(f"'{program}' is not installed")


def need_fuse():
    """Skip a test of what FUSE alone does; in CI, where it can be used, fail it."""
    if not os.access('/dev/fuse', os.R_OK | os.W_OK):
        do_without('/dev/fuse cannot be used here')


def need_ovmf():
    """Skip a test of UEFI guests where libvirt has no firmware for them; in CI, fail it."""
    if not os.path.exists('/usr/share/OVMF/OVMF_CODE_4M.fd'):
        do_without('ovmf is not installed')


def uses_passt():
    """Whether frontends of root's session get passt: libvirt 11 has it, that of Debian 12 not."""
    if os.geteuid() or not shutil.which('passt'):
        return False
    version = subprocess.run(['virsh', '--version'], stdout=subprocess.PIPE, check=True).stdout
    return int(version.split(b'.')[0]) >= 11
