"""Tools are killed (KILL, TERM) at each step: they work when run again, and nothing leaks."""
import hashlib
import shutil
import subprocess
from concurrent.futures import ThreadPoolExecutor

import pytest

from lab import ROOT
from lab.kills import KILL_AT, need_kill_at
from lab.leftovers import mounts, processes, settled
from lab.needs import need_fuse
from lab.nodes import mine
from lab.site import Site

SITES = 4
"""Sites at a time: most of the time of a destroy is spent waiting."""

STATUSES = {'KILL': (128 + 9,), 'TERM': (0, 130, 128 + 15)}
"""The statuses of a tool after each signal. It may have finished before; SIGTERM ends a Python
that still starts."""


class Lives(Site):
    """A site for one cluster after another, with its own TMPDIR."""

    def __init__(self, folder, entry, image, ports):
        folder.mkdir()
        super().__init__(folder, f'private_ports = {ports}00-{ports}49\n'
                                 f'ssh_ports = {ports}50-{ports}99\n')
        self.entry = entry
        self.parsed = self.run('vc-parse', self.add_entry(entry, image)).stdout
        self.document = self.temp / 'clusters' / entry / 'document.xml'
        self.tools = {
            'vc-stage': (),
            'vc-allocate': ('--num-cpus', 1, '--name', entry, '--key', self.key),
            'vc-inject': (),
            'vc-boot': ('--paused', '--ignore-dependencies', '--node', 'frontend'),
            'vc-status': ('--xml', entry),
            'vc-clean': (entry,)}
        self.counts, self.reference = {}, {}

    def environment(self):
        return {**super().environment(), 'TMPDIR': str(self.folder / 'tmp')}

    def kill(self, how, step, tool, document):
        """Run a tool and kill it at a step, 0 for never; the number and text of the last step."""
        # Files, not pipes: children that live on would keep a pipe open.
        with open(self.folder / 'out', 'wb') as out, open(self.folder / 'err', 'w+b') as err:
            done = subprocess.run(
                [*KILL_AT, how, str(step), ROOT / 'bin' / tool, *map(str, self.tools[tool])],
                stdout=out,
                input=document, stderr=err, env=self.environment(), check=False, timeout=120)
            err.seek(0)
            *before, last = err.read().decode().splitlines()
        number, output = last.split(' ', 1)
        assert done.returncode in (STATUSES[how] if step else (0,)), (output, before)
        assert not [line for line in before if 'Traceback' in line], before
        return int(number), output

    def live(self, steps):
        """The life of a cluster; tools in ``steps`` are killed at (signal, step) and run again.

        All that is there afterwards must equal the first life, in which no tool is killed.
        """
        for folder in ('temp', 'tmp'):
            shutil.rmtree(self.folder / folder, ignore_errors=True)
        (self.folder / 'tmp').mkdir()
        document, images = self.parsed, None
        for tool, arguments in self.tools.items():
            if tool in ('vc-boot', 'vc-status') and 'vc-clean' not in steps:
                continue
            output = None
            try:
                if tool in steps:
                    output = self.kill(*steps[tool], tool, document)
                    self.counts.setdefault(tool, output[0])
                # A whole reservation is there, even where its document was not written to stdout.
                known = tool == 'vc-allocate' and self.document.exists()
                again = self.run(tool, *arguments, input=document, status=int(known))
                document = self.document.read_bytes() if known else again.stdout
                found = self.snapshot()
                assert found == self.reference.setdefault(tool, found)
                if tool == 'vc-stage':
                    images = self.images()
            except AssertionError as error:
                raise AssertionError(f'{tool}, killed at {output}: {error}') from error
        assert self.images() == images
        assert self.clusters() == [] and not found['domains'] and not found['processes']

    def images(self):
        """The staged images with mode and content."""
        return {path.name: (path.stat().st_mode, hashlib.sha256(path.read_bytes()).digest())
                for path in (self.temp / 'images').glob('*.raw')}

    def snapshot(self):
        """The state of the site: files, domains and processes."""
        assert settled(self), processes(self)
        files = sorted(str(path.relative_to(self.folder)) for folder in ('temp', 'tmp')
                       for path in (self.folder / folder).rglob('*'))
        half_made = [name for name in files if '/.' in name or name.startswith('tmp/')]
        assert half_made == [] == mounts(self)
        return {'files': files, 'processes': len(processes(self)), 'domains': mine(self)}


@pytest.fixture
def sites(site, little_image):
    """Several sites, each with its own ports."""
    found = [Lives(site.folder / str(count), f'{site.entry}-{count}', little_image, 251 + count)
             for count in range(SITES)]
    yield found
    for one in found:
        for name in one.clusters():
            one.run('vc-clean', name)


@pytest.mark.parametrize('ends', [40, pytest.param(400, marks=pytest.mark.long)])
def test_row_22_28_a_killed_tool_runs_again_and_nothing_leaks(sites, ends):
    """``ends`` kills in all, half of them by SIGTERM, evenly spaced over the steps of each tool."""
    need_fuse()
    need_kill_at()
    with ThreadPoolExecutor(SITES) as pool:
        list(pool.map(lambda site: site.live(dict.fromkeys(site.tools, ('KILL', 0))), sites))
        counts = sites[0].counts
        total = sum(counts.values())
        parts = {tool: max(round(ends * count / total), 2) for tool, count in counts.items()}
        assert sum(parts.values()) >= ends - len(parts)
        lives = [{tool: (('KILL', 'TERM')[number % 2], 1 + number * counts[tool] // parts[tool])
                  for tool in parts if number < parts[tool]}
                 for number in range(max(parts.values()))]

        def some(first):
            for steps in lives[first::SITES]:
                sites[first].live(steps)
        list(pool.map(some, range(SITES)))
