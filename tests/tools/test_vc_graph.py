"""vc-graph: a document as Graphviz reads and draws it."""
import json
import subprocess
from xml.etree import ElementTree

import pytest

from lab import DATA
from lab.needs import need

DOCUMENT = (DATA / 'vc-boot-out.xml').read_text().replace('@SITE@', '/site').replace('@CLUSTER@',
                                                                                     'demo') \
    .replace('@DIGEST@', '0' * 16).replace('@TIME@', '1').replace('@PRIVATE@', '24000') \
    .replace('@SSH@', '24500').replace('@LEDGER@', '0' * 32)
for number in range(DOCUMENT.count('@MAC@')):
    DOCUMENT = DOCUMENT.replace('@MAC@', f'52:54:00:00:00:{number:02x}', 1)


def dot(output, form):
    """The output of Graphviz for a graph; it must print no warning."""
    need('dot')
    done = subprocess.run(['dot', f'-T{form}'], input=output, capture_output=True, check=True)
    assert not done.stderr
    return done.stdout.decode()


def drawn(site, document):
    """The objects and edges that Graphviz reads from the graph of a document."""
    return json.loads(dot(site.run('vc-graph', input=document.encode()).stdout, 'json'))


def texts(output):
    """The texts in a picture."""
    return [element.text for element in ElementTree.fromstring(output).iter()
            if element.tag.endswith('text')]


def test_hosts_nodes_networks_and_states(empty_site):
    document = DOCUMENT.replace('<state>running', '<state>ready', 1).replace(
        'fqdn="compute-1" host="qemu:///session"',
        'fqdn="compute-1" host="qemu+ssh://root@node1/system"')
    output = drawn(empty_site, document)
    names = {one['_gvid']: one['label'].split(r'\n')[0] for one in output['objects']}
    hosts = {one['label']: {names[number] for number in one['nodes']}
             for one in output['objects'] if 'nodes' in one}
    assert hosts == {'qemu:///session': {'frontend', 'compute-0'},
                     'qemu+ssh://root@node1/system': {'compute-1'}}
    assert {(names[edge['tail']], names[edge['head']], edge['label'])
            for edge in output['edges']} == {
        ('frontend', 'private', '10.1.1.1'), ('frontend', 'public', '10.0.2.15'),
        ('compute-0', 'private', '10.1.255.254'), ('compute-1', 'private', '10.1.255.253')}
    colours = {names[one['_gvid']]: one['fillcolor'] for one in output['objects']
               if 'fillcolor' in one}
    assert colours == {'frontend': 'palegreen', 'compute-0': 'khaki', 'compute-1': 'khaki',
                       'private': 'lightblue', 'public': 'lightblue'}
    picture = dot(empty_site.run('vc-graph', input=document.encode()).stdout, 'svg')
    assert {'demo', 'frontend', '1 CPU, 1024 MiB', 'ready', 'private', 'sockets of port 24000'} <= \
        set(texts(picture))


def test_what_was_never_started_is_white(empty_site):
    output = drawn(empty_site, DOCUMENT.replace('<state>running</state>', ''))
    assert [one['fillcolor'] for one in output['objects']
            if r'not started' in one['label']] == ['white'] * 3


@pytest.mark.parametrize('host',
                         ['a"b', 'a\\', r'\N \G \" \\"', '"]; n9 [label="x', '&lt;&amp;#65;',
                                  '<b>x</b>', 'two\nlines', '}', 'caf\u00e9 // /* #'])
def test_names_are_quoted(empty_site, host):
    """A host is the only free text in a document; Graphviz reads none of it as DOT."""
    root = ElementTree.fromstring(DOCUMENT)
    for node in root.iterfind('cluster/node'):
        node.set('host', host)
    picture = dot(empty_site.run('vc-graph', input=ElementTree.tostring(root)).stdout, 'svg')
    assert host.split('\n') == [text for text in texts(picture) if text in host.split('\n')]


def test_needs_a_cluster(site):
    assert 'no <cluster>: run vc-allocate' in site.fails(
        'vc-graph', input=site.run('vc-parse', site.vc_in).stdout)
