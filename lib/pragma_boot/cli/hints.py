"""The commands that a person at a terminal may want to run next."""
import os
import shlex
import sys


def after_boot(name: str, consoles: bool, key: str, site_conf: str | None) -> bytes:
    """An empty line, and commands for the cluster ``name``, a line each, as they can be typed.

    ``consoles`` is whether vc-console can show its nodes. ``key`` and ``site_conf`` are the paths
    that the user gave; the private key is named where it lies beside the public one.
    """
    folder = os.path.dirname(sys.argv[0])
    on_path = folder in os.environ.get('PATH', '').split(os.pathsep)
    private = key.removesuffix('.pub')
    login = ['-i', private] if private != key and os.path.exists(private) else []
    site = ['--site-conf', site_conf] if site_conf else []
    lines = []
    for what, tool, options in (('Log in', 'vc-ssh', login), ('Watch', 'vc-console', []),
                                ('Remove', 'vc-clean', [])):
        if tool == 'vc-console' and not consoles:
            continue
        words = [tool if on_path else os.path.join(folder, tool), *options, *site, name]
        lines.append(f"{what + ':':9}{shlex.join(words)}\n")
    return ''.join(['\n', *lines]).encode()
