"""vc-stage --prune: staged images that no cluster uses (row 49)."""
import subprocess
import threading
from pathlib import Path

from lxml import etree

from lab import ROOT
from lab.images import make_image, pack
from lab.nodes import disks, files, parsed, staged


def pruned(site, *arguments):
    """The lines of the table, without its head, by the name of the image."""
    head, *lines = site.run('vc-stage', '--prune', *arguments).stdout.decode().splitlines()
    assert head.split() == ['IMAGE', 'MIB', 'DISKS', 'CLUSTERS']
    return {line.split()[0]: line.split()[2:] for line in lines}


def names_of(document):
    """The file names of a document's images: the frontend's, the compute nodes'."""
    return [Path(staged(document)[role].get('path')).name for role in ('frontend', 'compute')]


def test_without_images(site):
    assert pruned(site) == {}


def test_removes_what_no_cluster_uses(site):
    used = site.document(site.entry, 'vc-inject', 4)
    other = pack(make_image(site.folder / 'other.img', [('etc/new', b'new')]))
    vc_in = site.add_entry('other', other)
    unused = site.run('vc-stage', input=site.run('vc-parse', vc_in).stdout).stdout
    (site.temp / 'images' / '.0123.tmp').write_bytes(b'of a vc-stage that was killed')
    before = files(site)
    frontend, compute = names_of(used)
    in_use = {frontend: ['1', site.entry], compute: ['2', site.entry]}
    others = set(names_of(unused))
    assert pruned(site, '--dry-run') == {**in_use, **{name: ['0', 'unused'] for name in others}}
    assert files(site) == before
    assert pruned(site) == {**in_use, **{name: ['0', 'removed'] for name in others}}
    assert sorted(name for name in files(site) if name.endswith('.raw')) == [frontend, compute]
    assert not (site.temp / 'images' / '.0123.tmp').exists()
    assert len(list((site.temp / 'images').glob('*.lock'))) == sum(
        name.endswith('.xml') for name in files(site))
    assert site.run('vc-stage', input=used).stdout == used
    site.run('vc-clean', site.entry)
    assert pruned(site) == {frontend: ['0', 'removed'], compute: ['0', 'removed']}
    assert list((site.temp / 'images').iterdir()) == []


def test_a_reservation_without_disks_uses_its_images(site):
    document = site.document(site.entry, 'vc-allocate', 0)
    assert pruned(site) == {name: ['0', site.entry] for name in names_of(document)}
    assert disks(site.run('vc-inject', input=document).stdout)


def test_a_bad_document_stops_it(site):
    document = site.document(site.entry, 'vc-allocate', 0)
    (site.temp / 'clusters' / site.entry / 'document.xml').write_text('<vc')
    assert 'is not well-formed' in site.fails('vc-stage', '--prune')
    assert Path(staged(document)['frontend'].get('path')).exists()


def test_an_image_removed_before_vc_allocate_is_staged_again(site):
    document = site.run('vc-stage', input=parsed(site)).stdout
    pruned(site)
    assert files(site) == []
    allocated = site.run('vc-allocate', '--num-cpus', 1, '--key', site.key, input=document).stdout
    assert etree.fromstring(allocated).find('image').get('path') == \
        staged(document)['frontend'].get('path')
    site.run('vc-inject', input=allocated)


def test_a_pipe_loses_nothing_to_prunes_beside_it(site):
    """Every stage of the pipe, with prunes that never pause."""
    over = threading.Event()
    failures = []

    def prune():
        while not over.is_set():
            done = subprocess.run([ROOT / 'bin/vc-stage', '--prune'], capture_output=True,
                                  env=site.environment(), check=False)
            if done.returncode:
                failures.append(done)

    pruner = threading.Thread(target=prune)
    pruner.start()
    try:
        for count in range(4):
            document = site.run('vc-stage', input=parsed(site)).stdout
            document = site.run('vc-allocate', '--num-cpus', 1, '--key', site.key,
                                '--name', f'{site.entry}-{count}', input=document).stdout
            document = site.run('vc-inject', input=document).stdout
            node = etree.fromstring(document).find('cluster/node/disk')
            subprocess.run(['qemu-img', 'check', '-q', node.get('path')], check=True)
            assert Path(node.get('backing')).exists()
            site.run('vc-clean', f'{site.entry}-{count}')
    finally:
        over.set()
        pruner.join()
    assert not failures
