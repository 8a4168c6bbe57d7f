"""How wide the columns of a table are: figures are never broken, texts may be."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

WIDTH = 100  # columns; no line of a run is wider
TABLE_WIDTH = 80  # columns; a wider table breaks its headings, then its texts
MIN_TEXT = 12  # columns that a broken text keeps


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
    are broken where it would still be wider than a line.
    """
    margins = 2 * len(columns)
    fits = TABLE_WIDTH - margins
    widths = [column.full for column in columns]
    widths = shrunk(widths, [column.heading_broken for column in columns], fits)
    widths = shrunk(widths, [column.texts_broken for column in columns], fits)
    least = [column.words_broken for column in columns]
    return shrunk(widths, least, WIDTH - margins)
