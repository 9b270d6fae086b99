"""Diagnostics on standard error: one line each, in the tool's name."""
import os
import sys

name = os.environ.get('PRAGMA_TOOL') or os.path.basename(sys.argv[0])
"""The tool's name at the start of each line; stage-image uses the name of vc-stage."""

verbose = False
"""Whether ``detail`` and tracebacks are shown: option -v."""

wipe = ''
"""What clears the progress line from standard error before a message is written."""


def warn(message: object) -> None:
    """Write one line on standard error.

    Control characters, which may come from an image's author, are escaped as Python escapes them.
    """
    line = ''.join(one if one.isprintable() else one.encode('unicode_escape').decode()
                   for one in ' '.join(str(message).split('\n')))
    print(f'{wipe}{name}: {line}', file=sys.stderr, flush=True)


def detail(message: object) -> None:
    """Write one line on standard error, with -v only."""
    if verbose:
        warn(message)
