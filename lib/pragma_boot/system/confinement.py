"""Run programs that read authors' images with as few rights as they need.

An image is half-trusted, and e2fsprogs, sfdisk, blkid and QEMU's block layer parse it. A program
that an image takes over runs as nobody (where we are root), can gain no privilege, has no network
of the host, ends by itself, and has open only the files that it was given: images are passed as
open descriptors, so that none of our folders need be open to it.

By setpriv(1), prlimit(1), unshare(1) and nsenter(1) of util-linux, each started by the one before;
``child`` does the same for functions of ours.
"""
from __future__ import annotations

import contextlib
import functools
import os
import pwd
from collections.abc import Collection, Iterator, Sequence
from typing import TYPE_CHECKING

from . import log, process
from .failure import Failure, cause

if TYPE_CHECKING:
    import subprocess

SECONDS = 900
"""CPU time of one program: e2fsck takes minutes on file systems of terabytes."""

MEMORY = 8 << 30
"""Bytes of address space of one program."""

MORE = 1 << 30
"""Bytes that a program may write into a file beyond the size of the image."""


class Confined:
    """An image, or a file system in it, for programs that ``run`` confines.

    ``device`` is the name by which these programs open it.
    """

    def __init__(self, device: str, wrap: Sequence[str], descriptors: Sequence[int] = ()) -> None:
        self.device = device
        self._wrap = wrap
        self._descriptors = descriptors

    def at(self, offset: int) -> Confined:
        """The file system at ``offset`` bytes, named as e2fsprogs expect it (ext2fs_open2)."""
        return Confined(f'{self.device}?offset={offset}', self._wrap, self._descriptors)

    def run(self, argv: Sequence[str], subject: str, input: bytes | None = None,
            statuses: Collection[int] | None = (0,),
            descriptors: Sequence[int] = ()) -> subprocess.CompletedProcess[bytes]:
        """Run ``argv`` confined, with ``descriptors`` open too; otherwise as process.run."""
        return process.run(argv, subject, input, statuses=statuses, wrap=self._wrap,
                           descriptors=(*self._descriptors, *descriptors))


@contextlib.contextmanager
def opened(path: str, writing: bool = False) -> Iterator[Confined]:
    """Open the raw image at ``path`` for confined programs that run in the block."""
    with open(path, 'rb+' if writing else 'rb') as file:
        number, limit = file.fileno(), os.path.getsize(path) + MORE
        with group_access(number, writing):
            yield Confined(f'/dev/fd/{number}', command(limit), (number,))


@contextlib.contextmanager
def group_access(descriptor: int, writing: bool = True) -> Iterator[None]:
    """Where we are root, let the group of nobody use an open file or folder in the block."""
    before = os.fstat(descriptor)
    # A file that everybody may read keeps the mode that its author gave it.
    if os.geteuid() or (not writing and before.st_mode & 0o044 == 0o044):
        yield
        return
    own = before.st_mode & 0o700
    try:
        os.fchown(descriptor, -1, nobody().pw_gid)
    except OSError as error:
        path = os.readlink(f'/proc/self/fd/{descriptor}')
        raise Failure(f"cannot give '{path}' to the group of nobody: {cause(error)}: root may not "
                      'on this file system or in this container (root_squash, no CAP_CHOWN)'
                      ) from None
    os.fchmod(descriptor, own | (own if writing else own & 0o500) >> 3)
    try:
        yield
    finally:
        os.fchown(descriptor, -1, before.st_gid)
        os.fchmod(descriptor, before.st_mode & 0o7777)


def command(limit: int) -> list[str]:
    """The command that confines a program, which may make files ``limit`` bytes large."""
    return [*_stripped(limit), *_without_network()]


def isolate(limit: int) -> list[str]:
    """The command that starts a daemon in namespaces of its own, where it can mount.

    ``limit`` is the largest file in bytes that it may write.
    """
    return [*_stripped(limit), 'unshare', '--user', '--map-root-user', '--mount', '--net', '--']


def enter(daemon: int, limit: int) -> list[str]:
    """The command that starts a program in the namespaces and the folder of a process.

    ``daemon`` is the process id of a program that was started by ``isolate``.
    """
    return [*_stripped(limit), 'nsenter', f'--target={daemon}', '--user',
            '--preserve-credentials', '--mount', '--net', '--wd', '--',
            'setpriv', '--bounding-set=-all', '--']


@functools.cache
def refusal() -> str | None:
    """Why this host does not let us make user namespaces; None where it does."""
    try:
        process.run(['true'], 'no user namespaces', wrap=isolate(MORE))
    except Failure as failure:
        return str(failure)
    return None


def _without_network() -> list[str]:
    if refusal():
        log.detail(f'{refusal()}: programs that read images keep access to the network')
        return []
    return ['unshare', '--user', '--map-current-user', '--net', '--']


def as_owner(descriptor: int, limit: int) -> list[str]:
    """The command that starts a program as the owner of an open file, which stays as it is.

    ``limit`` is the largest file in bytes that it may write.
    """
    found = os.fstat(descriptor)
    stripped = _stripped(limit, (found.st_uid, found.st_gid))
    if found.st_uid or os.geteuid():
        return [*stripped, *_without_network()]
    # A root without capabilities cannot make a user namespace.
    return [*([] if refusal() else ['unshare', '--net', '--']), *stripped]


def _stripped(limit: int, user: tuple[int, int] | None = None) -> list[str]:
    """Set limits, rule out new privileges and, where we are root, become nobody or ``user``."""
    drop: list[str] = []
    if os.geteuid() == 0:
        uid, gid = user or (nobody().pw_uid, nobody().pw_gid)
        drop = [f'--reuid={uid}', f'--regid={gid}', '--clear-groups',
                # Where the owner is root, its rights are those of the files' owner alone.
                *(['--bounding-set=-all'] if uid == 0 else [])]
    options = [f'--{name}={lowered(*pair)}' for name, pair in limits(limit, MEMORY).items()]
    return ['prlimit', *options, '--',
            'setpriv', '--no-new-privs', *drop, '--']


def limits(limit: int, memory: int) -> dict[str, tuple[int, int]]:
    """The limits of a confined process by their names in prlimit(1): what, and how much."""
    import resource
    return {'cpu': (resource.RLIMIT_CPU, SECONDS), 'as': (resource.RLIMIT_AS, memory),
            'fsize': (resource.RLIMIT_FSIZE, limit), 'core': (resource.RLIMIT_CORE, 0)}


def lowered(kind: int, limit: int) -> int:
    """A limit of ours, or the caller's own hard limit where that is lower: it cannot be raised."""
    import resource
    hard = resource.getrlimit(kind)[1]
    return limit if hard == resource.RLIM_INFINITY else min(limit, hard)


@functools.cache
def nobody() -> pwd.struct_passwd:
    """The user that confined programs run as where we are root."""
    return pwd.getpwnam('nobody')
