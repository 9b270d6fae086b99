"""Faults of documents: in words, and of the whole document; edits that come too late."""
import copy
import ipaddress
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from lxml import etree

from lab import DATA
from pragma_boot.document import edits, rules, tree
from pragma_boot.system.failure import Failure

TEXT = (DATA / 'vc-boot-out.xml').read_text()
for name, value in (('@SITE@', '/site'), ('@CLUSTER@', 'demo'), ('@LEDGER@', '0' * 32),
                    ('@DIGEST@', 'a'), ('@TIME@', '1'), ('@PRIVATE@', '23000'), ('@SSH@', '22000')):
    TEXT = TEXT.replace(name, value)
COUNT = iter(range(100))
TEXT = re.sub('@MAC@', lambda match: f'52:54:00:00:00:{next(COUNT):02x}', TEXT)


def document(*edits):
    text = TEXT
    for pattern, by in edits:
        assert re.search(pattern, text), pattern
        text = re.sub(pattern, by, text, count=1)
    return etree.fromstring(text)


def fault(root):
    with pytest.raises(Failure) as failure:
        tree.validate(root, 'document', 'it')
    return str(failure.value)


def test_a_good_document():
    tree.validate(document(), 'document', 'it')
    assert rules.explain(document()) is None
    assert edits.refused(document(), document()) == ''


@pytest.mark.parametrize('edit, message', [
    ((' memory="[0-9]+"', ' memory="512M"'),
     '<node> has memory="512M": it must be a whole number of KiB from 1 on'),
    ((' memory="[0-9]+"', ''), '<node> has no memory: it must be a whole number of KiB'),
    (('>eth1<', '>eth0<'), "<public> is 'eth0': it must be 'eth1'"),
    (('<netmask>[^<]*', '<netmask>24'), "<netmask> is '24': it must be a netmask in full"),
    (('engine="kvm"', 'engine="xen"'), '<virtualization> has engine="xen": it must be \'kvm\''),
    ((' cpus="[0-9]+"', ' cpus="0"'), '<node> has cpus="0": it must be a whole number from 1'),
    ((' cpus="[0-9]+"', ' cpus="10000"'), 'has cpus="10000": it must be a whole number from 1 to'),
    (('<node ', '<node colour="red" '), '<node> has an attribute colour: it may have role, name'),
    ((' port="23000"', ' port="80"'), 'port="80": it must be a whole number from 1024 to 65535'),
    ((' ip="10.0.2.3"', ' ip="not"'), '<dns> has ip="not": it must be an IPv4 address'),
    ((' search="[^"]*"', ' search="a_b"'), '<dns> has search="a_b": it must be domains'),
    (('<state>running', '<state>walking'), "<state> is 'walking': it must be 'defined' or"),
    ((' format="qcow2"', ' format="vmdk"'), '<disk> has format="vmdk": it must be \'qcow2\''),
    ((' name="compute-0"', ' name="frontend"'), "<node> 'frontend' is there twice"),
    ((' name="compute-0" role="compute"', ' name="compute-0" role="frontend"'),
     "<node> 'compute-0' is a second frontend"),
    ((' ip="10.1.255.254"', ' ip="10.1.1.1"'), '"10.1.1.1", which \'frontend\' has'),
    ((' ip="10.1.255.254"', ' ip="10.2.1.1"'), 'in the private network 10.1.0.0/16'),
    ((' ip="10.1.255.254"', ' ip="10.1.255.255"'), "a host's address in the private network"),
    ((' ip="10.1.255.254"', ' ip="10.1.1"'), '<interface> has ip="10.1.1": it must be an IPv4'),
])
def test_a_fault_in_words(edit, message):
    line = fault(document(edit))
    assert message in line and re.match('it line [0-9]+ is not valid: ', line)


VALUES = st.sampled_from(['', '0', '-1', 'x', '1e9', '99999999999', '/x', '10.1.1.1', '10.1.1.1 ',
                          'ready', 'é', ' ', '80', '512M', 'frontend', 'kvm', 'a_b'])


@given(st.data())
def test_what_a_schema_refuses_is_told_in_words(data):
    """Of an attribute that has another value, or is missing, or an element that is missing."""
    root = document()
    outside = set(root.xpath('//domain//node() | //key | //change'))
    elements = [one for one in root.iter(etree.Element) if one not in outside]
    element = data.draw(st.sampled_from(elements))
    key = data.draw(st.sampled_from([*element.attrib, '']))
    if key:
        value = data.draw(st.none() | VALUES)
        if value is None:
            del element.attrib[key]
        else:
            element.set(key, value)
    elif element is root:
        return
    else:
        element.getparent().remove(element)
    try:
        tree.validate(root, 'document', 'it')
    except Failure as failure:
        assert rules.explain(root) or rules.check(root), failure
    else:
        assert rules.explain(root) is None


@pytest.mark.parametrize('edit, message', [
    ((' name="compute-0"', ' name="other"'), "the ledger has no <node> 'other'"),
    ((' mac="52:54:00:00:00:00"', ' mac="52:54:00:00:00:77"'), 'mac="52:54:00:00:00:77", but "52'),
    ((' port="23000"', ' port="23001"'), 'port="23001", but "23000" in the ledger'),
    ((' cpus="1"', ' cpus="4"'), 'cpus="4", but "1" in the ledger'),
    ((' search="local"', ' search="example.org"'), '<dns> has search="example.org", but "local"'),
    ((' ip="10.1.255.254"', ' ip="10.1.255.9"'), 'ip="10.1.255.9", but "10.1.255.254"'),
    (('<key>', '<key>ssh-rsa AAAA '), '<key> differs from the ledger'),
])
def test_an_edit_that_comes_too_late(edit, message):
    assert message in edits.refused(document(), document(edit))


@pytest.mark.parametrize('edit', [
    (' cpus="1"', ' cpus="4"'), (' memory="[0-9]+"', ' memory="999"'),
    (' search="local"', ' search="x"'),
    (' ip="10.1.255.254"', ' ip="10.1.255.9"'), ('<key>', '<key>ssh-rsa AAAA ')])
def test_an_edit_before_there_are_disks(edit):
    known = document()
    for disk in known.findall('cluster/node/disk'):
        disk.getparent().remove(disk)
    assert edits.refused(known, document(edit)) == ''


def test_a_node_that_was_removed():
    root = document()
    edited = copy.deepcopy(root)
    edited.find('cluster').remove(edited.find("cluster/node[@name='compute-0']"))
    assert edits.refused(root, edited) == \
        "the document lacks <node> 'compute-0', which the ledger has"


@given(st.integers(1, 2 ** 32 - 2), st.integers(0, 32), st.integers(0, 2 ** 32 - 1))
def test_private_addresses_are_judged_as_ipaddress_does(first, length, second):
    """The second node's address, in a network that the first has."""
    network = ipaddress.IPv4Network((first, length), strict=False)
    root = document()
    cards = root.xpath("cluster/node/interface[@network='private']")
    for card, number in zip(cards, (first, second), strict=False):
        card.set('ip', str(ipaddress.IPv4Address(number)))
        card.set('netmask', str(network.netmask))
    for node in root.findall('cluster/node')[2:]:
        node.getparent().remove(node)
    outside = {network[0], network[-1]}
    good = first != second and all(
        ipaddress.IPv4Address(number) in network and ipaddress.IPv4Address(number) not in outside
        for number in (first, second))
    found = rules.check(root)
    assert (found is None) == good
    if found and first != second:
        assert f'in the private network {network}' in found[1]
