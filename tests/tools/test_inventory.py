"""vc-status --json, --ansible and --ssh-config, as jq, Ansible and ssh read them.

Real logins by ssh and Ansible are in guests/test_examples.py.
"""
import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from lab.drivers import Wrapped
from lab.needs import need
from lab.nodes import boot
from lab.site import Site, lines

KEY = 'ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAILsecFI6gt2gjlsMdQr4Dm9BHVAsQoM4aY67KQXKa0Al'
FORMATS = ('--json', '--ansible', '--ssh-config')
NODES = ('frontend', 'compute-0', 'compute-1')


def report(site, name, nodes=NODES):
    """Have nodes report their host keys."""
    for node in nodes:
        (site.temp / 'clusters' / name / f'{node}.console.log').write_text(
            f'boot\r\npragma_boot: hostkey {node} {KEY}\r\n')


@pytest.fixture
def cluster(site):
    """A site with a cluster, whose nodes have reported their host keys."""
    site.cluster_document = site.document(site.entry, 'vc-inject')
    report(site, site.entry)
    return site


def jq(output, query):
    """The lines that jq prints."""
    need('jq')
    done = subprocess.run(['jq', '-r', query], input=output, capture_output=True, check=True)
    return lines(done.stdout)


def understood(config, host):
    """The options of ssh for a host of a configuration file, by lower-case names."""
    need('ssh')
    done = subprocess.run(['ssh', '-G', '-F', config, host], capture_output=True, check=True)
    return dict(line.partition(' ')[::2] for line in lines(done.stdout))


def saved(site, name, *arguments):
    """The output of vc-status in a file."""
    path = site.folder / name
    path.write_bytes(site.run('vc-status', *arguments).stdout)
    return path


def ansible(site, program, *arguments):
    """Run a program of ansible-core with a home of its own; its CompletedProcess."""
    path = Path(sys.executable).with_name(program)
    if not path.exists():
        need(program)
    return subprocess.run([path, *map(str, arguments)], capture_output=True, check=False,
                          env={'PATH': os.environ['PATH'], 'HOME': str(site.folder),
                               'LC_ALL': 'C.UTF-8'})


def hosts(site, inventory):
    """The hosts that Ansible has from an inventory, templates resolved, by their names."""
    done = ansible(site, 'ansible', '-i', inventory, 'all', '-m', 'debug', '-a',
                   'var=hostvars[inventory_hostname]')
    assert done.returncode == 0 and b'WARNING' not in done.stderr, done
    # NAME | SUCCESS => { … } for each host
    words = re.split(r'^(\S+) \| SUCCESS => ', done.stdout.decode(), flags=re.M)[1:]
    return {name: json.loads(text)['hostvars[inventory_hostname]']
            for name, text in zip(words[::2], words[1::2], strict=True)}


def test_json(cluster):
    name = cluster.entry
    boot(cluster, cluster.cluster_document, '--node', 'frontend')
    output = cluster.run('vc-status', '--json').stdout
    assert jq(output, '.clusters[].name') == [name] == jq(output, '.clusters[].entry')
    assert jq(output, '.clusters[].nodes[] | "\\(.name) \\(.role) \\(.state) \\(.cpus)"') == [
        'frontend frontend running 1', 'compute-0 compute null 2', 'compute-1 compute null 2']
    assert jq(output, '.clusters[0].nodes[0].fqdn') == [f'{name}.local']
    assert jq(output, '[.clusters[0].nodes[].memory_kib] | add') == [str(3 << 20)]
    assert jq(output, '.clusters[0].nodes[0].host') == ['qemu:///session']
    assert jq(output, '.clusters[0].nodes[1].interfaces[] | .network, .ip, .netmask, .gateway'
              ) == ['private', '10.1.255.254', '255.255.0.0', '10.1.1.1']
    assert jq(output, '.clusters[0].nodes[0].interfaces[] | .mac')[0].startswith('52:54:00:')
    login, = jq(output, '.clusters[0].login')
    assert re.fullmatch(r'ssh -p [0-9]+ root@127\.0\.0\.1', login)
    # The keys that the page has, and no others.
    cluster_keys = {'name', 'entry', 'login', 'nodes'}
    node_keys = {'name', 'fqdn', 'role', 'state', 'host', 'cpus', 'memory_kib', 'interfaces'}
    found = json.loads(output)
    assert set(found) == {'clusters'} and set(found['clusters'][0]) == cluster_keys
    assert all(set(node) == node_keys for node in found['clusters'][0]['nodes'])


def test_the_page_has_each_key_of_json(cluster):
    page = (Path(__file__).parents[2] / 'man/vc-status.1').read_text()
    listed = re.findall(r'^\.It Li (\S+)$', page.split('.Ss JSON', 1)[1].split('\n.S', 1)[0], re.M)

    def keys(value):
        if isinstance(value, list):
            return [key for one in value[:1] for key in keys(one)]
        return [one for key, below in value.items() for one in (key, *keys(below))] if isinstance(
            value, dict) else []

    assert listed == keys(json.loads(cluster.run('vc-status', '--json').stdout))


@pytest.mark.parametrize('option', FORMATS)
def test_the_same_state_has_the_same_text(cluster, option):
    first = cluster.run('vc-status', option)
    assert not first.stderr and cluster.run('vc-status', option).stdout == first.stdout
    document = (cluster.temp / 'clusters' / cluster.entry / 'document.xml').read_bytes()
    assert cluster.run('vc-status', option, '-', input=document).stdout == first.stdout


@pytest.mark.parametrize('option', FORMATS)
def test_no_cluster(site, option):
    done = site.run('vc-status', option)
    assert not done.stderr
    assert done.stdout == b'' if option == '--ssh-config' else json.loads(done.stdout)
    assert 'no cluster' in site.fails('vc-status', option, 'nothing')
    if option != '--json':
        assert "cannot use '/nonexistent'" in site.fails('vc-status', option, '-i', '/nonexistent')


@pytest.mark.parametrize('arguments', [
    ('--json', '--xml'), ('--json', '--ansible'), ('--ansible', '--ssh-config'),
    ('--ssh-config', '--states', 'x'), ('--names', '--json'), ('--json', '-i', '/dev/null'),
    ('-i', '/dev/null')])
def test_one_format_at_a_time(site, arguments):
    assert 'wrong usage' in site.fails('vc-status', *arguments, status=2)


def test_ssh_config(cluster):
    folder = cluster.temp / 'clusters' / cluster.entry
    config = saved(cluster, 'config', '--ssh-config', cluster.entry)
    port = re.search('network="public".* port="([0-9]+)"', (folder / 'document.xml').read_text())[1]
    frontend = understood(config, f'frontend.{cluster.entry}')
    assert (frontend['hostname'], frontend['port'], frontend['user']) == ('127.0.0.1', port, 'root')
    for node in NODES:
        output = understood(config, f'{node}.{cluster.entry}')
        assert output['hostkeyalias'] == f'{node}.{cluster.entry}'
        assert output['stricthostkeychecking'] == 'true'
        assert output['userknownhostsfile'] == str(folder / f'{node}.known_hosts')
        assert output['globalknownhostsfile'] == '/dev/null'
        assert KEY in Path(output['userknownhostsfile']).read_text()
        assert ('proxyjump' in output) == (node != 'frontend')
        assert output['identitiesonly'] == 'no'
    compute = understood(config, f'compute-1.{cluster.entry}')
    assert compute['hostname'] == '10.1.255.253'
    assert compute['proxyjump'] == f'frontend.{cluster.entry}'
    # The ssh that the jump starts reads the same file.
    done = subprocess.run(['ssh', '-o', 'BatchMode=yes', '-F', config,
                           f'compute-1.{cluster.entry}', 'true'], capture_output=True, check=False)
    assert done.returncode == 255
    assert f'connect to host 127.0.0.1 port {port}: Connection refused' in done.stderr.decode()


def test_a_private_key_of_the_users(cluster):
    key = cluster.folder / "it's 100%h {{key}}"
    key.write_text('')
    config = saved(cluster, 'config', '--ssh-config', '-i', key, cluster.entry)
    for node in NODES:
        output = understood(config, f'{node}.{cluster.entry}')
        assert output['identityfile'].replace('%%', '%') == str(key)
        assert output['identitiesonly'] == 'yes'
    found = hosts(cluster, saved(cluster, 'hosts.yml', '--ansible', '-i', key, cluster.entry))
    for variables in found.values():
        words = shlex.split(variables['ansible_ssh_common_args'])
        done = subprocess.run(['ssh', '-G', '-F', 'none', *words, 'x'], capture_output=True,
                              check=True)
        assert f'identityfile {key}' in done.stdout.decode().replace('%%', '%')


def test_ansible(cluster):
    need('ssh')
    name = cluster.entry
    inventory = saved(cluster, 'hosts.yml', '--ansible')
    done = ansible(cluster, 'ansible-inventory', '-i', inventory, '--list')
    assert done.returncode == 0, done
    groups = json.loads(done.stdout)
    assert groups['frontend']['hosts'] == [f'frontend.{name}']
    assert groups['compute']['hosts'] == [f'compute-0.{name}', f'compute-1.{name}']
    found = hosts(cluster, inventory)
    frontend, compute = found[f'frontend.{name}'], found[f'compute-1.{name}']
    assert frontend['ansible_host'] == '127.0.0.1' and frontend['ansible_port'] > 1024
    assert compute['ansible_host'] == '10.1.255.253' and 'ansible_port' not in compute
    assert compute['ansible_user'] == 'root' and compute['pragma_cluster'] == name
    assert compute['pragma_cpus'] == 2
    words = shlex.split(compute['ansible_ssh_common_args'])
    output = dict(line.partition(' ')[::2] for line in lines(subprocess.run(
        ['ssh', '-G', '-F', 'none', *words, 'x'], capture_output=True, check=True).stdout))
    folder = cluster.temp / 'clusters' / name
    assert output['hostkeyalias'] == f'compute-1.{name}'
    assert output['userknownhostsfile'] == str(folder / 'compute-1.known_hosts')
    assert f"-p {frontend['ansible_port']} -W" in output['proxycommand']
    assert f'{folder}/frontend.known_hosts' in output['proxycommand']
    # Clusters have the same private addresses: each node has a socket of its own.
    assert len({variables['ansible_control_path'] for variables in found.values()}) == 3


def test_several_clusters(cluster):
    other = cluster.run('vc-allocate', '--num-cpus', 1, '--name', f'{cluster.entry}-b', '--key',
                        cluster.key, input=cluster.document(cluster.entry, 'vc-stage'))
    assert other.returncode == 0
    report(cluster, f'{cluster.entry}-b', ('frontend', 'compute-0'))
    found = hosts(cluster, saved(cluster, 'hosts.yml', '--ansible'))
    assert len(found) == 5
    assert len({variables['ansible_control_path'] for variables in found.values()}) == 5
    assert lines(cluster.run('vc-status', '--ssh-config').stdout).count('  User root') == 5
    assert jq(cluster.run('vc-status', '--json', f'{cluster.entry}-b').stdout,
              '.clusters[].name') == [f'{cluster.entry}-b']


def test_a_node_that_has_not_reported_its_host_key(cluster):
    folder = cluster.temp / 'clusters' / cluster.entry
    (folder / 'compute-1.console.log').write_text('boot\n')
    (folder / 'compute-0.console.log').write_text('pragma_boot: hostkey x * ssh-ed25519 AAAA\n')
    for option in ('--ansible', '--ssh-config'):
        done = cluster.run('vc-status', option)
        line, = lines(done.stderr)
        assert f"'{cluster.entry}': no host key yet of compute-0, compute-1: ssh refuses" in line
        assert f'compute-1.{cluster.entry}'.encode() in done.stdout
        assert not (folder / 'compute-1.known_hosts').exists()
    before = done.stdout
    report(cluster, cluster.entry)
    assert cluster.run('vc-status', '--ssh-config').stdout == before
    assert (folder / 'compute-1.known_hosts').exists()


def test_a_folder_with_a_hostile_name(site):
    """Spaces, quotes, a backslash, % and a template of Jinja in each path."""
    folder = site.folder / r"""it's "100%h" {{ 7*7 }} {% raw \x"""
    folder.mkdir()
    other = Site(folder)
    other.entry, other.vc_in = 'one', other.add_entry(
        'one', site.vc_in.parent / 'hosted-vm-0-0-1.img.gz')
    other.document('one', 'vc-allocate')
    report(other, 'one')
    known = str(other.temp / 'clusters/one/compute-0.known_hosts')
    config = saved(site, 'config', '--ssh-config', '--site-conf', other.conf)
    assert understood(config, 'compute-0.one')['userknownhostsfile'].replace('%%', '%') == known
    inventory = site.folder / 'hosts.yml'
    inventory.write_bytes(other.run('vc-status', '--ansible').stdout)
    found = hosts(site, inventory)['compute-0.one']
    words = shlex.split(found['ansible_ssh_common_args'])
    assert f'UserKnownHostsFile="{ssh_quoted(known)}"' in words
    assert json.loads(other.run('vc-status', '--json').stdout)['clusters'][0]['name'] == 'one'
    other.run('vc-clean', 'one')


def ssh_quoted(path):
    return path.replace('\\', '\\\\').replace('"', '\\"').replace('%', '%%')


def test_a_driver_without_consoles(site):
    """ssh asks about the host keys as usual; the frontend's own name is its public address."""
    driver = Wrapped(site, 'perl')
    try:
        driver.boot()
        config = saved(site, 'config', '--ssh-config', site.entry)
        output = understood(config, f'frontend.{site.entry}')
        assert output['hostname'] == '127.0.0.9' and output['stricthostkeychecking'] == 'ask'
        output = understood(config, f'vm-1.{site.entry}')
        assert output['hostname'] == '10.1.1.11'
        assert output['proxyjump'] == f'frontend.{site.entry}'
        assert jq(site.run('vc-status', '--json').stdout, '.clusters[].nodes[].state') == [
            'running'] * 3
    finally:
        driver.end()
