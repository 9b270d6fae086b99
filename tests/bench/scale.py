"""The row of bench.py for sizes that no machine has: hosts are simulated, the tools are real."""
import re
import shutil

from lxml import etree

from bench.site import BIN
from lab import simulated
from pragma_boot.document import tree

HOSTS = 100
COUNTS = (1000, 10000)
CLUSTERS = 1000
TOOLS = ('vc-allocate', 'vc-inject', 'vc-boot', 'vc-status', 'vc-clean')
STATES = ('none', 'allocated', 'injected', 'booted')
"""Of the cluster when the tool of that place in TOOLS begins; vc-clean too needs the last."""
ALONE = f'virsh domstats and list, {HOSTS} hosts, 32 at a time'
ALL = f'vc-status, {CLUSTERS:,} clusters'
ONE = f'vc-status NAME, beside {CLUSTERS:,} clusters'


class Wide:
    """One cluster of many nodes, brought to the state that a tool begins with."""

    def __init__(self, site, computes):
        self.site, self.computes, self.state = site, computes, 'none'
        self.folder = site.folder / f'wide{computes}'
        self.hosts = self.folder / 'hosts'
        self.folder.mkdir(exist_ok=True)
        self.conf = self.folder / 'site_conf.conf'
        self.conf.write_text(simulated.settings(HOSTS))
        self.document = self.folder / 'temp' / 'clusters' / 'wide' / 'document.xml'
        self.staged = self.folder / 'staged.xml'
        parsed = site.entry('bench-wide', site.made('little', 16, 1), 64).read_text()
        self.staged.write_text(re.sub('<driver>[^<]*', '<driver>cloud_init', parsed))
        self.staged.write_bytes(self.run('vc-stage', self.staged))

    def command(self, tool):
        """A tool with its arguments, as it is measured."""
        words = {'vc-allocate': ['--num-cpus', str(self.computes), '--name', 'wide'],
                 'vc-boot': ['--ignore-dependencies'],
                 'vc-status': ['wide'], 'vc-clean': ['wide']}
        return ['env', *(f'{name}={value}' for name, value
                         in simulated.environment(self.hosts).items()),
                BIN / tool, '--site-conf', self.conf, *words.get(tool, [])]

    def run(self, tool, path=None):
        """Run a tool with a file on its standard input; its output."""
        return self.site.run(*self.command(tool), input=path and path.read_bytes())

    def input(self, tool):
        """The file on a tool's standard input; None for none."""
        return {'vc-allocate': self.staged, 'vc-inject': self.document,
                'vc-boot': self.document}.get(tool)

    def bring(self, state):
        """Bring the cluster to a state, from the one before or from the beginning."""
        if STATES.index(self.state) > STATES.index(state):
            self.run('vc-clean')
            self.state = 'none'
        for tool, after in zip(TOOLS, STATES[1:], strict=False):
            if STATES.index(self.state) < STATES.index(after) <= STATES.index(state):
                self.run(tool, self.input(tool))
                self.state = after

    def after(self, tool):
        """Note what a tool has made of the cluster."""
        self.state = {'vc-allocate': 'allocated', 'vc-inject': 'injected', 'vc-clean': 'none',
                      }.get(tool, 'booted')


def _fill(site):
    """A ledger of many clusters, whose nodes run on simulated hosts, and are ready."""
    wide = Wide(site, 4)
    wide.bring('allocated')
    document = wide.document.read_text()
    folder, hosts = wide.folder / 'temp' / 'clusters', simulated.uris(HOSTS)
    for index in range(CLUSTERS):
        root = etree.fromstring(document)
        root.find('cluster').set('name', f'c{index}')
        for count, node in enumerate(tree.nodes(root)):
            node.set('host', hosts[(index + count) % HOSTS])
            for card in node.findall('interface'):
                number = int(card.get('mac').replace(':', ''), 16) + index * 8
                card.set('mac', ':'.join(f'{number:012x}'[at:at + 2] for at in range(0, 12, 2)))
        place = folder / f'c{index}'
        place.mkdir()
        (place / 'document.xml').write_bytes(tree.serialize(root))
        for node in tree.nodes(root):
            simulated.run(wide.hosts, node)
            (place / f"{node.get('name')}.console.log").write_bytes(
                b'[    1.000000] a line of a kernel that boots\r\n' * 400
                + f"pragma_boot: ready {node.get('name')}\r\n".encode())
    shutil.rmtree(folder / 'wide')
    return wide


def ways(site, way):
    """Each tool on one cluster of each size; vc-status of many clusters, and what virsh takes."""
    found = []
    for count in COUNTS:
        wide = Wide(site, count - 1)
        for tool in TOOLS:
            before = STATES[min(TOOLS.index(tool), len(STATES) - 1)]
            found.append(way(f'{tool}, {count:,} nodes', wide.command(tool), wide.input(tool),
                             prepare=lambda wide=wide, before=before: wide.bring(before),
                             clean=lambda wide=wide, tool=tool: wide.after(tool), once=True))
    many = _fill(site)
    hosts = many.folder / 'uris'
    hosts.write_text(''.join(f'{uri}\n' for uri in simulated.uris(HOSTS)))
    status = many.command('vc-status')[:-1]
    script = 'xargs -P 32 -I {} virsh -q -c {} "domstats --raw --state; list --all --uuid --name"'
    return [*found, way(ALL, status), way(ONE, [*status, f'c{CLUSTERS // 2}']),
            way(ALONE, [*status[:status.index(BIN / 'vc-status')], 'sh', '-c', script], hosts)]


def goals(medians):
    """Time that is linear in nodes, memory that is bounded, and what vc-status adds to libvirt."""
    few, many = (f'{count:,} nodes' for count in COUNTS)
    growth = COUNTS[1] // COUNTS[0]
    return [*((f'{tool}, {many}, of {growth} times {few}',
               medians[f'{tool}, {many}'].seconds / medians[f'{tool}, {few}'].seconds / growth,
               1.2, '') for tool in TOOLS),
            (f'memory at {many}', max(medians[f'{tool}, {many}'].memory for tool in TOOLS) / 1000,
             600, ' MB'),
            (f'{ALL}: what is not virsh\'s', medians[ALL].seconds - medians[ALONE].seconds, 1,
             ' s'),
            (f'{ONE}, of {ALL}', medians[ONE].seconds / medians[ALL].seconds, 0.25, '')]
