"""Child processes: run to their end with their status checked, or kept and ended."""
import contextlib
import os

from .failure import Failure, cause


def run(argv, subject, input=None, env=None, statuses=(0,), wrap=(), descriptors=()):
    """Run ``argv`` to its end and return the CompletedProcess, output as bytes.

    ``subject`` begins the message of the Failure that a status outside ``statuses`` (None: any
    will do), or a program that is not there, raises: ``cannot probe 'disk.img'``. ``wrap`` is a
    command that runs ``argv``, ``descriptors`` what it inherits.
    """
    import subprocess
    try:
        done = subprocess.run([*wrap, *argv], capture_output=True, env=env, check=False, pass_fds=descriptors,
                              **({'input': input} if input is not None else {'stdin': subprocess.DEVNULL}))
    except OSError as error:
        raise Failure(f"{subject}: cannot run '{argv[0]}': {cause(error)}") from None
    done.args = argv
    if statuses is not None and done.returncode not in statuses:
        raise Failure(f'{subject}: {last_line(done)}')
    return done


def last_line(done):
    """What a finished process said of its failure: its last line on stderr, else its status."""
    if done.returncode < 0:
        import signal
        return f'{done.args[0]} was ended: {signal.strsignal(-done.returncode)}'
    lines = done.stderr.decode(errors='replace').strip().splitlines()
    return lines[-1] if lines else f'{done.args[0]} ended with status {done.returncode}'


def bound(argv):
    """``argv`` as a child of ours that gets SIGTERM when we die, whatever kills us.

    setpriv(1) sets the parent-death signal, which survives an exec. A parent that died before it
    was set sends none, so that the shell looks who the parent is, after it.
    """
    return ['setpriv', '--pdeathsig', 'TERM', '--',
            'sh', '-c', '[ "$PPID" = "$0" ] && exec "$@"', str(os.getpid()), *argv]


@contextlib.contextmanager
def kept(argv, subject, wrap=(), descriptors=(), folder=None):
    """A child that lives as long as the block, and dies with us whatever kills us.

    ``wrap`` and ``descriptors`` as of ``run``; it works in ``folder``. Ended with SIGTERM and waited for; raises Failure where it does not end with status 0.
    """
    import subprocess
    child = subprocess.Popen([*wrap, *bound(argv)], pass_fds=descriptors, cwd=folder, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                             stderr=subprocess.PIPE)
    try:
        yield child
    finally:
        child.terminate()
        stderr = child.communicate()[1]
    if child.returncode != 0:
        done = subprocess.CompletedProcess(argv, child.returncode, b'', stderr)
        raise Failure(f'{subject}: {last_line(done)}')
