"""Staged images: TEMP/images/, one raw file a source and content, made once and read-only."""
import contextlib
import os
import re

from lxml import etree

from .. import ROOT
from ..document.tree import image_file, text
from ..system import confinement, files, guestfish, log, process, terminal
from ..system.failure import Failure
from ..system.lock import exclusive
from . import formats, overlay, partition, profile

MAKEFILE = os.path.join(ROOT, 'lib', 'stage.mk')

DRAWN_SECONDS = 0.1
"""Between two drawings of the line of progress."""


def stage(root, roles, settings):
    """The staged <image> of each role, made where it is missing.

    GNU Make decides what is missing and makes several at a time. A record's name tells its
    source file as it is now, and the profile, so that a record that is there is up to date.
    """
    chosen = profile.find(text(root.find('driver')),
                          settings['profiles_path'] and settings.path_of('profiles_path'))
    at = os.path.join(settings.temporary_directory, 'images')
    os.makedirs(at, exist_ok=True)
    sources = {role: image_file(root, role) for role in roles}
    records = {role: _key(source, chosen) for role, source in sources.items()}
    for record in records.values():
        if os.path.exists(os.path.join(at, f'{record}.xml')) and not _whole(at, record):
            os.unlink(os.path.join(at, f'{record}.xml'))
    environment = {'PRAGMA_PROFILE': chosen, 'PRAGMA_TOOL': log.name,
                   'PRAGMA_MOST': str(settings.size('image_max_size'))}
    environment.update((f'PRAGMA_SOURCE_{records[role]}', source)
                       for role, source in sources.items())
    missing = {record: sources[role] for role, record in records.items()
               if not os.path.exists(os.path.join(at, f'{record}.xml'))}
    with _meter(missing.values()) as meter:
        if meter is not None:
            environment['PRAGMA_METER'] = str(meter)
        _make(at, settings.number('jobs'), sorted(set(records.values())), environment,
              [meter] if meter is not None else [])
    images = []
    for role, record in records.items():
        found = _read(at, record)
        found.set('role', role)
        _tell(found, chosen)
        images.append(found)
    return images


def _tell(found, chosen):
    """Say what of an <image> the guest profile changed, under -v, and where it could change nothing."""
    subject = f"image '{found.get('source')}'"
    for change in found.findall('change'):
        log.detail(f'{subject}: {change.text}')
    if found.get('inject') != 'debugfs' and profile.read(chosen):
        log.warn(f"{subject}: guest profile '{os.path.basename(chosen)}' is not applied: "
                  'it mends ext2/3/4 of the usual features alone')


def _key(source, chosen):
    import hashlib
    with open(chosen, 'rb') as file:
        return hashlib.sha256(formats.identity(source).encode() + file.read()).hexdigest()[:24]


def _read(at, record):
    return etree.parse(os.path.join(at, f'{record}.xml')).getroot()


def _whole(at, record):
    """Whether the staged image that a record tells of is there, of its size."""
    with contextlib.suppress(OSError, etree.XMLSyntaxError, Failure):
        check(_read(at, record))
        return True
    return False


def check(image):
    """Raise Failure unless the staged file of an <image> is there as it was made.

    Its time of modification is its source's (make_record), so that one made again is as good, and
    one that was put in its place is not.
    """
    path = image.get('path')
    try:
        found = os.stat(path)
    except OSError:
        raise Failure(f"staged image '{path}' is missing: run vc-stage again") from None
    same = image.get('modified') in (None, str(found.st_mtime_ns))
    if not same or found.st_size != int(image.get('size')) or found.st_mode & 0o222:
        raise Failure(f"staged image '{path}' was changed after it was made: "
                      'remove it and run vc-stage again')


@contextlib.contextmanager
def _meter(sources):
    """A descriptor for recipes to write a byte to for each CHUNK that they have read of ``sources``.

    What they tell is drawn while the block lasts. None where nobody would see it.
    """
    with terminal.Progress() as progress:
        if not progress or not sources:
            yield None
            return
        import threading
        ours, theirs = os.pipe()
        over = threading.Event()
        drawing = threading.Thread(target=_draw, args=(progress, ours, over, sources))
        drawing.start()
        try:
            yield theirs
        finally:
            over.set()
            os.close(theirs)
            drawing.join()
            os.close(ours)


def _draw(progress, meter, over, sources):
    """Draw what the recipes tell until the block is over; several of them are one bar."""
    import select
    total, done = sum(os.path.getsize(source) // formats.CHUNK for source in sources) * formats.CHUNK, 0
    subject = f"staging {len(sources)} image{'s' if len(sources) > 1 else ''}"
    while not over.is_set():
        if select.select([meter], [], [], DRAWN_SECONDS)[0]:
            done += len(os.read(meter, 1 << 16)) * formats.CHUNK
            over.wait(DRAWN_SECONDS)
        progress.draw_bytes(subject, done, total)


def _make(at, jobs, records, environment, descriptors):
    """Run make for the records; raises the Failure that its first failed recipe tells of."""
    environment = {**os.environ, **environment}
    for name in ('MAKEFLAGS', 'MAKELEVEL', 'MFLAGS'):
        environment.pop(name, None)
    done = process.run(
        process.bound(['make', '--silent', '--no-print-directory', '-C', at, '-f', MAKEFILE,
                       f'-j{max(jobs, 1)}', *(f'{record}.xml' for record in records)]),
        'cannot stage images', env=environment, statuses=None, descriptors=descriptors)
    if done.returncode:
        lines = done.stderr.decode(errors='replace').splitlines()
        ours = [line.removeprefix(f'{log.name}: ') for line in lines
                if line.startswith(f'{log.name}: ')]
        raise Failure(ours[0] if ours else f'cannot stage images: {process.last_line(done)}')


def make_record(record, source, chosen, most, meter=-1):
    """Stage one source file: unpack, check, mend, and write RECORD.xml, all or nothing.

    Two at once make one copy: the second waits for the first and finds the record. Works in
    the current folder, TEMP/images.
    """
    at = os.getcwd()
    with exclusive(os.path.join(at, f'{record}.lock')):
        if os.path.exists(os.path.join(at, f'{record}.xml')):
            return
        rules = profile.read(chosen)
        with files.drafted(os.path.join(at, record)) as file:
            draft = files.temporary(os.path.join(at, record))
            digest = formats.unpack(source, file, most, meter if meter >= 0 else None)
            part, changes = _prepared(draft, source, rules)
            size = os.fstat(file.fileno()).st_size
            path = os.path.join(at, _name(source, digest, rules))
            # One of the same content that is whole may be in use: it stays.
            if not os.path.exists(path) or os.path.getsize(path) != size:
                modified = os.stat(source).st_mtime_ns
                os.utime(file.fileno(), ns=(modified, modified))
                files.settle(file, draft, path, 0o444)
        found = etree.Element('image', role='', source=source, path=path, size=str(size),
                              modified=str(os.stat(path).st_mtime_ns),
                              offset=str(part.offset), length=str(part.length),
                              filesystem=part.filesystem, inject=part.inject)
        for change in changes:
            etree.SubElement(found, 'change').text = change
        files.write(os.path.join(at, f'{record}.xml'), etree.tostring(found) + b'\n')


def _name(source, digest, rules):
    """The staged file's name: its source's first word, and what decides on its content."""
    import hashlib
    word = re.sub('[^A-Za-z0-9_-]+', '-', os.path.basename(source).split('.')[0])[:40]
    content = hashlib.sha256('\n'.join([digest, *map(' '.join, rules)]).encode()).hexdigest()[:16]
    return f'{word}-{content}.raw'


def _prepared(path, source, rules):
    """Check and mend the unpacked image at ``path``: its Partition, and what was changed, a line each."""
    part = partition.find(path, source)
    if part.inject != 'debugfs':
        return part, []
    if partition.needs_recovery(path, part):
        try:
            with _scratch(path) as scratch, overlay.exported(path, 'raw', part, scratch) as volume:
                volume.run(['e2fsck', '-p', '-E', 'journal_only', volume.device],
                           f"image '{source}': cannot replay the journal", statuses=(0, 1))
        except overlay.NoFuse as error:
            log.warn(f'no FUSE ({error}): replaying the journal through libguestfs')
            guestfish.replay_journal(path, f"image '{source}'")
    with confinement.lent(path) as image:
        partition.check(image.at(part.offset), f"image '{source}'")
    changes = []
    if rules:
        moment = partition.written(path, part)
        with confinement.lent(path, writing=True) as image:
            changes = profile.apply(rules, image.at(part.offset), moment, f"image '{source}'")
    if changes:
        with confinement.lent(path) as image:
            partition.check(image.at(part.offset), f"image '{source}' as mended")
    return part, changes


@contextlib.contextmanager
def _scratch(path):
    """A folder beside the file at ``path`` for the block, made anew."""
    scratch = f'{path}.scratch'
    overlay.discard(scratch)
    os.mkdir(scratch, 0o700)
    try:
        yield scratch
    finally:
        overlay.discard(scratch)
