"""A site's documents, staged images and domains, as its tools and libvirt show them."""
import os
import re
import subprocess

from lxml import etree

from lab.site import connection


def disks(document):
    return {node.get('name'): node.find('disk').get('path')
            for node in etree.fromstring(document).iterfind('cluster/node')}


def parsed(site):
    return site.run('vc-parse', site.vc_in).stdout


def staged(document):
    return {image.get('role'): image for image in etree.fromstring(document).findall('image')}


def files(site):
    """What the images' folder holds, but for the locks."""
    return sorted(name for name in os.listdir(site.temp / 'images') if not name.endswith('.lock'))


def boot(site, document, *arguments, **options):
    return site.run('vc-boot', '--paused', '--ignore-dependencies', *arguments, input=document,
                    **options)


def virsh(*command):
    return subprocess.run(['virsh', '-q', '-c', connection(), *command], capture_output=True,
                          check=True).stdout.decode()


def mine(site):
    return sorted(name for name in site.domains() if name.startswith(f'{site.entry}-'))


def all_nodes(site):
    return [f'{site.entry}-{node}' for node in ('compute-0', 'compute-1', 'frontend')]


def without_dependency(site):
    """The example vc-in.xml, but no node waits five minutes for another."""
    text = site.vc_in.read_text()
    site.vc_in.write_text(re.sub('<boot_dependency.*?</boot_dependency>', '', text, flags=re.S))
