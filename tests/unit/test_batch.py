"""Several commands by one virsh, tried on libvirt's test driver, which every process has anew."""
import re

import pytest

from pragma_boot.engine import batch
from pragma_boot.engine.libvirt import Libvirt
from pragma_boot.system.failure import Failure
from pragma_boot.system.settings import Settings

UUID = '11111111-2222-3333-4444-555555555555'
DOMAIN = f'''<domain type='test'><name>demo-compute-0</name><uuid>{UUID}</uuid><memory>1024</memory>
<os><type>hvm</type></os></domain>'''.encode()


@pytest.fixture
def virsh(tmp_path):
    """The virsh of the test driver; ``calls`` are those that were made."""
    (tmp_path / 'site_conf.conf').touch()
    engine = Libvirt('test:///default', Settings.read(tmp_path / 'site_conf.conf'))

    def run(*command, **options):
        run.calls.append(command)
        return engine.virsh(*command, **options)
    run.calls = []
    return run


def test_a_node_is_defined_and_started_by_one_virsh(virsh):
    assert batch.defined_and_started(virsh, DOMAIN, UUID, True, False) == (True, '')
    assert len(virsh.calls) == 1


def test_a_domain_that_is_defined_and_does_not_start(virsh):
    """The test driver cannot leave a guest paused."""
    is_defined, reason = batch.defined_and_started(virsh, DOMAIN, UUID, True, True)
    assert is_defined and reason.startswith("Failed to start domain 'demo-compute-0'; unsupported")


def test_a_definition_that_is_refused(virsh):
    """The reason is that of the definition, not that there is no such domain."""
    is_defined, reason = batch.defined_and_started(
        virsh, DOMAIN.replace(b'<memory>1024', b'<memory>much'), UUID, False, False)
    assert not is_defined and reason.startswith('Failed to define domain from /dev/stdin; ')
    assert UUID not in reason and '\n' not in reason


def test_a_domain_of_another_that_has_the_name_is_not_started(virsh):
    """The test driver has a domain 'test', which runs; a start of it would say so."""
    is_defined, reason = batch.defined_and_started(
        virsh, DOMAIN.replace(b'demo-compute-0', b'test'), UUID, False, False)
    assert not is_defined and 'already' in reason and 'active' not in reason


def test_definitions_of_many_domains(virsh):
    assert batch.definitions(virsh, []) == {} and virsh.calls == []
    found = batch.definitions(virsh, ['test', "not 'ours'; version"])
    assert list(found) == ['test'] and re.search(b'<name>test</name>', found['test'])
    assert len(virsh.calls) == 1
    assert list(batch.definitions(virsh, ['test', 'absent'])) == ['test']


def test_a_definition_that_cannot_be_read(virsh):
    def refused(*command, **options):
        if 'echo' not in command[0]:
            raise Failure('no connection')
        return virsh('echo')
    with pytest.raises(Failure, match='no connection'):
        batch.definitions(refused, ['test'])


def test_a_cluster_is_destroyed_by_a_few_processes():
    scripts = []
    names = [f'demo-compute-{index}' for index in range(1000)]
    batch.undefined(lambda script, statuses: scripts.append(script), names)
    assert len(scripts) == batch.AT_ONCE
    for name in names:
        both = (f'destroy --domain {name}; '
                f'undefine --domain {name} --nvram --snapshots-metadata; ')
        assert sum(both in script for script in scripts) == 1
    batch.undefined(lambda script, statuses: scripts.append(script), ['one'])
    assert len(scripts) == batch.AT_ONCE + 1
