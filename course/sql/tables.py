"""Tables of figures that are shown and claimed alike: by name."""

from __future__ import annotations

from collections.abc import Mapping

from course.console import table


def table_of(what: str, rows: Mapping[str, Mapping[str, object]]) -> None:
    """Print the figures of each row, under their names."""
    figures = list(rows.values())
    table((what, *figures[0]), *[(name, *row.values()) for name, row in rows.items()])
