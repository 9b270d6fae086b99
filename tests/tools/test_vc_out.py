"""vc-out: what both generations of PRAGMA's guests read."""
import pytest
from lxml import etree

from lab import DATA
from lab.generations import OLDER_COMPUTE, OLDER_FRONTEND, check_newer, check_older


@pytest.fixture
def document(site):
    return site.document(site.entry, 'vc-allocate')


def test_golden(site, document, golden, replacements):
    golden('vc-out-frontend', site.run('vc-out', input=document).stdout,
           *replacements, ('restrict ssh-ed25519 [^ ]* root@', 'restrict @CLUSTER-KEY@ root@'))
    golden('vc-out-compute', site.run('vc-out', '--node', 'compute-1', input=document).stdout,
           *replacements, ('ssh-ed25519 [^ ]* root@', '@CLUSTER-KEY@ root@'))


def test_a_node_by_its_fqdn(site, document):
    assert site.run('vc-out', '--node', f'{site.entry}.local', input=document).stdout == \
        site.run('vc-out', '--node', 'frontend', input=document).stdout
    assert "has no node 'x.local'" in site.fails('vc-out', '--node', 'x.local', input=document)


def test_both_generations_of_frontends(site, document):
    vc_out = etree.fromstring(site.run('vc-out', input=document).stdout)
    check_older(vc_out, OLDER_FRONTEND)
    check_newer(vc_out, 'frontend')
    # A guest recognizes a compute node by this element.
    assert vc_out.find('compute/private') is None


def test_both_generations_of_compute_nodes(site, document):
    vc_out = etree.fromstring(site.run('vc-out', '--node', 'compute-0', input=document).stdout)
    check_older(vc_out, OLDER_COMPUTE)
    check_newer(vc_out, 'compute')
    assert vc_out.find('frontend').get('fqdn')


@pytest.mark.parametrize('role, node', [('frontend', 'frontend'), ('compute', 'compute-0')])
def test_carries_all_that_the_examples_do(site, document, role, node):
    """Every element and attribute of the examples is in ours, in the same order."""
    example = etree.parse(DATA / f'vc-out-{role}.xml').getroot()
    ours = etree.fromstring(site.run('vc-out', '--node', node, input=document).stdout)

    def shape(root):
        return [(root.getroottree().getelementpath(element), set(element.attrib))
                for element in root.iter()]

    have = dict(shape(ours))
    for path, attributes in shape(example):
        assert attributes <= have[path], path
    order = [path for path, _ in shape(ours) if path in dict(shape(example))]
    assert order == [path for path, _ in shape(example)]


def test_key_lines(site, document):
    user = site.key.read_text().strip()
    frontend = etree.fromstring(site.run('vc-out', input=document).stdout).findtext('key')
    compute = etree.fromstring(site.run('vc-out', '--node', 'compute-0', input=document).stdout)
    assert frontend.splitlines()[0] == user
    key = compute.findtext('key').splitlines()[1]
    assert frontend.splitlines()[1:] == [
        f'command="/usr/local/sbin/pragma-guest update",restrict {key}']
    assert compute.findtext('key').splitlines()[0] == user
    assert compute.findtext('key').splitlines()[1].endswith(f' root@{site.entry}')


@pytest.mark.parametrize('comment', ['<&>', ']]>', '"\'', '</key><x>', '<!--', 'ü漢', '&amp;'])
def test_well_formed_whatever_the_key_comment_holds(site, comment):
    key = ' '.join(site.key.read_text().split()[:2]) + ' ' + comment
    site.key.write_text(key + '\n')
    document = site.document(site.entry, 'vc-allocate', 0)
    vc_out = etree.fromstring(site.run('vc-out', input=document).stdout)
    assert vc_out.findtext('key').partition('\n')[0] == key


def test_unknown_node_and_unallocated_document(site, document):
    assert f"cluster '{site.entry}' has no node 'compute-9'" in \
        site.fails('vc-out', '--node', 'compute-9', input=document)
    assert 'run vc-allocate' in site.fails('vc-out', input=site.document(site.entry, 'vc-parse'))


def test_a_document_without_a_frontend(site, document):
    changed = document.replace(b'<node role="frontend"', b'<node role="compute"')
    assert 'no <node> is a frontend' in site.fails('vc-out', input=changed)
