"""Kinds of nodes: the CPUs and memory that a user asks for in the place of the vc-in.xml's."""
import re
from collections.abc import Sequence
from typing import NamedTuple

from ..document.hardware import MAXIMUM_MEMORY
from ..document.rules import MOST_CPUS
from ..system import names
from ..system.failure import Usage
from . import handover
from .handover import CPUS, MEMORY, NODES, SIZE, Options

MOST_IN_ALL = 1_000_000
MOST_NODES = 65_536
"""The compute nodes of a private network of 16 bits."""

LEAST_MEMORY = 1 << 20

KIND = '([0-9]{1,5})x([0-9]{1,4})(?::(.+))?'
"""COUNTxCPUS[:MEMORY]: 2x8:64G is two nodes with 8 CPUs and 64 GiB each."""


class Size(NamedTuple):
    """The CPUs of a node and its memory in KiB; 0 is what the vc-in.xml and the settings say."""

    cpus: int = 0
    memory: int = 0


class Wanted(NamedTuple):
    """The nodes that a user asks for.

    ``num_cpus`` is the sum of the compute nodes' CPUs. ``nodes`` has the Size of each compute
    node, and is empty where the site decides. ``memory``, in KiB, is for those without their own.
    """

    num_cpus: int
    nodes: tuple[Size, ...] = ()
    memory: int = 0
    frontend: Size = Size()


def given(options: Options, total: str) -> bool:
    """Whether the options of a tool, or the environment, ask for a number of CPUs at all."""
    return options[total] is not None or handover.given(options, NODES) is not None


def asked(options: Options, total: str) -> Wanted:
    """What the options of a tool, or otherwise the environment, ask for; raises Usage.

    ``total`` is the option for the number of all CPUs.
    """
    words = {option: found for option in (NODES, MEMORY, CPUS, SIZE)
             if (found := handover.given(options, option))}
    number = options[total]
    num_cpus = names.number(number, total, MOST_IN_ALL) if number is not None else 0
    nodes = _nodes(*words[NODES]) if NODES in words else ()
    if nodes:
        source, in_all = words[NODES].source, sum(node.cpus for node in nodes)
        if num_cpus and source == NODES:
            raise Usage(f'{NODES} tells the CPUs of each node: leave {total} out')
        if num_cpus not in (0, in_all):
            raise Usage(f'{source} asks for {names.cpus(in_all)}, and {total} for {num_cpus}')
        num_cpus = in_all
    elif number is None:
        raise Usage(f"{total} or {NODES} is needed: try '{total} 4'")
    return Wanted(num_cpus, nodes,
                  _memory(*words[MEMORY]) if MEMORY in words else 0,
                  Size(cpus(*words[CPUS]) if CPUS in words else 0,
                       _memory(*words[SIZE]) if SIZE in words else 0))


def ignored(wanted: Wanted, frontend: Size, nodes: Sequence[Size]) -> list[str]:
    """The options that a cluster's nodes do not obey.

    ``nodes`` are the compute nodes in their order. Of a Size, 0 is what is not known of a node.
    """
    pairs = list(zip(wanted.nodes, nodes, strict=False))
    obeyed = {
        NODES: not wanted.nodes or (len(nodes) == len(wanted.nodes) and all(
            _like(size.cpus, node.cpus) and _like(size.memory, node.memory)
            for size, node in pairs)),
        MEMORY: all(_like(wanted.memory, node.memory) for node in (
            [node for size, node in pairs if not size.memory] if wanted.nodes else nodes)),
        CPUS: _like(wanted.frontend.cpus, frontend.cpus),
        SIZE: _like(wanted.frontend.memory, frontend.memory)}
    return [option for option, done in obeyed.items() if not done]


def _like(wish: int, known: int) -> bool:
    """Whether a number is the one that was asked for, if one was, and if it is known."""
    return not wish or not known or wish == known


def _nodes(what: str, text: str) -> tuple[Size, ...]:
    """The Size of each node of ``2x8:64G,4x2``."""
    nodes: list[Size] = []
    for word in text.split(','):
        kind = re.fullmatch(KIND, word)
        if not kind or not int(kind[1]) or not int(kind[2]):
            raise Usage(f"{what} must be kinds of nodes with commas between them, such as "
                        f"2x8:64G,4x2 (COUNTxCPUS[:MEMORY], at most {MOST_NODES} nodes with at "
                        f"most {MOST_CPUS} CPUs each), not '{text}'")
        size = Size(int(kind[2]), _memory(f'the memory of {what}', kind[3]) if kind[3] else 0)
        if len(nodes) + int(kind[1]) > MOST_NODES:
            raise Usage(f"{what} '{text}' has more than {MOST_NODES} nodes")
        nodes += [size] * int(kind[1])
    return tuple(nodes)


def cpus(what: str, text: str) -> int:
    """The number of a node's CPUs in an option or variable ``what``; raises Usage."""
    return names.number(text, what, MOST_CPUS, 1)


def _memory(what: str, text: str) -> int:
    """KiB, rounded up."""
    size = names.size(text, what, MAXIMUM_MEMORY)
    if size < LEAST_MEMORY:
        reason = f', which is {size} bytes' if text.isdigit() else ''
        raise Usage(f"{what} must be at least 1M, not '{text}'{reason}: give it a unit as in 512M")
    return -(-size // 1024)
