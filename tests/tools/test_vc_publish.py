"""vc-publish: the digests of a database, and their signature."""
import os
import shutil
import subprocess

import pytest

from lab.needs import need
from lab.site import lines


def sums(site):
    return (site.base / 'SHA256SUMS').read_bytes()


def check(site):
    """sha256sum agrees, and names every file of the database."""
    done = subprocess.run(['sha256sum', '--strict', '-c', 'SHA256SUMS'], cwd=site.base, check=True,
                          capture_output=True)
    return sorted(line.removesuffix(': OK') for line in lines(done.stdout))


def test_the_digests_are_those_of_sha256sum(site):
    done = site.run('vc-publish')
    assert done.stdout.decode() == f"'{site.base}/SHA256SUMS' has the digests of 4 files\n"
    assert check(site) == sorted(['vcdb.txt', *(f'{site.entry}/{name}' for name in os.listdir(
        site.vc_in.parent))])
    before = sums(site)
    site.run('vc-publish', '--base_path', site.base)
    assert sums(site) == before
    assert sorted(os.listdir(site.base)) == sorted(['SHA256SUMS', 'vcdb.txt', site.entry])
    assert os.stat(site.base / 'SHA256SUMS').st_mode & 0o777 == 0o644


@pytest.mark.parametrize('fault', ['missing', 'invalid', 'outside', 'bad-line', 'hidden'])
def test_an_entry_that_cannot_be_used_keeps_all_back(site, fault):
    site.run('vc-publish')
    before = sums(site)
    database = site.base / 'vcdb.txt'
    if fault == 'missing':
        (site.vc_in.parent / 'hosted-vm-0-0-1.img.gz').unlink()
    elif fault == 'invalid':
        site.vc_in.write_text('<vc/>')
    elif fault == 'bad-line':
        database.write_text(f'{database.read_text()}no entry\n')
    else:
        other = {'outside': site.folder, 'hidden': site.base / '.x'}[fault]
        shutil.copytree(site.vc_in.parent, other / 'y')
        database.write_text(f'{database.read_text()}y,{other}/y/vc-in.xml\n')
    line = site.fails('vc-publish')
    wanted = {'bad-line': "not a 'name,path' line: 'no entry': mend or remove this line",
              'outside': "'../y/vc-in.xml' is not a path",
              'hidden': "'.x/y/vc-in.xml' is not a path"}.get(fault, f"entry '{site.entry}' cannot")
    assert wanted in line and sums(site) == before


def test_without_a_database(empty_site):
    assert 'vcdb.txt' in empty_site.fails('vc-publish')
    assert 'there is no folder' in empty_site.fails('vc-publish', '--base_path', '/nonexistent')
    assert os.listdir(empty_site.base) == []


def test_a_folder_in_the_place_of_the_digests(site):
    (site.base / 'SHA256SUMS').mkdir()
    assert site.fails('vc-publish') == \
        f"vc-publish: cannot use '{site.base}/SHA256SUMS': Is a directory"
    assert sorted(os.listdir(site.base)) == sorted(['SHA256SUMS', 'vcdb.txt', site.entry])


def test_the_digest_of_an_empty_database(empty_site):
    (empty_site.base / 'vcdb.txt').touch()
    assert empty_site.run('vc-publish').stdout.endswith(b'has the digests of 1 file\n')


def test_a_signature(site, tmp_path, monkeypatch):
    need('gpg', 'gpgv')
    home = tmp_path / 'gnupg'
    home.mkdir(mode=0o700)
    monkeypatch.setenv('GNUPGHOME', str(home))
    try:
        subprocess.run(['gpg', '--batch', '--passphrase', '', '--quick-gen-key', 'a@example.org',
                        'ed25519', 'sign', 'never'], check=True, capture_output=True)
        site.run('vc-publish')
        before = sums(site)
        assert f"cannot sign '{site.base}/SHA256SUMS' with key" in site.fails(
            'vc-publish', '--key', 'nobody@example.org')
        assert sorted(os.listdir(site.base)) == sorted(['SHA256SUMS', 'vcdb.txt', site.entry])
        done = site.run('vc-publish', '--key', 'a@example.org')
        assert done.stdout.decode().endswith("4 files, signed by 'a@example.org'\n")
        assert sums(site) == before
        subprocess.run(['gpg', '--verify', 'SHA256SUMS.asc', 'SHA256SUMS'], cwd=site.base,
                       check=True, capture_output=True)
        assert 'name the key with --key' in site.fails('vc-publish')
        (site.base / 'SHA256SUMS.asc').rename(site.base / 'SHA256SUMS.gpg')
        site.run('vc-publish', '--key', 'a@example.org')
        assert sorted(os.listdir(site.base)) == sorted(['SHA256SUMS', 'SHA256SUMS.asc', 'vcdb.txt',
                                                        site.entry])
    finally:
        subprocess.run(['gpgconf', '--kill', 'all'], check=True)
