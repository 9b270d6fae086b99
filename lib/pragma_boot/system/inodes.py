"""Find, remove and empty files of an ext2, ext3 or ext4 file system by their inodes.

debugfs(8) takes an inode in the place of a name, so that no name of an image is a word of a
command. e2fsck(8) then removes the names of inodes that are gone.
"""
from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from . import debugfs, process
from .confinement import Confined
from .failure import Failure

ROOT = 2
"""The inode of the root folder."""

ENTRY = r'(?m)^/(\d+)/(\d+)/\d+/\d+/([^/]+)/(\d*)/$'
"""An entry as ``ls -p`` prints it: inode, mode, user, group, name, size. No name has a '/'."""

BATCH = 20000
"""Inodes that one debugfs looks at: it prints about 700 bytes of each."""


class Found(NamedTuple):
    """A file or folder: its path, inode, mode with the type (stat(2)), and bytes."""

    path: str
    inode: int
    mode: int
    size: int


class Tree:
    """The folders of a file system. Each is read once."""

    def __init__(self, volume: Confined, subject: str) -> None:
        self._volume = volume
        self._subject = subject
        self._folders: dict[int, list[Found]] = {}

    def match(self, pattern: str) -> list[Found]:
        """What a path with '*' in its names finds; '/**' at the end finds all files below.

        Links to folders are followed, but for the last name.
        """
        folders = [Found('', ROOT, stat.S_IFDIR, 0)]
        *names, last = pattern.strip('/').split('/')
        for name in names:
            folders = [folder for one in self._named(folders, name)
                       for folder in self._folder(one)]
        if last == '**':
            return [one for folder in folders for one in self.below(folder)
                    if not stat.S_ISDIR(one.mode)]
        return self._named(folders, last)

    def below(self, found: Found) -> list[Found]:
        """A file or folder itself, and all that is in the folder; links are not followed."""
        result, folders, seen = [found], [found], {found.inode}
        while folders := [one for one in folders if stat.S_ISDIR(one.mode)]:
            self._read(folders)
            folders = [one._replace(path=f'{folder.path}/{os.path.basename(one.path)}')
                       for folder in folders for one in self._folders[folder.inode]
                       if one.inode not in seen]
            seen.update(one.inode for one in folders)
            result += folders
        return result

    def _named(self, folders: Sequence[Found], name: str) -> list[Found]:
        """What has a name, with '*' in it perhaps, in folders."""
        wanted = re.compile('.*'.join(map(re.escape, name.split('*'))), re.S)
        self._read(folders)
        return [one._replace(path=f'{folder.path}/{one.path}') for folder in folders
                for one in self._folders[folder.inode] if wanted.fullmatch(one.path)]

    def _folder(self, found: Found) -> Iterator[Found]:
        """The folder that a path leads to, if it does."""
        names = found.path.strip('/').split('/')
        if stat.S_ISDIR(found.mode):
            yield found
        elif stat.S_ISLNK(found.mode) and all(map(debugfs.is_name, names)):
            done = self._volume.run(['debugfs', '-R', f'stat {found.path}/.',
                                     self._volume.device], self._subject)
            target = re.search(r'^Inode: (\d+)\s+Type: directory',
                               done.stdout.decode(errors='replace'), re.M)
            if target:
                yield found._replace(inode=int(target[1]), mode=stat.S_IFDIR)

    def _read(self, folders: Iterable[Found]) -> None:
        """Read folders that were not read before."""
        missing = list(dict.fromkeys(one.inode for one in folders
                                     if one.inode not in self._folders))
        if not missing:
            return
        answers = _answers(self._volume, [f'ls -p <{inode}>' for inode in missing], self._subject)
        for inode, part in zip(missing, answers, strict=True):
            self._folders[inode] = [
                Found(name, int(number), int(mode, 8), int(size or 0))
                for number, mode, name, size in re.findall(ENTRY, part)
                if name not in ('.', '..') and int(number)]


def clear(volume: Confined, removed: Iterable[Found], emptied: Iterable[Found],
          subject: str) -> None:
    """Remove files, with every name of theirs, and empty others; raises Failure.

    The blocks that they had keep their content. The names of what is not there any more are taken
    away, and directories are written anew, which leaves no removed name in them.
    """
    commands = [f'clri <{inode}>' for inode in dict.fromkeys(one.inode for one in removed)]
    for inode in dict.fromkeys(one.inode for one in emptied):
        commands += [f'punch <{inode}> 0', f'set_inode_field <{inode}> size 0']
    if commands:
        debugfs.run(volume, commands, subject, write=True)
    # Everything that it can find to repair comes from us: the file system was sound before.
    volume.run(['e2fsck', '-f', '-y', '-D', volume.device], subject, statuses=(0, 1))


def describe(volume: Confined, numbers: Sequence[int], subject: str) -> Iterator[tuple[int, str]]:
    """What debugfs prints of inodes (its command ``stat``), by their numbers; raises Failure."""
    for start in range(0, len(numbers), BATCH):
        some = numbers[start:start + BATCH]
        answers = _answers(volume, [f'stat <{number}>' for number in some], subject)
        yield from zip(some, answers, strict=True)


def _answers(volume: Confined, commands: Sequence[str], subject: str) -> list[str]:
    """What debugfs prints for each of ``commands``; raises Failure."""
    # A random mark, which no name and no target of a link can have.
    mark = f'cd /{os.urandom(16).hex()}'
    done = volume.run(['debugfs', '-f', '-', volume.device], subject,
                      input=''.join(f'{mark}\n{command}\n' for command in commands).encode())
    _, *answers = done.stdout.decode(errors='surrogateescape').split(f'debugfs: {mark}\n')
    if len(answers) != len(commands):
        raise Failure(f'{subject}: debugfs: {process.last_line(done)}')
    return answers
