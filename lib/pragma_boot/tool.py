"""What every command shares: options, streams, diagnostics and exit statuses."""
import os
import re
import signal
import sys

from . import VERSION
from .failure import FAILED, INTERRUPTED, Failure, Said, Usage, cause

name = os.environ.get('PRAGMA_TOOL') or os.path.basename(sys.argv[0])
"""The tool's name as its diagnostics begin; stage-image speaks in the name of vc-stage."""

verbose = False

wipe = ''
"""What clears the line of progress on stderr, where there is one."""


def warn(message):
    """One line on stderr in the tool's name.

    What a terminal would act on instead of showing it, an author's perhaps, is written as Python would.
    """
    line = ''.join(one if one.isprintable() else one.encode('unicode_escape').decode()
                   for one in ' '.join(str(message).split('\n')))
    print(f'{wipe}{name}: {line}', file=sys.stderr, flush=True)


def detail(message):
    """One line on stderr, under -v only."""
    if verbose:
        warn(message)


def options(doc, argv, first=False):
    """The options and arguments of ``argv`` by the docopt text ``doc``.

    With ``first`` options end where arguments begin: what follows is another program's. Prints
    and leaves for --help and --version. docopt 0.6.2 exits 1 on bad usage, does not name the tool
    and takes abbreviated options; here they are Usage, status 2.
    """
    global verbose
    try:
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
            raise Usage(f"unknown option '{long}': try '{name} --help'")
    if '-h' in ours or '--help' in ours:
        print(doc.strip())
        raise SystemExit(0)
    if '--version' in ours:
        print(f'{name} {VERSION}')
        raise SystemExit(0)
    try:
        found = docopt.docopt(doc, argv, help=False, options_first=first)
    except docopt.DocoptExit as error:
        reason = str(error).split('\n')[0]
        reason = '' if reason.lower().startswith('usage') else f': {reason}'
        raise Usage(f"wrong usage{reason}: try '{name} --help'") from None
    verbose = bool(found.get('--verbose') or os.environ.get('PRAGMA_VERBOSE'))
    if verbose:
        # What pragma_boot calls says more, too.
        os.environ['PRAGMA_VERBOSE'] = '1'
    return found


def _before_arguments(doc, argv):
    """The words of ``argv`` before the first that is neither an option nor the value of one."""
    valued = set(re.findall(r'(--?[A-Za-z][A-Za-z_-]*) [A-Z]', doc))
    for index, word in enumerate(argv):
        if not word.startswith('-') and (index == 0 or argv[index - 1] not in valued):
            return argv[:index]
    return argv


def number(text, what, most):
    """A whole number of ``what`` from 0 to ``most``, written in plain digits; raises Usage."""
    if not re.fullmatch('[0-9]{1,9}', text or '') or int(text) > most:
        raise Usage(f"{what} must be a whole number from 0 to {most}, not '{text}'")
    return int(text)


def write(stdout, data):
    """Write ``data`` (bytes) whole; raises Failure where the output is closed or full."""
    if stdout is None:
        raise Failure('standard output is closed')
    try:
        stdout.write(data)
        stdout.flush()
    except OSError as error:
        # The interpreter would try the buffered rest again at exit, and complain again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        raise Failure(f'cannot write standard output: {cause(error)}') from None


def _trace():
    """The traceback of what is being handled, under -v only."""
    if verbose:
        import traceback
        traceback.print_exc()


def run(main):
    """Call ``main(argv, stdin, stdout)`` and return the process's exit status.

    SIGTERM ends a tool as Ctrl-C does: every context manager cleans up, status 130.
    """
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        return _status(main)
    finally:
        # What is done is done: a signal that comes while Python ends changes no status.
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, signal.SIG_IGN)


def _status(main):
    """The exit status of ``main``, whose failure is told on stderr."""
    try:
        return main(sys.argv[1:], sys.stdin and sys.stdin.buffer, sys.stdout and sys.stdout.buffer)
    except Failure as error:
        _trace()
        if not isinstance(error, Said):
            warn(error)
        return error.status
    except KeyboardInterrupt:
        warn('interrupted')
        return INTERRUPTED
    except OSError as error:
        _trace()
        subject = f" '{error.filename}'" if error.filename else ''
        warn(f'cannot use{subject}: {cause(error)}')
        return FAILED
    except Exception as error:
        _trace()
        warn(f'internal error: {type(error).__name__}: {error} (-v shows where)')
        return FAILED
