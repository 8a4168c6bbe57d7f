"""Rows before they are understood: columns as codes of their different texts."""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from typing import Any

import numpy as np

from course.analytics.arrays import Floats, Ints, iso


class TextColumn:
    """A column as codes of its different texts: each text is kept and read once."""

    def __init__(self, texts: Sequence[str] = (), codes: Any = None) -> None:
        self.code_of: dict[str, int] = dict.fromkeys(texts, 0)
        self.codes: Any = array("q") if codes is None else codes

    def add(self, text: str) -> None:
        """Take the text of a row."""
        self.codes.append(self.code_of.setdefault(text, len(self.code_of)))

    @property
    def texts(self) -> list[str]:
        """The different texts, in the order of their codes."""
        return list(self.code_of)

    @property
    def rows(self) -> Ints:
        """The code of each row."""
        return np.asarray(self.codes, np.int64)


class RawRows:
    """Rows before they are understood: by role, texts or what a frame knows already."""

    def __init__(self, roles: Sequence[str]) -> None:
        self.columns = {role: TextColumn() for role in roles}
        self.days: Ints | None = None  # of a frame, 0 where one is missing
        self.numbers: dict[str, Floats] = {}  # of a frame, by role
        self.lines: Any = array("q")
        self.misshapen: dict[str, list[tuple[int, str]]] = {}

    def misshape(self, why: str, line: int, row: Sequence[str]) -> None:
        """Count a row that does not fit its header."""
        self.misshapen.setdefault(why, []).append((line, ",".join(row)[:80]))

    def text_of(self, role: str, row: int) -> str:
        """Return what stands in a row, to be shown."""
        if role in self.columns and len(self.columns[role].codes):
            column = self.columns[role]
            return column.texts[int(column.codes[row])]
        if role == "date" and self.days is not None:
            return iso(int(self.days[row])) if self.days[row] else ""
        return str(self.numbers[role][row]) if role in self.numbers else ""


def coded(names: Sequence[str], codes: Ints) -> TextColumn:
    """Return a column of which several codes may have one name."""
    place_of = {name: place for place, name in enumerate(dict.fromkeys(names))}
    places = np.array([place_of[name] for name in names], np.int64)
    return TextColumn(list(place_of), places[codes])
