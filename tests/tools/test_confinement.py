"""Programs that read authors' images: their user, their rights, and the files that they open."""
import contextlib
import os
import re
import resource
import shutil
import signal
import stat
import subprocess
from pathlib import Path

import pytest

from lab import ROOT
from lab.images import make_image, pack, packed_by, qcow2, use_file
from lab.needs import need, need_fuse
from lab.nodes import parsed
from lab.site import connection, lines
from pragma_boot.system import child, confinement
from pragma_boot.system.failure import Failure

PROGRAMS = {'sfdisk', 'blkid', 'e2fsck', 'debugfs', 'qemu-storage-daemon'}

WITNESS = '''#!/bin/sh
{{
    grep -E '^(Uid|Gid|Groups|NoNewPrivs|CapEff):' /proc/self/status
    cat /proc/self/uid_map /proc/self/limits
    echo "networks: $(sed -n 's/^ *\\(.*\\):.*/\\1/p' /proc/self/net/dev | tr '\\n' ' ')"
}} >{output}/{name}.$$ 2>&1
exec {real} "$@"
'''


@pytest.fixture
def journal(site):
    """A site whose images have a journal to replay, so that vc-stage runs all of PROGRAMS."""
    path = make_image(site.folder / 'journal.img',
                      [('etc/udev/rules.d/70-persistent-net.rules', b'x')])
    subprocess.run(['debugfs', '-w', '-f', '-', f'{path}?offset=1048576'], check=True,
                   capture_output=True,
                   input=b'journal_open\njournal_write -b 333 /dev/zero\njournal_close\n')
    packed = pack(path).read_bytes()
    for file in site.vc_in.parent.glob('*.img.gz'):
        file.write_bytes(packed)
    return site


def test_programs_that_read_images_have_no_rights(journal, monkeypatch):
    """A witness replaces each program, writes its rights to a file, and then runs the program."""
    need_fuse()
    site, output, path = journal, journal.folder / 'told', journal.folder / 'bin'
    for folder in (output, path):
        folder.mkdir()
    output.chmod(0o777)
    for name in PROGRAMS:
        need(name)
        real = subprocess.run(['which', name], capture_output=True,
                              check=True).stdout.decode().strip()
        (path / name).write_text(WITNESS.format(output=output, name=name, real=real))
        (path / name).chmod(0o755)
    monkeypatch.setenv('PATH', f"{path}:{os.environ['PATH']}")
    site.run('vc-inject', input=site.document(site.entry, 'vc-allocate', 1))
    seen = {file.name.split('.')[0] for file in output.iterdir()}
    assert seen == PROGRAMS
    nobody = str(confinement.nobody().pw_uid) if os.geteuid() == 0 else str(os.geteuid())
    for file in output.iterdir():
        text = file.read_text()
        facts = dict(re.findall(r'^(\w+):[ \t]*(.*)$', text, re.M))
        assert facts['NoNewPrivs'] == '1', text
        # The map has the identity of the process outside: ours or nobody's.
        assert re.search(rf'^\s+\d+\s+{nobody}\s+1$', text, re.M), text
        assert facts['networks'].split() == ['lo'], text
        for limit, most in (('cpu time', confinement.SECONDS),
                            ('address space', confinement.MEMORY),
                            ('core file size', 0)):
            assert re.search(rf'^Max {limit}\s+{most}\s+{most}\s', text, re.M), text
        written = int(re.search(r'^Max file size\s+(\d+)\s', text, re.M)[1])
        assert confinement.MORE <= written <= confinement.MORE + (16 << 20), text
        # qemu-storage-daemon mounts, in a namespace of its own.
        if not file.name.startswith('qemu-storage-daemon'):
            assert int(facts['CapEff'], 16) == 0, text


WRITING = re.compile(r'O_WRONLY|O_RDWR|O_CREAT|O_TRUNC')
CALLS = ('open', 'openat', 'creat', 'mkdir', 'mkdirat', 'unlink', 'unlinkat', 'rename', 'renameat',
         'renameat2', 'link', 'linkat', 'symlink', 'symlinkat', 'mknod', 'mknodat', 'truncate',
         'rmdir', 'chmod', 'fchmodat', 'chown', 'fchownat', 'lchown')
# strace ends a line early if another process makes a call before this one returns.
CHANGES = re.compile(rf"^(?:\d+ +)?({'|'.join(CALLS)})\((.*)(?:\) += | <unfinished)")
NAMES = re.compile(r'(?:(?:AT_FDCWD|\d+)<([^>]*)>, )?"((?:[^"\\]|\\.)*)"')
# libmount, in programs of util-linux 2.41, tries to make /run/mount.
HARMLESS = re.compile(
    r'/run/mount|/dev/(null|fuse|tty|fd/\d+|urandom)'
    r'|/proc/(self|\d+)/(uid_map|gid_map|setgroups|fd/\d+|task/\d+/comm|timerslack_ns)')


def test_only_our_own_files_are_opened_for_writing(journal):
    """strace sees all files that any process opens for writing, makes, renames or removes."""
    need('strace')
    need_fuse()
    site, trace = journal, journal.folder / 'trace'
    document = site.document(site.entry, 'vc-parse')
    # Otherwise vc-allocate would start the session's libvirtd, and strace would trace it too.
    connection()
    written = set()
    for tool, *arguments in (('vc-stage',), ('vc-allocate', '--num-cpus', 1, '--key', site.key),
                             ('vc-inject',)):
        done = subprocess.run(['strace', '-f', '-y', '-s', '4096', '-e',
                               f"trace={','.join(CALLS)}", '-o', trace,
                               ROOT / 'bin' / tool, *map(str, arguments)], input=document,
                              capture_output=True,
                              env=site.environment(), check=True)
        document = done.stdout
        for line in trace.read_text(errors='replace').splitlines():
            found = CHANGES.match(line)
            if not found or (found[1] in ('open', 'openat') and not WRITING.search(found[2])):
                continue
            written |= {os.path.normpath(os.path.join(folder or '/', name))
                        for folder, name in NAMES.findall(found[2])}
    strange = {name for name in written if not name.startswith(f'{site.temp}/')
               and name != str(site.temp)
               and not HARMLESS.fullmatch(name)}
    assert strange == set()
    assert any(name.endswith('frontend.qcow2') for name in written)


def test_our_files_are_closed_to_others(site):
    """Others cannot write staged images and the ledger, and cannot read documents and disks."""
    site.document(site.entry, 'vc-inject', 1)
    for path in site.temp.rglob('*'):
        mode = stat.S_IMODE(path.lstat().st_mode)
        assert not mode & 0o022, f'{path} {mode:o}'
        if path.suffix in ('.qcow2', '.log') or path.name in ('document.xml', 'id_ed25519',
                                                              'vc-out.xml'):
            assert not mode & 0o007, f'{path} {mode:o}'
    assert {stat.S_IMODE(path.stat().st_mode)
            for path in (site.temp / 'images').glob('*.raw')} == {0o444}


@pytest.mark.parametrize('suffix, program', [('.xz', 'xz'), ('.zst', 'zstd'),
                                             ('.qcow2', 'qemu-img')])
def test_decoders_have_no_rights(site, monkeypatch, suffix, program):
    """As above, but the limits are those of the format."""
    raw = make_image(site.folder / 'image.img')
    use_file(site, qcow2(raw) if suffix == '.qcow2' else packed_by(raw, suffix), '')
    output, path = site.folder / 'told', site.folder / 'bin'
    for folder in (output, path):
        folder.mkdir()
    output.chmod(0o777)
    real = shutil.which(program)
    (path / program).write_text(WITNESS.format(output=output, name=program, real=real))
    (path / program).chmod(0o755)
    monkeypatch.setenv('PATH', f"{path}:{os.environ['PATH']}")
    site.run('vc-stage', '--types', 'frontend', input=parsed(site))
    assert list(output.iterdir())
    for file in output.iterdir():
        text = file.read_text()
        facts = dict(re.findall(r'^(\w+):[ \t]*(.*)$', text, re.M))
        assert facts['NoNewPrivs'] == '1' and int(facts['CapEff'], 16) == 0, text
        assert facts['networks'].split() == ['lo'], text
        assert re.search(r'^Max address space\s+(1073741824|2147483648)\s', text, re.M), text


def test_a_confined_child_has_no_rights(tmp_path):
    """It reads and writes the files that it was given, and nothing else."""
    own = tmp_path / 'own'
    own.write_text('secret')
    own.chmod(0o600)
    report = os.memfd_create('report')

    def work():
        facts = Path('/proc/self/status').read_text() + Path('/proc/self/net/dev').read_text()
        for name, doing in (('read', own.read_text), ('make', (tmp_path / 'new').touch)):
            with contextlib.suppress(PermissionError):
                doing()
                facts += f'could {name}\n'
        facts += f"open: {len(os.listdir('/proc/self/fd'))}\n"
        os.write(report, facts.encode())

    child.call(work, 'it', {report}, 1 << 20, 1 << 30, lambda: None)
    text = os.pread(report, 1 << 20, 0).decode()
    os.close(report)
    assert re.search(r'^NoNewPrivs:\s+1$', text, re.M) and re.search(r'^CapEff:\s+0+$', text, re.M)
    assert re.findall(r'^\s*(\w+):.*\d$', text.split('Inter-|')[1], re.M) == ['lo', 'open']
    # The standard streams, the report, the messages, and the folder itself while it is read.
    assert re.search('^open: [5-6]$', text, re.M), text
    if os.geteuid() == 0:
        assert 'could' not in text and not (tmp_path / 'new').exists()


@pytest.mark.parametrize('work, reason', [
    (lambda file: 1 / 0, "^'x': division by zero$"),
    (lambda file: bytearray(1 << 31), "^'x': it needs too much memory$"),
    (lambda file: os.kill(os.getpid(), signal.SIGKILL), "^'x': Killed$"),
    (lambda file: os.pwrite(file, b'x', 1 << 21), "^'x': File too large$"),
    (lambda file: (_ for _ in ()).throw(Failure('one\x1b line')), '^one line$'),
    (lambda file: child.program(['no-such-program']).__enter__(), "'no-such-program' is needed")])
def test_a_confined_child_that_fails(work, reason):
    file = os.memfd_create('file')
    with pytest.raises(Failure, match=reason):
        child.call(lambda: work(file), "'x'", {file}, 1 << 20, 1 << 30, lambda: None)
    os.close(file)


def test_a_program_that_does_not_end_is_killed(tmp_path, monkeypatch):
    """By its limit of CPU time, with a message."""
    image = tmp_path / 'image'
    image.write_bytes(bytes(4096))
    monkeypatch.setattr(confinement, 'SECONDS', 1)
    reason = "'x': sh was killed: (Killed|CPU time)"
    with confinement.opened(image) as opened, pytest.raises(Failure, match=reason):
        opened.run(['sh', '-c', 'while :; do :; done'], "'x'")


def test_a_hijacked_program_reaches_nothing(tmp_path):
    """It can read its image, and nothing else."""
    image = tmp_path / 'image'
    image.write_bytes(b'content')
    image.chmod(0o600)
    own = tmp_path / 'own'
    own.write_text('secret')
    own.chmod(0o600)
    with confinement.opened(image) as opened:
        done = opened.run(['sh', '-c', f'''
            cat {opened.device}; echo " 0$?"
            echo x >>{opened.device}; echo " 1$?"
            cat {own}; echo " 2$?"
            echo x >{tmp_path}/new; echo " 3$?"
            head -c 2147483648 /dev/zero >/var/tmp/pragma-large-$$; echo " 4$?"
            rm -f /var/tmp/pragma-large-$$
        '''], 'sh', statuses=None)
    output = lines(done.stdout)
    assert output[0] == 'content 00'
    if os.geteuid() == 0:
        assert [line.strip() for line in output[1:4]] == ['12', '21',
                                                        '32'] and not (tmp_path / 'new').exists()
    assert output[4].strip() != '40'
    assert image.read_bytes() == b'content' and stat.S_IMODE(image.stat().st_mode) == 0o600
    assert resource.getrlimit(resource.RLIMIT_FSIZE) == (resource.RLIM_INFINITY,) * 2
