"""document.seed: cloud-init reads the three texts of a seed disk, whatever the document has."""
import base64
import copy
import gzip
import json
import os
import shutil
import subprocess

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from lxml import etree

from lab import DATA, ROOT
from lab.needs import do_without
from pragma_boot.document import seed, tree
from pragma_boot.document.vcout import Projection
from pragma_boot.system.failure import Failure

GUEST = ROOT / 'images' / 'guest'
TRICKS = ['#cloud-config', '## template: jinja', '#include http://192.0.2.1/x',
          '{{ ds.meta_data }}', '{% raw %}', 'a\n#cloud-config\nruncmd: [x]', '"', "'", ': ', '- x',
          '&a *a', '!!python/x',
          'Content-Type: multipart/mixed; boundary="x"\nMIME-Version: 1.0\n\n--x', '\x85', '\u2028',
          '\x7f', '\U0001f600', '---\n...', '%TAG', '\t', ']}', '\\u0000', '#!/bin/sh', 'no', '1e3']
"""What is special to a YAML reader, to cloud-init or to a shell."""


@pytest.fixture(scope='module')
def root():
    return etree.parse(DATA / 'seed.xml').getroot()


def texts(root, name, key=b'the private key'):
    """The parsed texts, and the files that user-data writes by their paths."""
    found = seed.Seeds(root).of(name, key)
    header, body = found['user-data'].split(b'\n', 1)
    assert header == b'#cloud-config'
    parsed = {'user-data': yaml.safe_load(body)}
    assert parsed['user-data'] == json.loads(body)
    for text in ('meta-data', 'network-config'):
        parsed[text] = yaml.safe_load(found[text])
        assert parsed[text] == json.loads(found[text])
    files = {one['path']: (gzip.decompress(base64.b64decode(one['content'])), one['permissions'])
             for one in parsed['user-data']['write_files'] if one['encoding'] == 'gz+b64'}
    assert len(files) == len(parsed['user-data']['write_files'])
    return parsed, files


def test_files_byte_for_byte(root):
    parsed, files = texts(root, 'frontend')
    assert files.pop('/root/vc-out.xml') == (Projection(root).of('frontend'), '0600')
    assert files.pop('/root/.ssh/id_ed25519') == (b'the private key', '0600')
    for unit in ('pragma-guest.service', 'pragma-guest-ready.service'):
        assert b'ConditionPathExists=/root/vc-out.xml' in files.pop(
            f'/etc/systemd/system/{unit}.d/seed.conf')[0]
    assert {path: content for path, (content, _) in files.items()} == {
        f'/var/lib/pragma_boot/guest/{name}': (GUEST / name).read_bytes()
        for name in ('pragma-guest', 'install', 'pragma-guest.service',
                     'pragma-guest-ready.service')}
    commands = [' '.join(command) for command in parsed['user-data']['runcmd']]
    assert commands[0] == 'sh /var/lib/pragma_boot/guest/install'
    assert commands[1] == 'systemctl restart pragma-guest.service'


def test_a_compute_node_has_no_private_key(root):
    _, files = texts(root, 'compute-0')
    assert '/root/.ssh/id_ed25519' not in files
    assert files['/root/vc-out.xml'][0] == Projection(root).of('compute-0')


def test_network_config(root):
    front = texts(root, 'frontend')[0]['network-config']
    assert front['version'] == 2
    assert not any('set-name' in one for one in front['ethernets'].values())
    private, public = front['ethernets'].values()
    assert private == {'match': {'macaddress': '52:54:00:00:00:01'}, 'dhcp4': False,
                       'dhcp6': False, 'addresses': ['10.1.1.1/16']}
    assert public['addresses'] == ['192.0.2.9/24']
    assert public['routes'] == [{'to': '0.0.0.0/0', 'via': '192.0.2.1'}]
    assert public['nameservers'] == {'addresses': ['192.0.2.53', '192.0.2.54'],
                                     'search': ['example.org', 'b.example.org']}
    compute, = texts(root, 'compute-0')[0]['network-config']['ethernets'].values()
    assert compute['routes'] == [{'to': '0.0.0.0/0', 'via': '10.1.1.1'}]


def test_a_gateway_outside_the_subnet(root):
    far = copy.deepcopy(root)
    tree.interface(tree.frontend(far), 'public').set('gw', '198.51.100.1')
    public = texts(far, 'frontend')[0]['network-config']['ethernets']['eth1']
    assert public['routes'] == [{'to': '0.0.0.0/0', 'via': '198.51.100.1', 'on-link': True}]


def test_another_instance_for_each_node_and_each_reservation(root):
    def identity(document, name):
        return texts(document, name)[0]['meta-data']['instance-id']
    again = copy.deepcopy(root)
    again.find("cluster/key[@role='compute']").text = 'ssh-ed25519 BBBB root@again'
    ids = [identity(document, name) for document in (root, again)
           for name in ('frontend', 'compute-0')]
    assert len(set(ids)) == 4
    assert identity(root, 'frontend') == ids[0]
    assert texts(root, 'compute-0')[0]['meta-data']['local-hostname'] == 'compute-0'


def test_a_larger_disk_is_grown(root):
    assert 'growpart' not in texts(root, 'frontend')[0]['user-data']
    large = copy.deepcopy(root)
    tree.frontend(large).set('disk_size', str(8 << 30))
    parsed, files = texts(large, 'frontend')
    assert parsed['user-data']['growpart'] == {'mode': 'auto', 'devices': ['/']}
    assert parsed['user-data']['resize_rootfs'] is True
    assert b'disk_size="8589934592"' in files['/root/vc-out.xml'][0]


def test_a_thousand_compute_nodes_fit(root):
    many = copy.deepcopy(root)
    cluster = tree.cluster(many)
    for count in range(2, 1000):
        node = copy.deepcopy(cluster.findall('node')[1])
        node.set('name', f'compute-{count}')
        node[0].set('mac', f'52:54:00:01:{count >> 8:02x}:{count & 255:02x}')
        node[0].set('ip', f'10.1.{100 + (count >> 8)}.{count & 255}')
        cluster.insert(1, node)
    assert sum(map(len, seed.Seeds(many).of('frontend', b'x' * 400).values())) < 200_000


TEXT = st.one_of(st.sampled_from(TRICKS), st.text(
    st.characters(codec='utf-8', exclude_characters='\0'), max_size=40))


@settings(max_examples=150)
@given(key=TEXT, value=TEXT, place=st.sampled_from([
    ('cluster', 'name'), ('cluster/node', 'name'), ('cluster/node', 'fqdn'),
    ('cluster/node', 'disk_size'), ('cluster/node/interface', 'mac'),
    ('cluster/node/interface', 'ip'), ('cluster/node/interface', 'netmask'),
    ('cluster/node[2]/interface', 'gw'), ('cluster/dns', 'ip'), ('cluster/dns', 'search'),
    ('cluster/dns', 'domain')]))
def test_hostile_text_is_refused_or_harmless(root, place, value, key):
    """Refused at the door, or a reader of YAML finds the same structure, the text in its place."""
    changed = copy.deepcopy(root)
    path, attribute = place
    try:
        changed.find(path).set(attribute, value)
        changed.find('cluster/key').text = key
    except ValueError:      # no text of XML
        return
    plain = texts(root, 'frontend')[0]
    try:
        document = tree.parse(etree.tostring(changed), 'the document', huge=True)
        tree.validate(document, 'document', 'the document')
        name = tree.frontend(document).get('name')
        parsed, files = texts(document, name)
    except Failure:
        return
    assert shape(parsed['user-data']) == shape(plain['user-data']) or attribute == 'disk_size'
    assert parsed['user-data']['runcmd'] == plain['user-data']['runcmd']
    assert set(parsed['meta-data']) == {'instance-id', 'local-hostname'}
    assert parsed['meta-data']['local-hostname'] == name
    cards = parsed['network-config']['ethernets']
    assert [one['match']['macaddress'] for one in cards.values()] == [
        card.get('mac') for card in tree.frontend(document).findall('interface')]
    search = document.find('cluster/dns').get('search').split()
    assert cards['eth1']['nameservers']['search'] == search
    assert files['/root/vc-out.xml'][0] == Projection(document).of(name)


def shape(value):
    """A structure without its texts."""
    if isinstance(value, dict):
        return {name: shape(one) for name, one in value.items()}
    return [shape(one) for one in value] if isinstance(value, list) else type(value)


@pytest.mark.parametrize('value', TRICKS)
def test_every_trick_in_a_key_comment(root, value):
    """Of all texts, only a key's comment is free: it reaches the node inside vc-out.xml alone."""
    changed = copy.deepcopy(root)
    try:
        changed.find('cluster/key').text = f'ssh-ed25519 AAAA {value}'
    except ValueError:
        return
    parsed, files = texts(changed, 'frontend')
    document = etree.fromstring(files['/root/vc-out.xml'][0])
    assert document.findtext('key').split() == ['ssh-ed25519', 'AAAA', *value.split()]
    assert shape(parsed) == shape(texts(root, 'frontend')[0])


PACKAGES = ['cloud-init', *(f'python3-{name}' for name in (
    'attr', 'blinker', 'certifi', 'chardet', 'configobj', 'idna', 'jinja2', 'jsonpatch',
    'json-pointer', 'jsonschema', 'jsonschema-specifications', 'jwt', 'markupsafe', 'netifaces',
    'oauthlib', 'pyrsistent', 'referencing', 'requests', 'rpds-py', 'serial', 'six',
    'typing-extensions', 'urllib3', 'yaml'))]
"""What `cloud-init schema` needs of Debian. Installing it would enable its services."""


@pytest.fixture(scope='module')
def cloud_init(request):
    """The command cloud-init, installed or unpacked into a folder that later runs use again."""
    if shutil.which('cloud-init'):
        return ['cloud-init']
    folder = request.config.cache.mkdir('cloud-init')
    if not (folder / 'whole').exists():
        shutil.rmtree(folder)
        folder.mkdir()
        known = subprocess.run(['apt-cache', 'pkgnames'], capture_output=True, text=True,
                               check=False).stdout.split()
        wanted = [name for name in PACKAGES if name in known]
        done = subprocess.run(['apt-get', 'download', '-qq', *wanted], cwd=folder,
                              capture_output=True, check=False, timeout=120)
        if done.returncode or 'cloud-init' not in wanted:
            shutil.rmtree(folder)
            do_without('cloud-init, and apt-get cannot download it')
        for package in folder.glob('*.deb'):
            subprocess.run(['dpkg-deb', '-x', package, folder / 'root'], check=True)
        (folder / 'whole').touch()
    return ['/usr/bin/env', '-u', 'PYTHONHOME',
            f'PYTHONPATH={folder}/root/usr/lib/python3/dist-packages', '/usr/bin/python3',
            folder / 'root/usr/bin/cloud-init']


@pytest.mark.parametrize('name', ['frontend', 'compute-0'])
def test_cloud_init_takes_the_user_data(root, cloud_init, tmp_path, name):
    large = copy.deepcopy(root)
    tree.frontend(large).set('disk_size', str(8 << 30))
    for file, text in seed.Seeds(large).of(name, b'the private key').items():
        (tmp_path / file).write_bytes(text)
    done = subprocess.run([*cloud_init, 'schema', '-c', tmp_path / 'user-data'], check=False,
                          capture_output=True, text=True, env={**os.environ, 'LC_ALL': 'C'})
    output = done.stdout + done.stderr
    assert (done.returncode, 'alid' in output) == (0, True), output
    assert 'eprecat' not in output and 'nvalid' not in output, output
    bad = tmp_path / 'bad'
    bad.write_text('#cloud-config\n{"runcmd": {"a": 1}}\n')
    assert subprocess.run([*cloud_init, 'schema', '-c', bad], check=False,
                          capture_output=True).returncode != 0
