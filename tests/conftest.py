"""Fixtures: above all a site for each test, with settings, image database and ledger."""
import os
import re
import shutil
import subprocess
import tempfile
from pathlib import Path

import hypothesis
import pytest
from lxml import etree
from xdist.scheduler import LoadFileScheduling

from lab import DATA, ROOT, SCRATCH, hosts
from lab.images import make_image, pack
from lab.needs import need
from lab.site import Site, first_port

# The time that an example takes depends on the machine: no test here is about time.
hypothesis.settings.register_profile('untimed', deadline=None)
hypothesis.settings.load_profile('untimed')


def pytest_addoption(parser):
    parser.addoption('--regenerate', action='store_true', help='write the golden files anew')


def pytest_collection_modifyitems(items):
    """Run tests that boot guests first: they take longest, and others run at the same time."""
    items.sort(key=lambda item: item.get_closest_marker('guest') is None)


class Scheduling(LoadFileScheduling):
    """Gives each worker one file at a time, and all files that boot guests to one worker.

    Guests of two files at once would compete for the two CPUs of a small machine. (The groups of
    pytest-xdist 3.8 could express this, but pytest 9.2 does not let it rename the tests.)
    """

    def _split_scope(self, nodeid):
        file = super()._split_scope(nodeid)
        text = (ROOT / file).read_text(encoding='utf-8')
        return 'guests' if 'pytest.mark.guest' in text else file


def pytest_xdist_make_scheduler(config, log):
    return Scheduling(config, log)


@pytest.fixture(scope='session')
def little_image():
    """A small .img.gz with a sound ext4 root file system and no operating system."""
    need('sfdisk', 'mke2fs')
    folder = tempfile.mkdtemp(prefix='pragma-image-', dir=SCRATCH)
    yield pack(make_image(Path(folder, 'little.img'), [
        ('etc/udev/rules.d/70-persistent-net.rules', b'stale')]))
    shutil.rmtree(folder)


@pytest.fixture(scope='session')
def public_tree():
    """The folder of the tools; for root a copy that every user can reach."""
    if os.geteuid():
        yield ROOT
        return
    folder = Path(tempfile.mkdtemp(prefix='pragma-tree-', dir=SCRATCH))
    folder.chmod(0o755)
    for name in ('bin', 'lib', 'drivers', '.venv/lib'):
        shutil.copytree(ROOT / name, folder / name, symlinks=True,
                        ignore=shutil.ignore_patterns('__pycache__', 'mypy*', 'ruff*',
                                                      'ansible*', 'cryptography*'))
    subprocess.run(['chmod', '-R', 'go=rX', folder], check=True)
    yield folder
    shutil.rmtree(folder)


@pytest.fixture
def empty_site():
    """A site with an empty database; it is removed with all its clusters afterwards."""
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
def host(site):
    """A host with a system libvirtd, which the site uses, with disks in its own folder."""
    hosts.need_namespaces()
    need('libvirtd', 'virtlogd')
    with hosts.Lab(1, site.folder / 'lab') as lab:
        found, = lab.hosts
        with open(site.conf, 'a', encoding='utf-8') as conf:
            conf.write(f'hosts = {found.uri}\nprivate_network = bridge:private\n'
                       'public_network = bridge:public\ngateway = 192.0.2.1\n'
                       'public_ips = 192.0.2.9 a.example.org\nnetmask = 255.255.255.0\n'
                       'dns = 192.0.2.1\n')
        yield found
        for name in site.clusters():
            site.run('vc-clean', name)


@pytest.fixture
def golden(request):
    """Compare an XML document with the golden file NAME-out.xml, canonically."""
    def compare(name, document, *replacements):
        output = document.decode()
        for what, by in replacements:
            output = re.sub(what, by, output)
        output = etree.tostring(etree.fromstring(output.encode()), method='c14n2').decode() + '\n'
        path = DATA / f'{name}-out.xml'
        if request.config.getoption('--regenerate'):
            path.write_text(output)
        assert path.exists(), f'{path} is missing: look at it after pytest --regenerate'
        assert output.splitlines() == path.read_text().splitlines()
    return compare


@pytest.fixture
def replacements(site):
    """Patterns for what differs from run to run in a document of ``site``."""
    def port_of(first):
        return f'port="({"|".join(str(first + count) for count in range(60))})"'
    return [(re.escape(str(site.folder)), '@SITE@'), (re.escape(site.entry), '@CLUSTER@'),
            ('52:54:00(:[0-9a-f]{2}){3}', '@MAC@'), ('ledger="[0-9a-f]{32}"', 'ledger="@LEDGER@"'),
            ('-[0-9a-f]{16}\\.raw', '-@DIGEST@.raw'), (' modified="[0-9]+"', ' modified="@TIME@"'),
            ('(<key role="compute">|<key role="frontend">[^<]*,restrict )[^<]*',
             '\\1@CLUSTER-KEY@'),
            (port_of(first_port()), 'port="@PRIVATE@"'),
            (port_of(first_port() + 60), 'port="@SSH@"')]
