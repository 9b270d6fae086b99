"""Guest profiles: what staging mends inside the copy of an image of a kind (pragma_boot-profile(5)).

vc-in.xml's <driver> names the profile. Its paths are the site's; what an image has at them is its
author's, so that no name of an image's is used but one that debugfs.NAME fits, and no link is followed.
"""
import fnmatch
import os
import re
import stat
from typing import NamedTuple

from .. import ROOT
from ..system import debugfs, log
from ..system.failure import Failure, cause

FOLDER = os.path.join(ROOT, 'drivers', 'kvm', 'profiles')

FALLBACK = 'generic'

WORD = re.compile('[A-Za-z_][A-Za-z0-9_]*')

MOST_BYTES = 1 << 20
"""A file that is larger is no configuration: it is not stripped."""


class Rule(NamedTuple):
    """A line of a profile: to remove the files of ``folder`` that fit ``pattern``, or the lines in
    them that begin with ``word``."""

    action: str
    word: str
    folder: str
    pattern: str


def find(name, site_folder=None):
    """The file of the profile ``name``, of the site's folder or of ours, or of the fallback."""
    folders = [folder for folder in (site_folder, FOLDER) if folder]
    for chosen in (name, FALLBACK):
        for folder in folders:
            path = os.path.join(folder, chosen)
            if os.path.isfile(path):
                if chosen != name:
                    log.detail(f"no guest profile '{name}' in {', '.join(folders)}: '{FALLBACK}' is used")
                return path
    raise Failure(f"no guest profile '{name}' and no '{FALLBACK}' in {', '.join(folders)}")


def read(path):
    """The Rules of a profile; raises Failure for a line that is none."""
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
                raise Failure(f"{path}:{count}: not 'remove /path' or 'strip WORD /path': '{line.strip()}'")
            rules.append(rule)
    return rules


def _rule(words):
    """The Rule that a line's words are, None where they are none."""
    (action, *between), path = words[:-1] or [''], words[-1]
    folder, _, pattern = path.rpartition('/')
    names = [*folder.split('/')[1:], re.sub('[*?]', 'x', pattern)]
    right = (action == 'remove' and not between
             or action == 'strip' and len(between) == 1 and WORD.fullmatch(between[0]))
    if not right or not path.startswith('/') or not all(map(debugfs.is_name, names)):
        return None
    return Rule(action, ''.join(between), folder, pattern)


def apply(rules, volume, moment, subject):
    """Mend an ext2/3/4 Confined by ``rules``; returns what was done, and what was left, a line each.

    ``moment`` is the time of all changes, in seconds since the epoch: the same image comes out the same.
    """
    folders = sorted({folder for rule in rules for folder in _above(rule.folder)})
    there = debugfs.listing(volume, folders, subject)
    edits, told = {}, []
    for rule in rules:
        links = [folder for folder in _above(rule.folder)[1:] if not _is_folder(folder, there)]
        names = [] if links else sorted(fnmatch.filter(there[rule.folder or '/'], rule.pattern))
        if links and _entry(links[0], there):
            told.append(f'left {rule.folder}/{rule.pattern}: {links[0]} is no folder')
        for name in names:
            path = f'{rule.folder}/{name}'
            if edits.get(path, '') is not None:
                told += _edit(rule, path, there, edits, volume, subject)
    if edits:
        debugfs.mend(volume, edits, there, moment, subject)
    return list(dict.fromkeys(told))


def _edit(rule, path, there, edits, volume, subject):
    """Enter into ``edits`` the new content of a file, None for its removal; yields what to tell."""
    entry = _entry(path, there)
    if rule.action == 'remove' and not stat.S_ISDIR(entry.mode):
        edits[path] = None
        yield f'removed {path}'
    elif rule.action == 'remove':
        yield f'left {path}: it is a folder'
    elif not stat.S_ISREG(entry.mode) or entry.size > MOST_BYTES:
        yield f'left {path}: it is no file of at most {MOST_BYTES >> 20} MiB'
    else:
        old = edits[path] if path in edits else debugfs.content(volume, path, entry, subject)
        new = re.sub(rb'^[ \t]*' + rule.word.encode() + rb'(?![A-Za-z0-9_]).*\n?', b'', old, flags=re.M)
        if new != old:
            edits[path] = new
            yield f'stripped {rule.word} from {path}'


def _above(folder):
    """A folder and all above it, from '/' on."""
    names = folder.split('/')
    return ['/', *('/'.join(names[:count]) for count in range(2, len(names) + 1))]


def _entry(path, there):
    folder, name = path.rsplit('/', 1)
    return there.get(folder or '/', {}).get(name)


def _is_folder(path, there):
    entry = _entry(path, there)
    return entry is not None and stat.S_ISDIR(entry.mode)
