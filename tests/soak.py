#!/usr/bin/env python3
"""soak.py: clusters that come and go, several at once, with kills at random; nothing may be left

Usage:
  soak.py [--clusters N] [--seconds S] [--jobs N] [--seed N]
  soak.py (-h | --help)

Allocates, injects, starts (paused) and cleans clusters of a frontend and a
compute node at a real libvirt. A third of all tools is killed (kill -9) in the
middle and run again. At the end all must be as at the start: files, domains,
processes, mounts, libvirtd's open files, and its memory but for a tenth.

Options:
  --clusters N  how many clusters in all [default: 100]
  --seconds S   begin no cluster after that time [default: 900]
  --jobs N      how many at a time [default: 4]
  --seed N      of the random numbers (default: a new one, which is printed)
  -h, --help    show this text
"""
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import docopt
from conftest import ROOT, SCRATCH, Site, make_image, pack
from test_interruption import settled
from test_vc_inject import mounts, processes

WARM_UP = 8
"""Clusters before the first look: a daemon that has just begun has not what it keeps."""

TOOLS = (('vc-allocate', '--num-cpus', '1', '--name'), ('vc-inject',), ('vc-boot', '--paused', '--no-wait'),
         ('vc-clean',))


class Soak:
    """A site, and what is counted of its clusters' lives."""

    def __init__(self, site, seed):
        self.site = site
        self.random = random.Random(seed)
        self.kills = self.clusters = 0
        self.staged = site.run('vc-stage', input=site.run('vc-parse', site.vc_in).stdout).stdout

    def live(self, name):
        """The life of one cluster."""
        document = self.staged
        for tool, *arguments in TOOLS:
            if arguments[-1:] == ['--name'] or tool == 'vc-clean':
                arguments.append(name)
            if tool == 'vc-allocate':
                arguments += ['--key', self.site.key]
            if self.random.random() < 1 / 3:
                self.kill(tool, arguments, document)
            path = self.site.temp / 'clusters' / name / 'document.xml'
            if tool == 'vc-allocate' and path.exists():
                document = path.read_bytes()
            else:
                document = self.site.run(tool, *arguments, input=document).stdout
        self.clusters += 1

    def kill(self, tool, arguments, document):
        """Begin a tool, and kill it after some of the time that it takes."""
        running = subprocess.Popen([ROOT / 'bin' / tool, *map(str, arguments)], stdin=subprocess.PIPE,
                                   stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                                   env=self.site.environment())
        try:
            running.stdin.write(document)
            running.stdin.close()
        except BrokenPipeError:
            pass
        time.sleep(self.random.uniform(0.02, 1))
        running.kill()
        self.kills += running.wait() == -9

    def run(self, names, jobs, seconds):
        """The lives of clusters, ``jobs`` at a time, until the time is over."""
        end = time.monotonic() + seconds

        def one(name):
            if time.monotonic() < end:
                self.live(name)
        with ThreadPoolExecutor(jobs) as pool:
            list(pool.map(one, names))

    def look(self):
        """All that there is of the site: what must be the same, and libvirtd's memory in kB."""
        assert settled(self.site), processes(self.site)
        daemon = Path('/proc', libvirtd())
        memory = next(line.split()[1] for line in (daemon / 'status').read_text().splitlines()
                      if line.startswith('VmRSS:'))
        there = {'files': sorted(str(path.relative_to(self.site.folder)) for path in self.site.folder.rglob('*')),
                 'domains': [name for name in self.site.domains() if name.startswith('soak-')],
                 'processes': processes(self.site), 'mounts': mounts(self.site),
                 "libvirtd's open files": len(list((daemon / 'fd').iterdir()))}
        return there, int(memory)


def libvirtd():
    """The process id of the embedded default's daemon."""
    from conftest import connection
    connection()
    found = subprocess.run(['pgrep', '-u', 'libvirt-qemu' if not os.geteuid() else str(os.geteuid()), '-x', 'libvirtd'],
                           capture_output=True, check=True).stdout.split()
    return found[0].decode()


def main():
    options = docopt.docopt(__doc__)
    count, seconds, jobs = (int(options[key]) for key in ('--clusters', '--seconds', '--jobs'))
    seed = int(options['--seed'] or time.time())
    print(f'seed {seed}', flush=True)
    folder = Path(tempfile.mkdtemp(prefix='pragma-soak-', dir=SCRATCH))
    folder.chmod(0o755)
    site = Site(folder)
    try:
        site.vc_in = site.add_entry('soak', pack(make_image(folder / 'little.img')))
        site.vc_in.write_text(site.vc_in.read_text().replace('1048576</memory>', '65536</memory>'))
        soak = Soak(site, seed)
        soak.run([f'soak-warm-{number}' for number in range(WARM_UP)], jobs, seconds)
        before, memory = soak.look()
        begin = time.monotonic()
        soak.clusters = soak.kills = 0
        soak.run([f'soak-{number}' for number in range(count)], jobs, seconds)
        took = time.monotonic() - begin
        after, grown = soak.look()
    finally:
        for name in site.clusters():
            site.run('vc-clean', name)
        shutil.rmtree(folder)
    print(f'{soak.clusters} clusters in {took:.0f} s, {jobs} at a time, {soak.kills} kills; '
          f'libvirtd {memory} kB before, {grown} kB after')
    left = {what: (before[what], after[what]) for what in before if before[what] != after[what]}
    if left:
        sys.exit(f'soak: not as it was: {left}')
    if grown > memory * 1.1:
        sys.exit('soak: libvirtd has grown by more than a tenth')


if __name__ == '__main__':
    main()
