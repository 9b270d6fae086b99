"""The rule for names is the same in the code, in the schema and in the guest part."""
import importlib.machinery
import importlib.util
import re

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from lxml import etree

from lab import ROOT
from pragma_boot.cluster import pool
from pragma_boot.cluster.ledger import Ledger
from pragma_boot.system import names
from pragma_boot.system.failure import Failure
from pragma_boot.system.settings import Settings

TYPES = 'http://www.w3.org/2001/XMLSchema-datatypes'
RNG = {'rng': 'http://relaxng.org/ns/structure/1.0'}


def schema():
    """The RELAX NG schema of one element <a> that holds a name."""
    document = etree.parse(ROOT / 'lib/pragma_boot/document/schema/document.rng').getroot()
    rule = document.find("rng:define[@name='name']", RNG)
    grammar = etree.fromstring(f'<grammar xmlns="{RNG["rng"]}" datatypeLibrary="{TYPES}"><start>'
                               '<element name="a"><ref name="name"/></element></start></grammar>')
    grammar.append(rule)
    return etree.RelaxNG(grammar)


def guest_part():
    """images/guest/pragma-guest as a module."""
    loader = importlib.machinery.SourceFileLoader('pragma_guest',
                                                  str(ROOT / 'images/guest/pragma-guest'))
    module = importlib.util.module_from_spec(importlib.util.spec_from_loader('pragma_guest',
                                                                             loader))
    loader.exec_module(module)
    return module


SCHEMA, GUEST = schema(), guest_part()


LABELS = st.text('ab0-_ ', max_size=65) | st.integers(61, 65).map('a'.__mul__)


@given(st.text('ab0-._ \n', max_size=70) | st.lists(LABELS, max_size=6).map('.'.join))
@example('demo-').via('allocated once, and then refused by the guest')
@example('a..b').via('allocated once, and then refused by the guest')
@example('a' * 63)
@example('a' * 64)
@example('a.b-c.d')
@example('a.example.org.')
@example('.'.join(['a' * 63] * 4)[:253])
@example('.'.join(['a' * 63] * 4)[:254])
def test_one_rule(name):
    valid = names.is_name(name)
    element = etree.Element('a')
    element.text = name
    # The schema's token ignores white space at both ends, which no attribute of ours has.
    if name == name.strip():
        assert SCHEMA.validate(element) == valid
    assert taken_by_guest(name) == valid


def taken_by_guest(name):
    """Whether the guest part takes a name."""
    try:
        return GUEST.checked(GUEST.NAME, name, 'name') == name
    except GUEST.GuestError:
        return False


def test_an_fqdn_of_more_than_63_characters():
    fqdn = f"{'a' * 40}.{'b' * 40}.example.org"
    assert names.checked(fqdn, 'x') == fqdn and taken_by_guest(fqdn)


@given(st.text('abE-._ 0', max_size=30) | st.lists(LABELS, max_size=4).map(' '.join))
@example('example.org example.com')
@example('a_b.example.org')
@example('example.org.')
def test_a_search_list_is_taken_as_the_guest_takes_it(text):
    settings = Settings({'search': text.strip()}, 'site_conf.conf')
    document = (b'<vc><frontend fqdn="a"><private ip="10.1.1.1"/></frontend>'
                b'<network><dns/></network></vc>')
    root = etree.fromstring(document)
    root.find('network/dns').set('search', text)
    try:
        told = GUEST.parse(etree.tostring(root)).search
    except GUEST.GuestError:
        with pytest.raises(Failure, match='search must be domains with spaces between them'):
            pool.search(settings)
    else:
        assert ' '.join(pool.search(settings)) == told


@pytest.mark.parametrize('name', ['compute-0', 'Compute-12', 'compute-0.example.org', 'localhost'])
def test_a_name_that_another_node_has(name):
    with pytest.raises(Failure, match=f'{name}.* cannot be the name of a cluster'):
        names.checked_cluster(name, '--name')
    assert Ledger('/nonexistent').free_name(name) != name


@pytest.mark.parametrize('name', ['frontend', 'compute', 'compute-0-0', 'compute-a', 'localhost2'])
def test_a_name_that_no_other_node_has(name):
    assert names.checked_cluster(name, '--name') == name


@pytest.mark.parametrize('name', ['demo-', 'a..b', '-a', 'a.-b', 'a-.b', '.', '', 'a_b', 'a\n'])
def test_refuses_bad_names(name):
    with pytest.raises(Failure, match=re.escape(f'--name {name!r} is not a name')):
        names.checked(name, '--name')


@given(st.text())
@example('My cluster (v2)..img-')
def test_a_proposed_name_is_a_name(wanted):
    assert names.is_name(Ledger('/nonexistent').free_name(wanted))
