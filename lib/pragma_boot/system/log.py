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
    write(f'{wipe}{name}: {line}\n')


def write(text: str) -> None:
    """Write text on standard error, if it can still be written to.

    A lost terminal neither keeps us from cleaning up nor changes the exit status.
    """
    if sys.stderr is None:
        return
    try:
        sys.stderr.write(text)
        sys.stderr.flush()
    except OSError:
        sys.stderr = open(os.devnull, 'w', encoding='utf-8')    # noqa: SIM115 - to the end


def detail(message: object) -> None:
    """Write one line on standard error, with -v only."""
    if verbose:
        warn(message)
