"""make install and uninstall, the installed tools, and completion by the shells."""
import os
import pty
import re
import select
import shutil
import subprocess
import tempfile
import time
from pathlib import Path

import pytest

from lab import ROOT, SCRATCH
from lab.needs import need
from lab.site import first_port, lines

TOOLS = sorted(os.listdir(ROOT / 'bin'))


def make(*arguments, status=0):
    """Run make; its output and errors as text."""
    done = subprocess.run(['make', '--no-print-directory', '-f', ROOT / 'Makefile',
                           *map(str, arguments)],
                          capture_output=True, check=False)
    assert done.returncode == status, done
    return (done.stdout + done.stderr).decode()


def files(folder):
    """The paths of files and links below a folder."""
    return {str(path.relative_to(folder)) for path in folder.rglob('*') if path.is_symlink()
            or not path.is_dir()}


@pytest.fixture(scope='module')
def prefix():
    """An installation, for tests that do not change it."""
    folder = Path(tempfile.mkdtemp(prefix='pragma-', dir=SCRATCH))
    folder.chmod(0o755)
    make('install', f'PREFIX={folder}')
    yield folder
    shutil.rmtree(folder)


def environment(prefix, **others):
    """The environment of a login that has the installation in its PATH."""
    return {'PATH': f'{prefix}/bin:/usr/sbin:/usr/bin:/sbin:/bin', 'HOME': '/root', **others}


def test_tools_run_from_any_folder(prefix):
    assert sorted(os.listdir(prefix / 'bin')) == TOOLS
    for tool in TOOLS:
        done = subprocess.run([tool, '--version'], cwd='/', env=environment(prefix),
                              capture_output=True, check=True)
        assert done.stdout.split()[0].decode() == tool and not done.stderr
    # It reads its own settings and database, whose image was not built.
    done = subprocess.run(['vc-list'], cwd='/', env=environment(prefix), capture_output=True,
                          check=True)
    assert f'{prefix}/share/pragma_boot/images/debian' in done.stderr.decode() and not done.stdout
    packages = next((prefix / 'lib/pragma_boot/.venv/lib').glob('python3*/site-packages'))
    libraries = set(os.listdir(packages))
    assert {'lxml', 'docopt.py', 'isal', 'sh'} <= libraries and 'pytest' not in libraries


def test_a_short_settings_file_has_the_defaults_of_the_installation(prefix, tmp_path):
    (tmp_path / 'short.conf').write_text('cpus_per_node = 1\n')
    done = subprocess.run(['vc-list'], cwd='/', capture_output=True, check=True,
                          env=environment(prefix, PRAGMA_SITE_CONF=str(tmp_path / 'short.conf')))
    assert f'{prefix}/share/pragma_boot/images/debian' in done.stderr.decode()


def test_install_says_how_to_get_an_image(tmp_path):
    told = make('install', f'PREFIX={tmp_path}')
    build = tmp_path / 'share/pragma_boot/images/debian/build'
    assert f'as root, run: {build}\n' in told and os.access(build, os.X_OK)
    (build.parent / 'debian.img.gz').write_text('')
    assert 'debian/build' not in make('install', f'PREFIX={tmp_path}')


def test_manual_pages(prefix):
    assert {path.name for path in (prefix / 'share/man').rglob('*.[1-9]')} == {
        path.name for path in (ROOT / 'man').glob('*.[1-9]')}
    for path in (prefix / 'share/man').rglob('*.[1-9]'):
        assert path.parent.name == f'man{path.name[-1]}'


def test_staged_for_a_package_and_removed(tmp_path):
    """No path has DESTDIR; a second install removes old files, and uninstall removes all."""
    where = ('PREFIX=/usr', f'DESTDIR={tmp_path}')
    (tmp_path / 'usr/bin').mkdir(parents=True)
    (tmp_path / 'usr/bin/other').write_text('')
    make('install', *where)
    first = files(tmp_path)
    assert 'etc/pragma_boot/site_conf.conf' in first and 'usr/bin/pragma_boot' in first
    program = 'usr/share/pragma_boot/images/hpc/overlay/usr/local/sbin/pragma-hpc'
    assert program in first and os.access(tmp_path / program, os.X_OK)
    for name in first:
        path = tmp_path / name
        if path.is_symlink():
            assert str(tmp_path) not in os.readlink(path)
        else:
            assert os.fsencode(tmp_path) not in path.read_bytes(), name
            assert path.stat().st_mode & 0o022 == 0
    with open(tmp_path / 'usr/lib/pragma_boot/manifest', 'a', encoding='utf-8') as manifest:
        manifest.write('/usr/bin/vc-old\n')
    for folder in ('bin', 'lib/pragma_boot/bin'):
        (tmp_path / 'usr' / folder / 'vc-old').write_text('')
    make('install', *where)
    assert files(tmp_path) == first
    make('uninstall', *where)
    assert files(tmp_path) == {'usr/bin/other'}
    # Of folders, those that were there before.
    assert sorted(tmp_path.rglob('*')) == [
        tmp_path / 'usr', tmp_path / 'usr/bin', tmp_path / 'usr/bin/other']
    assert 'nothing is installed' in make('uninstall', *where, status=2)
    assert 'absolute path' in make('install', 'PREFIX=here', status=2)


def test_files_that_a_site_edited_stay(tmp_path):
    edited = [tmp_path / 'etc/pragma_boot/site_conf.conf',
              tmp_path / 'share/pragma_boot/images/vcdb.txt']
    make('install', f'PREFIX={tmp_path}')
    own = tmp_path / 'share/pragma_boot/images/own.img.gz'
    own.write_text('')
    for path in edited:
        path.write_text(f'{path.read_text()}# of the site\n')
    output = make('install', f'PREFIX={tmp_path}')
    assert all(f'Keeping {path}' in output and '# of the site' in path.read_text()
               for path in edited)
    output = make('uninstall', f'PREFIX={tmp_path}')
    assert all(f'Keeping {path}' in output for path in edited)
    assert files(tmp_path) == {str(path.relative_to(tmp_path)) for path in (*edited, own)}


@pytest.fixture
def clusters(site):
    """A site with an entry and two clusters that are empty folders."""
    for name in ('alpha', 'beta'):
        (site.temp / 'clusters' / name).mkdir(parents=True)
    return site


def completed(prefix, site, *words):
    """What bash offers for the last word of a command."""
    script = prefix / 'share/bash-completion/completions' / words[0]
    command = ('source "$1"; shift; COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); '
               '_pragma_boot "$1" "${COMP_WORDS[-1]}" "${COMP_WORDS[-2]}"; '
               'printf "%s\\n" "${COMPREPLY[@]}"')
    done = subprocess.run(['bash', '-c', command, 'bash', script, *map(str, words)],
                          env=environment(prefix, PRAGMA_SITE_CONF=str(site.conf)),
                          capture_output=True, check=True)
    assert not done.stderr
    return sorted(lines(done.stdout))


def test_names_of_clusters_alone(clusters):
    assert clusters.run('vc-status', '--names').stdout == b'alpha\nbeta\n'


@pytest.mark.parametrize('tool', TOOLS)
def test_bash_completes_the_options_of_the_tools(prefix, clusters, tool):
    help = clusters.run(tool, '--help').stdout.decode()
    assert completed(prefix, clusters, tool,
                     '--') == sorted(re.findall('^  (?:-[a-z], )?(--[a-z_-]+)', help, re.M))
    assert completed(prefix, clusters, tool, '--site') == ['--site-conf']


def test_bash_completes_names(prefix, clusters):
    for tool in ('vc-status', 'vc-ssh', 'vc-console', 'vc-shutdown', 'vc-start', 'vc-clean'):
        assert completed(prefix, clusters, tool, '') == ['alpha', 'beta']
        assert completed(prefix, clusters, tool, 'be') == ['beta']
    assert completed(prefix, clusters, 'pragma_boot', '--vcname', '') == [clusters.entry]
    assert completed(prefix, clusters, 'vc-list', '--path', '') == [clusters.entry]
    # bash itself completes files.
    assert completed(prefix, clusters, 'vc-check', '') == completed(prefix, clusters, 'vc-ssh',
                                                                    '-i', '') == ['']


@pytest.fixture
def two(site):
    """A site with two clusters in its ledger, of other nodes each; their names."""
    names = [f'{site.entry}-one', f'{site.entry}-two']
    document = site.document(site.entry, 'vc-parse')
    document = site.run('vc-stage', input=document).stdout
    for count, name in enumerate(names):
        site.run('vc-allocate', '--num-cpus', 2 * count, '--name', name, input=document)
    return names


def test_shells_complete_nodes(prefix, site, two):
    one, other = two
    nodes = ['compute-0', 'frontend']
    assert site.run('vc-status', '--names', other).stdout == b'frontend\ncompute-0\n'
    for words, offered in ((('vc-console', other, ''), nodes),
                           (('vc-console', one, ''), ['frontend']),
                           (('vc-console', '-n', '9', other, 'comp'), ['compute-0']),
                           (('vc-console', ''), two),
                           (('vc-console', other, 'frontend', ''), ['']),
                           (('vc-ssh', '--node', ''), nodes),
                           (('vc-ssh', '--node', 'frontend', ''), two),
                           (('vc-ssh', one, ''), ['']),
                           (('vc-start', other, '--node', 'c'), ['compute-0']),
                           (('vc-shutdown', one, '--node', ''), ['frontend']),
                           (('vc-clean', one, ''), ['']),
                           (('vc-status', one, ''), two)):
        assert completed(prefix, site, *words) == offered, words


def test_bash_completes_names_of_another_site(prefix, clusters, tmp_path):
    (tmp_path / 'other/clusters/gamma').mkdir(parents=True)
    (tmp_path / 'other.conf').write_text('temporary_directory = other\n')
    assert completed(prefix, clusters, 'vc-clean', '--site-conf', tmp_path / 'other.conf',
                     '') == ['gamma']


@pytest.fixture
def zsh_of(prefix):
    """What zsh makes of a line and a tab at a site."""
    opened = []

    def begin(site):
        complete, child, terminal = zsh_at(prefix, site)
        opened.append((child, terminal))
        return complete
    yield begin
    for child, terminal in opened:
        os.close(terminal)
        os.waitpid(child, 0)


@pytest.fixture
def zsh(zsh_of, clusters):
    return zsh_of(clusters)


def zsh_at(prefix, site):
    need('zsh')
    child, terminal = pty.fork()
    if child == 0:
        os.execvpe('zsh', ['zsh', '-f', '-i'],
                   environment(prefix, PRAGMA_SITE_CONF=str(site.conf), TERM='dumb'))
    os.write(terminal, f"""PS1=; unsetopt zle_bracketed_paste 2>/dev/null
        fpath=({prefix}/share/zsh/site-functions $fpath); autoload -Uz compinit; compinit -u -D
        show() {{ print -r -- "<$BUFFER>" }}; zle -N show; bindkey '^X' show
        print rea''dy\n""".encode())
    output = b''

    def until(pattern):
        nonlocal output
        deadline = time.monotonic() + 60
        while not (found := re.search(pattern, output)):
            assert time.monotonic() < deadline, output
            if select.select([terminal], [], [], 1)[0]:
                output += os.read(terminal, 4096)
        output = output[found.end():]
        return found[1].decode()

    def complete(line):
        os.write(terminal, line.encode() + b'\t\x18')
        found = until(rb'<(.*)>')
        os.write(terminal, b'\x15')
        return found
    until(b'(ready)')
    return complete, child, terminal


def test_zsh_completes_nodes(prefix, site, two, zsh_of):
    zsh = zsh_of(site)
    assert zsh(f'vc-console {two[1]} co') == f'vc-console {two[1]} compute-0 '
    assert zsh(f'vc-shutdown {two[0]} --node f') == f'vc-shutdown {two[0]} --node frontend '
    assert zsh('vc-start --node c') == 'vc-start --node compute-0 '


def test_zsh_completes(zsh, clusters):
    assert zsh('vc-clean al') == 'vc-clean alpha '
    assert zsh('vc-ssh be') == 'vc-ssh beta '
    assert zsh('vc-graph --sit') == 'vc-graph --site-conf '
    assert zsh('vc-status --nam') == 'vc-status --names '
    line = zsh(f'pragma_boot --vcname {clusters.entry[:2]}')
    assert line == f'pragma_boot --vcname {clusters.entry} '


@pytest.mark.guest
def test_a_cluster_boots_from_the_installed_tools(prefix):
    images = prefix / 'share/pragma_boot/images'
    shutil.copy(ROOT / 'images/debian/debian.img.gz', images / 'debian')
    temp = Path(tempfile.mkdtemp(prefix='pragma-', dir=SCRATCH))
    temp.chmod(0o755)
    with open(prefix / 'etc/pragma_boot/site_conf.conf', 'a', encoding='utf-8') as conf:
        conf.write(f'temporary_directory = {temp}\ncpu_overcommit = 1000\n'
                   f'private_ports = {first_port()}-{first_port() + 59}\n'
                   f'ssh_ports = {first_port() + 60}-{first_port() + 119}\n')
    subprocess.run(['ssh-keygen', '-q', '-t', 'ed25519', '-N', '', '-f', temp / 'key'], check=True)
    name = f't{os.getpid()}-installed'

    def run(*words):
        done = subprocess.run([*map(str, words)], cwd='/', env=environment(prefix),
                              capture_output=True, check=False)
        assert done.returncode == 0, done
        return done.stdout
    try:
        run('pragma_boot', '--vcname', 'debian', '--name', name, '--num_cpus', 1, '--key',
            temp / 'key.pub', '--wait')
        output = run('vc-ssh', '-i', temp / 'key', name,
                   'hostname; cat /root/machinefile; ssh compute-0 hostname')
        assert lines(output) == [f'{name}.local', 'compute-0', 'compute-0']
    finally:
        run('vc-clean', name)
        shutil.rmtree(temp)
        (images / 'debian/debian.img.gz').unlink()
