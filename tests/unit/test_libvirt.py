"""libvirt as an engine: how virsh is called."""
import pytest

from pragma_boot.engine.libvirt import Libvirt
from pragma_boot.system.settings import Settings


@pytest.mark.parametrize(('uri', 'limited'), [
    ('qemu:///system', False), ('qemu+unix:///system?socket=/run/x', False),
    ('qemu+ssh://root@h0/system', True), ('qemu+tcp://h0:16509/system', True)])
def test_only_a_connection_to_another_host_times_out(tmp_path, monkeypatch, uri, limited):
    (tmp_path / 'virsh').write_text('#!/bin/sh\necho "$*"\n')
    (tmp_path / 'virsh').chmod(0o755)
    (tmp_path / 'site_conf.conf').touch()
    monkeypatch.setenv('PATH', f'{tmp_path}:/usr/sbin:/usr/bin:/sbin:/bin')
    engine = Libvirt(uri, Settings.read(tmp_path / 'site_conf.conf'))
    words = engine.virsh('list').stdout.decode().split()
    assert words[-3:] == ['-c', uri, 'list']
    assert ('--keepalive-interval' in words) != limited


def test_only_capacity_asks_each_qemu(tmp_path, monkeypatch):
    """States are known to libvirt itself. CPUs and memory are asked of each QEMU, busy or not."""
    (tmp_path / 'site_conf.conf').touch()
    engine = Libvirt('test:///default', Settings.read(tmp_path / 'site_conf.conf'))
    asked, virsh = [], engine.virsh
    monkeypatch.setattr(engine, 'virsh', lambda *command, **rest: asked.append(command[0])
                        or virsh(*command, **rest))
    assert engine.domains([])['test'].state == 'running'
    assert engine.domains()['test'].state == 'running'
    assert [('--balloon' in command, '--vcpu' in command) for command in asked] == [
        (False, False), (True, True)]
