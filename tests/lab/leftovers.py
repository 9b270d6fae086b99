"""What a site has left running or mounted."""
import contextlib
import os
import time
from pathlib import Path


def processes(site):
    """What runs for a site, a line each: confined programs have no path of its in their words, but all inherit it."""
    found, folder = [], os.fsencode(site.folder)
    for path in Path('/proc').glob('[0-9]*'):
        with contextlib.suppress(OSError):
            words = (path / 'cmdline').read_bytes()
            if folder in words or folder in (path / 'environ').read_bytes():
                found.append(f"{path.name} {words.replace(bytes(1), b' ').decode(errors='replace')}")
    return found


def mounts(site):
    with open('/proc/mounts', encoding='utf-8') as file:
        return [line for line in file if str(site.folder) in line]


def settled(site):
    """Wait for children that end with their parent to be gone; whether all are."""
    # A driver that was killed first brings the tool to its end that it waits for.
    for _ in range(1200):
        if not [line for line in processes(site) if 'qemu-system' not in line]:
            return True
        time.sleep(0.05)
    return False
