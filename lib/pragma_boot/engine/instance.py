"""The instances of a cluster's nodes: Ganeti's requests that make them."""
import os
from collections.abc import Callable
from typing import Any

from lxml import etree

from ..document import attachment, firmware, permit, tree
from ..document.tree import domain_name
from ..system import log
from ..system.failure import Failure
from ..system.lock import exclusive
from ..system.settings import Settings
from .protocol import Storage
from .session import SOCKET_BYTES

CLUSTER = 'pragma_boot:cluster:'
"""The tag that names the ledger and the cluster of an instance."""

OS = 'pragma'
"""The OS definition that every node has (drivers/ganeti/os)."""

DISKS = {'virtio': {'disk_type': 'paravirtual'}, 'ide': {'disk_type': 'ide'},
         **{f'scsi {model}'.strip(): {'disk_type': 'scsi-hd', 'scsi_controller_type': kind}
            for model, kind in (('', 'lsi'), ('lsilogic', 'lsi'), ('lsisas1078', 'megasas'),
                                ('virtio-scsi', 'virtio-scsi-pci'))}}
SEED_SLOT = 0x1e
"""PCI slot of the seed disk. SeaBIOS boots from the first disk, and Ganeti's slots begin at 12."""

SEEDED = ('virtio', 'ide', 'scsi virtio-scsi')
"""Buses of disks that SeaBIOS finds before a seed disk, which is on virtio."""

CARDS = {'virtio': 'paravirtual', 'e1000': 'e1000', 'rtl8139': 'rtl8139'}
"""Hypervisor parameters for buses with their SCSI controllers, and for models of interfaces."""

VIDEOS = {'vga': 'std', 'cirrus': 'cirrus', 'virtio': 'virtio', 'none': 'none'}
"""The hypervisor parameter vga by the model of the display adapter."""

ACCELERATIONS = {'auto': {}, 'kvm': {'kvm_flag': 'enabled', 'cpu_type': 'host'},
                 'tcg': {'kvm_flag': 'disabled', 'cpu_type': 'max',
                         'kvm_path': '/usr/bin/qemu-system-x86_64'}}
"""The same for the setting ``accel``; auto leaves the choice to the Ganeti cluster's administrator.

Ganeti's QEMU has the name kvm, and under that name uses KVM without being asked to.
"""


def mark(cluster: etree._Element) -> str:
    """The value of that tag for the instances of a <cluster>."""
    return tag_value(cluster.get('ledger', ''), cluster.get('name'))


def tag_value(ledger: str, cluster: str) -> str:
    """That value by a ledger's identity, '' for a cluster of an older version, and the name."""
    return ':'.join(filter(None, (ledger, cluster)))


class Plan:
    """The instances of a document's nodes.

    Ganeti's OS definition copies the staged image to the instance's disk and writes the node's
    files into it.
    """

    def __init__(self, root: etree._Element, folder: str, engine: Any, storage: Storage,
                 settings: Settings, publish: Callable[[], None]) -> None:
        self._root = root
        self._folder = folder
        self._engine = engine
        self._storage = storage
        self._settings = settings
        self._publish = publish

    def carry_out(self, nodes: list[etree._Element], jobs: int) -> dict[str, etree._Element]:
        """Have Ganeti make the instances of ``nodes``, all or none, and set the nodes' hosts.

        Returns their <disk>s by the nodes' names. Raises Failure and Shortage.
        """
        if not nodes:
            return {}
        self._storage.prepare(self._folder)
        # The OS definition reads the ledger's document, which may be older than this one.
        self._publish()
        instances = [self._instance(node) for node in nodes]
        # Ganeti's allocator does not see the instances that an earlier request is about to make.
        with exclusive(os.path.join(os.path.dirname(os.path.dirname(self._folder)), 'ganeti.lock')):
            hosts = self._engine.create(instances)
        for node in nodes:
            node.set('host', hosts[domain_name(node)])
        return {node.get('name'): etree.Element(
                    'disk', path=f'/run/ganeti/instance-disks/{domain_name(node)}:0', format='raw')
                for node in nodes}

    def _instance(self, node: etree._Element) -> dict:
        """The request for one node's instance (OpInstanceCreate)."""
        name, image = domain_name(node), tree.image(self._root, node.get('role'))
        memory = -(-int(node.get('memory')) >> 10)
        if name != name.lower():
            raise Failure(f"instance '{name}': Ganeti takes no capital letters in a name")
        return {'mode': 'create', 'instance_name': name, 'os_type': OS, 'start': False,
                'disk_template': self._settings['ganeti_disk_template'],
                'disks': [{'size': -(-int(node.get('disk_size') or image.get('size')) >> 20)}],
                'nics': [_nic(interface) for interface in node.findall('interface')],
                'beparams': {'vcpus': int(node.get('cpus')), 'minmem': memory, 'maxmem': memory},
                'hypervisor': 'kvm', 'hvparams': self._hypervisor(node),
                'osparams': {'document': os.path.join(self._folder, 'document.xml'),
                             'node': node.get('name')},
                # Names and addresses are ours; no DNS server has to know them.
                'name_check': False, 'ip_check': False, 'conflicts_check': False,
                'tags': [f'{CLUSTER}{mark(node.getparent())}']}

    def _hypervisor(self, node: etree._Element) -> dict:
        """Hypervisor parameters from the permitted part of the author's <domain>."""
        author = permit.permitted(tree.domain(self._root, node.get('role')))
        if firmware.of(author) == 'UEFI':
            raise Failure(f"node '{node.get('name')}': Ganeti has no UEFI, which vc-in.xml asks "
                          'for: use an image that starts by BIOS')
        disk, controller = author.find('devices/disk'), author.find('devices/controller')
        bus = disk.find('target').get('bus')
        if controller is not None and controller.get('model'):
            bus += f" {controller.get('model')}"
        others = sorted([f'@{name}' for name in disk.attrib]
                        + [element.tag for element in disk if element.tag != 'target'])
        if others:
            raise Failure(f"node '{node.get('name')}': Ganeti cannot give a disk the {others[0]} "
                          'that vc-in.xml asks for')
        models = {model.get('type') for model in author.findall('devices/interface/model')}
        model = min(models, default='virtio')
        if bus not in DISKS or model not in CARDS or len(models) > 1:
            raise Failure(f"node '{node.get('name')}': Ganeti has no disk on the bus {bus} with "
                          f"{' and '.join(sorted(models))} network interfaces")
        video = author.xpath('string(devices/video/model/@type)') or 'vga'
        if video not in VIDEOS:
            raise Failure(f"node '{node.get('name')}': Ganeti has no display adapter {video}")
        if node.find('seed') is not None and bus not in SEEDED:
            raise Failure(f"node '{node.get('name')}': with a seed disk, Ganeti boots from a disk "
                          f"on {', '.join(SEEDED)}, not on {bus}")
        console = self._storage.console(node)
        if ' ' in console or ',' in console:
            raise Failure(f"console '{console}': Ganeti takes no space or comma in the path of "
                          'temporary_directory')
        return {**DISKS[bus], 'nic_type': CARDS[model], **ACCELERATIONS[self._settings['accel']],
                'acpi': author.find('features/acpi') is not None,
                'machine_version': author.xpath('string(os/type/@machine)') or 'pc',
                'kernel_path': '', 'boot_order': 'disk', 'serial_console': False,
                'vga': VIDEOS[video], 'vnc_bind_address': self._viewer(author, node, console),
                'kvm_extra': f'-chardev file,id=pragma,path={console},append=on '
                             f'-device isa-serial,chardev=pragma{_seed(node)}'}

    @staticmethod
    def _viewer(author: etree._Element, node: etree._Element, console: str) -> str:
        """The folder of the VNC socket INSTANCE.vnc, '' where the author has no graphics."""
        folder = os.path.dirname(console)
        path = os.path.join(folder, f'{domain_name(node)}.vnc')
        if author.find('devices/graphics') is None:
            return ''
        if len(os.fsencode(path)) > SOCKET_BYTES:
            log.warn(f"node '{node.get('name')}' has no VNC console: '{path}' is too long for a "
                     'socket')
            return ''
        return folder


def _seed(node: etree._Element) -> str:
    """QEMU's options for the seed disk, '' for none: Ganeti itself has no read-only disk for KVM.

    Its path has no space or comma, as that of the console in the same folder.
    """
    seed = node.find('seed')
    return '' if seed is None else (
        f" -drive file={seed.get('path')},format=raw,if=none,id=seed,readonly=on"
        f' -device virtio-blk-pci,drive=seed,addr={SEED_SLOT:#x}')


def _nic(interface: etree._Element) -> dict[str, str]:
    """The request for an interface on a bridge of Ganeti's nodes."""
    bridge = attachment.of(interface).linux_bridge()
    if not bridge:
        raise Failure(f"the {interface.get('network')} network is not a Linux bridge without "
                      'VLANs: with ve_driver = ganeti the settings private_network and '
                      'public_network must be bridge:NAME')
    return {'mode': 'bridged', 'link': bridge, 'mac': interface.get('mac')}
