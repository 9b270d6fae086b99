"""--user: the ordinary user of a cluster, from the options to vc-out.xml."""
import subprocess

import pytest
from lxml import etree

from lab.drivers import Wrapped
from pragma_boot.system import names, sshkey


def user(document):
    return etree.fromstring(document).find('cluster').get('user')


def dry(site, *arguments):
    """The document that vc-allocate would reserve."""
    return site.run('vc-allocate', '--dry-run', '--num-cpus', 1, *arguments,
                    input=site.document(site.entry, 'vc-parse')).stdout


def key(site, comment):
    """A public key with a comment."""
    path = site.folder / 'named'
    for old in (path, path.with_suffix('.pub')):
        old.unlink(missing_ok=True)
    subprocess.run(['ssh-keygen', '-q', '-t', 'ed25519', '-N', '', '-C', comment, '-f', path],
                   check=True)
    return path.with_suffix('.pub')


@pytest.mark.parametrize('comment, name', [
    ('ann@laptop', 'ann'), ('root@laptop', 'user'), ('Ann@laptop', 'user'), ('ann', 'user'),
    ('', 'user'), ('munge@x', 'user'), ('ann b@laptop', 'user'), ('_apt@x', 'user')])
def test_the_owner_of_the_key_is_the_user(site, comment, name):
    assert user(dry(site, '--key', key(site, comment))) == name


def test_of_several_keys_the_first_that_names_a_user_decides():
    line = 'ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAILsecFI6gt2gjlsMdQr4Dm9BHVAsQoM4aY67KQXKa0Al '
    assert sshkey.owner(f'{line}root@a\n{line}bob@b\n{line}ann@c') == 'bob'
    # With options, in which there are blanks.
    assert sshkey.owner(f'from="a b@c",command="d e@f" {line}ann@g') == 'ann'
    assert sshkey.owner('') == ''


def test_the_option_decides_and_the_environment_before_the_key(site, monkeypatch):
    ann = key(site, 'ann@laptop')
    assert user(dry(site, '--user', 'bob', '--key', ann)) == 'bob'
    assert user(dry(site, '--user', 'bob')) == 'bob'
    monkeypatch.setenv('PRAGMA_USER', 'carl')
    assert user(dry(site, '--key', ann)) == 'carl'
    assert user(dry(site, '--user', 'bob', '--key', ann)) == 'bob'
    monkeypatch.setenv('PRAGMA_USER', 'root')
    line = site.fails('vc-allocate', '--num-cpus', 1, status=2,
                      input=site.document(site.entry, 'vc-parse'))
    assert line.startswith("vc-allocate: PRAGMA_USER 'root' is an account of the system: ")


@pytest.mark.parametrize('name', ['Ann', '1ann', 'a b', 'a' * 33, 'ann$', 'é', '-ann', 'a\n'])
def test_a_name_that_useradd_does_not_take_is_refused(site, name):
    document = site.document(site.entry, 'vc-parse')
    for tool, *arguments in (('vc-allocate', '--num-cpus', 1),
                             ('pragma_boot', '--vcname', site.entry, '--key', site.key)):
        done = site.run(tool, *arguments, f'--user={name}', input=document, status=2)
        assert done.stderr.decode().startswith(f'{tool}: --user must be the name of a user')
        assert not done.stdout
    assert site.clusters() == []


@pytest.mark.parametrize('name', ['root', 'daemon', 'munge', 'slurm', '_chrony', 'systemd-network'])
def test_an_account_of_the_system_is_refused(site, name):
    line = site.fails('vc-allocate', '--num-cpus', 1, '--user', name, status=2,
                      input=site.document(site.entry, 'vc-parse'))
    assert line == (f"vc-allocate: --user '{name}' is an account of the system: "
                    'name an ordinary user')
    assert not names.is_user(name)


def test_the_user_is_in_each_vc_out(site):
    document = dry(site, '--user', 'ann')
    for node in ('frontend', 'compute-0'):
        output = site.run('vc-out', '--node', node, input=document).stdout
        assert etree.fromstring(output).find('user').get('name') == 'ann'
    older = document.replace(b' user="ann"', b'')
    assert b'<user' not in site.run('vc-out', input=older).stdout


@pytest.mark.parametrize('name', ['root', 'Ann', ''])
def test_an_edited_document_is_checked(site, name):
    document = dry(site).replace(b' user="user"', f' user="{name}"'.encode())
    line = site.fails('vc-out', input=document)
    assert f'<cluster> has user="{name}": it must be the name of an ordinary user' in line


def test_pragma_boot_passes_the_user_to_the_driver(site):
    driver = Wrapped(site, 'kvm')
    driver.write('allocate', f"echo \"$PRAGMA_USER\" >'{site.folder}/told'; exit 3")
    driver.boot('--user', 'ann', status=3)
    assert (site.folder / 'told').read_text() == 'ann\n'
    output = site.run('pragma_boot', '--vcname', site.entry, '--key', site.key, '--user', 'bob',
                      '--dry-run').stdout
    assert user(output) == 'bob'
