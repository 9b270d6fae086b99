"""How a frontend is reached: by its public address, or by a port of its host."""
import contextlib

from lxml import etree

from ..document import attachment
from ..document.tree import SSH, interface
from ..engine.protocol import Engine

CONNECT_SECONDS = 5


def _public(node: etree._Element) -> tuple[str, int | None] | None:
    """The frontend's public address, and the port of its host that leads to its sshd.

    None where it has no public address.
    """
    public = interface(node, 'public')
    if public is None or not public.get('ip'):
        return None
    return public.get('ip'), attachment.of(public).port


def destination(node: etree._Element, engine: Engine) -> list[str] | None:
    """The arguments of ssh that lead to a frontend, None where it has no public address."""
    public = _public(node)
    if public is None:
        return None
    address, port = public
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
    public = _public(node)
    return public is not None and (not public[1] or (port == SSH and not engine.server))


def answers(node: etree._Element, port: int, seconds: float = CONNECT_SECONDS) -> bool:
    """Whether a server answers on ``port`` of a ``reachable`` frontend now, in at most ``seconds``.

    QEMU's user mode accepts a connection before the guest does. There the server's greeting is
    awaited: sshd sends its own first (RFC 4253, section 4.2).
    """
    import socket
    address, forwarded = _public(node) or ('', None)
    target = ('127.0.0.1', forwarded) if forwarded else (address, port)
    with contextlib.suppress(OSError), \
            socket.create_connection(target, max(0.1, min(seconds, CONNECT_SECONDS))) as connection:
        return not forwarded or bool(connection.recv(1))
    return False
