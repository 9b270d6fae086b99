"""What guests report on their serial consoles."""

import pytest

from pragma_boot.engine import console


@pytest.mark.parametrize('log, output', [
    (b'', {}),
    (b'pragma_boot: ready compute-0\r\n', {'ready': ''}),
    (b'login: \r\npragma_boot: ready frontend\r\r\nlogin: ', {'ready': ''}),
    (b'pragma_boot: failed debian: no vc-out.xml\r\n', {'failed': 'no vc-out.xml'}),
    (b'pragma_boot: hostkey frontend ssh-ed25519 AAAA\npragma_boot: ready frontend\n',
     {'hostkey': 'ssh-ed25519 AAAA', 'ready': ''}),
    (b'pragma_boot: ready a\nlogin: \npragma_boot: failed a: munge\n', {'failed': 'munge'}),
    (b'pragma_boot: failed a: munge\npragma_boot: ready a\n', {'ready': ''}),
    (b'echo pragma_boot: ready compute-0\n', {}),
    (b'pragma_boot: ready\xff\n' + bytes(100), {}),
])
def test_reports(log, output):
    assert console.reports(log) == output


def test_reports_in_a_rotated_log(tmp_path):
    (tmp_path / 'compute-0.console.log.0').write_bytes(b'pragma_boot: ready compute-0\n')
    (tmp_path / 'compute-0.console.log').write_bytes(b'later')
    assert console.reports(console.read(tmp_path / 'compute-0.console.log')) == {'ready': ''}


def test_nothing_is_reported_without_a_log(tmp_path):
    assert console.reports(console.read(tmp_path / 'compute-0.console.log')) == {}


@pytest.mark.parametrize('log, line', [
    (b'', ''),
    (b'\r\n \r\n', ''),
    (b'Booting\r\n\x1b[2J\x1b[1;1Hgrub> \x1b[5n', 'grub>'),
    (b'login: \x1b]\x00\r\n\r\n\xff\xfe', '\ufffd\ufffd'),
    (b'Kernel panic - not syncing:\tVFS\r\r\n', 'Kernel panic - not syncing: VFS'),
    (b'x' * 500, f"{'x' * console.LONGEST}\u2026"),
])
def test_last_line(log, line):
    assert console.last_line(log) == line
