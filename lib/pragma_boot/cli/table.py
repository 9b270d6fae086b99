"""Tables on standard output: aligned columns, and colours where a terminal shows them."""
from collections.abc import Sequence

from ..system import terminal

Lines = Sequence[Sequence[str]]
"""The cells of each line, of the header first."""


def text(lines: Lines) -> str:
    """The table, with columns as wide as their widest cell."""
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return ''.join('  '.join(map(str.ljust, line, widths)).rstrip() + '\n' for line in lines)


def on_terminal(lines: Lines, spare: str, coloured: str) -> str:
    """The table as standard output, a terminal, shows it.

    The column ``spare`` is left out where the table is too wide and the column has one value only.
    The column ``coloured`` has the colours of terminal.COLOURS.
    """
    index = lines[0].index(spare)
    width = max(map(len, text(lines).splitlines()))
    if width > terminal.columns(1) and len({line[index] for line in lines[1:]}) == 1:
        lines = [[*line[:index], *line[index + 1:]] for line in lines]
    head, *rest = text(lines).splitlines()
    if terminal.coloured(1):
        index, start = lines[0].index(coloured), head.index(coloured)
        words = [line[index] for line in lines[1:]]
        rest = [line[:start] + terminal.painted(word, word) + line[start + len(word):]
                for line, word in zip(rest, words, strict=True)]
        head = terminal.painted(head, 'head')
    return ''.join(f'{line}\n' for line in (head, *rest))
