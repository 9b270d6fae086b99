"""Sites that are simulated: many hosts, each a folder, asked through a virsh of their own."""
import os
import re
from pathlib import Path

from pragma_boot.document import tree

SETTINGS = '''ve_driver = kvm
temporary_directory = temp
base_path = images
accel = tcg
hosts = {hosts}
private_network = bridge:br0
public_network = bridge:br1
public_ips = {publics}
netmask = 255.255.0.0
gateway = 198.18.255.254
dns = 198.18.255.254
cpus_per_node = 1
'''
CLUSTERS = 1000


def uris(count):
    """The URIs of so many hosts."""
    return [f'qemu+tcp://h{index}/system' for index in range(count)]


def settings(hosts):
    """The settings of a site of ``hosts`` hosts; a private network of each cluster is a VLAN."""
    publics = ', '.join(f'198.18.{index >> 8}.{index & 255} f{index}.example.org'
                        for index in range(1, CLUSTERS + 10))
    return SETTINGS.format(hosts=' '.join(uris(hosts)), publics=publics)


def environment(folder):
    """The variables of a tool that asks these hosts, whose state is in ``folder``."""
    folder.mkdir(exist_ok=True)
    return {'PATH': f"{Path(__file__).parent}:{os.environ['PATH']}", 'SIMULATED_HOSTS': str(folder)}


def calls(folder):
    """How often virsh was called; forgotten after that."""
    path = folder / 'calls'
    count = path.stat().st_size if path.exists() else 0
    path.unlink(missing_ok=True)
    return count


def run(folder, node):
    """Have a node's domain run on its host, as if vc-boot had started it."""
    host = folder / re.sub('[^A-Za-z0-9]', '_', node.get('host'))
    host.mkdir(exist_ok=True)
    name, uuid = tree.domain_name(node), tree.domain_uuid(node)
    (host / f'{name}.xml').write_text(
        f"<domain><name>{name}</name><uuid>{uuid}</uuid><memory>{node.get('memory')}</memory>"
        f"<vcpu>{node.get('cpus')}</vcpu></domain>")
    (host / f'{uuid}.uuid').symlink_to(name)
    (host / f'{name}.running').touch()
