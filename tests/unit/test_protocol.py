"""Every engine and storage implements its Protocol, with the same parameters."""
import importlib
import inspect
from pathlib import Path

import pytest

from pragma_boot.engine import protocol, registry, storage, volume

ENGINES = [registry.LIBVIRT, registry.EXTERNAL, *registry.KINDS.values()]
STORAGES = [storage.Shared, storage.WithInstances, storage.Elsewhere, volume.Pool]


def members(declared):
    """The public methods and attributes that a Protocol declares."""
    names = {*vars(declared), *declared.__annotations__}
    return sorted(name for name in names if not name.startswith('_'))


def parameters(function):
    """The names and defaults of a function's parameters."""
    return [(one.name, one.default) for one in inspect.signature(function).parameters.values()]


def check(kind, declared):
    """Compare a class with a Protocol."""
    source = inspect.getsource(kind)
    for name in members(declared):
        if name in vars(declared):
            assert parameters(getattr(kind, name)) == parameters(getattr(declared, name)), name
        else:
            assert hasattr(kind, name) or f'self.{name} = ' in source, name


@pytest.mark.parametrize('kind', dict.fromkeys(ENGINES), ids=lambda kind: kind.name)
def test_an_engine_implements_the_protocol(kind):
    module = importlib.import_module(f'pragma_boot.engine.{kind.module}')
    engine = getattr(module, kind.name)
    check(engine, protocol.Engine)
    public = {name for name in vars(engine) if not name.startswith('_')}
    assert public - set(members(protocol.Engine)) <= HELPERS.get(kind.name, set())


HELPERS = {'Libvirt': {'virsh', 'give', 'admit'}, 'Ganeti': {'create', 'give', 'admit'}}
"""Methods that an engine offers to its own storage, plan and probe."""


@pytest.mark.parametrize('kind', STORAGES)
def test_a_storage_implements_the_protocol(kind):
    # What Shared does for WithInstances.
    base = storage.Shared if kind is storage.WithInstances else kind
    check(base, protocol.Storage)
    for name in set(vars(kind)) & set(vars(protocol.Storage)) & set(members(protocol.Storage)):
        assert parameters(getattr(kind, name)) == parameters(getattr(protocol.Storage, name)), name


def test_no_engine_is_left_out():
    modules = {kind.module for kind in ENGINES}
    folder = importlib.import_module('pragma_boot.engine').__path__[0]
    with_engines = {path.stem for path in Path(folder).glob('*.py')
                    if 'def marked(self' in path.read_text(encoding='utf-8')}
    assert with_engines - {'protocol'} == modules
