"""Guest profiles: what vc-stage edits in its copy of an image (pragma_boot-profile(5)).

<driver> of a vc-in.xml names the profile. The paths in a profile are the site's, the files at these
paths are the image author's: only file names that debugfs.NAME matches are used, and no link is
followed.
"""
from __future__ import annotations

import fnmatch
import os
import re
import stat
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from .. import ROOT
from ..system import debugfs, log
from ..system.confinement import Confined
from ..system.failure import Failure, cause

FOLDER = os.path.join(ROOT, 'drivers', 'kvm', 'profiles')

FALLBACK = 'generic'

SEED = 'cloud_init'
"""The profile of images whose nodes get their settings from seed disks: no edits, ever."""

WORD = '[A-Za-z_][A-Za-z0-9_]*'

MAXIMUM_BYTES = 1 << 20
"""A larger file is not a configuration file, and is not edited."""

Edits = dict[str, bytes | None]
"""The new content of files by their paths, None for a file that is removed."""


class Rule(NamedTuple):
    """A line of a profile, for the files of ``folder`` whose names match ``pattern``.

    ``action`` is 'remove', or 'strip' for the removal of lines that begin with ``word``.
    """

    action: str
    word: str
    folder: str
    pattern: str


def find(name: str, site_folder: str | None = None) -> str:
    """The path of the profile ``name``, or of FALLBACK; the site's folder comes before ours.

    Raises Failure where neither is there.
    """
    folders = [folder for folder in (site_folder, FOLDER) if folder]
    for chosen in (name, FALLBACK):
        for folder in folders:
            path = os.path.join(folder, chosen)
            if os.path.isfile(path):
                if chosen != name:
                    log.warn(doubt(name, site_folder))
                return path
    raise Failure(f"no guest profile '{name}' and no '{FALLBACK}' in {', '.join(folders)}")


def doubt(name: str, site_folder: str | None = None) -> str:
    """What the author should know where there is no profile ``name``; '' where there is one."""
    import difflib
    folders = [folder for folder in (site_folder, FOLDER) if folder and os.path.isdir(folder)]
    known = sorted({one for folder in folders for one in os.listdir(folder)})
    if name in known:
        return ''
    similar = difflib.get_close_matches(name, known, 1)
    hint = f"is it '{similar[0]}'?" if similar else f"the profiles are {', '.join(known)}"
    return (f"no guest profile '{name}' in {', '.join(folders)}, which <driver> names: {hint}; "
            f"'{FALLBACK}' is used")


def read(path: str) -> list[Rule]:
    """The Rules of a profile; raises Failure for a wrong line."""
    try:
        with open(path, encoding='utf-8') as file:
            lines = file.read().splitlines()
    except (OSError, UnicodeDecodeError) as error:
        reason = cause(error) if isinstance(error, OSError) else 'not UTF-8 text'
        raise Failure(f"cannot open guest profile '{path}': {reason}") from None
    rules = []
    for count, line in enumerate(lines, 1):
        words = line.split('#', 1)[0].split()
        if words:
            rule = _rule(words)
            if rule is None:
                raise Failure(f"{path}:{count}: not 'remove /path' or 'strip WORD /path': "
                              f"'{line.strip()}'")
            rules.append(rule)
    return rules


def _rule(words: Sequence[str]) -> Rule | None:
    """The Rule that the words of a line make, None where they make none."""
    (action, *between), path = words[:-1] or [''], words[-1]
    folder, _, pattern = path.rpartition('/')
    names = [*folder.split('/')[1:], re.sub('[*?]', 'x', pattern)]
    if action == 'remove':
        right = not between
    else:
        right = action == 'strip' and len(between) == 1 and bool(re.fullmatch(WORD, between[0]))
    if not right or not path.startswith('/') or not all(map(debugfs.is_name, names)):
        return None
    return Rule(action, ''.join(between), folder, pattern)


def apply(rules: Sequence[Rule], volume: Confined, seconds: int, subject: str) -> list[str]:
    """Edit an ext2, ext3 or ext4 file system by ``rules``; what was and was not done, a line each.

    ``seconds`` since the epoch is the time of all changes, so that the result is reproducible.
    Raises Failure.
    """
    folders = sorted({folder for rule in rules for folder in _with_parents(rule.folder)})
    entries = debugfs.listing(volume, folders, subject)
    edits: Edits = {}
    report = []
    for rule in rules:
        links = [folder for folder in _with_parents(rule.folder)[1:]
                 if not _is_folder(folder, entries)]
        if links:
            if _entry(links[0], entries):
                report.append(f'left {rule.folder}/{rule.pattern}: {links[0]} is not a folder')
            continue
        for name in sorted(fnmatch.filter(entries[rule.folder or '/'], rule.pattern)):
            path = f'{rule.folder}/{name}'
            if edits.get(path, b'') is not None:
                report += _edit(rule, path, entries, edits, volume, subject)
    if edits:
        debugfs.edit(volume, edits, entries, seconds, subject)
    return list(dict.fromkeys(report))


def _edit(rule: Rule, path: str, entries: debugfs.Listing, edits: Edits, volume: Confined,
          subject: str) -> Iterator[str]:
    """Add the new content of the file ``path`` to ``edits``; yields the report."""
    entry = _entry(path, entries)
    assert entry is not None    # ``path`` comes from the listing
    if rule.action == 'remove' and not stat.S_ISDIR(entry.mode):
        edits[path] = None
        yield f'removed {path}'
    elif rule.action == 'remove':
        yield f'left {path}: it is a folder'
    elif not stat.S_ISREG(entry.mode) or entry.size > MAXIMUM_BYTES:
        yield f'left {path}: it is not a file of at most {MAXIMUM_BYTES >> 20} MiB'
    else:
        old = edits.get(path) if path in edits else None
        if old is None:
            old = debugfs.content(volume, path, entry, subject)
        line = rb'^[ \t]*' + rule.word.encode() + rb'(?![A-Za-z0-9_]).*\n?'
        new = re.sub(line, b'', old, flags=re.M)
        if new != old:
            edits[path] = new
            yield f'stripped {rule.word} from {path}'


def _with_parents(folder: str) -> list[str]:
    """A folder and those above it, from '/' on."""
    names = folder.split('/')
    return ['/', *('/'.join(names[:count]) for count in range(2, len(names) + 1))]


def _entry(path: str, entries: debugfs.Listing) -> debugfs.Entry | None:
    folder, name = path.rsplit('/', 1)
    return entries.get(folder or '/', {}).get(name)


def _is_folder(path: str, entries: debugfs.Listing) -> bool:
    entry = _entry(path, entries)
    return entry is not None and stat.S_ISDIR(entry.mode)
