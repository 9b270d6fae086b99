"""Whether a host runs guests under KVM: asked by running one, as a device that is there may not work."""
import os
import time

from ..system import files, log
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


def find(hosts, uris, settings):
    """'kvm' or 'tcg' for each URI: as the setting ``accel`` says, else as a probe does.

    The probes' answers are kept in TEMP/accel, a line a host, until this machine boots again.
    """
    if settings['accel'] != 'auto':
        return dict.fromkeys(uris, settings['accel'])
    path = os.path.join(settings.temporary_directory, 'accel')
    with open('/proc/sys/kernel/random/boot_id', encoding='ascii') as file:
        boot = file.read().strip()
    known = _read(path, boot)
    reasons = hosts.ask(set(uris) - set(known), lambda host: host.probe())
    for uri, reason in reasons.items():
        if isinstance(reason, Failure):
            raise reason
        if reason:
            log.warn(f"KVM cannot be used at '{uri}' ({reason}): guests run under TCG, "
                      'which is slower')
        known[uri] = 'tcg' if reason else 'kvm'
    if reasons:
        files.write(path, ''.join(f'{boot} {uri} {answer}\n'
                                  for uri, answer in sorted(known.items())).encode())
    return known


def _read(path, boot):
    """What is kept of this boot: {URI: answer}."""
    try:
        with open(path, encoding='utf-8') as file:
            lines = [line.split() for line in file]
    except (OSError, UnicodeDecodeError):
        return {}
    return {line[1]: line[2] for line in lines
            if len(line) == 3 and line[0] == boot and line[2] in ('kvm', 'tcg')}


def probe(host):
    """Run the smallest guest under KVM; None where it ran, else why it did not.

    Raises Failure for a host that does not answer at all.
    """
    name = f'pragma-boot-probe-{os.getpid()}'
    host.domains()
    try:
        host.virsh('create', '/dev/stdin', input=PROBE.format(name=name).encode())
        deadline = time.monotonic() + PROBE_SECONDS
        while name in host.domains():
            if time.monotonic() > deadline:
                return f'a guest did not run in {PROBE_SECONDS} s'
            time.sleep(0.1)
    except Failure as error:
        # QEMU's own word where it has one, else the last and most exact of libvirt's.
        told = str(error).split('; ')
        return next((part.rsplit('error: ', 1)[1] for part in told if 'error: ' in part),
                    told[-1])
    finally:
        host.virsh('destroy', '--domain', name, statuses=(0, 1))
    return None
