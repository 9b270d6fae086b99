"""What a node of an HPC cluster needs of its document, vc-out.xml. Pure.

pragma-guest has checked names and addresses before it runs us.
"""
import ipaddress
import re
from collections import namedtuple
from xml.etree import ElementTree

USER = re.compile("[a-z_][a-z0-9_-]{0,31}")         # what useradd takes
DEFAULT_USER = "user"

# a compute node as the frontend knows it; memory is in KiB, 0 if the document does not say
Peer = namedtuple("Peer", "name ip cpus memory")

# name is this node's, address its IPv4Interface on the private network; user is the ordinary user.
# Of the frontend alone: peers are the compute nodes, keys the lines of authorized_keys.
Node = namedtuple("Node", "frontend name address peers user keys cpus memory")


class HpcError(Exception):
    """The reason, in one line, why this node cannot be set up."""


def parse(data):
    """Return the Node of a document, given as bytes. Raises HpcError."""
    try:
        root = ElementTree.fromstring(data)
    except ElementTree.ParseError as error:
        raise HpcError(f"the document is not well-formed: {error}") from None
    frontend = root.find("compute/private") is None
    role = root.find("frontend" if frontend else "compute")
    private = None if role is None else role.find("private")
    if private is None:
        raise HpcError("the document has no private interface of this node")
    user = root.find("user")
    named = role.find("public" if frontend else "private")
    return Node(
        frontend, role.get("name") or short(named.get("fqdn")),
        ipaddress.IPv4Interface(f"{private.get('ip')}/{private.get('netmask')}"),
        [Peer(node.get("name"), node.get("ip"), *size(node))
         for node in root.findall("compute/node")],
        checked_user(DEFAULT_USER if user is None else user.get("name")),
        [line for key in root.findall("key") for line in key_lines(key.text or "")],
        *size(role))


def read(path):
    """Return the Node of the document at a path. Raises HpcError."""
    try:
        with open(path, "rb") as file:
            return parse(file.read())
    except OSError as error:
        raise HpcError(f"cannot open '{path}': {error.strerror}") from None


def size(element):
    """Return the CPUs and the memory in KiB of an element, 0 for what it does not say."""
    return int(element.get("cpus") or 0), int(element.get("memory") or 0)


def checked_user(name):
    """Return the name of an ordinary user; whether it is the system's is not known here."""
    if not name or not USER.fullmatch(name) or name == "root":
        raise HpcError(f"{name!r} is not the name of an ordinary user")
    return name


def key_lines(text):
    """Return the user's keys: those that run a command of their own are not for a user's login."""
    lines = (line.strip() for line in text.splitlines())
    return [line for line in lines if line and not line.startswith("#") and "command=" not in line]


def short(fqdn):
    return (fqdn or "").split(".")[0]
