"""A libvirt session for root: qemu:///session, run as an unprivileged user.

libvirt starts a session daemon for every user but root, whom it sends to the system daemon. In a
container the system daemon may not run, or may lack the capabilities to start a guest. Therefore
root's session is a session daemon of another user. It starts when it is needed and exits when it is
idle. Its QEMU processes have no privilege.
"""
import contextlib
import os
import pwd
import struct

from .. import ROOT
from ..system.failure import Failure
from ..system.lock import exclusive

URI = 'qemu:///session'
HOME = '/var/lib/pragma_boot/libvirt'
RUNTIME = '/run/pragma_boot'
"""Short paths: monitor sockets lie below HOME, and a socket's path has 107 bytes (unix(7))."""

SOCKET_BYTES = 107

PASST = os.path.join(ROOT, 'lib', 'passt')
"""The folder of a program passt that keeps guests from this machine's loopback interface."""

IDLE_SECONDS = 120
"""The time-out of the session daemons that libvirt starts itself."""


def account(user: str) -> pwd.struct_passwd:
    """The passwd entry of the session's user; raises Failure where there is none."""
    try:
        return pwd.getpwnam(user)
    except KeyError:
        raise Failure(f"no user '{user}' on this machine: run 'make setup', or set session_user "
                      'in site_conf.conf') from None


def connection(uri: str, user: str) -> str:
    """The URI to connect to for ``uri``. Starts the daemon of root's session where it does not run.

    Raises Failure.
    """
    if uri != URI or os.geteuid() != 0:
        return uri
    path = os.path.join(RUNTIME, 'libvirt', 'libvirt-sock')
    if not _answers(path):
        os.makedirs(RUNTIME, exist_ok=True)
        with exclusive(os.path.join(RUNTIME, '.lock')):
            if not _answers(path):
                _start(account(user))
    return f'qemu+unix:///session?socket={path}'


def runs_our_passt(uri: str) -> bool:
    """Whether the daemon of root's session runs, for passt, the program in PASST.

    Not one that another version started, nor one that AppArmor keeps from programs of ours.
    """
    if uri != URI or os.geteuid() != 0 or not os.access('/usr/bin/passt', os.X_OK):
        return False
    import socket
    with contextlib.closing(socket.socket(socket.AF_UNIX)) as peer, contextlib.suppress(OSError):
        peer.connect(os.path.join(RUNTIME, 'libvirt', 'libvirt-sock'))
        daemon, = struct.unpack('i8x', peer.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
        with open(f'/proc/{daemon}/environ', 'rb') as file:
            ours = os.fsencode(f'PATH={PASST}:') in file.read()
        return ours and not _is_confined(daemon)
    return False


def _is_confined(process: int) -> bool:
    """Whether AppArmor enforces a profile on a process."""
    with contextlib.suppress(OSError), open(f'/proc/{process}/attr/current', 'rb') as file:
        return b'(enforce)' in file.read()
    return False


def require_room(uri: str, domain: str) -> None:
    """Raise Failure where the socket of a domain's monitor would have too long a path.

    A user's session daemon has it below the user's configuration folder.
    """
    if uri != URI or os.geteuid() == 0:
        return
    folder = os.environ.get('XDG_CONFIG_HOME') or os.path.join(os.path.expanduser('~'), '.config')
    path = f'{folder}/libvirt/qemu/lib/domain-1-{domain[:20]}/monitor.sock'
    size = len(os.fsencode(path))
    if size > SOCKET_BYTES:
        raise Failure(f"the socket '{path}' of domain '{domain}' has a path of {size} bytes, and "
                      f'the kernel takes {SOCKET_BYTES}: set XDG_CONFIG_HOME to a folder with a '
                      'shorter path')


def agent_socket(uuid: str) -> str:
    """The path of the socket of a domain's guest agent.

    The path that libvirt chooses, below HOME, is too long for a socket.
    """
    folder = RUNTIME if os.geteuid() == 0 else os.environ.get('XDG_RUNTIME_DIR')
    folder = folder or os.path.expanduser('~/.cache')
    return os.path.join(folder, 'libvirt', f'agent-{uuid[-12:]}')


def _answers(path: str) -> bool:
    import socket
    with contextlib.closing(socket.socket(socket.AF_UNIX)) as probe:
        try:
            probe.connect(path)
        except OSError:
            return False
    return True


def _start(user: pwd.struct_passwd) -> None:
    for folder in (HOME, RUNTIME):
        os.makedirs(folder, exist_ok=True)
        os.chown(folder, user.pw_uid, user.pw_gid)
        os.chmod(folder, 0o700)
    environment = {'PATH': f'{PASST}:/usr/sbin:/usr/bin:/sbin:/bin', 'HOME': HOME,
                   'LANG': 'C.UTF-8', 'XDG_RUNTIME_DIR': RUNTIME, 'USER': user.pw_name,
                   'LOGNAME': user.pw_name}
    import subprocess
    # The daemon gets streams of its own: with our pipe open, our caller would wait for it.
    done = subprocess.run(
        ['setpriv', f'--reuid={user.pw_uid}', f'--regid={user.pw_gid}', '--init-groups',
         'libvirtd', '--daemon', '--timeout', str(IDLE_SECONDS)],
        env=environment, cwd='/', stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL, check=False)
    if done.returncode:
        raise Failure(f"cannot start libvirtd as user '{user.pw_name}': it ended with status "
                      f'{done.returncode}; {HOME}/.cache/libvirt/libvirtd.log may say more')
