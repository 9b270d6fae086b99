"""The domains that libvirt publishes: those of its own tests, in the source of Debian's package."""
import os
import platform
import subprocess
import tarfile

from lxml import etree

from lab import ROOT
from lab.stock import FOLDER as IMAGES

FOLDER = IMAGES / 'libvirt-source'
"""Where the source is kept: 9 MB."""


def archive():
    """The source archive of libvirt of this machine's release, fetched by apt; None without one."""
    found = next(iter(FOLDER.glob('libvirt_*.orig.tar.*z')), None)
    if found:
        return found
    release = platform.freedesktop_os_release().get('VERSION_CODENAME', '')
    sources = subprocess.run([ROOT / 'images/debian/sources', release],
                             stdout=subprocess.PIPE, check=True).stdout.decode()
    if not sources:
        return None
    for folder in ('sources', 'lists/partial', 'cache/archives/partial'):
        os.makedirs(FOLDER / folder, exist_ok=True)
    lines = [f'deb-src{line[3:]}' if line.startswith('deb ') else
             'Types: deb-src' if line.startswith('Types:') else line
             for line in sources.splitlines()]
    kind = 'sources' if any(line.startswith('Types:') for line in lines) else 'list'
    (FOLDER / f'sources/source.{kind}').write_text('\n'.join(lines) + '\n')
    options = [part for option in (f'Dir::Etc::sourceparts={FOLDER}/sources',
                                   'Dir::Etc::sourcelist=/dev/null',
                                   f'Dir::State::lists={FOLDER}/lists',
                                   f'Dir::Cache={FOLDER}/cache', 'APT::Sandbox::User=root')
               for part in ('-o', option)]
    for words in (['update'], ['source', '--download-only', 'libvirt']):
        done = subprocess.run(['apt-get', '-qq', *options, *words], cwd=FOLDER,
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        if done.returncode:
            return None
    return next(iter(FOLDER.glob('libvirt_*.orig.tar.*z')), None)


def domains(path):
    """The <domain>s of an archive: pairs of a file's name and the element."""
    with tarfile.open(path) as tar:
        for member in tar:
            if not member.isfile() or '/tests/' not in member.name \
                    or not member.name.endswith('.xml'):
                continue
            try:
                root = etree.fromstring(tar.extractfile(member).read())
            except etree.XMLSyntaxError:
                continue
            if root.tag == 'domain':
                yield member.name.split('/tests/')[1], root
