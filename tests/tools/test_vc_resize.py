"""vc-resize, and vc-allocate on a document that has a cluster. No guest boots: ssh is a fake."""
import os
import re
import shlex
import threading

import pytest
from lxml import etree

from lab.nodes import disks, mine, virsh, without_dependency
from lab.site import lines

SSH = '''#!/bin/sh
for word; do printf '%s\\n' "$word"; done >{folder}/ssh.arguments
cat >{folder}/ssh.document
echo x >>{folder}/ssh.calls
cat {folder}/ssh.says >&2
exit $(cat {folder}/ssh.status)
'''


class Frontend:
    """The frontend of a cluster, as a fake ssh shows it."""

    def __init__(self, site):
        self.site = site
        self.folder = site.folder
        (site.folder / 'fake').mkdir()
        program = site.folder / 'fake' / 'ssh'
        program.write_text(SSH.format(folder=shlex.quote(str(site.folder))))
        program.chmod(0o755)
        self.answers(0)

    def answers(self, status, says=''):
        (self.folder / 'ssh.status').write_text(f'{status}\n')
        (self.folder / 'ssh.says').write_text(says)

    @property
    def calls(self):
        path = self.folder / 'ssh.calls'
        return path.read_text().count('x') if path.exists() else 0

    @property
    def arguments(self):
        return (self.folder / 'ssh.arguments').read_text().splitlines()

    @property
    def nodes(self):
        """The compute nodes of the document that it was told."""
        told = etree.fromstring((self.folder / 'ssh.document').read_bytes())
        assert told.find('compute').get('count') == str(len(told.findall('compute/node')))
        return [node.get('name') for node in told.iterfind('compute/node')]


@pytest.fixture
def frontend(site, monkeypatch):
    """The frontend of a site's only cluster, which has 1 + 2 nodes of 2 CPUs."""
    without_dependency(site)
    found = Frontend(site)
    monkeypatch.setenv('PATH', f"{site.folder}/fake:{os.environ['PATH']}")
    site.document(site.entry, 'vc-boot')
    (folder(site) / 'frontend.known_hosts').write_text('frontend ssh-ed25519 AAAA\n')
    return found


def folder(site):
    return site.temp / 'clusters' / site.entry


def document(site):
    return etree.parse(folder(site) / 'document.xml').getroot()


def nodes(site):
    """The compute nodes of the ledger and their CPUs."""
    return {node.get('name'): int(node.get('cpus'))
            for node in document(site).iterfind("cluster/node[@role='compute']")}


def check(site, *names):
    """Ledger, domains and files agree: the frontend and the compute nodes ``names``."""
    names = ['frontend', *names]
    root = document(site)
    assert [node.get('name') for node in root.iterfind('cluster/node')] == names
    assert mine(site) == sorted(f'{site.entry}-{name}' for name in names)
    for key in ('ip', 'mac'):
        cards = [card.get(key) for card in root.iterfind('cluster/node/interface')]
        assert len(set(cards)) == len(names) + 1
    of_nodes = {path.name.split('.')[0] for path in folder(site).iterdir()
                if re.fullmatch(r'(frontend|compute-\d+)\..*', path.name)}
    assert of_nodes == set(names)
    assert all(os.path.exists(path) for path in disks(etree.tostring(root)).values())
    assert not [path for path in folder(site).iterdir() if path.name.startswith('.')]
    assert not (folder(site) / 'resizing').exists()


def resize(site, num_cpus, *arguments, **options):
    return site.run('vc-resize', '--num-cpus', num_cpus, *arguments, site.entry, **options)


def state_of(site, name):
    """What must stay as it is of a node: process, disk and place in the document."""
    disk = os.stat(disks(etree.tostring(document(site)))[name])
    node, = document(site).xpath(f"cluster/node[@name='{name}']")
    # Not its <state>, which the document of a filter has.
    rest = [etree.tostring(element, method='c14n2', with_tail=False)
            for element in node if element.tag != 'state']
    return (virsh('domid', f'{site.entry}-{name}'), disk.st_ino, disk.st_mtime_ns,
            dict(node.attrib), rest)


def test_grows_and_leaves_the_old_nodes_alone(site, frontend):
    old = {name: state_of(site, name) for name in ('frontend', 'compute-0', 'compute-1')}
    done = resize(site, 7)
    assert (done.stdout, done.stderr) == (b'', b'')
    assert nodes(site) == {'compute-0': 2, 'compute-1': 2, 'compute-2': 2, 'compute-3': 1}
    check(site, 'compute-0', 'compute-1', 'compute-2', 'compute-3')
    assert old == {name: state_of(site, name) for name in old}
    assert {'running'} == {virsh('domstate', f'{site.entry}-{name}').strip()
                           for name in ('compute-2', 'compute-3')}
    assert frontend.nodes == [f'compute-{number}' for number in range(4)]
    assert frontend.calls == 1


def test_the_frontend_is_told_with_the_clusters_own_key(site, frontend):
    resize(site, 5)
    words = frontend.arguments
    assert words[-1] == 'pragma-guest update'
    options = dict(word.split('=', 1) for word in words if '=' in word)
    assert options['IdentityFile'] == f'"{folder(site)}/id_ed25519"'
    assert options['UserKnownHostsFile'] == f'"{folder(site)}/frontend.known_hosts"'
    assert (options['StrictHostKeyChecking'], options['BatchMode'], options['IdentitiesOnly']) == (
        'yes', 'yes', 'yes')
    told = (site.folder / 'ssh.document').read_bytes()
    current = (folder(site) / 'document.xml').read_bytes()
    assert told == site.run('vc-out', input=current).stdout
    keys = etree.fromstring(told).findtext('key').splitlines()
    assert keys[-1].startswith('command="/usr/local/sbin/pragma-guest update",restrict ssh-ed25519')


def test_shrinks_from_the_highest_number(site, frontend):
    resize(site, 8)
    old = {name: state_of(site, name) for name in ('frontend', 'compute-0')}
    resize(site, 2, '--timeout', 77)
    assert frontend.arguments[-1] == 'pragma-guest update --drain 77'
    assert frontend.nodes == ['compute-0']
    check(site, 'compute-0')
    assert old == {name: state_of(site, name) for name in old}
    # What they had is given again.
    before = {card.get('ip') for card in document(site).iterfind('cluster/node/interface')}
    resize(site, 4)
    check(site, 'compute-0', 'compute-1')
    after = {card.get('ip') for card in document(site).iterfind('cluster/node/interface')}
    assert len(after - before) == 1


def test_a_frontend_alone_and_back(site, frontend):
    resize(site, 0)
    check(site)
    assert frontend.nodes == []
    resize(site, 3)
    check(site, 'compute-0', 'compute-1')
    assert nodes(site) == {'compute-0': 2, 'compute-1': 1}


def test_grows_from_a_frontend_whose_compute_image_was_never_staged(site):
    without_dependency(site)
    parsed = site.run('vc-parse', site.vc_in).stdout
    staged = site.run('vc-stage', '--types', 'frontend', input=parsed).stdout
    allocated = site.run('vc-allocate', '--num-cpus', 0, '--key', site.key, input=staged).stdout
    site.run('vc-boot', '--paused', input=site.run('vc-inject', input=allocated).stdout)
    resize(site, 1, status=1)
    assert document(site).find("image[@role='compute']") is not None
    assert mine(site) == [f'{site.entry}-compute-0', f'{site.entry}-frontend']


def test_the_same_number_tells_the_frontend_alone(site, frontend):
    before = (folder(site) / 'document.xml').read_bytes()
    resize(site, 4)
    assert frontend.calls == 1 and frontend.nodes == ['compute-0', 'compute-1']
    assert (folder(site) / 'document.xml').read_bytes() == before
    check(site, 'compute-0', 'compute-1')


def test_a_shortage_reserves_nothing(site, frontend):
    before = (folder(site) / 'document.xml').read_bytes()
    with open(site.conf, 'a', encoding='utf-8') as conf:
        conf.write('cpu_overcommit = 0.001\n')
    line = site.fails('vc-resize', '--num-cpus', 6, site.entry, status=3)
    assert line.startswith('vc-resize: not enough room: ') and 'CPUs' in line
    assert (folder(site) / 'document.xml').read_bytes() == before
    assert frontend.calls == 0
    check(site, 'compute-0', 'compute-1')


def test_a_frontend_that_cannot_be_reached(site, frontend):
    """The cluster stays grown, and the line says what to type."""
    frontend.answers(255, 'ssh: connect to host 127.0.0.1 port 22: Connection refused\n')
    line = site.fails('vc-resize', '--num-cpus', 5, site.entry)
    assert line == (f"vc-resize: cluster '{site.entry}' has 5 CPUs now, but its frontend cannot be "
                    'reached: ssh: connect to host 127.0.0.1 port 22: Connection refused; when it '
                    f"can be reached, 'vc-resize --num-cpus 5 {site.entry}' tells it its nodes")
    assert mine(site) == [f'{site.entry}-{name}' for name in (
        'compute-0', 'compute-1', 'compute-2', 'frontend')]
    frontend.answers(0)
    # vc-boot tells it too.
    site.run('vc-boot', input=(folder(site) / 'document.xml').read_bytes())
    assert frontend.nodes == ['compute-0', 'compute-1', 'compute-2']
    check(site, 'compute-0', 'compute-1', 'compute-2')


def test_a_frontend_that_has_not_reported_its_host_key(site, frontend):
    (folder(site) / 'frontend.known_hosts').unlink()
    line = site.fails('vc-resize', '--num-cpus', 5, site.entry)
    assert 'has 5 CPUs now, but ' in line and 'has not reported its host key' in line
    assert frontend.calls == 0


@pytest.mark.parametrize('status, says, said', [
    (3, 'pragma-guest: drain.d/10-slurm: compute-1 runs 2 jobs\n',
     'the nodes are not idle after 5 s: drain.d/10-slurm: compute-1 runs 2 jobs'),
    (255, 'Permission denied\n', 'its frontend cannot be reached: Permission denied'),
    (1, 'pragma-guest: configure.d/10-x: no munge\n',
     'its frontend is not ready: configure.d/10-x: no munge'),
])
def test_nodes_are_not_removed_without_the_frontend(site, frontend, status, says, said):
    frontend.answers(status, says)
    before = (folder(site) / 'document.xml').read_bytes()
    line = site.fails('vc-resize', '--num-cpus', 2, '--timeout', 5, site.entry)
    assert line == (f"vc-resize: cluster '{site.entry}' is not resized: {said}; with --force, "
                    'nodes are removed without asking it')
    assert (folder(site) / 'document.xml').read_bytes() == before
    check(site, 'compute-0', 'compute-1')
    line = site.fails('vc-resize', '--num-cpus', 2, '--force', site.entry)
    assert 'has 2 CPUs now, but' in line and frontend.arguments[-1] == 'pragma-guest update'
    frontend.answers(0)
    resize(site, 2)
    check(site, 'compute-0')


def test_nodes_are_not_divided(site, frontend):
    line = site.fails('vc-resize', '--num-cpus', 3, site.entry)
    assert line == (f"vc-resize: cluster '{site.entry}' cannot shrink to 3 CPUs: node 'compute-1' "
                    'has 2, and nodes are not divided: use --num-cpus 2 or 4')
    assert frontend.calls == 0


def test_unequal_nodes(site, frontend):
    """New nodes are at most as large as the largest, with the memory of the smallest that fits."""
    site.run('vc-clean', site.entry)
    staged = site.document(site.entry, 'vc-parse')
    staged = site.run('vc-stage', input=staged).stdout
    allocated = site.run('vc-allocate', '--nodes', '1x4:96M,1x1:64M', '--key', site.key,
                         input=staged).stdout
    site.run('vc-boot', '--paused', input=site.run('vc-inject', input=allocated).stdout)
    (folder(site) / 'frontend.known_hosts').write_text('frontend ssh-ed25519 AAAA\n')
    resize(site, 11)
    found = {node.get('name'): (node.get('cpus'), int(node.get('memory')) >> 10)
             for node in document(site).iterfind("cluster/node[@role='compute']")}
    assert found == {'compute-0': ('4', 96), 'compute-1': ('1', 64), 'compute-2': ('3', 96),
                     'compute-3': ('3', 96)}
    line = site.fails('vc-resize', '--num-cpus', 4, '--timeout', 'x', site.entry, status=2)
    assert 'must be a whole number' in line
    resize(site, 5)
    check(site, 'compute-0', 'compute-1')


def ready(site, *names):
    """Report that nodes are ready, on the consoles of guests that report nothing themselves."""
    for name in names:
        with open(folder(site) / f'{name}.console.log', 'ab') as console:
            console.write(f'\r\npragma_boot: ready {name}\r\n'.encode())


def test_waits_again_when_repeated(site, frontend):
    """As after a kill: the nodes are started, and the frontend knows them."""
    for name in mine(site):
        virsh('resume', name)
    resize(site, 5)
    ready(site, 'frontend', 'compute-0')
    done = resize(site, 5, '--wait', '--timeout', 1, status=1)
    assert "'compute-1', 'compute-2' not ready after 1 s" in lines(done.stderr)[-1]
    timer = threading.Timer(15, ready, [site, 'compute-1', 'compute-2'])
    timer.start()
    done = resize(site, 5, '--wait')
    timer.join()
    assert [re.sub('[0-9]+ s', 'N s', line) for line in lines(done.stderr)] == [
        f'vc-resize: {name} is ready after N s' for name in ('compute-1', 'compute-2')]
    assert resize(site, 5, '--wait').stderr == b''


@pytest.mark.parametrize('what', ['stopped', 'never started'])
def test_a_cluster_that_does_not_run(site, what):
    without_dependency(site)
    site.document(site.entry, 'vc-inject')
    if what == 'stopped':
        site.run('vc-start', site.entry)
        site.run('vc-shutdown', '--timeout', 0, site.entry)
    before, domains = (folder(site) / 'document.xml').read_bytes(), mine(site)
    said = f"the frontend of cluster '{site.entry}' does not run: 'vc-start {site.entry}' first"
    for words in (('6',), ('6', '--force'), ('4',), ('2',)):
        assert site.fails('vc-resize', site.entry, '--num-cpus', *words) == f'vc-resize: {said}'
    assert (folder(site) / 'document.xml').read_bytes() == before and mine(site) == domains
    line = site.fails('vc-resize', site.entry, '--num-cpus', '2', '--force')
    assert 'has 2 CPUs now, but ' in line and nodes(site) == {'compute-0': 2}
    assert 'has 2 CPUs now, but ' in site.fails('vc-resize', site.entry, '--num-cpus', '2',
                                                '--force')


def test_as_filters(site, frontend):
    """vc-status --xml c | vc-allocate --num-cpus 5 | vc-inject | vc-boot"""
    old = {name: state_of(site, name) for name in ('compute-0', 'compute-1')}
    now = site.run('vc-status', '--xml', site.entry).stdout
    assert site.run('vc-allocate', input=now).stdout == now
    assert site.run('vc-allocate', '--num-cpus', 4, input=now).stdout == now
    dry = site.run('vc-allocate', '--num-cpus', 5, '--dry-run', input=now).stdout
    assert nodes(site) == {'compute-0': 2, 'compute-1': 2}
    allocated = site.run('vc-allocate', '--num-cpus', 5, input=now)
    assert allocated.stderr == b''
    grown = etree.fromstring(allocated.stdout)
    assert [node.get('name') for node in grown.iterfind('cluster/node')] == [
        'frontend', 'compute-0', 'compute-1', 'compute-2']
    assert allocated.stdout == dry
    # Nothing else of the document has changed.
    new, = grown.xpath("cluster/node[@name='compute-2']")
    new.getparent().remove(new)
    assert etree.tostring(grown, method='c14n2') == etree.tostring(etree.fromstring(now),
                                                                   method='c14n2')
    assert nodes(site) == {'compute-0': 2, 'compute-1': 2, 'compute-2': 1}
    injected = site.run('vc-inject', input=allocated.stdout).stdout
    assert frontend.calls == 0
    site.run('vc-boot', input=injected)
    check(site, 'compute-0', 'compute-1', 'compute-2')
    assert frontend.nodes == ['compute-0', 'compute-1', 'compute-2']
    assert old == {name: state_of(site, name) for name in old}
    site.run('vc-boot', input=injected)
    assert frontend.calls == 1


def test_a_filter_whose_output_is_lost_reserves_nothing(site, frontend):
    now = site.run('vc-status', '--xml', site.entry).stdout
    with open('/dev/full', 'wb') as full:
        done = site.run('vc-allocate', '--num-cpus', 8, input=now, stdout=full, stderr=-1, status=1)
    assert b'No space left on device' in done.stderr
    check(site, 'compute-0', 'compute-1')


def test_what_filters_refuse(site, frontend):
    now = site.run('vc-status', '--xml', site.entry).stdout
    line = site.fails('vc-allocate', '--num-cpus', 2, input=now)
    assert 'has 4 CPUs, and a filter removes no nodes' in line
    assert line.endswith(f": 'vc-resize --num-cpus 2 {site.entry}' does")
    assert '--nodes is for a new cluster' in site.fails('vc-allocate', '--nodes', '3x2', input=now)
    assert site.run('vc-allocate', '--nodes', '2x2', input=now).stdout == now
    check(site, 'compute-0', 'compute-1')


def test_a_cluster_of_an_external_driver(site):
    lines_of = site.run('vc-parse', site.vc_in).stdout
    root = etree.fromstring(lines_of)
    name = f'{site.entry}-x'
    cluster = etree.SubElement(root, 'cluster', name=name)
    etree.SubElement(etree.SubElement(
        cluster, 'node', role='frontend', name='frontend', fqdn='a.example.org', cpus='1',
        memory='1024', host='driver:seed'), 'interface', network='private',
        mac='52:54:00:00:00:01', ip='10.1.1.1', netmask='255.255.0.0')
    etree.SubElement(cluster, 'dns', ip='10.1.1.1', search='local', domain='')
    (site.temp / 'clusters' / name).mkdir(parents=True)
    (site.temp / 'clusters' / name / 'document.xml').write_bytes(etree.tostring(root))
    said = (f"cluster '{name}' cannot be resized: an external driver booted it, and no driver can "
            'add nodes to a cluster or remove them')
    assert site.fails('vc-resize', '--num-cpus', 4, name) == f'vc-resize: {said}'
    assert site.fails('vc-allocate', '--num-cpus', 4,
                      input=etree.tostring(root)) == f'vc-allocate: {said}'
    os.unlink(site.temp / 'clusters' / name / 'document.xml')
    os.rmdir(site.temp / 'clusters' / name)


def test_bad_input(site):
    assert "no cluster 'x'" in site.fails('vc-resize', '--num-cpus', 4, 'x')
    for words in (('x',), ('--num-cpus', '-1', 'x'), ('--num-cpus', 'x', 'x'),
                  ('--num-cpus', '4')):
        site.fails('vc-resize', *words, status=2)
    assert lines(site.run('vc-resize', '--help').stdout)[0].startswith('vc-resize: ')
