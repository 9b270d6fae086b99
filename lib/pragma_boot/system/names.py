"""Names and numbers as users write them: one pattern each.

The patterns are texts. re compiles each at its first use, and a filter uses few of them.
"""
import re

from .failure import Failure, Usage

LABEL = '[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?'
PATTERN = rf'(?=.{{1,253}}\Z){LABEL}(\.{LABEL})*'
"""Names of clusters, nodes, domains and database entries: labels of at most 63 characters with dots
between them, at most 253 characters in all (RFC 1123, 2.1).

The guest part has the same rule, and so has the schema of documents. Such a name is also safe in a
path and in a shell.
"""

OF_NODES = r'(?ai)(compute-[0-9]+|localhost)(\..*)?'
"""Names that no frontend can have: its short name would be another node's in /etc/hosts."""


def is_name(text: str) -> bool:
    """Whether a text matches PATTERN."""
    return bool(re.fullmatch(PATTERN, text))


def is_of_nodes(name: str) -> bool:
    """Whether a name is one of OF_NODES."""
    return bool(re.fullmatch(OF_NODES, name))


def checked(name: str, what: str) -> str:
    """``name`` itself, which is the name of ``what``; raises Failure unless it matches PATTERN."""
    if not is_name(name):
        raise Failure(f"{what} {name!r} is not a name: letters, digits, '-' and '.', with a letter "
                      "or digit at both ends and on both sides of each '.', at most 63 characters "
                      "from '.' to '.' and 253 in all")
    return name


def checked_cluster(name: str, what: str) -> str:
    """``name`` itself, a new cluster's; raises Failure for what no cluster can be called."""
    if is_of_nodes(checked(name, what)):
        raise Failure(f"{what} {name!r} cannot be the name of a cluster: its frontend would be "
                      f"called '{name.split('.')[0]}', which is reserved")
    return name


USER = '[a-z_][a-z0-9_-]{0,31}'
"""Names that useradd(8) takes. The guest part of HPC images has the same rule."""

_SYSTEM_USERS = """
    root daemon bin sys sync games man lp mail news uucp proxy www-data backup list irc gnats nobody
    messagebus sshd munge slurm chrony statd polkitd uuidd tcpdump tss ntp dbus rpc rpcuser ftp halt
    shutdown operator adm tty disk kmem dialout fax voice cdrom floppy tape sudo wheel audio dip src
    shadow utmp video sasl plugdev staff users nogroup input sgx kvm render crontab ssh mem lock
    """

SYSTEM_USERS = frozenset(_SYSTEM_USERS.split())
"""Accounts and groups that Debian and its relatives have without an ordinary user."""


def is_user(name: str) -> bool:
    """Whether an ordinary user of a cluster can have this name."""
    return bool(re.fullmatch(USER, name)) and name not in SYSTEM_USERS and (
        not name.startswith(('_', 'systemd-')))


def checked_user(name: str, what: str) -> str:
    """``name`` itself, which an ordinary user can have; raises Usage."""
    if not re.fullmatch(USER, name):
        raise Usage(f"{what} must be the name of a user: at most 32 small letters, digits, '-' and "
                    f"'_', of which the first is a letter or '_', not '{name}'")
    if not is_user(name):
        raise Usage(f"{what} '{name}' is an account of the system: name an ordinary user")
    return name


UNITS = {'': 1, 'K': 1 << 10, 'M': 1 << 20, 'G': 1 << 30, 'T': 1 << 40}


def cpus(count: int) -> str:
    """A number of CPUs in words: '1 CPU' or '4 CPUs'."""
    return f"{count} CPU{'s' * (count != 1)}"


MOST_SECONDS = 999_999
"""The longest --timeout."""


def byte_count(text: str) -> int | None:
    """The bytes of a size such as 512M or 20G, None where it is none."""
    match = re.fullmatch('([0-9]{1,15})([KMGT]?)', text)
    return int(match[1]) * UNITS[match[2]] if match else None


def size(text: str, what: str, maximum: int) -> int:
    """The bytes of a size of ``what``, from 1 to ``maximum``; raises Usage."""
    found = byte_count(text)
    if not found or found > maximum:
        raise Usage(f"{what} must be a whole number with K, M, G or T, such as 20G, of at most "
                    f"{maximum >> 40}T, not '{text}'")
    return found


def number(text: str, what: str, maximum: int, minimum: int = 0) -> int:
    """A whole number of ``what`` in plain digits; raises Usage."""
    if not re.fullmatch('[0-9]{1,9}', text or '') or not minimum <= int(text) <= maximum:
        raise Usage(f"{what} must be a whole number from {minimum} to {maximum}, not '{text}'")
    return int(text)


def seconds(text: str) -> int:
    """The seconds of a --timeout; raises Usage. The guest part takes at most six digits."""
    return number(text, '--timeout', MOST_SECONDS)
