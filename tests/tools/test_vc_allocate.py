"""vc-allocate: reservations, all or nothing."""
import os
import re
import socket
import subprocess

import pytest
from lxml import etree

from lab import ROOT
from lab.site import lines


def allocate(site, document, *arguments, num_cpus=4, **options):
    return site.run('vc-allocate', '--num-cpus', num_cpus, *arguments, input=document, **options)


def nodes(output):
    return etree.fromstring(output).findall('cluster/node')


@pytest.fixture
def document(site):
    return site.document(site.entry, 'vc-stage')


def test_golden(site, document, golden, replacements):
    golden('vc-allocate', allocate(site, document, '--key', site.key).stdout, *replacements)


def test_takes_the_reservation_and_nothing_else(site, document):
    output = allocate(site, document, '--key', site.key).stdout
    folder = site.temp / 'clusters' / site.entry
    assert sorted(os.listdir(folder)) == ['document.xml', 'id_ed25519']
    assert (folder / 'document.xml').read_bytes() == output
    private = (folder / 'id_ed25519').read_bytes()
    assert (folder / 'id_ed25519').stat().st_mode & 0o777 == 0o600
    assert b'PRIVATE KEY' in private and b'PRIVATE' not in output
    public = subprocess.run(['ssh-keygen', '-y', '-f', folder / 'id_ed25519'],
                            capture_output=True, check=True).stdout.split()[1]
    assert public in output


def test_memory_grows_with_the_cpus_of_a_node(site, document):
    with open(site.conf, 'a', encoding='utf-8') as conf:
        conf.write('memory_per_cpu = 64M\ncpus_per_node = 3\n')
    found = nodes(allocate(site, document, '--dry-run', num_cpus=5).stdout)
    least = int(found[0].get('memory'))
    assert [(node.get('cpus'), int(node.get('memory')) - least) for node in found] == \
        [('1', 0), ('3', 2 * 65536), ('2', 65536)]


def test_dry_run_reserves_nothing(site, document):
    assert len(nodes(allocate(site, document, '--dry-run').stdout)) == 3
    assert site.clusters() == []


def test_no_cpus_make_a_frontend_without_compute_nodes(site, document):
    assert [node.get('role') for node in nodes(allocate(site, document, num_cpus=0).stdout)] \
        == ['frontend']


def test_row_06_two_clusters_share_nothing(site):
    """Although the author wrote the same MACs and UUIDs."""
    site.vc_in.write_text(re.sub("<mac address='[^']*'", "<mac address='7a:77:6e:40:00:07'", re.sub(
        '<memory>', '<uuid>c7a5fdbd-edaf-9455-926a-d65c16db1809</uuid><memory>',
        site.vc_in.read_text())))
    document = site.document(site.entry, 'vc-stage')
    clusters = [site.run('vc-inject', input=allocate(site, document, num_cpus=1).stdout).stdout
                for _ in range(2)]
    first, second = map(etree.fromstring, clusters)
    assert first.find('cluster').get('name') != second.find('cluster').get('name')
    for attribute in ('mac', 'port'):
        taken = [{card.get(attribute) for card in root.iter('interface')} - {None}
                 for root in (first, second)]
        assert taken[0] and not taken[0] & taken[1]
    domains = [etree.fromstring(site.run('vc-boot', '--print', input=document).stdout)
               for document in clusters]
    for path, count in (('//uuid', 4), ('//mac/@address | //@value[contains(., "mac=")]', 6)):
        found = [str(getattr(one, 'text', one)) for domain in domains for one in domain.xpath(path)]
        assert len(set(found)) == len(found) == count, found


def test_a_name_is_given_once(site, document):
    allocate(site, document, '--name', 'twice')
    line = site.fails('vc-allocate', '--num-cpus', 0, '--name', 'twice', input=document)
    assert "cluster 'twice' exists already" in line


@pytest.mark.parametrize('name', ['../x', 'a b;$(id)', '-x', 'ü', 'x/y', '.', 'demo-', 'a..b'])
def test_row_07_refuses_bad_names(site, document, name):
    assert 'is not a name' in site.fails('vc-allocate', '--num-cpus=0', f'--name={name}',
                                         input=document)


@pytest.mark.parametrize('number', ['-1', '1e9', '1_0', '../..', '1.5', '٣', '99999999999'])
def test_row_26_wrong_numbers_of_cpus(site, document, number):
    line = site.fails('vc-allocate', f'--num-cpus={number}', input=document, status=2)
    assert '--num-cpus must be a whole number' in line


def test_too_many_cpus(site, document):
    line = site.fails('vc-allocate', '--num-cpus', 100_000, input=document, status=3)
    assert '50001 nodes need 100001 CPUs' in line and 'free' in line
    assert site.clusters() == []


def test_row_25_pools_run_dry(site, document):
    with open(site.conf, 'a', encoding='utf-8') as conf:
        conf.write('ssh_ports = 24650-24650\n')
    allocate(site, document, num_cpus=0)
    line = site.fails('vc-allocate', '--num-cpus', 0, input=document, status=3)
    assert "pool 'ssh_ports' (24650-24650) has no port left" in line
    assert len(site.clusters()) == 1


def test_skips_a_port_in_use(site, document):
    with open(site.conf, 'a', encoding='utf-8') as conf:
        conf.write('ssh_ports = 24600-24601\n')
    with socket.create_server(('127.0.0.1', 24600)):
        output = allocate(site, document, num_cpus=0).stdout
    assert etree.fromstring(output).find('.//interface[@network="public"]').get('port') == '24601'


@pytest.mark.parametrize('by_option', [True, False])
def test_another_private_network(site, document, by_option, monkeypatch):
    subnet = '10.2.0.0/16'
    if not by_option:
        monkeypatch.setenv('PRAGMA_PRIVATE_NETWORK', subnet)
    options = ('--private-network', subnet) if by_option else ()
    root = etree.fromstring(site.run('vc-allocate', '--num-cpus', 2, *options, '--key', site.key,
                                     input=document).stdout)
    assert root.findtext("networks/network[@name='private']/ipaddress") == '10.2.0.1'
    assert root.xpath("cluster/node/interface[@network='private']/@ip") == [
        '10.2.0.1', '10.2.255.254']
    assert set(root.xpath('cluster/node/interface/@gw')) >= {'10.2.0.1'}


def test_the_way_out_where_a_bridge_has_the_subnet_already(site, document):
    with open(site.conf, 'a', encoding='utf-8') as conf:
        conf.write('private_network = bridge:br0\n')
    arguments = ('vc-allocate', '--num-cpus', 0, '--key', site.key)
    site.run(*arguments, '--name', f'{site.entry}-a', input=document)
    line = site.fails(*arguments, input=document, status=3)
    assert 'Open vSwitch' in line and 'private_network = socket' in line
    subnet = re.search(r'--private-network (\S+),', line)[1]
    site.run(*arguments, '--private-network', subnet, input=document)
    line = site.fails(*arguments, '--name', f'{site.entry}-b', '--private-network', subnet,
                      input=document, status=3)
    assert subnet in line and re.search('--private-network (.*?),', line)[1] != subnet


@pytest.mark.parametrize('subnet', ['10.2.0.0', 'all', '10.0.2.0/24'])
def test_refuses_what_is_no_private_subnet(site, document, subnet):
    status = 1 if '/' in subnet else 2
    line = site.fails('vc-allocate', '--num-cpus', 0, '--key', site.key,
                      '--private-network', subnet, input=document, status=status)
    assert subnet in line


def test_private_pool(site, document):
    small = document.replace(b'255.255.0.0', b'255.255.255.252')
    assert len(nodes(allocate(site, small, num_cpus=1).stdout)) == 2
    line = site.fails('vc-allocate', '--num-cpus', 3, input=small, status=3)
    assert "pool 'private' (10.1.1.0/30) has 1 addresses" in line


@pytest.mark.parametrize('address, netmask', [
    ('10.1.1.1', '0.0.0.0'), ('10.1.1.1', '0.0.255.255'), ('10.1.1.1', '255.0.255.0'),
    ('10.1.1.1', '255.255.255.255'),
    ('10.1.0.0', '255.255.0.0'), ('10.1.255.255', '255.255.0.0'), ('127.0.0.1', '255.0.0.0'),
    ('224.0.0.1', '255.255.0.0'), ('169.254.1.1', '255.255.0.0'),
    ('255.255.255.1', '255.255.255.0')])
def test_refuses_wrong_private_networks(site, document, address, netmask):
    changed = document.replace(b'255.255.0.0', netmask.encode()).replace(b'10.1.1.1<',
                                                                         f'{address}<'.encode())
    assert 'line ' in site.fails('vc-allocate', '--num-cpus', 0, input=changed)
    assert site.clusters() == []


@pytest.mark.parametrize('content, reason', [
    (None, 'No such file or directory'),
    (b'', 'has no public key in it'),
    (b'# only a comment\n', 'has no public key in it'),
    (b'-----BEGIN OPENSSH PRIVATE KEY-----\n', 'is a private key: name the public one'),
    (b'ssh-rsa nonsense\n', 'line 1 is not a public key'),
    (b'@KEY@\n\nnonsense\n', 'line 3 is not a public key'),
    (b'\xff\xfe', 'is not a public key'),
    (b'\xef\xbb\xbf@KEY@', 'is not a public key'),
    (b'@KEY@ a\r@KEY@', 'has control characters in it'),
    (b'@KEY@ a\0b', 'has control characters in it'),
    (b'x' * 70_000, 'it has more than 65536 bytes'),
])
def test_row_27_refuses_keys(site, document, content, reason):
    path = site.folder / 'bad.pub'
    if content is not None:
        path.write_bytes(content.replace(b'@KEY@', site.key.read_bytes().strip()))
    assert reason in site.fails('vc-allocate', '--num-cpus', 0, '--key', path, input=document)
    assert site.clusters() == []


def test_row_27_takes_several_keys_with_odd_comments(site, document):
    key = b' '.join(site.key.read_bytes().split()[:2])
    site.key.write_bytes(b'# mine\r\n' + key + b' a <&>"\' b\r\n\r\n' + key + b' second\r\n')
    output = allocate(site, document, '--key', site.key).stdout
    assert etree.fromstring(output).findtext('cluster/key').splitlines() == \
        [key.decode() + ' a <&>"\' b', key.decode() + ' second']


def test_row_24_twenty_at_once_on_pools_for_twelve(site, document):
    with open(site.conf, 'a', encoding='utf-8') as conf:
        conf.write('ssh_ports = 24700-24711\n')
    document = document.replace(b'1048576</memory>', b'65536</memory>')
    running = [site.start('vc-allocate', '--num-cpus', 1, '--key', site.key) for _ in range(20)]
    results = [(one.communicate(document), one.wait()) for one in running]
    statuses = sorted(status for _, status in results)
    assert statuses == [0] * 12 + [3] * 8
    assert all(len(lines(output[1])) == (status > 0) for output, status in results)
    documents = [etree.fromstring(output[0]) for output, status in results if not status]
    macs = [card.get('mac') for root in documents
            for card in root.iterfind('cluster/node/interface')]
    names = {root.find('cluster').get('name') for root in documents}
    assert len(set(macs)) == len(macs) == 36 and len(names) == len(site.clusters()) == 12


def test_the_folder_of_a_killed_allocation_is_used_again(site, document):
    folder = site.temp / 'clusters' / 'killed'
    folder.mkdir(parents=True)
    (folder / '.document.xml.tmp').write_text('half')
    allocate(site, document, '--name', 'killed')
    assert 'document.xml' in os.listdir(folder)


def test_a_message_is_one_line_that_a_terminal_shows(site, document):
    """Control characters and right-to-left text in a name are escaped."""
    line = site.fails('vc-allocate', '--num-cpus=1\r\x1b[2J\x85\u202e', input=document, status=2)
    assert line.isprintable() and r'\r\x1b[2J\x85\u202e' in line


def test_row_44_a_certificate(site, document):
    own = site.folder / 'id'
    subprocess.run(['ssh-keygen', '-q', '-t', 'ed25519', '-N', '', '-f', own], check=True)
    subprocess.run(['ssh-keygen', '-q', '-s', own, '-I', 'x', '-n', 'root', f'{own}.pub'],
                   check=True)
    line = site.fails('vc-allocate', '--num-cpus', 0, '--key', f'{own}-cert.pub', input=document)
    assert 'is a certificate, which lets nobody in unless its CA is trusted: ' in line
    assert line.endswith(f"name the public key, '{own}.pub'")


def test_row_44_what_sshd_takes(site, document):
    """Tabs, Latin-1, a no-break space and a line separator in a comment, CRLF."""
    word, key = site.key.read_bytes().split()[:2]
    path = site.folder / 'some.pub'
    lines_of = [b'\t%s\t%s\ttabs' % (word, key), b'%s %s caf\xe9' % (word, key),
                b'%s %s ' % (word, key) + '\xa0x\x85\u2028y\xa0'.encode(),
                b'no-pty,command="a b" %s %s\r' % (word, key)]
    path.write_bytes(b'\n'.join(lines_of))
    told = allocate(site, document, '--key', path, num_cpus=0).stdout
    keys = etree.fromstring(told).find('cluster/key').text.split('\n')
    assert [line.split()[-2:] for line in keys[:2]] == [[key.decode(), 'tabs'],
                                                        [key.decode(), 'caf\xe9']]
    assert keys[2].endswith(' \xa0x\x85\u2028y\xa0') and keys[3].endswith(key.decode())


def test_row_44_a_key_of_a_pipe(site, document):
    path = site.folder / 'document.xml'
    path.write_bytes(document)
    environment = {**os.environ, 'PRAGMA_SITE_CONF': str(site.conf)}
    words = [ROOT / 'bin/vc-allocate', '--num-cpus', '0', '--key']
    done = subprocess.run([*words, '/dev/stdin'], input=document, capture_output=True,
                          env=environment, check=False)
    assert done.returncode == 1
    assert b"'/dev/stdin' is standard input, which has the document" in done.stderr
    done = subprocess.run(['bash', '-c', '"$@" <(cat "$KEY") <"$DOCUMENT"', '-', *words],
                          check=True, capture_output=True,
                          env={**environment, 'KEY': site.key, 'DOCUMENT': path})
    assert site.key.read_text().strip() in etree.fromstring(done.stdout).find('cluster/key').text


def test_no_key_is_warned_of(site, document):
    line, = allocate(site, document, num_cpus=0).stderr.decode().splitlines()
    assert line == 'vc-allocate: no --key: nobody can log in to the nodes, except on a console'


def test_row_46_names_of_other_nodes(site, document):
    line = site.fails('vc-allocate', '--num-cpus', 0, '--name', 'compute-0', input=document)
    assert "--name 'compute-0' cannot be the name of a cluster" in line
    told = allocate(site, document, '--name', 'frontend', num_cpus=1).stdout
    assert nodes(told)[0].get('fqdn') == 'frontend.local'


@pytest.mark.parametrize('search', ['a_b.example.org', 'example.org.', 'a..b', 'a-',
                                    f"{'a' * 64}.org"])
def test_row_46_a_search_domain_that_the_guest_refuses(site, document, search):
    with open(site.conf, 'a', encoding='utf-8') as conf:
        conf.write(f'search = {search}\n')
    line = site.fails('vc-allocate', '--num-cpus', 0, input=document)
    assert 'search must be domains with spaces' in line and f"not '{search}'" in line


def test_row_46_a_search_list_and_a_long_fqdn(site, document):
    domain = f"{'b' * 60}.{'c' * 60}.example.org"
    with open(site.conf, 'a', encoding='utf-8') as conf:
        conf.write(f'search = {domain} example.org\n')
    told = allocate(site, document, '--name', 'demo', num_cpus=0).stdout
    assert nodes(told)[0].get('fqdn') == f'demo.{domain}'
    assert etree.fromstring(told).find('cluster/dns').get('search') == f'{domain} example.org'
    site.run('vc-inject', input=told)
