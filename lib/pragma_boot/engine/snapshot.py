"""Snapshots of libvirt domains: internal ones of qcow2, with the guest's memory where it runs.

libvirt of Debian 12 takes none of a domain with UEFI, whose variables are in a raw file. QEMU then
takes one of the disk alone, of which libvirt does not know.
"""
from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

from lxml import etree

from ..document.tree import domain_name
from ..image import overlay
from ..system import log
from ..system.failure import Failure
from .protocol import ACTIVE


class Snapshots:
    """The snapshots of one libvirt URI's domains. It is a protocol.Snapshots."""

    def __init__(self, engine: Any) -> None:
        self._engine = engine

    def suspend(self, nodes: Iterable[etree._Element]) -> None:
        """Stop the CPUs of running domains."""
        self._virsh_of('suspend', nodes)

    def resume(self, nodes: Iterable[etree._Element]) -> None:
        """Let suspended domains go on; one that runs is left alone."""
        self._virsh_of('resume', nodes)

    def _virsh_of(self, command: str, nodes: Iterable[etree._Element]) -> None:
        # One connection for all, so that little time is between the first and the last.
        script = '; '.join(f'{command} --domain {domain_name(node)}' for node in nodes)
        self._engine.virsh(script)

    def take(self, node: etree._Element, label: str) -> bool:
        """Take a snapshot; whether it has the memory of a domain that is not stopped."""
        name = domain_name(node)
        active = self._is_active(node)
        if not self._is_uefi(node):
            try:
                self._engine.virsh('snapshot-create-as', '--domain', name, label)
                return active
            except Failure as failure:
                # Of a disk in a pool, a snapshot of the disk alone could not be applied.
                if not active or node.find('disk').get('pool'):
                    raise
                log.warn(f"the memory of node '{node.get('name')}' cannot be kept, its disk alone "
                         f'is: {failure}')
        elif active:
            _path(node)
            log.warn(f"the memory of node '{node.get('name')}' cannot be kept, its disk alone is: "
                     'libvirt takes no snapshot of a domain with UEFI')
        if active:
            self._monitor(node, 'blockdev-snapshot-internal-sync', device=self._device(node),
                          name=label)
        else:
            _on_disk(node, '-c', label)
        return False

    def revert(self, node: etree._Element, label: str) -> bool:
        """Bring a stopped node back to a snapshot; whether its domain is suspended now."""
        if label not in self._known(node):
            _on_disk(node, '-a', label)
            return False
        words = ['--domain', domain_name(node), label]
        output = self._engine.virsh('snapshot-dumpxml', *words).stdout
        state = etree.fromstring(output).findtext('state')
        running = state in ('running', 'paused')
        self._engine.virsh('snapshot-revert', *words, *(['--paused'] if running else []))
        return running

    def delete(self, node: etree._Element, label: str) -> None:
        """Delete a snapshot; no error where there is none."""
        if label in self._known(node):
            self._engine.virsh('snapshot-delete', '--domain', domain_name(node), label)
        elif label not in self.labels(node):
            return
        elif self._is_active(node):
            self._monitor(node, 'blockdev-snapshot-delete-internal-sync',
                          device=self._device(node), name=label)
        else:
            _on_disk(node, '-d', label)

    def labels(self, node: etree._Element) -> list[str]:
        """The labels of all snapshots that are in the node's disk."""
        if self._is_active(node):
            return [one['name'] for one in self._block(node)['image'].get('snapshots', ())]
        if node.find('disk').get('pool'):
            return self._known(node)
        return overlay.snapshots(_path(node))

    def _known(self, node: etree._Element) -> list[str]:
        """The labels of the snapshots that libvirt knows of."""
        output = self._engine.virsh('snapshot-list', '--name', '--domain', domain_name(node),
                                    statuses=(0, 1)).stdout
        return output.decode().split()

    def _is_active(self, node: etree._Element) -> bool:
        domain = self._engine.domains([node]).get(domain_name(node))
        return domain is not None and domain.state in ACTIVE

    def _is_uefi(self, node: etree._Element) -> bool:
        output = self._engine.virsh('dumpxml', '--domain', domain_name(node)).stdout
        root = etree.fromstring(output)
        return bool(root.xpath("os/@firmware='efi' or os/loader/@type='pflash'"))

    def _block(self, node: etree._Element) -> dict[str, Any]:
        """The node's disk as its QEMU describes it."""
        answer = self._monitor(node, 'query-block')
        return next(one['inserted'] for one in answer if one.get('inserted', {}).get('drv')
                    == 'qcow2' and not one['inserted']['ro'])

    def _device(self, node: etree._Element) -> str:
        return str(self._block(node)['node-name'])

    def _monitor(self, node: etree._Element, command: str, **arguments: str) -> Any:
        """What a command of QEMU's monitor returns (QMP); raises Failure."""
        question = json.dumps({'execute': command, 'arguments': arguments})
        output = self._engine.virsh('qemu-monitor-command', '--domain', domain_name(node),
                                    question).stdout
        answer = json.loads(output)
        if 'error' in answer:
            raise Failure(f"node '{node.get('name')}': QEMU: {answer['error'].get('desc')}")
        return answer['return']


def _path(node: etree._Element) -> str:
    """The node's disk; raises Failure where it is on another machine."""
    disk = node.find('disk')
    if disk.get('pool'):
        raise Failure(f"node '{node.get('name')}' has UEFI, and its disk is in a storage pool: "
                      'no snapshot can be taken of it')
    return str(disk.get('path'))


def _on_disk(node: etree._Element, option: str, label: str) -> None:
    """Change a snapshot in the disk of a stopped node."""
    overlay.snapshot(_path(node), option, label)
