"""The caller's environment: PATH, locale, umask, limits, descriptors (rows 39 to 43)."""
import os
import subprocess

import pytest

from lab import ROOT
from lab.needs import do_without, need

TOOLS = sorted(path.name for path in (ROOT / 'bin').iterdir())

# libvirt-l10n has all six.
LANGUAGES = ('cs', 'de', 'fr', 'ja', 'pt_BR', 'zh_CN')


class Shell:
    """Tools of a site, run by a command that changes their environment first."""

    def __init__(self, site, *words):
        self.site = site
        self.words = words

    def run(self, tool, *arguments, input=b'', status=0):
        """Run a tool; its CompletedProcess, whose status is asserted."""
        done = subprocess.run([*self.words, ROOT / 'bin' / tool, '--site-conf', self.site.conf,
                               *map(str, arguments)],
                              input=input, capture_output=True, check=False, timeout=300)
        assert done.returncode == status, done
        return done

    def life(self):
        """The whole life of a cluster of one node, paused before its first instruction."""
        document = self.run('vc-parse', self.site.vc_in).stdout
        for tool, *arguments in (('vc-stage',), ('vc-allocate', '--num-cpus', 0), ('vc-inject',),
                                 ('vc-boot', '--paused')):
            document = self.run(tool, *arguments, input=document).stdout
        name = self.site.clusters()[0]
        assert b'<state>running</state>' in self.run('vc-status', '--xml', name).stdout
        assert self.run('vc-graph', input=document).stdout.startswith(b'graph ')
        assert self.run('vc-console', '--no-follow', name).stdout == b''
        self.run('vc-shutdown', '--timeout', 0, name)
        assert b'<state>stopped</state>' in self.run('vc-status', '--xml', name).stdout
        self.run('vc-clean', name)
        assert self.site.clusters() == []


def test_row_39_a_path_without_the_folders_of_root(site):
    Shell(site, 'env', '-i', 'PATH=/usr/bin:/bin').life()


@pytest.mark.parametrize('tool', TOOLS)
def test_row_39_each_tool_starts_with_an_empty_environment(site, tool):
    done = subprocess.run(['env', '-i', ROOT / 'bin' / tool, '--help'], capture_output=True,
                          check=True)
    assert done.stdout.startswith(tool.encode()) and not done.stderr


@pytest.fixture(scope='module')
def locales(tmp_path_factory):
    """A folder with one locale: LANGUAGE counts in any but C, to which C.UTF-8 belongs lately."""
    folder = tmp_path_factory.mktemp('locales')
    need('localedef')
    done = subprocess.run(['localedef', '-i', 'en_US', '-f', 'UTF-8', folder / 'en_US.UTF-8'],
                          capture_output=True, check=False)
    if done.returncode:
        do_without(f'the package locales is not installed: {done.stderr.decode()}')
    return folder


@pytest.mark.parametrize('language', LANGUAGES)
def test_row_40_other_languages(site, language, locales):
    words = ['env', f'LOCPATH={locales}', 'LC_ALL=en_US.UTF-8', f'LANGUAGE={language}']
    done = subprocess.run([*words, 'virsh', '-c', 'test:///default', 'nodeinfo'],
                          capture_output=True, check=True)
    if b'CPU model:' in done.stdout:
        do_without('libvirt-l10n is not installed')
    Shell(site, *words).life()


@pytest.mark.parametrize('mask', ['077', '027', '000'])
def test_row_41_a_umask(site, mask):
    Shell(site, 'bash', '-c', f'umask {mask}; exec "$@"', 'bash').life()
    for path in (site.temp / 'images').iterdir():
        assert not path.stat().st_mode & 0o022, path


@pytest.mark.parametrize('limit', ['-v 3000000', '-t 60', '-f 200000', '-c 0', '-n 256'])
def test_row_42_a_limit_of_the_caller(site, limit):
    # A session daemon that the tools start would have the limit, too, and keep it for others.
    site.domains()
    Shell(site, 'bash', '-c', f'ulimit {limit} && exec "$@"', 'bash').life()


@pytest.mark.parametrize('closed', ['2>&-', '0<&- 2>&-'])
def test_row_43_standard_error_is_closed(site, closed):
    """Warnings are lost; the document is the same."""
    text = site.vc_in.read_text().replace('<driver>rocks6_client', '<driver>generic')
    site.vc_in.write_text(text)
    shell = Shell(site, 'bash', '-c', f'exec "$@" {closed}', 'bash')
    document = shell.run('vc-parse', site.vc_in).stdout
    assert document == site.run('vc-parse', site.vc_in).stdout
    verbose = Shell(site, 'bash', '-c', 'exec "$@" 2>&-', 'bash')
    assert (verbose.run('vc-stage', '-v', input=document).stdout
            == site.run('vc-stage', input=document).stdout)
    assert verbose.run('vc-parse', '/nonexistent', status=1).stdout == b''


def test_row_43_a_file_does_not_become_a_standard_stream(site):
    done = subprocess.run(['bash', '-c', 'exec "$@" 0<&- 1>&- 2>&-', 'bash',
                           ROOT / 'bin' / 'vc-list'],
                          env={**os.environ, 'PRAGMA_SITE_CONF': str(site.conf)}, check=False)
    assert done.returncode == 1
