"""A probe of KVM: the smallest guest is run, as a /dev/kvm that exists may still not work."""
import os
import time
from typing import Any

from ..system.failure import Failure

PROBE_SECONDS = 15

PROBE = '''<domain type='kvm'>
  <name>{name}</name>
  <memory unit='MiB'>16</memory>
  <os><type arch='x86_64'>hvm</type><bios rebootTimeout='0'/></os>
  <cpu mode='host-passthrough'/>
  <on_reboot>destroy</on_reboot>
  <devices><controller type='usb' model='none'/><memballoon model='none'/></devices>
</domain>'''
"""The smallest guest: firmware that finds no disk and restarts, which ends the domain."""


def kvm(libvirt: Any) -> str | None:
    """Run the smallest guest under KVM; None where it ran, else the reason why it did not.

    Raises Failure for a host that does not answer.
    """
    name = f'pragma-boot-probe-{os.getpid()}'
    libvirt.domains()
    try:
        libvirt.virsh('create', '/dev/stdin', input=PROBE.format(name=name).encode())
        deadline = time.monotonic() + PROBE_SECONDS
        while name in libvirt.domains():
            if time.monotonic() > deadline:
                return f'a guest did not run in {PROBE_SECONDS} s'
            time.sleep(0.1)
    except Failure as error:
        # QEMU's own message where there is one, else the last of libvirt's, the most exact one.
        parts = str(error).split('; ')
        return next((part.rsplit('error: ', 1)[1] for part in parts if 'error: ' in part),
                    parts[-1])
    finally:
        libvirt.virsh('destroy', '--domain', name, statuses=(0, 1))
    return None
