"""Names: one rule, the same in the code, in the schema of documents and in the guest part."""
import importlib.machinery
import importlib.util
import re

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from lxml import etree

from lab import ROOT
from pragma_boot.cluster.ledger import Ledger
from pragma_boot.system import names
from pragma_boot.system.failure import Failure

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


@given(st.text('ab0-._ \n', max_size=70))
@example('demo-').via('allocated once, and then refused by the guest')
@example('a..b').via('allocated once, and then refused by the guest')
@example('a' * 63)
@example('a' * 64)
@example('a.b-c.d')
def test_one_rule(name):
    valid = bool(names.PATTERN.fullmatch(name))
    element = etree.Element('a')
    element.text = name
    # The schema's token is stripped of white space, which no attribute of ours keeps.
    if name == name.strip():
        assert SCHEMA.validate(element) == valid
    assert (len(name) <= 63 and bool(GUEST.NAME.fullmatch(name))) == valid


@pytest.mark.parametrize('name', ['demo-', 'a..b', '-a', 'a.-b', 'a-.b', '.', '', 'a_b', 'a\n'])
def test_refuses_bad_names(name):
    with pytest.raises(Failure, match=re.escape(f'--name {name!r} is not a name')):
        names.checked(name, '--name')


@given(st.text())
@example('My cluster (v2)..img-')
def test_a_proposed_name_is_a_name(wanted):
    assert names.PATTERN.fullmatch(Ledger('/nonexistent').free_name(wanted))
