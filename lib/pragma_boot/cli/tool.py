"""What every tool shares: options, exit statuses, and what is printed for a failure."""
from __future__ import annotations

import gc
import os
import re
import sys
from collections.abc import Callable, Sequence
from typing import Any, BinaryIO, NoReturn

from .. import VERSION
from ..system import environment, interruption, log, streams
from ..system.failure import FAILED, INTERRUPTED, Failure, Said, Usage, cause

Main = Callable[[Sequence[str], BinaryIO | None, BinaryIO | None], int]
"""A tool: takes its arguments, standard input and standard output, returns its exit status."""


def options(doc: str | None, argv: Sequence[str], first: bool = False) -> dict[str, Any]:
    """The options and arguments in ``argv`` by the docopt text ``doc``.

    With ``first``, options end at the first argument: what follows is another program's. Prints
    and exits for --help and --version. Raises Usage, which docopt 0.6.2 does not: it exits with
    status 1, does not name the tool, and takes abbreviated options and empty values.
    """
    doc = doc or ''    # an optimized Python drops docstrings
    import warnings
    try:
        with warnings.catch_warnings():
            # Python 3.12 and later warn of escape sequences in docopt when they compile it.
            warnings.simplefilter('ignore', SyntaxWarning)
            import docopt
    except ImportError:
        raise Failure("python module 'docopt' is not installed: run 'make setup'") from None
    known = set(re.findall(r'--[A-Za-z][A-Za-z_-]*', doc))
    ours = _before_arguments(doc, argv) if first else argv
    for word in ours:
        if word == '--':
            break
        long = word.split('=', 1)[0]
        if long.startswith('--') and long not in known:
            raise Usage(f"unknown option '{long}': try '{log.name} --help'")
    if '-h' in ours or '--help' in ours:
        _print(doc.strip())
    if '--version' in ours:
        _print(f'{log.name} {VERSION}')
    try:
        found = docopt.docopt(doc, argv, help=False, options_first=first)
    except docopt.DocoptExit as error:
        reason = str(error).split('\n')[0]
        reason = '' if reason.lower().startswith('usage') else f': {reason}'
        raise Usage(f"wrong usage{reason}: try '{log.name} --help'") from None
    for option, value in found.items():
        # A script whose variable is not set; no option has a meaning for it.
        if option.startswith('-') and (value == '' or (isinstance(value, list) and '' in value)):
            raise Usage(f'{option} must not be empty')
    log.verbose = bool(found.get('--verbose') or os.environ.get('PRAGMA_VERBOSE'))
    if log.verbose:
        # For the tools that pragma_boot's driver calls.
        os.environ['PRAGMA_VERBOSE'] = '1'
    return found


def _print(text: str) -> NoReturn:
    """Write text on standard output, and exit; raises Failure where it cannot be written."""
    streams.write(sys.stdout.buffer if sys.stdout else None, f'{text}\n'.encode())
    raise SystemExit(0)


def _before_arguments(doc: str, argv: Sequence[str]) -> Sequence[str]:
    """The words of ``argv`` before the first that is neither an option nor an option's value."""
    valued = set(re.findall(r'(--?[A-Za-z][A-Za-z_-]*) [A-Z]', doc))
    for index, word in enumerate(argv):
        if not word.startswith('-') and (index == 0 or argv[index - 1] not in valued):
            return argv[:index]
    return argv


def _trace() -> None:
    """Print the traceback of the exception that is being handled, with -v only."""
    if log.verbose:
        import traceback
        traceback.print_exc()


def run(main: Main) -> NoReturn:
    """Call ``main(argv, stdin, stdout)``, and end the process with the exit status that it returns.

    SIGTERM and SIGHUP end a tool as Ctrl-C does: every context manager cleans up, the status is
    130.
    """
    # A collection of cycles costs a millisecond while modules are imported, and finds nothing.
    gc.set_threshold(10_000)
    try:
        interruption.prepare()
        environment.prepare()
        status = _status(main)
    except KeyboardInterrupt:
        log.warn('interrupted')
        status = INTERRUPTED
    finally:
        # A signal that arrives while Python exits does not change the status any more.
        interruption.ignore()
    if sys.getprofile() or sys.gettrace():
        sys.exit(status)
    # All output is written (streams, log). To free each object takes Python 4 ms; the kernel frees
    # the memory of the process at once.
    os._exit(status)


def _status(main: Main) -> int:
    """The exit status of ``main``; its failure is printed on stderr."""
    stdout = sys.stdout.buffer if sys.stdout else None
    try:
        status = main(sys.argv[1:], sys.stdin.buffer if sys.stdin else None, stdout)
        if stdout:
            # The process ends without a flush by Python.
            streams.write(stdout, b'')
        return status
    except Failure as error:
        _trace()
        if not isinstance(error, Said):
            log.warn(error)
        return error.status
    except OSError as error:
        _trace()
        subject = f" '{error.filename}'" if error.filename else ''
        log.warn(f'cannot use{subject}: {cause(error)}')
        return FAILED
    except MemoryError:
        _trace()
        log.warn('not enough memory: raise the limit of this shell (ulimit), or free some')
        return FAILED
    except UnicodeEncodeError as error:
        _trace()
        # Python decodes a path's bytes that are not UTF-8 to surrogates, which no document holds.
        log.warn(f"'{error.object}' is not UTF-8: give the file or folder another name")
        return FAILED
    except Exception as error:    # noqa: BLE001 - a bug: one line for the user, -v for us
        _trace()
        log.warn(f'internal error: {type(error).__name__}: {error} (-v shows where)')
        return FAILED
