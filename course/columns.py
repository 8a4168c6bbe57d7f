"""How texts are laid out: controls escaped, columns as wide as their figures."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterable, Sequence

WIDTH = 100  # columns; no line of a run is wider
TABLE_WIDTH = 80  # columns; a wider table breaks its headings, then its texts
MIN_TEXT = 12  # columns that a broken text keeps
CONTROLS = re.compile("[\x00-\x08\x0a-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069]")


def visible(text: str) -> str:
    """Return a text with its control characters escaped: none reaches a terminal.

    Those that turn the direction of writing are escaped, too.
    """
    return CONTROLS.sub(lambda found: ascii(found[0])[1:-1], text)


def is_number(cell: object) -> bool:
    """Tell whether a cell of a table is a number; numbers are never broken."""
    return isinstance(cell, int | float)


def longest_of(texts: Iterable[str]) -> int:
    """Return the length of the longest text."""
    return max(map(len, texts), default=0)


class TableColumn:
    """A column of a table: how wide it is, and how narrow it may get step by step."""

    def __init__(self, heading: str, cells: Sequence[object]) -> None:
        texts = [str(cell) for cell in cells]
        words = [word for text in texts for word in text.split()]
        figures = [word for word in words if re.search(r"\d", word)]
        heading_word = longest_of(heading.split())
        self.numeric = all(map(is_number, cells))
        self.full = max(len(heading), longest_of(texts), 1)
        self.heading_broken = max(heading_word, longest_of(texts))
        self.texts_broken = max(heading_word, longest_of(words))
        self.words_broken = max(heading_word, longest_of(figures), MIN_TEXT)
        self.all_broken = max(longest_of(figures), MIN_TEXT)


def shrunk(widths: list[int], least: list[int], available: int) -> list[int]:
    """Return the widths, narrowed where there is room until all fit, if they can."""
    widths = list(widths)
    while sum(widths) > available:
        room = [width - low for width, low in zip(widths, least, strict=True)]
        roomiest = room.index(max(room))
        if room[roomiest] <= 0:
            break
        widths[roomiest] -= 1
    return widths


def column_widths(columns: Sequence[TableColumn]) -> list[int]:
    """Return how wide each column is printed; figures are never broken.

    Where a table is too wide, headings are broken between words, then texts are. Words
    are broken where it would still be wider than a line: those of headings last.
    """
    margins = 2 * len(columns)
    fits = TABLE_WIDTH - margins
    widths = [column.full for column in columns]
    widths = shrunk(widths, [column.heading_broken for column in columns], fits)
    widths = shrunk(widths, [column.texts_broken for column in columns], fits)
    longest = WIDTH - margins
    widths = shrunk(widths, [column.words_broken for column in columns], longest)
    return shrunk(widths, [column.all_broken for column in columns], longest)


def wrapped(text: str, indent: int = 4) -> list[str]:
    """Return the lines of a text; one that is too long goes on in indented lines.

    A word is broken only where it is longer than a whole line.
    """
    lines = []
    for part in text.splitlines() or [""]:
        line = visible(part)
        if len(line) > WIDTH:
            further = " " * indent
            lines += textwrap.wrap(
                line, WIDTH, subsequent_indent=further, break_on_hyphens=False
            )
        else:
            lines.append(line)
    return lines


def unbroken(printed: str) -> str:
    """Return what was printed with its broken lines made whole."""
    return re.sub(r"\n {4,}(?=\S)", " ", printed)


def row_lines(
    row: Sequence[object],
    columns: Sequence[TableColumn],
    widths: Sequence[int],
    is_header: bool = False,
) -> list[str]:
    """Return the lines of a table's row: several where its cells are broken."""
    cells = []
    for cell, width in zip(row, widths, strict=True):
        cells.append(textwrap.wrap(str(cell), width, break_on_hyphens=False))
    height = max(1, *map(len, cells))
    for lines in cells:
        blank = [""] * (height - len(lines))
        # A shorter heading stands on the last line, right above its numbers.
        lines[:] = blank + lines if is_header else lines + blank
    found = []
    for parts in zip(*cells, strict=True):
        line = ""
        for part, column, width in zip(parts, columns, widths, strict=True):
            aligned = part.rjust(width) if column.numeric else part.ljust(width)
            line += "  " + aligned
        found.append(line.rstrip())
    return found
