"""A cluster over a hundred simulated hosts: what is asked of libvirt, and how often."""
import re

import pytest
from lxml import etree

from lab import simulated

HOSTS = 100


@pytest.fixture
def place(site, monkeypatch):
    """A site of simulated hosts; its folder of them, and a document whose image is staged."""
    hosts = site.folder / 'hosts'
    for name, value in simulated.environment(hosts).items():
        monkeypatch.setenv(name, value)
    parsed = site.run('vc-parse', site.vc_in).stdout
    parsed = re.sub(b'<driver>[^<]*', b'<driver>cloud_init', parsed)
    site.conf.write_text(simulated.settings(HOSTS))
    return hosts, site.run('vc-stage', input=parsed).stdout


def life(site, hosts, staged, computes):
    """The calls of virsh that each step of a cluster's life takes."""
    counted = {}

    def step(tool, *arguments, input=b''):
        output = site.run(tool, *arguments, input=input).stdout
        counted[tool] = simulated.calls(hosts)
        return output
    document = step('vc-allocate', '--num-cpus', computes, '--name', 'wide', input=staged)
    nodes = etree.fromstring(document).findall('cluster/node')
    assert len(nodes) == computes + 1
    document = step('vc-inject', input=document)
    document = step('vc-boot', '--ignore-dependencies', input=document)
    assert document.count(b'<state>running</state>') == computes + 1
    output = step('vc-status', 'wide')
    assert output.count(b' running ') == computes + 1
    used = {node.get('host') for node in etree.fromstring(document).iterfind('cluster/node')}
    assert counted['vc-status'] == len(used)
    step('vc-clean', 'wide')
    assert site.clusters() == [] and not list(hosts.glob('*/*.xml'))
    return counted


def test_calls_of_libvirt_grow_by_one_for_each_node_that_is_started(site, place):
    hosts, staged = place
    few, many = (life(site, hosts, staged, count) for count in (20, 40))
    assert many['vc-boot'] - few['vc-boot'] == 20
    for tool in ('vc-allocate', 'vc-inject', 'vc-status'):
        assert many[tool] == few[tool]
    # Every host of the site is asked; one that has nodes is asked a few times.
    assert many['vc-clean'] <= HOSTS + 20
