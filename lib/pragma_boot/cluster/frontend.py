"""How a frontend is reached: by its public address, or by a port of its host."""
import contextlib

from lxml import etree

from ..document import attachment
from ..document.tree import SSH, interface
from ..engine.protocol import Engine

CONNECT_SECONDS = 5


def public(node: etree._Element) -> tuple[str, int | None] | None:
    """The frontend's public address, and the port of its host that leads to its sshd.

    None where it has no public address.
    """
    card = interface(node, 'public')
    if card is None or not card.get('ip'):
        return None
    return card.get('ip'), attachment.of(card).port


def destination(node: etree._Element, engine: Engine) -> list[str] | None:
    """The arguments of ssh that lead to a frontend, None where it has no public address."""
    found = public(node)
    if found is None:
        return None
    address, port = found
    if not port:
        return [f'root@{address}']
    jump = ['-J', engine.server] if engine.server else []
    return [*jump, '-p', str(port), 'root@127.0.0.1']


def login(node: etree._Element, engine: Engine) -> str:
    """The command that logs in to a frontend, '-' where it has no public address."""
    words = destination(node, engine)
    return ' '.join(['ssh', *words]) if words else '-'


def reachable(node: etree._Element, engine: Engine, port: int) -> bool:
    """Whether this machine can connect to ``port`` of the frontend at all."""
    found = public(node)
    return found is not None and (not found[1] or (port == SSH and not engine.server))


def answers(node: etree._Element, port: int, seconds: float = CONNECT_SECONDS) -> bool:
    """Whether a server answers on ``port`` of a ``reachable`` frontend now, in at most ``seconds``.

    QEMU's user mode accepts a connection before the guest does. There the server's greeting is
    awaited: sshd sends its own first (RFC 4253, section 4.2).
    """
    import socket
    address, forwarded = public(node) or ('', None)
    target = ('127.0.0.1', forwarded) if forwarded else (address, port)
    with contextlib.suppress(OSError), \
            socket.create_connection(target, max(0.1, min(seconds, CONNECT_SECONDS))) as connection:
        return not forwarded or bool(connection.recv(1))
    return False
