"""Documents of clusters that nothing but memory has: a small one, and ones with many nodes."""
import copy
import ipaddress
import itertools
import re

from lxml import etree

from lab import DATA

VALUES = {'@SITE@': '/site', '@CLUSTER@': 'demo', '@LEDGER@': '0' * 32, '@DIGEST@': 'a',
          '@TIME@': '1', '@PRIVATE@': '23000', '@SSH@': '22000'}


def small():
    """The golden document of vc-boot: a frontend and its compute nodes."""
    text = (DATA / 'vc-boot-out.xml').read_text()
    for name, value in VALUES.items():
        text = text.replace(name, value)
    count = itertools.count()
    return etree.fromstring(re.sub('@MAC@', lambda _: f'52:54:00:00:00:{next(count):02x}', text))


def large(computes, name='demo', hosts=('qemu:///session',)):
    """The same cluster, called ``name``, with so many compute nodes, spread over ``hosts``."""
    root = small()
    cluster = root.find('cluster')
    cluster.set('name', name)
    frontend, compute, *others = cluster.findall('node')
    for node in others:
        cluster.remove(node)
    for element, text in (('ipaddress', '10.0.0.1'), ('netmask', '255.0.0.0')):
        root.find(f'networks/network/{element}').text = text
    card = frontend.find("interface[@network='private']")
    card.set('ip', '10.0.0.1')
    card.set('netmask', '255.0.0.0')
    cluster.remove(compute)
    last = frontend
    for index, host in zip(range(computes), itertools.cycle(hosts)):
        node = copy.deepcopy(compute)
        node.attrib.update({'name': f'compute-{index}', 'fqdn': f'compute-{index}', 'host': host})
        number = index + 0x100
        node.find('interface').attrib.update({
            'ip': str(ipaddress.IPv4Address('10.0.0.2') + index), 'netmask': '255.0.0.0',
            'mac': f'52:54:00:{number >> 16:02x}:{number >> 8 & 255:02x}:{number & 255:02x}'})
        last.addnext(node)
        last = node
    return root
