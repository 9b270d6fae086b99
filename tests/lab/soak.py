#!/usr/bin/env python3
"""soak.py: make and remove many clusters, kill tools at random; nothing may be left

Usage:
  soak.py [--clusters N] [--seconds S] [--jobs N] [--seed N]
  soak.py (-h | --help)

Allocates, injects, starts (paused) and removes clusters of a frontend and a
compute node on a real libvirt. A third of all tools is killed (kill -9) while
it runs, and run again. Files, domains, processes, mounts and the open files of
libvirtd must be the same at the end as at the start, and libvirtd's memory at
most 5 % more than after half of the clusters.

Options:
  --clusters N  the number of clusters [default: 100]
  --seconds S   the maximum time [default: 900]
  --jobs N      the number of clusters at a time [default: 4]
  --seed N      seed of the random numbers (default: a new one, which is printed)
  -h, --help    show this help
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

from lab import ROOT, SCRATCH
from lab.images import make_image, pack
from lab.leftovers import mounts, processes, settled
from lab.site import Site, connection
from pragma_boot.engine import session

WARM_UP = 8
"""Clusters before the first count: a daemon that has just started allocates more later."""

TOOLS = (('vc-allocate', '--num-cpus', '1', '--name'), ('vc-inject',),
         ('vc-boot', '--paused', '--ignore-dependencies'),
         ('vc-clean',))


class Soak:
    """A site, and the counts of its clusters and kills."""

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
        """Start a tool, and kill it while it runs."""
        running = subprocess.Popen([ROOT / 'bin' / tool, *map(str, arguments)],
                                   stdin=subprocess.PIPE,
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
        """Run the lives of clusters, ``jobs`` at a time, until the time is over."""
        end = time.monotonic() + seconds

        def one(name):
            if time.monotonic() < end:
                self.live(name)
        with ThreadPoolExecutor(jobs) as pool:
            list(pool.map(one, names))

    def look(self):
        """The state of the site that must stay the same, and libvirtd's memory in kB."""
        assert settled(self.site), processes(self.site)
        daemon = Path('/proc', libvirtd())
        memory = next(line.split()[1] for line in (daemon / 'status').read_text().splitlines()
                      if line.startswith('VmRSS:'))
        there = {'files': sorted(str(path.relative_to(self.site.folder))
                                 for path in self.site.folder.rglob('*')),
                 'domains': [name for name in self.site.domains() if name.startswith('soak-')],
                 'processes': processes(self.site), 'mounts': mounts(self.site),
                 "libvirtd's open files": open_files(daemon / 'fd')}
        return there, int(memory)


def open_files(folder):
    """The number of files that a daemon keeps open: the least within two seconds."""
    def count():
        time.sleep(0.1)
        return len(os.listdir(folder))
    return min(count() for _ in range(20))


def libvirtd():
    """The process id of the embedded default's daemon."""
    connection()
    runtime = os.environ['XDG_RUNTIME_DIR'] if os.geteuid() else session.RUNTIME
    return Path(runtime, 'libvirt', 'libvirtd.pid').read_text().strip()


def with_a_daemon_of_its_own():
    """Run this program again, as root, with new folders for the session daemon.

    Other users of the daemon would change the counts.
    """
    script = ('for folder in "$1" "$2"; do mkdir -p "$folder"; mount -t tmpfs tmpfs "$folder"; '
              'done; shift 2; exec "$@"')
    os.execvp('unshare',
              ['unshare', '--mount', 'sh', '-c', script, 'sh', session.HOME, session.RUNTIME,
                          'env', 'PRAGMA_SOAK=1', sys.executable, *sys.argv])


def main():
    options = docopt.docopt(__doc__)
    count, seconds, jobs = (int(options[key]) for key in ('--clusters', '--seconds', '--jobs'))
    seed = int(options['--seed'] or time.time())
    if not os.geteuid() and 'PRAGMA_SOAK' not in os.environ:
        with_a_daemon_of_its_own()
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
        soak.run([f'soak-{number}' for number in range(count // 2)], jobs, seconds / 2)
        half = soak.look()[1]
        soak.run([f'soak-{number}' for number in range(count // 2, count)], jobs, seconds / 2)
        took = time.monotonic() - begin
        after, end = soak.look()
    finally:
        for name in site.clusters():
            site.run('vc-clean', name)
        shutil.rmtree(folder)
    print(f'{soak.clusters} clusters in {took:.0f} s, {jobs} at a time, {soak.kills} kills; '
          f'libvirtd {memory} kB before, {half} kB half-way, {end} kB after')
    left = {what: (before[what], after[what]) for what in before if before[what] != after[what]}
    if left:
        sys.exit(f'soak: not as it was: {left}')
    # The heap of a daemon grows to what it needs for several things at once, and then stays.
    if end > half * 1.05:
        sys.exit('soak: libvirtd still grows')


if __name__ == '__main__':
    main()
