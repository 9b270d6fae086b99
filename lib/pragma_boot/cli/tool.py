"""What every command shares: options, streams, diagnostics and exit statuses."""
import os
import re
import signal
import sys

from .. import VERSION
from ..system import log
from ..system.failure import FAILED, INTERRUPTED, Failure, Said, Usage, cause


def options(doc, argv, first=False):
    """The options and arguments of ``argv`` by the docopt text ``doc``.

    With ``first`` options end where arguments begin: what follows is another program's. Prints
    and leaves for --help and --version. docopt 0.6.2 exits 1 on bad usage, does not name the tool
    and takes abbreviated options; here they are Usage, status 2.
    """
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
        print(doc.strip())
        raise SystemExit(0)
    if '--version' in ours:
        print(f'{log.name} {VERSION}')
        raise SystemExit(0)
    try:
        found = docopt.docopt(doc, argv, help=False, options_first=first)
    except docopt.DocoptExit as error:
        reason = str(error).split('\n')[0]
        reason = '' if reason.lower().startswith('usage') else f': {reason}'
        raise Usage(f"wrong usage{reason}: try '{log.name} --help'") from None
    log.verbose = bool(found.get('--verbose') or os.environ.get('PRAGMA_VERBOSE'))
    if log.verbose:
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


def _trace():
    """The traceback of what is being handled, under -v only."""
    if log.verbose:
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
            log.warn(error)
        return error.status
    except KeyboardInterrupt:
        log.warn('interrupted')
        return INTERRUPTED
    except OSError as error:
        _trace()
        subject = f" '{error.filename}'" if error.filename else ''
        log.warn(f'cannot use{subject}: {cause(error)}')
        return FAILED
    except Exception as error:
        _trace()
        log.warn(f'internal error: {type(error).__name__}: {error} (-v shows where)')
        return FAILED
