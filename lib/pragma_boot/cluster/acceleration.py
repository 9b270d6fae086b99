"""Whether the guests of each host run under KVM or under TCG."""
import os
from collections.abc import Iterable

from ..engine.registry import Engines
from ..system import files, log
from ..system.failure import Failure
from ..system.settings import Settings


def find(engines: Engines, uris: Iterable[str], settings: Settings) -> dict[str, str]:
    """'kvm' or 'tcg' for each URI: the setting ``accel``, or the result of a probe.

    The results are kept in TEMP/accel, one line a host, until this machine boots again.
    """
    if settings['accel'] != 'auto':
        return dict.fromkeys(uris, settings['accel'])
    path = os.path.join(settings.temporary_directory, 'accel')
    with open('/proc/sys/kernel/random/boot_id', encoding='ascii') as file:
        boot = file.read().strip()
    known = _read(path, boot)
    reasons = engines.ask(set(uris) - set(known), lambda engine: engine.probe())
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


def _read(path: str, boot: str) -> dict[str, str]:
    """The results that were kept since this machine booted: {URI: result}."""
    try:
        with open(path, encoding='utf-8') as file:
            lines = [line.split() for line in file]
    except (OSError, UnicodeDecodeError):
        return {}
    return {line[1]: line[2] for line in lines
            if len(line) == 3 and line[0] == boot and line[2] in ('kvm', 'tcg')}
