"""The domains of libvirt's own tests: each is refused in one line, or carried over.

What is dropped is named in a warning, or is in HARMLESS. So a new kind of loss is seen here first.
"""
import re
from collections import Counter

import pytest

from lab import published
from lab.needs import do_without
from pragma_boot.document import (
    difference,
    hardware,
    libvirt_schema,
    permit,
    refusal,
    vcin,
)
from pragma_boot.system.failure import Failure

pytestmark = pytest.mark.long

HARMLESS = {
    'how the host runs the guest': (
        r'vcpu@(placement|cpuset)', 'cputune', 'numatune', 'blkiotune', 'memtune', 'iothreads',
        'iothreadids', 'defaultiothread', 'resource', 'seclabel', 'memoryBacking', 'perf',
        'keywrap', r'os/(loader|nvram|bios|bootmenu|boot)(@.*)?',
        r'on_(poweroff|reboot|crash|lockfailure)', 'pm', 'devices/emulator', 'devices/lease',
        r'devices/disk/(iotune|auth|backingStore|boot|shareable|alias|throttlefilters)',
        r'devices/disk@(rawio|sgio|snapshot)', r'devices/(controller|video|interface)/driver',
        r'devices/interface/(bandwidth|tune|alias|boot|backend|filterref|virtualport|guest)',
        r'devices/interface/(coalesce|rom|teaming)', r'devices/[a-z]+/alias'),
    'who made it, and what it is called': (
        'metadata', 'title', 'description', 'genid', 'currentMemory', r'domain@.*'),
    'where a device is on its bus': (
        r'devices/([a-z]+/)?(address|acpi)', r'devices/controller(@.*|/.*)?',
        r"devices/controller\[@type='[a-z-]+'\]", r'devices/(disk|channel)/(target@.*|address)'),
    'how the site connects an interface': (
        r'devices/interface(@type|@trustGuestRxFilters)',
        r'devices/interface/(mac|source|port|target|ip|route|portForward|link)'),
    'what every node has, or reaches its guest from the viewer': (
        r'devices/(audio|sound|input|hub|memballoon|rng|redirdev|redirfilter|smartcard)',
        r'devices/(console|serial|parallel|nvram)',
        r'devices/graphics(@.*|/.*)?', r"devices/graphics\[@type='[a-z-]+'\]",
        r'devices/video(/.*|@.*)?', r"devices/channel\[@type='(spicevmc|spiceport|qemu-vdagent)'\]",
        r'devices/channel/(source|address)'),
    'the CPU of the host, and its features': (
        'cpu', r'features/.*', 'clock/timer', r'clock@(basis|adjustment|timezone|start)'),
    'drives without a medium': (r"devices/disk\[@device='(cdrom|floppy)'\]",),
    'a watchdog that the machine has': ('devices/watchdog',),
}
"""Paths that are dropped without a warning, by reason: a guest does as well without them."""

PATTERN = re.compile('|'.join(f'(?:{path})' for paths in HARMLESS.values() for path in paths))


@pytest.fixture(scope='module')
def domains():
    archive = published.archive()
    if archive is None:
        do_without('apt does not give the source of libvirt')
    return list(published.domains(archive))


def outcome(author):
    """A Failure for a domain that is refused, otherwise None. Only the first disk is looked at."""
    there = vcin.disks(author)
    for disk in there[1:]:
        disk.getparent().remove(disk)
    try:
        refusal.refuse(author, 'frontend')
        hardware.memory(author)
        hardware.cpus(author)
        libvirt_schema.check(permit.permitted(author))
    except Failure as failure:
        return failure
    return None


def test_each_is_refused_in_one_line_or_carried_over(domains):
    counts = Counter()
    for name, author in domains:
        failure = outcome(author)
        counts['refused' if failure else 'carried over'] += 1
        if failure:
            assert re.match(r'line \d+: \S', str(failure)) and '\n' not in str(failure), name
            continue
        warned = {re.search('<([A-Za-z]+)', message)[1]
                  for message in (*difference.found(author, 'frontend'),
                                  *(one.text for one in libvirt_schema.unknown(author)))}
        lost = [path for path in permit.dropped(author) if not PATTERN.fullmatch(path)
                and not warned & set(re.findall('[A-Za-z]+', path))]
        assert not lost, (name, lost)
    print(counts)
    assert counts['carried over'] > 100 and sum(counts.values()) > 1000
