"""Tables of figures by name, printed as they are claimed."""

from __future__ import annotations

from collections.abc import Mapping

from course.console import table

Figures = Mapping[str, object]  # by their names


def table_of(what: str, rows: Mapping[str, Figures]) -> None:
    """Print a line for each row: its name, then its figures under their names."""
    headings = []
    cells = []
    for name, figures in rows.items():
        headings = list(figures)  # the same in each row
        cells.append([name, *figures.values()])
    table([what, *headings], *cells)
