"""A site of its own for each test: settings, temporary directory, image database and ledger."""
import gzip
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import hypothesis
import pytest
from lxml import etree
from xdist.scheduler import LoadFileScheduling

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / 'lib'))
from pragma_boot.engine import session  # noqa: E402

# How long an example takes is this machine's business: nothing here is a timed test.
hypothesis.settings.register_profile('untimed', deadline=None)
hypothesis.settings.load_profile('untimed')

DATA = ROOT / 'tests' / 'data'

# QEMU runs as an unprivileged user where we are root: it must reach what lies in here, and the
# monitor's socket has 107 bytes for its path.
SCRATCH = '/var/tmp'


def pytest_addoption(parser):
    parser.addoption('--regenerate', action='store_true', help='write the golden files anew')


def pytest_collection_modifyitems(items):
    """What boots guests goes first: it takes longest, and other tests run beside it."""
    items.sort(key=lambda item: item.get_closest_marker('guest') is None)


class Scheduling(LoadFileScheduling):
    """A file to a worker, but all that boot guests to one.

    Guests of two files at once take the two CPUs of a small machine from each other. (The groups
    of pytest-xdist 3.8 would say this, but pytest 9.2 does not let it rename the tests.)
    """

    def _split_scope(self, nodeid):
        file = super()._split_scope(nodeid)
        return 'guests' if 'pytest.mark.guest' in (ROOT / file).read_text(encoding='utf-8') else file


def pytest_xdist_make_scheduler(config, log):
    return Scheduling(config, log)


def do_without(reason):
    """Skip a test that cannot run here; in CI, where all can, fail it."""
    pytest.fail(reason) if os.environ.get('CI') else pytest.skip(reason)


def need(*programs):
    """Skip a test whose programs are not installed; in CI, where all are, fail it."""
    for program in programs:
        if not shutil.which(program):
            do_without(f"'{program}' is not installed")


def need_fuse():
    """Skip a test of what FUSE alone does; in CI, where it can be used, fail it."""
    if not os.access('/dev/fuse', os.R_OK | os.W_OK):
        do_without('/dev/fuse cannot be used here')


def lines(text):
    return text.decode().splitlines()


def first_port():
    """The first of 120 ports of this process alone: the ledgers of sites do not know of each other.

    The workers of one run have blocks of their own, and most other runs have others.
    """
    worker = os.environ.get('PYTEST_XDIST_WORKER', 'gw0')
    run = os.getppid() if 'PYTEST_XDIST_WORKER' in os.environ else os.getpid()
    return 25000 + (run % 16 * 4 + int(worker[2:]) % 4) * 120


class Site:
    """A scratch site and its tools."""

    def __init__(self, folder, settings=''):
        self.folder = Path(folder)
        self.temp = self.folder / 'temp'
        self.base = self.folder / 'images'
        self.conf = self.folder / 'site_conf.conf'
        self.base.mkdir()
        first = first_port()
        self.conf.write_text(f'drivers_path = {ROOT}/drivers\ntemporary_directory = temp\n'
                             'base_path = images\n'
                             f'private_ports = {first}-{first + 59}\n'
                             f'ssh_ports = {first + 60}-{first + 119}\naccel = tcg\n'
                             # whatever else runs on this machine
                             f'cpu_overcommit = 1000\n{settings}')
        self.key = self.folder / 'user key.pub'
        shutil.copy(DATA / 'user-key.pub', self.key)

    def environment(self):
        return {**os.environ, 'PRAGMA_SITE_CONF': str(self.conf)}

    def run(self, tool, *arguments, input=b'', status=0, **options):
        """Run a tool by its path; its CompletedProcess, whose status is asserted."""
        done = subprocess.run([ROOT / 'bin' / tool, *map(str, arguments)], input=input,
                              capture_output='stdout' not in options,
                              env=self.environment(), check=False, timeout=600, **options)
        assert done.returncode == status, done
        return done

    def start(self, tool, *arguments, stdout=subprocess.PIPE):
        """Start a tool by its path, its standard streams pipes; its Popen."""
        # A background job's children, these tests' own perhaps, would ignore SIGINT.
        return subprocess.Popen(['env', '--default-signal=INT', ROOT / 'bin' / tool, *map(str, arguments)],
                                stdin=subprocess.PIPE, stdout=stdout, stderr=subprocess.PIPE,
                                env=self.environment())

    def fails(self, tool, *arguments, input=b'', status=1, **options):
        """Run a tool that must fail cleanly: one line on stderr, nothing on stdout; the line."""
        done = self.run(tool, *arguments, input=input, status=status, **options)
        assert not done.stdout
        # Where there is no FUSE the line that says so comes first.
        told = [line for line in lines(done.stderr) if not line.startswith(f'{tool}: no FUSE (')]
        assert len(told) == 1 and re.match(r'[a-z_-]+: ', told[0]), told
        return told[0]

    def make(self, *arguments, status=0):
        done = subprocess.run(['make', '--no-print-directory', '-C', self.folder, '-f', ROOT / 'Makefile', *arguments],
                              capture_output=True, env=self.environment(), check=False)
        assert done.returncode == status, done
        return done

    def clusters(self):
        folder = self.temp / 'clusters'
        return sorted(os.listdir(folder)) if folder.exists() else []

    def add_entry(self, name, image):
        """An entry of the database after the example vc-in.xml, with ``image`` for both roles."""
        folder = self.base / name
        folder.mkdir()
        shutil.copy(DATA / 'vc-in.xml', folder)
        for file in ('calit2-119-222.img.gz', 'hosted-vm-0-0-1.img.gz'):
            shutil.copy(image, folder / file)
        with open(self.base / 'vcdb.txt', 'a', encoding='utf-8') as database:
            database.write(f'{name},{name}/vc-in.xml\n')
        return folder / 'vc-in.xml'

    def document(self, name, upto, num_cpus=4):
        """The document of an entry after the filters up to ``upto``, and its cluster's name."""
        document = self.run('vc-parse', self.base / name / 'vc-in.xml').stdout
        for tool, *arguments in (('vc-stage',),
                                 ('vc-allocate', '--num-cpus', num_cpus, '--key', self.key),
                                 ('vc-inject',), ('vc-boot', '--paused', '--no-wait')):
            if upto == 'vc-parse':
                break
            document = self.run(tool, *arguments, input=document).stdout
            if tool == upto:
                break
        return document

    def domains(self):
        """The names of all domains of this site's clusters."""
        done = subprocess.run(['virsh', '-q', '-c', connection(), 'list', '--all', '--name'],
                              capture_output=True, check=True)
        return [name for name in lines(done.stdout) if name]


def connection():
    """The URI by which libvirt's own tools reach the embedded default, whose daemon it wakes."""
    return session.connection(session.URI, 'libvirt-qemu')


def make_image(path, files=(), size='16M', mkfs=('mke2fs', '-t', 'ext4'), table='type=83'):
    """A raw disk with an MBR and a file system with /root in partition 1, at 1 MiB."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder, 'root')
        (root / 'root').mkdir(parents=True)
        for name, content in files:
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            (root / name).write_bytes(content)
        subprocess.run(['truncate', '-s', size, path], check=True)
        subprocess.run(['sfdisk', '-q', path], input=f'label: dos\nstart=1MiB, {table}\n'.encode(),
                       check=True, capture_output=True)
        subprocess.run([*mkfs, '-q', '-F', '-d', root, '-E', 'offset=1048576', path,
                        f'{(os.path.getsize(path) >> 10) - 1024}k'], check=True, capture_output=True)
    return path


def superblock(path):
    """What debugfs prints of the superblock of partition 1, at 1 MiB of a raw image."""
    return subprocess.run(['debugfs', '-R', 'show_super_stats -h', f'{path}?offset=1048576'], capture_output=True,
                          check=True).stdout.decode()


def pack(path):
    """The .gz of a raw image, beside it."""
    packed = Path(f'{path}.gz')
    packed.write_bytes(gzip.compress(Path(path).read_bytes(), 1, mtime=0))
    return packed


@pytest.fixture(scope='session')
def little_image():
    """A small .img.gz with a sound ext4 root file system and no operating system."""
    need('sfdisk', 'mke2fs')
    folder = tempfile.mkdtemp(prefix='pragma-image-', dir=SCRATCH)
    yield pack(make_image(Path(folder, 'little.img'), [
        ('etc/udev/rules.d/70-persistent-net.rules', b'stale')]))
    shutil.rmtree(folder)


@pytest.fixture
def empty_site():
    """A site whose database is empty; all that it made is gone afterwards."""
    folder = tempfile.mkdtemp(prefix='pragma-', dir=SCRATCH)
    os.chmod(folder, 0o755)
    site = Site(folder)
    yield site
    for name in site.clusters():
        site.run('vc-clean', name)
    shutil.rmtree(folder)


@pytest.fixture
def site(empty_site, little_image):
    """A site with one entry, whose unique name is ``site.entry``."""
    # Unique among all sites that share this machine's libvirt.
    empty_site.entry = f't{os.getpid()}-{empty_site.folder.name[7:].replace("_", "x")}'
    empty_site.vc_in = empty_site.add_entry(empty_site.entry, little_image)
    return empty_site


@pytest.fixture
def golden(request):
    """Compare an XML document with the golden file NAME-out.xml, canonically."""
    def compare(name, document, *replacements):
        told = document.decode()
        for what, by in replacements:
            told = re.sub(what, by, told)
        told = etree.tostring(etree.fromstring(told.encode()), method='c14n2').decode() + '\n'
        path = DATA / f'{name}-out.xml'
        if request.config.getoption('--regenerate'):
            path.write_text(told)
        assert path.exists(), f'{path} is missing: look at it after pytest --regenerate'
        assert told.splitlines() == path.read_text().splitlines()
    return compare


@pytest.fixture
def replacements(site):
    """What differs from run to run in a document of ``site``."""
    def port_of(first):
        return f'port="({"|".join(str(first + count) for count in range(60))})"'
    return [(re.escape(str(site.folder)), '@SITE@'), (re.escape(site.entry), '@CLUSTER@'),
            ('-[0-9a-f]{16}\\.raw', '-@DIGEST@.raw'), (' modified="[0-9]+"', ' modified="@TIME@"'),
            ('(<key role="compute">)[^<]*', '\\1@CLUSTER-KEY@'),
            (port_of(first_port()), 'port="@PRIVATE@"'), (port_of(first_port() + 60), 'port="@SSH@"')]
