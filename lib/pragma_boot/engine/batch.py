"""Several commands by one virsh: a process and a connection cost 20 ms, most commands little.

virsh runs the next command after one that failed; its status is that of the last one.
"""
from __future__ import annotations

import os
import re
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from ..system import names, workers
from ..system.failure import Failure

if TYPE_CHECKING:
    import subprocess

Virsh = Callable[..., 'subprocess.CompletedProcess[bytes]']

TOGETHER = 100
"""Domains that one virsh is asked about."""

AT_ONCE = 8
"""Domains destroyed at a time: most of the time is spent waiting until their QEMUs have exited."""

UUID = '[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12} '

ABSENT = 'failed to get domain '
"""What virsh says of a domain that does not exist."""


def defined_and_started(virsh: Virsh, definition: bytes, uuid: str, validate: bool,
                        paused: bool) -> tuple[bool, str]:
    """Define a domain and start it: whether it was defined, and why it does not run ('').

    ``uuid`` is the definition's. A domain of another UUID that has its name is left alone.
    """
    done = virsh(f"define /dev/stdin{' --validate' * validate}; domname --domain {uuid}; "
                 f"start --domain {uuid}{' --paused' * paused}", input=definition, statuses=(0, 1))
    is_defined = bool(done.stdout.strip())
    # What follows is said of the domain that was not defined.
    errors = done.stderr if is_defined else done.stderr.partition(f'error: {ABSENT}'.encode())[0]
    return is_defined, lines(errors) or 'start failed' if done.returncode else ''


def lines(errors: bytes) -> str:
    """What virsh says on its standard error, in one line."""
    return '; '.join(line.removeprefix('error: ') for line
                     in errors.decode(errors='replace').splitlines() if line.strip())


def statistics(virsh: Virsh, more: str) -> dict[str, dict[str, str]]:
    """The state of each domain, and its 'uuid', by its name. ``more`` are options of domstats."""
    found: dict[str, dict[str, str]] = {}
    name = None
    answer = virsh(f'domstats --raw --state{more}; list --all --uuid --name')
    for line in answer.stdout.decode().splitlines():
        line = line.strip()
        if line.startswith("Domain: '"):
            name = line[len("Domain: '"):-1]
            found[name] = {}
        elif re.match(UUID, line):
            uuid, _, name = line.partition(' ')
            found.setdefault(name.strip(), {})['uuid'] = uuid
        elif name and '=' in line:
            key, value = line.split('=', 1)
            found[name][key] = value
    return found


def definitions(virsh: Virsh, domains: Sequence[str]) -> dict[str, bytes]:
    """The XML of each domain by its name, of those with names like ours; raises Failure.

    A domain that is undefined at this moment, perhaps by a virsh of a killed vc-clean, is left out.
    """
    found: dict[str, bytes] = {}
    known = [name for name in domains if names.is_name(name)]
    for start in range(0, len(known), TOGETHER):
        some = known[start:start + TOGETHER]
        # A random separator, which no definition has.
        mark = os.urandom(16).hex()
        script = ''.join(f'dumpxml --domain {name}; echo {mark}; ' for name in some)
        found.update(zip(some, virsh(script).stdout.split(mark.encode()), strict=False))
        for name in some:
            if not found[name].strip():
                # Why not, by the status of a single command.
                try:
                    found[name] = virsh('dumpxml', '--domain', name).stdout
                except Failure as failure:
                    if ABSENT not in str(failure):
                        raise
                    del found[name]
    return found


def undefined(virsh: Virsh, domains: Sequence[str]) -> None:
    """Destroy and undefine domains with names like ours, several at a time; errors are ignored."""
    parts = [domains[start::AT_ONCE] for start in range(min(AT_ONCE, len(domains)))]
    workers.each(lambda part: virsh(
        ''.join(f'destroy --domain {name}; '
                f'undefine --domain {name} --nvram --snapshots-metadata; ' for name in part),
        statuses=(0, 1)), parts, AT_ONCE)
