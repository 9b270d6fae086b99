"""The programs that make stock images: their arguments, and the packages that they need."""
import os
import re
import subprocess

import pytest

from lab import ROOT, stock


def run(name, *arguments):
    return subprocess.run([stock.PROGRAMS / name, *map(str, arguments)], capture_output=True,
                          check=False, text=True)


@pytest.mark.parametrize('name', stock.ENDINGS)
class TestProgram:
    def test_makefile_installs_its_packages(self, name):
        makefile = re.sub(r'\\\n', ' ', (ROOT / 'Makefile').read_text())
        variables = dict(re.findall('^([A-Z]+_PACKAGES) := (.*)$', makefile, re.M))
        installed = variables['IMAGE_PACKAGES'].replace('$(UEFI_PACKAGES)',
                                                        variables['UEFI_PACKAGES']).split()
        needed = run(name, '--packages').stdout.split()
        assert needed
        assert set(needed) <= set(installed)
        if name == 'vmdb2-uefi':
            assert set(needed) <= set(variables['UEFI_PACKAGES'].split())

    def test_help(self, name):
        done = run(name, '--help')
        assert (done.returncode, done.stderr) == (0, '')
        assert done.stdout.startswith(f'usage: {name} ')

    @pytest.mark.parametrize('arguments', [(), ('--unknown',), ('a', 'b')])
    def test_bad_usage(self, name, arguments):
        done = run(name, *arguments)
        assert done.returncode == 2
        assert re.fullmatch(f'{name}: .*; see {name} --help\n', done.stderr)

    @pytest.mark.skipif(os.geteuid(), reason='images are made as root')
    def test_folder_that_is_not_there(self, name, tmp_path):
        done = run(name, tmp_path / 'missing' / 'image')
        assert done.returncode == 1
        assert done.stderr == (f"{name}: cannot write '{tmp_path}/missing/image': no such "
                               'folder\n')

    def test_name_of_the_file_follows_the_program(self, name, monkeypatch, tmp_path):
        before = stock.path_of(name)
        for program in (name, *stock.SHARED):
            (tmp_path / program).write_bytes((stock.PROGRAMS / program).read_bytes())
        monkeypatch.setattr(stock, 'PROGRAMS', tmp_path)
        assert stock.path_of(name) == before
        (tmp_path / 'common.sh').write_text('changed\n')
        assert stock.path_of(name) != before
