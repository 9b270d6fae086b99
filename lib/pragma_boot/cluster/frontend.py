"""How a frontend is reached: by its public address, or by a port of its host that leads to its sshd."""
import contextlib

from ..document.tree import SSH, interface

CONNECT_SECONDS = 5


def destination(node, host):
    """The words for ssh that lead to a frontend on a Host, None where it has no public address."""
    card = interface(node, 'public')
    if card is None:
        return None
    if not card.get('port'):
        return [f"root@{card.get('ip')}"]
    jump = ['-J', host.server] if host.server else []
    return [*jump, '-p', card.get('port'), 'root@127.0.0.1']


def login(node, host):
    """The command that logs in to a frontend on a Host, '-' where it has no public address."""
    words = destination(node, host)
    return ' '.join(['ssh', *words]) if words else '-'


def reachable(node, host, port):
    """Whether a port of the frontend can be asked for from this machine at all."""
    card = interface(node, 'public')
    if card is None:
        return False
    return not card.get('port') or (port == SSH and not host.server)


def answers(node, port):
    """Whether a server answers on a port of the frontend, which is ``reachable``, now.

    QEMU's user mode takes a connection before anybody in the guest does: there the server's
    greeting is waited for (RFC 4253, section 4.2: sshd speaks first).
    """
    import socket
    card = interface(node, 'public')
    forwarded = card.get('port')
    address = ('127.0.0.1', int(forwarded)) if forwarded else (card.get('ip'), port)
    with contextlib.suppress(OSError), \
            socket.create_connection(address, CONNECT_SECONDS) as connection:
        return not forwarded or bool(connection.recv(1))
    return False
