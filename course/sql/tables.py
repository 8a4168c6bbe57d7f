"""Tables of figures that are shown and claimed alike: by name."""

from __future__ import annotations

from collections.abc import Mapping

from course.console import table


def table_of(what: str, rows: Mapping[str, Mapping[str, object]]) -> None:
    """Print the figures of each row, under their names."""
    first = next(iter(rows.values()))
    cells = []
    for name, figures in rows.items():
        cells.append([name, *figures.values()])
    table([what, *first], *cells)
