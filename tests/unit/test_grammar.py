"""Schemas are applied in linear time, with the verdicts and messages of libxml2's own way."""
import copy
import random
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from lxml import etree

from lab.documents import large, small
from pragma_boot.document import grammar, rules, tree
from pragma_boot.system.failure import Failure

SOME = ['node', 'domain', 'state', 'disk', 'vc', 'other', '{urn:x}node', 'image', 'key', 'compute']


def whole(root, schema):
    """The fault that libxml2 finds when it gets the whole tree, as ``grammar.fault`` says it."""
    rules_of = grammar.rules_of(f'{grammar.SCHEMAS}/{schema}.rng')
    if rules_of.validate(root.getroottree()):
        return None
    return rules.explain(root, schema) or grammar.said(rules_of)


def compare(root, schema, one):
    """Of ``one`` fault the message is the same; of several, either may be told first."""
    ours, libxml2 = grammar.fault(root, schema), whole(root, schema)
    assert ours == libxml2 if one else (ours is None) == (libxml2 is None)


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_agrees_with_libxml2_on_the_whole_tree(data):
    """Of a document in which elements, attributes and text were put, moved and taken away."""
    root = copy.deepcopy(small())
    count = data.draw(st.integers(1, 3))
    for _ in range(count):
        every = list(root.iter())
        place = data.draw(st.sampled_from([one for one in every if isinstance(one.tag, str)]))
        edit = data.draw(st.sampled_from(['twice', 'new', 'move', 'text', 'tail', 'remove',
                                          'attribute', 'comment', 'unset']))
        if edit == 'new':
            place.append(etree.Element(data.draw(st.sampled_from(SOME)), a='1'))
        elif edit == 'comment':
            place.insert(0, etree.Comment('said'))
            place[0].tail = data.draw(st.sampled_from(['', ' ', 'said']))
        elif edit == 'text':
            place.text = 'said'
        elif edit == 'attribute':
            place.set(data.draw(st.sampled_from(
                ['other', 'port', '{urn:x}name', 'path', 'name', 'fqdn', 'mac', 'ip', 'netmask'])),
                data.draw(st.sampled_from(['7', 'a..b', 'a', '52:54:00:00:00:0g', '10.1.1.256',
                                           '/x\ny', ' /x', '52:54:00:00:00:77 '])))
        elif edit == 'unset' and len(place.attrib):
            del place.attrib[data.draw(st.sampled_from(sorted(place.attrib)))]
        elif place is root:
            continue
        elif edit == 'twice':
            place.addnext(copy.deepcopy(place))
        elif edit == 'tail':
            place.tail = 'said'
        elif edit == 'remove':
            place.getparent().remove(place)
        elif edit == 'move':
            below = set(place.iter())
            outside = [one for one in every if isinstance(one.tag, str) and one not in below]
            data.draw(st.sampled_from(outside)).append(place)
    # With and without a valid document before, of which more than the cluster may be the same.
    assert grammar.fault(small(), 'document') is None
    compare(root, 'document', count == 1)
    for schema in ('document', 'vc-in'):
        for little in (grammar.LITTLE, 0):
            grammar._familiar.clear()
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(grammar, 'LITTLE', little)
                compare(root, schema, count == 1)


def test_the_line_of_a_node_beyond_the_first():
    text = etree.tostring(large(3)).decode()
    before, disk, after = text.rpartition('<disk ')
    root = etree.fromstring(f'{before}<disk path="/x" format="raw"/>\n{disk}{after}')
    line = root.findall('cluster/node')[-1].sourceline
    with pytest.raises(Failure, match=f'it line {line} is not valid: Extra element disk'):
        tree.validate(root, 'document', 'it')


def test_no_list_of_nodes_is_given_to_libxml2():
    """Which is quadratic in them."""
    root = large(50)
    assert grammar.fault(root, 'document') is None
    reduced = grammar._reduced(root, 'document', root.findall('cluster/node')[:1])
    assert len(reduced.findall('cluster/node')) == 1
    assert len(list(reduced.iter())) < len(list(small().iter()))


@pytest.mark.parametrize('wide', [
    lambda count: ('</vc>', '<a/>' * count + '</vc>'),
    lambda count: ('</vc>', ''.join(f'<a{n}/>' for n in range(count)) + '</vc>'),
    lambda count: ('<devices>', '<devices>' + '<a/>' * count),
    lambda count: ('<networks>', '<networks>' + '<domain/>' * count),
    lambda count: ('<vc ', '<vc ' + ' '.join(f'a{n}="1"' for n in range(count)) + ' ')],
    ids=['alike', 'different', 'in a domain', 'a known name', 'attributes'])
def test_time_is_linear_in_what_an_author_adds(wide):
    """A vc-in.xml may have 1 MiB of it, which kept libxml2 busy for minutes."""
    def seconds(count):
        text = etree.tostring(small()).decode().replace(*wide(count))
        root = tree.parse(text.encode(), 'it')
        before = time.process_time()
        assert grammar.fault(root, 'document') is None
        return time.process_time() - before
    seconds(10)
    # What is quadratic takes 100 times as long.
    assert seconds(50_000) < 25 * max(seconds(5_000), 0.002)


def test_many_documents_of_one_entry():
    """What their author wrote is validated once; each cluster is validated."""
    assert grammar.fault(large(1, 'one'), 'document') is None
    other = large(1, 'other')
    assert grammar._is_familiar(other)
    assert not grammar._is_familiar(large(grammar.SMALL, 'other'))
    other.find('cluster').set('name', 'a b')
    assert 'name="a b"' in grammar.fault(other, 'document')[1]
    for count in range(40):
        other = large(1)
        other.append(etree.Element(f'other{count}'))
        assert grammar.fault(other, 'document') is None
    assert len(grammar._familiar) == grammar.FAMILIAR


def _mixed(root, chance):
    """Put unknown elements among those of each parent, and all of them in another order."""
    for path in ('.', 'virtualization', 'frontend', 'compute', 'networks', 'networks/network',
                 'networks/frontend', 'cluster', 'cluster/node'):
        for parent in root.findall(path):
            below = [*parent, *(etree.Element(name) for name in chance.choices(OTHERS, k=3))]
            chance.shuffle(below)
            for child in below:
                child.tail = None
            parent[:] = below


OTHERS = ('a', 'b', 'description', '{urn:x}source', '{urn:x}virtualization')


@pytest.mark.parametrize('seed', range(20))
def test_unknown_elements_in_any_order(seed):
    """libxml2 refuses some of these trees where an <interleave> has another in it."""
    root = small()
    _mixed(root, random.Random(seed))
    assert grammar.fault(root, 'document') is None
    for element in root.findall('source') + root.findall('image') + root.findall('cluster'):
        root.remove(element)
    assert grammar.fault(root, 'vc-in') is None
