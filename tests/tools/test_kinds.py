"""Kinds of nodes: --nodes, --memory, --frontend-cpus and --frontend-memory."""
import re

import pytest
from lxml import etree

from lab.drivers import Wrapped
from lab.nodes import mine, virsh, without_dependency
from lab.site import lines

KINDS = ('--nodes', '2x3:80M,1x2', '--memory', '48M', '--frontend-cpus', 2,
         '--frontend-memory', '64M')
SIZES = [('frontend', 2, 64), ('compute-0', 3, 80), ('compute-1', 3, 80), ('compute-2', 2, 48)]


def sizes(document):
    """The name, CPUs and memory in MiB of each node."""
    return [(node.get('name'), int(node.get('cpus')), int(node.get('memory')) / 1024)
            for node in etree.fromstring(document).iterfind('cluster/node')]


def dry(site, *arguments, **options):
    """The sizes of the nodes that vc-allocate would reserve."""
    document = site.document(site.entry, 'vc-parse')
    return sizes(site.run('vc-allocate', '--dry-run', *arguments, input=document, **options).stdout)


def test_each_node_has_what_was_asked_for(site):
    assert dry(site, *KINDS) == SIZES
    assert dry(site, '--num-cpus', 3, '--memory', '1G') == [
        ('frontend', 1, 1024), ('compute-0', 2, 1024), ('compute-1', 1, 1024)]
    assert dry(site, '--num-cpus', 0, '--frontend-memory', '96M') == [('frontend', 1, 96)]
    # The site's memory for each CPU is not added to what the user asks for.
    with open(site.conf, 'a', encoding='utf-8') as conf:
        conf.write('memory_per_cpu = 64M\n')
    assert dry(site, '--nodes', '1x2,1x2:32M') == [
        ('frontend', 1, 1024), ('compute-0', 2, 1088), ('compute-1', 2, 32)]


def test_the_environment_is_what_pragma_boot_passes_on(site, monkeypatch):
    for name, value in zip(('NODES', 'MEMORY', 'FRONTEND_CPUS', 'FRONTEND_MEMORY'),
                           KINDS[1::2], strict=True):
        monkeypatch.setenv(f'PRAGMA_{name}', str(value))
    assert dry(site, '--num-cpus', 8) == SIZES
    assert dry(site, '--nodes', '1x1', '--memory', '32M')[1:] == [('compute-0', 1, 32)]
    document = site.document(site.entry, 'vc-parse')
    line = site.fails('vc-allocate', '--num-cpus', 4, input=document, status=2)
    assert 'PRAGMA_NODES asks for 8 CPUs, and --num-cpus for 4' in line


def test_a_new_cluster_needs_a_number_of_cpus(site):
    document = site.document(site.entry, 'vc-parse')
    line = site.fails('vc-allocate', input=document, status=2)
    assert '--num-cpus or --nodes is needed' in line


@pytest.mark.parametrize('arguments, reason', [
    (('--nodes', '2x8', '--num-cpus', '4'), '--nodes tells the CPUs of each node'),
    (('--nodes', '2'), "not '2'"), (('--nodes', '2x0'), "not '2x0'"),
    (('--nodes', '0x2'), "not '0x2'"),
    (('--nodes', '1x10000'), 'at most 65536 nodes with at most 9999 CPUs each'),
    (('--nodes', '2x8,'), 'kinds of nodes'), (('--nodes', ' 2x8'), 'kinds of nodes'),
    (('--nodes', '\uff12x8'), 'kinds of nodes'), (('--nodes', '2x8:'), 'kinds of nodes'),
    (('--nodes', '2x8:64'), 'the memory of --nodes must be at least 1M'),
    (('--nodes', '2x8:1x'), "number with K, M, G or T, such as 20G, of at most 1024T, not '1x'"),
    (('--nodes', '65536x1,1x1'), 'more than 65536 nodes'),
    (('--num-cpus', '2', '--memory', '4096'), "not '4096', which is 4096 bytes: give it a unit"),
    (('--num-cpus', '2', '--memory', '4g'), "not '4g'"),
    (('--num-cpus', '2', '--memory', '2000T'), 'of at most 1024T'),
    (('--num-cpus', '2', '--frontend-memory', '-1M'), 'of at most 1024T'),
    (('--num-cpus', '2', '--frontend-cpus', '0'), "from 1 to 9999, not '0'"),
    (('--num-cpus', '2', '--frontend-cpus', '10000'), 'from 1 to 9999')])
def test_refuses(site, arguments, reason):
    assert reason in site.fails('vc-allocate', *arguments, status=2)
    ours = [word.replace('--num-cpus', '--num_cpus') for word in arguments]
    line = site.fails('pragma_boot', '--vcname', site.entry, '--key', site.key, *ours, status=2)
    assert reason.replace('--num-cpus', '--num_cpus') in line


@pytest.mark.parametrize('arguments', [
    ('--nodes', '1x1:900T'), ('--nodes', '9000x9999'),
    ('--num-cpus', '1', '--frontend-memory', '1000T'), ('--num-cpus', '1', '--memory', '1000T')])
def test_more_than_the_site_has(site, arguments):
    document = site.document(site.entry, 'vc-parse')
    assert 'not enough room: ' in site.fails('vc-allocate', *arguments, input=document, status=3)
    assert site.clusters() == []


def test_pragma_boot_boots_unequal_nodes(site):
    without_dependency(site)
    site.run('pragma_boot', '--vcname', site.entry, '--key', site.key, *KINDS)
    folder = site.temp / 'clusters' / site.entry
    assert sizes((folder / 'document.xml').read_bytes()) == SIZES
    vc_out = etree.parse(folder / 'vc-out.xml')
    assert [(node.get('name'), node.get('cpus')) for node in vc_out.iterfind('compute/node')] == [
        ('compute-0', '3'), ('compute-1', '3'), ('compute-2', '2')]
    assert len(mine(site)) == 4
    for name, cpus, memory in SIZES:
        info = virsh('dominfo', f'{site.entry}-{name}')
        assert re.search(fr'^CPU\(s\): +{cpus}$', info, re.M)
        assert re.search(fr'^Max memory: +{memory * 1024} KiB$', info, re.M)


def test_pragma_boot_shows_unequal_nodes_without_a_reservation(site):
    done = site.run('pragma_boot', '--vcname', site.entry, '--key', site.key, '--dry-run', *KINDS)
    assert sizes(done.stdout) == SIZES and site.clusters() == []


def test_a_driver_that_ignores_it_is_named(site):
    """The driver seed has nodes of 2 CPUs; nothing in its vc-out.xml tells their memory."""
    driver = Wrapped(site, 'seed')
    try:
        done = driver.boot('--nodes', '1x3,1x1', num_cpus=0)
        assert driver.calls()[1][1] == '4'
        warnings = [line for line in lines(done.stderr) if line.startswith('pragma_boot: ')]
        assert len(warnings) == 1
        assert f"driver '{driver.folder}' does not obey --nodes: the nodes" in warnings[0]
        driver.end()
        done = driver.boot('--nodes', '2x2:4G', num_cpus=0)
        assert b'pragma_boot: ' not in done.stderr
    finally:
        driver.end()
