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
    words = Libvirt(uri, Settings.read(tmp_path / 'site_conf.conf')).virsh('list').stdout.decode().split()
    assert words[-3:] == ['-c', uri, 'list']
    assert ('--keepalive-interval' in words) != limited
