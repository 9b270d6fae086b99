"""vc-resize is killed at each step: ledger and domains agree, and the same command goes on."""
import re
import subprocess
from concurrent.futures import ThreadPoolExecutor

import pytest
from lxml import etree

from lab import ROOT
from lab.kills import KILL_AT, need_kill_at
from lab.leftovers import mounts, processes, settled
from lab.needs import need_fuse
from lab.nodes import mine, without_dependency
from lab.site import Site

SITES = 3
"""Sites at a time: most of the time of a destroy is spent waiting."""

FEW, MANY = 1, 3
"""The CPUs, and nodes, of the cluster before it grows and after it."""


class Resized(Site):
    """A site with a cluster that grows and shrinks. Its frontend is a fake ssh, which succeeds."""

    def __init__(self, folder, entry, image, ports):
        folder.mkdir()
        super().__init__(folder, f'private_ports = {ports}00-{ports}49\n'
                                 f'ssh_ports = {ports}50-{ports}99\ncpus_per_node = 1\n')
        self.entry = entry
        self.vc_in = self.add_entry(entry, image)
        without_dependency(self)
        (folder / 'fake').mkdir()
        (folder / 'fake/ssh').write_text('#!/bin/sh\nexec cat >/dev/null\n')
        (folder / 'fake/ssh').chmod(0o755)
        (folder / 'tmp').mkdir()
        self.document(entry, 'vc-boot', FEW)
        self.cluster = self.temp / 'clusters' / entry
        (self.cluster / 'frontend.known_hosts').write_text('frontend ssh-ed25519 AAAA\n')
        self.counts, self.reference = {}, {}

    def environment(self):
        given = super().environment()
        return {**given, 'TMPDIR': str(self.folder / 'tmp'),
                'PATH': f"{self.folder}/fake:{given['PATH']}"}

    def kill(self, step, num_cpus):
        """Resize and kill the tool at a step, 0 for never; the number and text of the last step."""
        with open(self.folder / 'err', 'w+b') as err:
            done = subprocess.run(
                [*KILL_AT, 'KILL', str(step), ROOT / 'bin/vc-resize', '--num-cpus', str(num_cpus),
                 self.entry], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=err,
                env=self.environment(), check=False, timeout=300)
            err.seek(0)
            *before, last = err.read().decode().splitlines()
        number, output = last.split(' ', 1)
        assert done.returncode == (128 + 9 if step else 0), (output, before)
        return int(number), output

    def resize(self, num_cpus, step):
        """Resize, killed at a step, and again; all that is there must equal the first time."""
        output = self.kill(step, num_cpus)
        try:
            self.counts.setdefault(num_cpus, output[0])
            self.check_ledger()
            self.run('vc-resize', '--num-cpus', num_cpus, self.entry)
            self.check_ledger()
            found = self.snapshot()
            assert found == self.reference.setdefault(num_cpus, found)
        except AssertionError as error:
            raise AssertionError(f'to {num_cpus}, killed at {output}: {error}') from error

    def nodes(self):
        root = etree.parse(self.cluster / 'document.xml').getroot()
        return [node.get('name') for node in root.iterfind('cluster/node')]

    def check_ledger(self):
        """The ledger has every node of which a domain or a file exists."""
        assert settled(self), processes(self)
        nodes = set(self.nodes())
        assert {name.removeprefix(f'{self.entry}-') for name in mine(self)} <= nodes
        files = {path.name.lstrip('.').split('.')[0] for path in self.cluster.iterdir()
                 if re.match(r'\.?(frontend|compute-\d+)\.', path.name)}
        assert files <= nodes

    def snapshot(self):
        """The state of the site: nodes, addresses, files, domains and processes."""
        files = sorted(str(path.relative_to(self.folder)) for folder in ('temp', 'tmp')
                       for path in (self.folder / folder).rglob('*'))
        assert [name for name in files if '/.' in name or name.startswith('tmp/')] == []
        assert mounts(self) == []
        root = etree.parse(self.cluster / 'document.xml').getroot()
        return {'files': files, 'domains': mine(self), 'processes': len(processes(self)),
                'ledger': etree.tostring(root.find('cluster'), method='c14n2').decode()}


@pytest.fixture
def sites(site, little_image):
    """Several sites, each with its own ports and cluster."""
    need_fuse()
    need_kill_at()
    found = [Resized(site.folder / str(count), f'{site.entry}-{count}', little_image, 261 + count)
             for count in range(SITES)]
    yield found
    for one in found:
        for name in one.clusters():
            one.run('vc-clean', name)


@pytest.mark.parametrize('ends', [10, pytest.param(60, marks=pytest.mark.long)])
def test_a_killed_resize_goes_on(sites, ends):
    """``ends`` kills in all, half of them while it grows, evenly spaced over its steps."""
    with ThreadPoolExecutor(SITES) as pool:
        def first(site):
            for num_cpus in (MANY, FEW):
                site.resize(num_cpus, 0)
        list(pool.map(first, sites))
        counts, each = sites[0].counts, ends // 2

        def some(start):
            for number in range(start, each, SITES):
                for num_cpus in (MANY, FEW):
                    sites[start].resize(num_cpus, 1 + number * counts[num_cpus] // each)
        list(pool.map(some, range(SITES)))
    for site in sites:
        assert len(site.nodes()) == 1 + FEW
