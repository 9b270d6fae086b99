"""Child processes: run to their end with their status checked, or kept and ended."""
import contextlib
import os

from .failure import Failure, cause


def run(argv, subject, input=None, env=None, cwd=None, statuses=(0,)):
    """Run ``argv`` to its end and return the CompletedProcess, output as bytes.

    ``subject`` begins the message of the Failure that a status outside ``statuses`` (None: any
    will do), or a program that is not there, raises: ``cannot probe 'disk.img'``.
    """
    import subprocess
    try:
        done = subprocess.run(argv, capture_output=True, env=env, cwd=cwd, check=False,
                              **({'input': input} if input is not None else {'stdin': subprocess.DEVNULL}))
    except OSError as error:
        raise Failure(f"{subject}: cannot run '{argv[0]}': {cause(error)}") from None
    if statuses is not None and done.returncode not in statuses:
        raise Failure(f'{subject}: {last_line(done)}')
    return done


def last_line(done):
    """What a finished process said of its failure: its last line on stderr, else its status."""
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
def kept(argv, subject):
    """A child that lives as long as the block, and dies with us whatever kills us.

    Ended with SIGTERM and waited for; raises Failure where it does not end with status 0.
    """
    import subprocess
    child = subprocess.Popen(bound(argv), stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                             stderr=subprocess.PIPE)
    try:
        yield child
    finally:
        child.terminate()
        stderr = child.communicate()[1]
    if child.returncode != 0:
        done = subprocess.CompletedProcess(argv, child.returncode, b'', stderr)
        raise Failure(f'{subject}: {last_line(done)}')
