"""A table whose column gets another name, and the old code that goes on using it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy import exc

from course.lab import raises


def members(column: str, kind: Any, naming: Any) -> sa.Table:
    """Return the table of members, with an id and a column of this name and type."""
    metadata = sa.MetaData(naming_convention=naming)
    key = sa.Column("id", sa.Integer, primary_key=True)
    value = sa.Column(column, kind, nullable=False)
    return sa.Table("members", metadata, key, value)


class OldCode:
    """Code that reads and writes full_name, and knows no other column."""

    def __init__(self, engine: sa.Engine, table: sa.Table) -> None:
        self.engine = engine
        self.table = table

    def write(self, names: Sequence[str]) -> None:
        """Store a member by each of the names."""
        rows = [{"full_name": name} for name in names]
        if not rows:  # an empty list would insert a row of defaults
            return
        with self.engine.begin() as connection:
            connection.execute(sa.insert(self.table), rows)

    def read(self) -> list[str]:
        """Return the names of all members, in the order they came."""
        names = sa.select(self.table.c.full_name)
        in_order = names.order_by(self.table.c.id)
        with self.engine.connect() as connection:
            return list(connection.scalars(in_order))

    def breaks_by(self, change: Callable[[sa.Engine], None]) -> bool:
        """Change an empty table; tell whether this code fails afterwards."""
        self.table.create(self.engine)
        change(self.engine)
        broken = raises(exc.DBAPIError, self.read)
        self.table.drop(self.engine)
        return broken
