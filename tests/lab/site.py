"""A site for one test, and its tools."""
import contextlib
import os
import re
import shutil
import subprocess
import tempfile
from pathlib import Path

from lxml import etree

from lab import DATA, ROOT, SCRATCH
from pragma_boot.engine import session


def lines(text):
    return text.decode().splitlines()


def connection():
    """The URI by which libvirt's own tools reach the embedded default, whose daemon it wakes."""
    return session.connection(session.URI, 'libvirt-qemu')


def first_port():
    """The first of 120 ports of this process alone: the ledgers of sites do not know of each other.

    The workers of one run have blocks of their own, and most other runs have others.
    """
    worker = os.environ.get('PYTEST_XDIST_WORKER', 'gw0')
    run = os.getppid() if 'PYTEST_XDIST_WORKER' in os.environ else os.getpid()
    return 25000 + (run % 16 * 4 + int(worker[2:]) % 4) * 120


@contextlib.contextmanager
def guest_site(settings='', comment=None):
    """A Site for real guests of our image database, with a key pair 'key', for a block."""
    folder = tempfile.mkdtemp(prefix='pragma-', dir=SCRATCH)
    try:
        os.chmod(folder, 0o755)
        site = Site(folder, f'base_path = {ROOT}/images\naccel = auto\n{settings}')
        site.make_key(comment)
        yield site
    finally:
        shutil.rmtree(folder)


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

    def make_key(self, comment=None):
        """Make the key pair 'key' in the site's folder; its path."""
        path = self.folder / 'key'
        words = [] if comment is None else ['-C', comment]
        subprocess.run(['ssh-keygen', '-q', '-t', 'ed25519', '-N', '', *words, '-f', path],
                       check=True)
        return path

    def use_default_pools(self):
        """Use the ports of the settings as delivered, as other sites do."""
        text = re.sub('^(private|ssh)_ports = .*\n', '', self.conf.read_text(), flags=re.M)
        self.conf.write_text(text)

    def environment(self):
        return {**os.environ, 'PRAGMA_SITE_CONF': str(self.conf)}

    def run(self, tool, *arguments, input=b'', status=0, timeout=600, **options):
        """Run a tool by its path; its CompletedProcess, whose status is asserted."""
        done = subprocess.run([ROOT / 'bin' / tool, *map(str, arguments)], input=input,
                              capture_output='stdout' not in options,
                              env=self.environment(), check=False, timeout=timeout, **options)
        assert done.returncode == status, done
        return done

    def wait(self, name):
        """Wait until the nodes of a cluster are ready; what vc-boot wrote on standard error.

        How long a guest takes is this machine's business: it waits as long as a console grows.
        """
        document = (self.temp / 'clusters' / name / 'document.xml').read_bytes()
        nodes = [node.get('name') for node in etree.fromstring(document).iterfind('cluster/node')]
        written, before = '', None
        while True:
            done = subprocess.run([ROOT / 'bin' / 'vc-boot', '--wait', '--timeout', '120'],
                                  input=document, capture_output=True, env=self.environment(),
                                  check=False)
            written += done.stderr.decode()
            if done.returncode == 0:
                return written
            sizes = [len(self.run('vc-console', '--no-follow', name, node).stdout)
                     for node in nodes]
            assert 'not ready after' in written and sizes != before, written
            before = sizes

    def start(self, tool, *arguments, stdout=subprocess.PIPE):
        """Start a tool by its path, its standard streams pipes; its Popen."""
        # A background job's children, these tests' own perhaps, would ignore SIGINT.
        return subprocess.Popen(['env', '--default-signal=INT', ROOT / 'bin' / tool,
                                 *map(str, arguments)],
                                stdin=subprocess.PIPE, stdout=stdout, stderr=subprocess.PIPE,
                                env=self.environment())

    def fails(self, tool, *arguments, input=b'', status=1, **options):
        """Run a tool that must fail cleanly: one line on stderr, nothing on stdout; the line."""
        done = self.run(tool, *arguments, input=input, status=status, **options)
        assert not done.stdout
        # Where there is no FUSE the line that says so comes first.
        output = [line for line in lines(done.stderr) if not line.startswith(f'{tool}: no FUSE (')]
        assert len(output) == 1 and re.match(r'[a-z_-]+: ', output[0]), output
        return output[0]

    def make(self, *arguments, status=0):
        done = subprocess.run(['make', '--no-print-directory', '-C', self.folder, '-f',
                               ROOT / 'Makefile', *arguments],
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

    def ask_for(self, system):
        """Change the <os> of both domains of the site's vc-in.xml, for a node that boots alone."""
        text = re.sub('<os>.*?</os>', system, self.vc_in.read_text(), flags=re.S)
        text = text.replace("<target dev='hda' bus='ide'/>", "<target dev='vda' bus='virtio'/>")
        self.vc_in.write_text(re.sub("<wait type='clock' value='300'/>", '', text))

    def document(self, name, upto, num_cpus=4):
        """The document of an entry after the filters up to ``upto``, and its cluster's name."""
        document = self.run('vc-parse', self.base / name / 'vc-in.xml').stdout
        for tool, *arguments in (('vc-stage',),
                                 ('vc-allocate', '--num-cpus', num_cpus, '--key', self.key),
                                 ('vc-inject',), ('vc-boot', '--paused', '--ignore-dependencies')):
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
