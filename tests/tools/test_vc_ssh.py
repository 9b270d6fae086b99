"""vc-ssh: the options that ssh gets; a real login is in guests/test_examples.py."""
import os
import re
import shlex
import subprocess

import pytest

from lab import ROOT
from lab.needs import need
from lab.nodes import boot
from lab.site import lines

KEY = 'ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAILsecFI6gt2gjlsMdQr4Dm9BHVAsQoM4aY67KQXKa0Al'


@pytest.fixture
def folder(site):
    """The folder of a cluster whose frontend and first compute node have reported host keys."""
    site.cluster_document = site.document(site.entry, 'vc-inject')
    folder = site.temp / 'clusters' / site.entry
    for node in ('frontend', 'compute-0'):
        (folder / f'{node}.console.log').write_text(
            f'boot\r\npragma_boot: hostkey {node} {KEY}\r\n')
    return folder


def becomes(site, *arguments, status=0):
    """The arguments of ssh; a program that prints them takes its place."""
    programs = site.folder / 'a bin'
    programs.mkdir(exist_ok=True)
    (programs / 'ssh').write_text('#!/bin/sh\nprintf "%s\\n" "$@"\ntrap "" PIPE\nexit 7\n')
    (programs / 'ssh').chmod(0o755)
    done = subprocess.run([ROOT / 'bin/vc-ssh', *map(str, arguments)], capture_output=True,
                          check=False,
                          env={**site.environment(), 'PATH': f"{programs}:{os.environ['PATH']}"})
    assert done.returncode == 7 and not done.stderr, done
    return lines(done.stdout)


def understood(words):
    """The options that the real ssh derives from arguments, by lower-case names."""
    need('ssh')
    done = subprocess.run(['ssh', '-G', '-F', 'none', *words], capture_output=True, check=True)
    return dict(line.partition(' ')[::2] for line in lines(done.stdout))


def test_accepts_only_host_keys_from_the_console(site, folder):
    output = understood(becomes(site, site.entry))
    assert output['stricthostkeychecking'] == 'true'
    assert output['hostkeyalias'] == f'frontend.{site.entry}'
    assert output['userknownhostsfile'] == str(folder / 'frontend.known_hosts')
    assert output['globalknownhostsfile'] == '/dev/null' and output['updatehostkeys'] == 'false'
    assert output['user'] == 'root' and output['hostname'] == '127.0.0.1'
    port = re.search('network="public".* port="([0-9]+)"', (folder / 'document.xml').read_text())[1]
    assert output['port'] == port and output['identitiesonly'] == 'no'
    assert 'proxycommand' not in output
    found = folder / 'frontend.known_hosts'
    assert found.read_text() == f'frontend.{site.entry} {KEY}\n'
    assert found.stat().st_mode & 0o777 == 0o600
    listed = subprocess.run(['ssh-keygen', '-F', f'frontend.{site.entry}', '-f', found],
                            capture_output=True, check=True)
    assert KEY in listed.stdout.decode()


def test_a_private_key_of_the_users_in_a_folder_with_odd_names(site, folder):
    key = site.folder / "it's 100%h key"
    key.write_text('')
    output = understood(becomes(site, '-i', key, site.entry))
    assert output['identitiesonly'] == 'yes'
    # ssh expands it when it reads the file.
    assert output['identityfile'].replace('%%', '%') == str(key)
    assert 'No such file' in site.fails('vc-ssh', '-i', '/nonexistent', site.entry)


def test_a_command_is_never_an_option(site, folder):
    words = becomes(site, site.entry, 'ls', '-h', '--version', '--node', 'a b')
    assert words[-6:] == ['--', 'ls', '-h', '--version', '--node', 'a b']
    for arguments in (['-oProxyCommand=x'], ['--', '-oProxyCommand=x']):
        assert becomes(site, site.entry, *arguments)[-3:] == ['root@127.0.0.1', '--',
                                                              '-oProxyCommand=x']


def test_a_compute_node_is_reached_through_the_frontend(site, folder):
    key = site.folder / "it's 100%h key"
    key.write_text('')
    output = understood(becomes(site, '-i', key, '--node', 'compute-0', site.entry, 'hostname'))
    assert output['hostkeyalias'] == f'compute-0.{site.entry}'
    assert output['hostname'] == '10.1.255.254'
    assert output['userknownhostsfile'] == str(folder / 'compute-0.known_hosts')
    # ssh expands the command before a shell reads it.
    words = shlex.split(output['proxycommand'].replace('%h:%p', 'node:22').replace('%%', '%'))
    assert words[0] == 'ssh' and words[-3:] == ['-W', 'node:22', 'root@127.0.0.1']
    through = understood(words[1:])
    assert through['hostkeyalias'] == f'frontend.{site.entry}'
    assert through['stricthostkeychecking'] == 'true'
    assert through['identityfile'].replace('%%', '%') == str(key)
    assert (folder / 'frontend.known_hosts').exists()
    assert (folder / 'compute-0.known_hosts').exists()


def test_a_frontend_on_another_host_is_reached_by_a_jump(site, folder):
    away = 'qemu+ssh://root@node1/session'
    path = folder / 'document.xml'
    path.write_text(path.read_text().replace('qemu:///session', away))
    assert understood(becomes(site, site.entry))['proxyjump'] == 'root@node1'


@pytest.mark.parametrize('configured', ['none', '5'])
def test_a_guest_that_does_not_answer_is_noticed(site, folder, configured):
    programs = site.folder / 'a bin'
    programs.mkdir()
    (programs / 'ssh').write_text(f'''#!/bin/sh
[ "$1" = -G ] && exec echo connecttimeout {configured}
printf "%s\\n" "$@"
''')
    (programs / 'ssh').chmod(0o755)
    done = subprocess.run([ROOT / 'bin/vc-ssh', site.entry], capture_output=True, check=True, env={
        **site.environment(), 'PATH': f"{programs}:{os.environ['PATH']}"})
    words = lines(done.stdout)
    assert ('ConnectTimeout=60' in words) == (configured == 'none')
    assert words[-1] == 'root@127.0.0.1'


def test_a_host_key_that_was_not_reported(site, folder):
    for said in ('', 'pragma_boot: ready frontend\n', f'echo pragma_boot: hostkey frontend {KEY}\n',
                 'pragma_boot: hostkey frontend * ssh-ed25519 AAAA\n',
                 'pragma_boot: hostkey frontend ssh-ed25519\n',
                 'pragma_boot: hostkey frontend ssh-ed25519 AAAA BBBB\n'):
        (folder / 'frontend.console.log').write_text(said)
        assert ("node 'frontend' is not ready: it has not reported its host key; "
                f"'vc-console {site.entry} frontend'" in site.fails('vc-ssh', site.entry))
        assert not (folder / 'frontend.known_hosts').exists()


def test_a_host_key_is_kept_until_the_node_is_started_again(site, folder):
    becomes(site, site.entry)
    (folder / 'frontend.console.log').write_text('')
    becomes(site, site.entry)
    boot(site, site.cluster_document, '--node', 'frontend')
    assert 'it has not reported its host key' in site.fails('vc-ssh', site.entry)


@pytest.mark.parametrize('arguments, status, reason', [
    (['nothing'], 1, "no cluster 'nothing'"), ([], 2, 'usage'), (['--nod', 'x', 'y'], 2, "'--nod'"),
    (['-i'], 2, 'usage')])
def test_refuses(site, arguments, status, reason):
    assert reason in site.fails('vc-ssh', *arguments, status=status)


def test_names_a_node_that_is_not_there(site, folder):
    assert "has no node 'compute-9'" in site.fails('vc-ssh', '--node', 'compute-9', site.entry)


def test_help_before_the_name(site, folder):
    assert site.run('vc-ssh', '-v', '--help').stdout.startswith(b'vc-ssh: log in')


def test_ssh_that_is_not_installed(site, folder):
    # Without the folders that a tool adds to its caller's PATH.
    script = (f'import runpy, sys; sys.path.insert(0, "{ROOT}/lib")\n'
              'from pragma_boot.system import environment\n'
              f'environment.PATH = (); sys.argv = ["vc-ssh", "{site.entry}"]\n'
              f'runpy.run_path("{ROOT}/bin/vc-ssh", run_name="__main__")')
    done = subprocess.run(['/usr/bin/python3', '-IS', '-c', script], capture_output=True,
                          env={**site.environment(), 'PATH': '/nonexistent',
                               'PRAGMA_TOOL': 'vc-ssh'}, check=False)
    assert done.returncode == 1
    assert lines(done.stderr) == [
        "vc-ssh: cannot log in: cannot run 'ssh': No such file or directory"]
