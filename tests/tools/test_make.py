"""The Makefile's targets for clusters, and a site's makefile that includes it."""
import os
import re
import subprocess

import pytest

from lab import ROOT
from lab.nodes import mine, without_dependency


def raws(site):
    folder = site.temp / 'images'
    return {name: os.stat(folder / name).st_mtime_ns for name in os.listdir(folder)
            if name.endswith('.raw')}


def test_alone_prints_help(site):
    output = site.make().stdout.decode()
    for target in ('demo', 'demo-clean', 'test', 'list', 'stage', 'cluster', 'status',
                   'start', 'clean-cluster'):
        assert re.search(rf'^  make {target} +\S', output, re.M)


def test_every_phony_target_has_help():
    text = (ROOT / 'Makefile').read_text()
    for target in re.findall(r'^\.PHONY: (\S+)', text, re.M):
        if target != 'packages':
            assert re.search(rf'^{target}:.*## ', text, re.M), target


def test_list(site):
    assert site.make('list').stdout == site.run('vc-list').stdout


def test_stage_once_and_notices_a_changed_source(site):
    site.make('stage', f'VC={site.entry}')
    first = raws(site)
    assert len(first) == 2
    site.make('stage', f'VC={site.entry}')
    assert raws(site) == first
    from lab.images import make_image, pack
    changed = pack(make_image(site.folder / 'changed.img', [('etc/changed', b'')]))
    (site.vc_in.parent / 'hosted-vm-0-0-1.img.gz').write_bytes(changed.read_bytes())
    site.make('stage', f'VC={site.entry}')
    assert len(raws(site)) == 3 and first.items() <= raws(site).items()


def test_two_stages_at_once_make_one_copy(site):
    running = [subprocess.Popen(['make', '-f', ROOT / 'Makefile', 'stage', f'VC={site.entry}'],
                                cwd=site.folder, env=site.environment()) for _ in range(2)]
    assert [one.wait() for one in running] == [0, 0]
    assert len(raws(site)) == 2


@pytest.mark.parametrize('target, what', [('stage', 'VC=name'), ('cluster', 'VC=name'),
                                          ('start', 'NAME=cluster'),
                                          ('clean-cluster', 'NAME=cluster')])
def test_says_what_it_needs(site, target, what):
    assert what in site.make(target, status=2).stderr.decode()


def test_cluster_status_and_clean(site):
    without_dependency(site)
    site.make('cluster', f'VC={site.entry}', 'NUM_CPUS=4', f'KEY={site.key}')
    assert len(mine(site)) == 3
    assert site.make('status').stdout.decode().count(site.entry) == 3
    site.run('vc-shutdown', '--timeout', 0, site.entry)
    site.make('start', f'NAME={site.entry}')
    assert site.make('status').stdout.decode().count(' running ') == 3
    site.make('clean-cluster', f'NAME={site.entry}')
    assert mine(site) == [] and site.clusters() == []


def test_a_site_makefile_includes_ours(site):
    """A makefile of a site, with a target for each cluster."""
    (site.folder / 'Makefile').write_text(
        f'include {ROOT}/Makefile\n'
        f'physics: ; $(bin)/pragma_boot --vcname {site.entry} --name physics --dry-run '
        f"--key '{site.key}'\n")
    done = subprocess.run(['make', '-s', '-C', site.folder, 'physics'], capture_output=True,
                          env=site.environment(), check=True)
    assert b'<cluster name="physics" ' in done.stdout
    assert b'make demo' in subprocess.run(['make', '-C', site.folder, 'help'], check=True,
                                          capture_output=True, env=site.environment()).stdout
