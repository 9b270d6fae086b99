"""What still runs or is mounted for a site."""
import contextlib
import os
import time
from pathlib import Path


def processes(site):
    """The processes of a site, a line each: its folder is in the command line or the environment.

    Confined programs have no path in their command line, but all inherit the environment.
    """
    found, folder = [], os.fsencode(site.folder)
    for path in Path('/proc').glob('[0-9]*'):
        with contextlib.suppress(OSError):
            words = (path / 'cmdline').read_bytes()
            if folder in words or folder in (path / 'environ').read_bytes():
                command = words.replace(bytes(1), b' ').decode(errors='replace')
                found.append(f'{path.name} {command}')
    return found


def mounts(site):
    with open('/proc/mounts', encoding='utf-8') as file:
        return [line for line in file if str(site.folder) in line]


def settled(site):
    """Wait for children that end with their parent to be gone; whether all are gone."""
    # A driver that gets a signal waits for the tool that it runs.
    for _ in range(1200):
        if not [line for line in processes(site) if 'qemu-system' not in line]:
            return True
        time.sleep(0.05)
    return False
