"""Tables of figures by name, printed as they are claimed."""

from __future__ import annotations

from collections.abc import Mapping

from course.console import table


def table_of(what: str, rows: Mapping[str, Mapping[str, object]]) -> None:
    """Print a line for each row: its name, then its figures under their names."""
    first = next(iter(rows.values()))
    cells = []
    for name, figures in rows.items():
        cells.append([name, *figures.values()])
    table([what, *first], *cells)
