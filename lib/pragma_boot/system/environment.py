"""The environment of a tool and of its children: the same from a shell, cron or su."""
from __future__ import annotations

import os
import sys

PATH = ('/usr/local/sbin', '/usr/local/bin', '/usr/sbin', '/usr/bin', '/sbin', '/bin')
"""Folders of the programs that we call; e2fsprogs and util-linux are in those of root."""

UMASK = 0o022
"""QEMU's and libvirtd's users must pass through our folders. Secrets have modes of their own."""

LOCALE = ('LANGUAGE', 'LC_ALL', 'LC_MESSAGES', 'LANG')

WITHOUT_HOOKS = 'PRAGMA_NO_HOOKS'
"""The variable with which a tool has those that it calls run no hooks of the site."""

inherited: dict[str, str] = {}
"""The environment before ``prepare``, for a program that takes our place."""


def prepare() -> None:
    """Set PATH, locale, umask and the standard descriptors of this process and its children.

    The caller's PATH stays in front. Children write English, which is what we read of them, and a
    file that we open never becomes a standard stream that the caller closed.
    """
    _open_standard_descriptors()
    inherited.update(os.environ)
    given = os.environ.get('PATH', '').split(os.pathsep)
    os.environ['PATH'] = os.pathsep.join(
        [*filter(None, given), *(folder for folder in PATH if folder not in given)])
    for name in LOCALE:
        os.environ.pop(name, None)
    os.environ['LC_ALL'] = 'C'
    os.umask(UMASK)


def _open_standard_descriptors() -> None:
    """Open /dev/null in the place of each standard descriptor that is closed.

    Python's own sys.stdin and sys.stdout stay None where they were: a filter reports them. Messages
    to a closed standard error are lost, and do not go to standard output.
    """
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)    # the lowest free number: this one
    if sys.stderr is None:
        sys.stderr = open(2, 'w', closefd=False)    # noqa: SIM115 - open as long as we run
