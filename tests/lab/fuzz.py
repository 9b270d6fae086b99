#!/usr/bin/env python3
"""fuzz.py: run the tools on inputs that are changed at random

Usage:
  fuzz.py [--seconds N] [--seed N] [--target NAME]... [--keep DIR]
  fuzz.py --list
  fuzz.py (-h | --help)

Changes good documents, disks and arguments at random, by hypothesis, and runs
the tools on them. A tool must not print a traceback, hang, exit with a status
other than 0, 1, 2, 3 and 130, write part of its output, or leave an unfinished
file. An input that makes one do so is reduced, printed, and saved to a file.

Options:
  --seconds N    the time for all targets [default: 60]
  --seed N       seed of the random numbers (default: a new one, which is printed)
  --target NAME  only this target; may be repeated (default: all)
  --keep DIR     the folder for saved inputs [default: .]
  --list         list the targets
  -h, --help     show this help
"""
import ast
import contextlib
import importlib.machinery
import importlib.util
import io
import os
import random
import re
import shutil
import struct
import sys
import tempfile
import time
from pathlib import Path

import docopt
import hypothesis
from hypothesis import strategies as st
from lxml import etree

from lab import ROOT, SCRATCH
from lab.images import make_image, pack
from lab.site import Site
from pragma_boot.cli import tool as tools
from pragma_boot.document import tree as documents
from pragma_boot.image import profile, record
from pragma_boot.system import log, streams

STATUSES = {0, 1, 2, 3, 130}
HANGS = 60
"""Seconds after which a tool hangs."""

WORDS = ['', '-1', '0', '1', '1e9', '65536', '99999999999999999999', '٣', ' ', 'a' * 300,
         '../../etc/passwd', '/etc/passwd',
         'a b;$(id)', '-rf', "'\"<&>", 'frontend', 'compute', 'qemu:///session', 'qemu:///system',
         'none', '::1', '10.1.1.1',
         '255.255.255.255', '0.0.0.0', '52:54:00:00:00:01', 'e\u0301\U0001f600', '\u202e', '\x85',
         'json:{}', '%s%n', '{0}']


class Finding(AssertionError):
    """A tool does what it must not do."""


class Target:
    """A tool, and how its inputs are made: a strategy of (arguments, bytes on standard input)."""

    def __init__(self, site, name, main, inputs):
        self.site, self.name, self._main, self._inputs = site, name, main, inputs
        self.examples, self.last = 0, None

    def run(self, seconds, seed):
        """Run examples for some seconds; raises Finding with the smallest that is wrong."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            seed += 1

            @hypothesis.seed(seed)
            @hypothesis.settings(max_examples=20, deadline=None, database=None, print_blob=False,
                                 suppress_health_check=list(hypothesis.HealthCheck),
                                 phases=[hypothesis.Phase.generate, hypothesis.Phase.shrink])
            @hypothesis.given(self._inputs)
            def one(given):
                self.examples += 1
                self.last = given
                self.check(*given)
            one()

    def check(self, arguments, data):
        """Run one example; raises Finding."""
        status, out, err = self._forked(arguments, data)
        output = err.decode(errors='replace')
        if status not in STATUSES:
            raise Finding(f'status {status}: {output}')
        if 'Traceback' in output or 'internal error' in output:
            raise Finding(output)
        strange = [line for line in output.splitlines() if not line.startswith(f'{self.name}: ')]
        if strange:
            raise Finding(f'not in the name of the tool: {strange}')
        if status and (out or not output):
            raise Finding(f'status {status}, stdout {out[:100]}, stderr {output}')
        if not status:
            root = etree.fromstring(out, etree.XMLParser(huge_tree=True))
            if root.tag == 'vc' and root.find('source') is not None:
                documents.validate(root, 'document', 'the output')
        self._left()

    def _left(self):
        """Raise Finding for what is unfinished; remove what was made whole."""
        left = [path for path in self.site.temp.rglob('.*') if path.name != '.lock']
        half = [path for path in self.site.temp.glob('clusters/*')
                if not (path / 'document.xml').exists()]
        for path in self.site.temp.glob('clusters/*'):
            if path.name != 'kept':
                shutil.rmtree(path)
        if left or half:
            raise Finding(f'left: {[str(path) for path in left + half]}')

    def _forked(self, arguments, data):
        """Run the tool's main in a fork of this process; its status, stdout and stderr."""
        with contextlib.ExitStack() as stack:
            given, out, err = (stack.enter_context(tempfile.TemporaryFile()) for _ in range(3))
            given.write(data)
            given.seek(0)
            child = os.fork()
            if not child:
                self._become(arguments, given, out, err)
            end, ended = time.monotonic() + HANGS, 0
            while not ended:
                ended, status = os.waitpid(child, os.WNOHANG)
                if not ended and time.monotonic() > end:
                    os.killpg(child, 9)
                    os.waitpid(child, 0)
                    raise Finding(f'hangs: nothing after {HANGS} s')
                time.sleep(0 if ended else 0.002)
            for file in (out, err):
                file.seek(0)
            return os.waitstatus_to_exitcode(status), out.read(), err.read()

    def _become(self, arguments, *files):
        """Run the tool in the child; does not return."""
        status = 99
        try:
            os.setpgid(0, 0)
            for number, file in enumerate(files):
                os.dup2(file.fileno(), number)
            sys.stdin, sys.stdout, sys.stderr = (
                io.TextIOWrapper(open(number, mode, closefd=False),    # noqa: SIM115 - to the end
                                 write_through=True)
                for number, mode in ((0, 'rb'), (1, 'wb'), (2, 'wb')))
            sys.argv = [self.name, *arguments]
            log.name, log.verbose = self.name, False
            os.environ.update(self.site.environment())
            try:
                status = tools.run(self._main)
            except SystemExit as error:
                status = error.code
            for stream in (sys.stdout, sys.stderr):
                stream.flush()
        finally:
            os._exit(status)


def main_of(name):
    """The main of a tool of bin/."""
    loader = importlib.machinery.SourceFileLoader(name.replace('-', '_'), str(ROOT / 'bin' / name))
    module = importlib.util.module_from_spec(importlib.util.spec_from_loader(loader.name, loader))
    loader.exec_module(module)
    return module.main


words = st.one_of(st.sampled_from(WORDS), st.text(max_size=20), st.integers().map(str))


@st.composite
def trees(draw, base):
    """A document like ``base`` with changed elements, attributes, texts or bytes."""
    root = etree.fromstring(base)
    for _ in range(draw(st.integers(0, 4))):
        elements = list(root.iter(etree.Element))
        element = elements[draw(st.integers(0, len(elements) - 1))]
        parent = element.getparent()
        what = draw(st.sampled_from(['text', 'attribute', 'no attribute', 'remove', 'twice',
                                     'rename', 'move', 'comment']))
        # lxml raises it for what is not a name, or a character that XML does not have.
        with contextlib.suppress(ValueError):
            if what == 'text':
                element.text = draw(words)
            elif what == 'attribute':
                name = draw(st.sampled_from([*element.attrib, 'type', 'name', 'x']))
                element.set(name, draw(words))
            elif what == 'no attribute' and element.attrib:
                del element.attrib[draw(st.sampled_from(sorted(element.attrib)))]
            elif what == 'rename':
                element.tag = draw(st.sampled_from([other.tag for other in elements] + ['x']))
            elif what == 'comment':
                element.insert(0, etree.Comment('x'))
            elif parent is not None and what == 'remove':
                parent.remove(element)
            elif parent is not None and what == 'twice':
                parent.append(etree.fromstring(etree.tostring(element, with_tail=False)))
            elif parent is not None and what == 'move':
                elements[draw(st.integers(0, len(elements) - 1))].append(element)
    document = etree.tostring(root)
    return draw(changed(document)) if draw(st.integers(0, 4)) == 0 else document


@st.composite
def changed(draw, base):
    """Bytes like ``base``: cut short, or with some put in or in the place of others."""
    data = bytearray(base)
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, max(len(data) - 1, 0)))
        how = draw(st.sampled_from(['cut', 'put', 'replace']))
        if how == 'cut':
            del data[at:]
        else:
            new = draw(st.one_of(st.binary(min_size=1, max_size=8),
                                 st.sampled_from([b'&x;', b'<!DOCTYPE vc>', b'\0', b'<',
                                                  b'<![CDATA[', b'<?x?>'])))
            data[at:at + (len(new) if how == 'replace' else 0)] = new
    return bytes(data)


TABLE, SUPERBLOCK = (440, 512), (1 << 20 | 1024, 1 << 20 | 2048)
"""Where a disk is changed: its DOS table; the superblock of partition 1, and what follows it."""


@st.composite
def disks(draw, base):
    """The changes of a disk: (offset, bytes) pairs, and its length."""
    numbers = st.sampled_from([0, 1, 2, 63, 2047, 2048, 0x7fffffff, 0x80000000, 0xffffffff]).map(
        lambda number: struct.pack('<I', number))
    bounds = st.sampled_from([TABLE, SUPERBLOCK, (SUPERBLOCK[1], SUPERBLOCK[1] + 65536),
                              (0, len(base) - 8)])
    pieces = []
    for _ in range(draw(st.integers(1, 5))):
        first, last = draw(bounds)
        pieces.append((draw(st.integers(first, last - 4)),
                       draw(st.one_of(numbers, st.binary(min_size=1, max_size=4)))))
    return pieces, draw(st.sampled_from([len(base)] * 6 + [512, 1 << 20, len(base) - 512,
                                                           len(base) // 2, len(base) - 1]))


def partition_reader(site, base):
    """A main that prepares a changed disk, and the strategy of the changes, as text on stdin."""
    path = site.folder / 'disk.raw'
    rules = profile.read(profile.find('rocks6_client'))

    def main(argv, stdin, stdout):
        pieces, size = ast.literal_eval(stdin.read().decode())
        with open(path, 'wb') as file:
            file.write(base)
            for offset, data in pieces:
                file.seek(offset)
                file.write(data)
            file.truncate(size)
        part, _ = record._prepare(str(path), 'disk.raw', '', rules)
        streams.write(stdout, f"<partition offset='{part.offset}'/>".encode())
        return 0
    return main, disks(base).map(lambda changes: ((), repr(changes).encode()))


def targets(site, folder):
    """All targets, by name."""
    image = make_image(folder / 'little.img',
                       [('root/x', b'x'), ('etc/sysconfig/network', b'GATEWAY=1\n')], '4M')
    site.vc_in = site.add_entry('kept', pack(image))
    vc_in = site.vc_in.read_bytes()
    parsed = site.document('kept', 'vc-parse')
    staged = site.document('kept', 'vc-stage')
    allocated = site.run('vc-allocate', '--num-cpus', 2, '--name', 'kept', '--key', site.key,
                         input=staged).stdout
    injected = site.run('vc-inject', input=allocated).stdout
    anything = st.one_of(*map(trees, (vc_in, parsed, staged, allocated, injected)))
    counts = st.one_of(st.sampled_from(['0', '1', '3', '250']), words)
    keys = st.sampled_from([str(site.key), '/dev/null', '/etc/passwd', '/', 'none'])
    arguments = st.builds(
        lambda count, name, key: (f'--num-cpus={count}', f'--name={name}', f'--key={key}'),
                          counts, words, keys).filter(lambda given: '\0' not in ''.join(given))
    found = {'vc-parse': (main_of('vc-parse'), trees(vc_in).map(
                 lambda data: (('--base', str(site.vc_in.parent)), data))),
             'vc-stage': partition_reader(site, image.read_bytes()),
             'vc-allocate': (main_of('vc-allocate'), st.tuples(arguments, trees(staged)))}
    for name, *options in (('vc-parse', '--base', str(site.vc_in.parent)), ('vc-stage',),
                           ('vc-allocate', '--num-cpus', '1'),
                           ('vc-out',), ('vc-inject',), ('vc-boot', '--print')):
        found[f'{name} of any document'] = (
            main_of(name), anything.map(lambda data, options=tuple(options): (options, data)))
    return {name: Target(site, name.split()[0], *pair) for name, pair in found.items()}


def main():
    options = docopt.docopt(__doc__)
    folder = Path(tempfile.mkdtemp(prefix='pragma-fuzz-', dir=SCRATCH))
    folder.chmod(0o755)
    try:
        site = Site(folder)
        known = targets(site, folder)
        if options['--list']:
            print(*known, sep='\n')
            return
        chosen = options['--target'] or list(known)
        seed = int(options['--seed'] or random.randrange(1 << 32))
        print(f'seed {seed}', flush=True)
        for name in chosen:
            target = known[name]
            try:
                target.run(int(options['--seconds']) / len(chosen), seed)
            except Finding as error:
                kept = Path(options['--keep'], f"fuzz-{re.sub('[^a-z]+', '-', name)}-{seed}")
                kept.write_bytes(repr(target.last[0]).encode() + b'\n' + target.last[1])
                sys.exit(f'{name}: {error}\nwith {target.last[0]} and standard input '
                         f'(saved as {kept}):\n{target.last[1]!r}')
            print(f'{name}: {target.examples} examples', flush=True)
    finally:
        for name in site.clusters():
            site.run('vc-clean', name)
        shutil.rmtree(folder)


if __name__ == '__main__':
    main()
