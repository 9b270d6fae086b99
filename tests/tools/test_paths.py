"""Paths that a document cannot hold, and files that root cannot give away (row 48)."""
import os
import shutil
import subprocess

import pytest

from lab import ROOT
from lab.needs import need
from lab.nodes import parsed
from pragma_boot.engine import session
from pragma_boot.system.failure import Failure


def run(site, *words, **options):
    done = subprocess.run(words, capture_output=True, check=False, env=site.environment(),
                          **options)
    line, = done.stderr.decode().splitlines()
    assert done.returncode == 1 and not done.stdout
    return line


def test_row_48_a_path_that_is_not_utf_8(site):
    folder = os.fsencode(site.base) + b'/caf\xe9'
    shutil.copytree(os.fsencode(site.vc_in.parent), folder)
    for tool in ('vc-parse', 'vc-check'):
        line = run(site, ROOT / 'bin' / tool, folder + b'/vc-in.xml')
        assert line.startswith(f"{tool}: '{site.base}/caf\\udce9/")
        assert line.endswith("' is not UTF-8: give the file or folder another name")


def test_row_48_a_temporary_directory_that_is_not_utf_8(site):
    environment = {**os.environb, b'PRAGMA_SITE_CONF': os.fsencode(site.conf),
                   b'PRAGMA_TEMP': os.fsencode(site.folder) + b'/caf\xe9'}
    done = subprocess.run([ROOT / 'bin/vc-stage'], input=parsed(site), capture_output=True,
                          check=False, env=environment)
    line, = done.stderr.decode().splitlines()
    assert done.returncode == 1 and not done.stdout
    assert f"'{site.folder}/caf\\udce9/" in line and 'is not UTF-8' in line


def test_row_48_root_that_cannot_give_a_file_away(site):
    need('setpriv')
    line = run(site, 'setpriv', '--bounding-set=-chown', '--inh-caps=-chown', '--',
               ROOT / 'bin/vc-stage', input=parsed(site))
    assert f"cannot give '{site.temp}/images/" in line and 'Operation not permitted' in line


@pytest.mark.parametrize('home, domain, fits', [
    ('/' + 'h' * 38, 'a-name-of-more-than-20-characters', True),
    ('/' + 'h' * 39, 'a-name-of-more-than-20-characters', False),
    ('/' + 'h' * 52, 'd-frontend', False), ('/home/user', 'd-frontend', True)])
def test_row_48_a_home_with_a_long_path(monkeypatch, home, domain, fits):
    monkeypatch.setattr(os, 'geteuid', lambda: 1000)
    monkeypatch.setenv('HOME', home)
    monkeypatch.delenv('XDG_CONFIG_HOME', raising=False)
    session.require_room('qemu:///system', domain)
    if fits:
        session.require_room(session.URI, domain)
        return
    with pytest.raises(Failure, match=f"the socket '{home}/.config/.*set XDG_CONFIG_HOME"):
        session.require_room(session.URI, domain)
    monkeypatch.setenv('XDG_CONFIG_HOME', '/short')
    session.require_room(session.URI, domain)
