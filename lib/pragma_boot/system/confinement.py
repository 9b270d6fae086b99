"""Programs that read authors' images, run with no more than that takes.

An image is half-trusted, and e2fsprogs, sfdisk, blkid and QEMU's block layer read it. Whoever
makes one obey has a process that belongs to nobody (where we are root), cannot gain a privilege,
has no network of the host, ends by itself, and holds open what it was lent and nothing else of
ours: images are passed as open files, so that no folder of ours need be open to it.

By setpriv(1), prlimit(1), unshare(1) and nsenter(1) of util-linux, each in the place of the last.
"""
import contextlib
import functools
import os
import pwd

from . import log, process
from .failure import Failure

SECONDS = 900
"""CPU time of one program: e2fsck takes minutes on file systems of terabytes."""

MEMORY = 8 << 30
"""Bytes of address space of one program."""

MORE = 1 << 30
"""Bytes that a program may write into a file beyond the size of the image."""


class Confined:
    """An image, or a file system in it, by the name ``device`` that programs run by ``run`` know it by."""

    def __init__(self, device, wrap, descriptors=()):
        self.device = device
        self._wrap = wrap
        self._descriptors = descriptors

    def at(self, offset):
        """The file system at an offset in bytes, as e2fsprogs name it (ext2fs_open2)."""
        return Confined(f'{self.device}?offset={offset}', self._wrap, self._descriptors)

    def run(self, argv, subject, input=None, statuses=(0,), descriptors=()):
        """Run ``argv`` to its end, confined, with ``descriptors`` open too; as process.run does."""
        return process.run(argv, subject, input, statuses=statuses, wrap=self._wrap,
                           descriptors=(*self._descriptors, *descriptors))


@contextlib.contextmanager
def lent(path, writing=False):
    """The image at ``path``, raw, for programs that are run on it in the block: a Confined."""
    with open(path, 'rb+' if writing else 'rb') as file:
        number, most = file.fileno(), os.path.getsize(path) + MORE
        with shared(number, writing):
            yield Confined(f'/dev/fd/{number}',
                           [*_stripped(most), *_without_network()], (number,))


@contextlib.contextmanager
def shared(descriptor, writing=True):
    """Let nobody's group into an open file or folder of ours for the block, where we are root."""
    before = os.fstat(descriptor)
    # What everybody may read is as its author left it.
    if os.geteuid() or (not writing and before.st_mode & 0o044 == 0o044):
        yield
        return
    own = before.st_mode & 0o700
    os.fchown(descriptor, -1, _nobody().pw_gid)
    os.fchmod(descriptor, own | (own if writing else own & 0o500) >> 3)
    try:
        yield
    finally:
        os.fchown(descriptor, -1, before.st_gid)
        os.fchmod(descriptor, before.st_mode & 0o7777)


def apart(most):
    """What begins the command of a daemon that mounts where nobody else sees it."""
    return [*_stripped(most), 'unshare', '--user', '--map-root-user', '--mount', '--net', '--']


def beside(daemon, most):
    """What begins a command that sees what the process ``daemon``, begun by ``apart``, has mounted.

    It works in the daemon's folder.
    """
    return [*_stripped(most), 'nsenter', f'--target={daemon}', '--user', '--preserve-credentials',
            '--mount', '--net', '--wd', '--', 'setpriv', '--bounding-set=-all', '--']


@functools.cache
def refusal():
    """Why this host has no user namespaces for us, None where it has."""
    try:
        process.run(['true'], 'no user namespaces', wrap=apart(MORE))
    except Failure as failure:
        return str(failure)
    return None


def _without_network():
    if refusal():
        log.detail(f'{refusal()}: programs that read images are not kept from the network')
        return []
    return ['unshare', '--user', '--map-current-user', '--net', '--']


def _stripped(most):
    """Limits, no way to a privilege, and nobody's identity where we are root."""
    drop = [] if os.geteuid() else [f'--reuid={_nobody().pw_uid}', f'--regid={_nobody().pw_gid}',
                                    '--clear-groups']
    return ['prlimit', f'--cpu={SECONDS}', f'--as={MEMORY}', f'--fsize={most}', '--core=0', '--',
            'setpriv', '--no-new-privs', *drop, '--']


@functools.cache
def _nobody():
    return pwd.getpwnam('nobody')
