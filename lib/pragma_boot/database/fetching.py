"""Entries of remote databases, brought to TEMP/fetched: whole and verified, or not at all.

SITE is a folder for each database, an entry in it a folder of the entry's name with a vc-in.xml and
its images. An entry is made in `.NAME.new`, and gets its name when it is whole; the files that a
break left there have their digests as names, and are gone on with.
"""
from __future__ import annotations

import contextlib
import os
import posixpath
import shlex
import shutil
from typing import NamedTuple

from lxml import etree

from ..document import parts, tree, vcin
from ..system import files, lock, log, transfer
from ..system.failure import Failure
from ..system.settings import Settings
from ..system.web import Broken
from . import sums, vcdb
from .remote import Remote
from .sums import Digest

FETCHED, CHANGED, HERE, KEPT = 'fetched', 'changed', 'here', 'kept'
"""What ``fetch`` did: an entry is new, took the place of one, was here, or stayed as it was."""

WHOLE, OLD, PART = 'whole', 'old', '.part'
"""In .NAME.new: the entry that is being made, the one that it takes the place of, broken files."""

MAXIMUM_VC_IN = 1 << 20


class Entry(NamedTuple):
    """A fetched entry: its vc-in.xml and digests by paths in its folder, and who signed them."""

    vc_in: str
    digests: dict[str, Digest]
    signer: str
    time: str


class Site:
    """The folder with what was fetched of a database."""

    def __init__(self, remote: Remote, settings: Settings, folder: str | None = None,
                 mirror: bool = False) -> None:
        self.remote = remote
        self.options = ['--mirror'] * mirror + (['--to', folder] if folder else [])
        """Those of vc-fetch that lead here."""
        if remote.url != settings.base_path.rstrip('/'):
            self.options += ['--base_path', remote.url]
        self.options += settings.option
        self.folder = folder or os.path.join(settings.temporary_directory, 'fetched',
                                             remote.folder_name())
        self._signed = bool(settings['database_keyring'])

    def command(self, *words: str) -> str:
        """A vc-fetch with the options that lead here."""
        return f"'{shlex.join(['vc-fetch', *words[:-1], *self.options, words[-1]])}'"

    def path(self, name: str) -> str:
        """The path of the vc-in.xml of an entry that is here."""
        entry = self.entry(name)
        assert entry
        return os.path.join(self.folder, name, entry.vc_in)

    def entry(self, name: str) -> Entry | None:
        """The entry that is here, None where it is not; raises Failure for a damaged record."""
        path = os.path.join(self.folder, name, vcdb.RECORD)
        try:
            with open(path, 'rb') as record:
                root = tree.parse(record.read(), f"'{path}'")
        except (FileNotFoundError, NotADirectoryError):
            return None
        return Entry(root.get('vc-in'), {
            file.get('path'): Digest(file.get('algorithm'), file.get('digest'))
            for file in root.iterfind('file')}, root.get('signer'), root.get('time'))

    def fetch(self, name: str, update: bool = False) -> str:
        """Fetch an entry unless it is here: FETCHED, CHANGED, HERE or KEPT; raises Failure."""
        if vcdb.checked(name) in (vcdb.FILE, *sums.FILES):
            raise Failure(f"entry '{name}' has the name of a file of a database")
        try:
            relative = vcdb.chosen(self.remote.entries, self.remote.url, name)
        except Broken as broken:
            return self._do_without(name, broken, update)
        begun = os.path.exists(self._new(name))
        if not begun and (done := self._compare(name, relative, update)):
            return done
        os.makedirs(self.folder, exist_ok=True)
        with self._locked(name):
            self._restore(name)
            # Another process may have fetched it meanwhile, or have been killed at its end.
            if done := self._compare(name, relative, update):
                if begun and done == HERE:
                    shutil.rmtree(self._new(name), ignore_errors=True)
                return done
            before = self.entry(name)
            self._make(name, relative, before)
            return CHANGED if before else FETCHED

    def _locked(self, name: str) -> contextlib.AbstractContextManager[None]:
        return lock.exclusive(os.path.join(self.folder, f'.{name}.lock'))

    def _new(self, name: str) -> str:
        return os.path.join(self.folder, f'.{name}.new')

    def _do_without(self, name: str, broken: Broken, update: bool) -> str:
        """Take what is here where the server cannot be reached; raises Failure."""
        if os.path.exists(self._new(name)):
            with self._locked(name):
                self._restore(name)
        there = self.entry(name)
        if not there or update:
            raise broken
        if self._signed and not there.signer:
            raise Failure(f"{broken}; the entry '{name}' that is here was fetched without a "
                          'signature, and database_keyring is set')
        log.warn(f"{broken}: the entry '{name}' of {there.time} is used")
        return HERE

    def _compare(self, name: str, relative: str, update: bool) -> str:
        """HERE or KEPT for an entry that is here and stays, '' for one that is to be fetched.

        Says so where the server has another one.
        """
        there = self.entry(name)
        if not there:
            return ''
        changed = self._changes(name, relative, there)
        if not changed:
            if self.remote.signer and not there.signer:
                self._record(os.path.join(self.folder, name),
                             there._replace(signer=self.remote.signer))
            return HERE
        if update:
            return ''
        log.warn(f"entry '{name}' has changed at '{self.remote.url}' ({', '.join(changed)}): "
                 f"the one of {there.time} is used; {self.command('--update', name)} takes the "
                 'other')
        return KEPT

    def _changes(self, name: str, relative: str, there: Entry) -> list[str]:
        """The files of an entry that the server has otherwise, or no longer."""
        folder = posixpath.dirname(relative)
        changed = []
        for path, digest in there.digests.items():
            published = self.remote.digests.get(posixpath.join(folder, path))
            if published and published.algorithm != digest.algorithm:
                digest = sums.of_file(os.path.join(self.folder, name, path), published.algorithm)
            if published != digest:
                changed.append(path)
        if posixpath.basename(relative) != there.vc_in:
            changed.append(posixpath.basename(relative))
        return changed

    def _restore(self, name: str) -> None:
        """Put the old entry back where a process was killed before the new one had its name."""
        old = os.path.join(self._new(name), OLD)
        if os.path.exists(old) and not os.path.exists(os.path.join(self.folder, name)):
            os.rename(old, os.path.join(self.folder, name))

    def _make(self, name: str, relative: str, before: Entry | None) -> None:
        """Fetch all files of an entry, and give the folder its name at the end."""
        new = self._new(name)
        whole = os.path.join(new, WHOLE)
        for leftover in (whole, os.path.join(new, OLD)):
            shutil.rmtree(leftover, ignore_errors=True)
        os.makedirs(whole)
        here = {digest: os.path.join(self.folder, name, path)
                for path, digest in (before.digests if before else {}).items()
                if os.path.exists(os.path.join(self.folder, name, path))}
        folder, vc_in = posixpath.split(relative)
        self._bring(folder, vc_in, new, here, MAXIMUM_VC_IN)
        paths = self._images(os.path.join(whole, vc_in), folder)
        wanted = {path: self.remote.digest(posixpath.join(folder, path)) for path in paths}
        _clear(new, {digest.hex for digest in wanted.values()})
        for path in paths:
            self._bring(folder, path, new, here)
        wanted[vc_in] = self.remote.digest(relative)
        self._record(whole, Entry(vc_in, wanted, self.remote.signer, ''))
        target = os.path.join(self.folder, name)
        if before:
            os.rename(target, os.path.join(new, OLD))
        os.rename(whole, target)
        files.sync_folder(self.folder)
        shutil.rmtree(new)

    def _bring(self, folder: str, path: str, new: str, here: dict[Digest, str],
               maximum: int = 0) -> None:
        """Bring one file into the new entry: a link to one that is here, or from the server."""
        source = posixpath.join(folder, path)
        digest, target = self.remote.digest(source), os.path.join(new, WHOLE, path)
        os.makedirs(os.path.dirname(target), exist_ok=True)
        if digest not in here:
            # A whole file loses the suffix, and a later process takes it as it is.
            here[digest] = os.path.join(new, digest.hex)
            if not os.path.exists(here[digest]):
                with transfer.drawn(f'fetching {posixpath.basename(path)}') as watch:
                    self.remote.bring(source, here[digest] + PART, watch, maximum)
                os.chmod(here[digest] + PART, 0o444)
                os.rename(here[digest] + PART, here[digest])
        files.link(here[digest], target)

    def _images(self, path: str, folder: str) -> list[str]:
        """The files that a vc-in.xml names as images, below its own folder; raises Failure."""
        root = tree.read_file(path, 'vc-in')
        found: dict[str, None] = {}
        for role in tree.ROLES:
            author = root.find(f'{role}/domain')
            disks = [] if author is None else vcin.disks(author)
            for file in (name for disk in disks for name in disk.xpath('source/@file')):
                whole = sums.checked(file, f'image of the {role}')
                split = posixpath.join(folder, whole) not in self.remote.digests
                for each in (split and parts.of(root, role, file)) or [whole]:
                    found[sums.checked(each, f"part of '{file}'")] = None
        found.pop(os.path.basename(path), None)
        return list(found)

    def _record(self, folder: str, entry: Entry) -> None:
        """Write what the folder of an entry holds."""
        import time
        root = etree.Element('fetched', {
            'url': self.remote.url, 'vc-in': entry.vc_in, 'signer': entry.signer,
            'time': entry.time or time.strftime('%Y-%m-%d %H:%M')})
        for path, digest in sorted(entry.digests.items()):
            tree.put(root, etree.Element('file', path=path, algorithm=digest.algorithm,
                                         digest=digest.hex))
        files.write(os.path.join(folder, vcdb.RECORD), tree.serialize(root))


def _clear(new: str, wanted: set[str]) -> None:
    """Remove what broke off of files that are no longer wanted."""
    for name in os.listdir(new):
        if name not in (WHOLE, OLD) and name.split('.')[0] not in wanted:
            os.unlink(os.path.join(new, name))
