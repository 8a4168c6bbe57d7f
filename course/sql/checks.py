"""What PostgreSQL's types refuse by themselves, and SQLite only by a check."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa

LONGEST_NAME = 80  # characters


def check_of(column: sa.Column[Any]) -> str | None:
    """Return what SQLite has to check of a column; None where it does by itself."""
    name = column.name
    if isinstance(column.type, sa.Integer):
        if column.primary_key:
            return None  # the row's own number, which is nothing else
        bits = 63 if isinstance(column.type, sa.BigInteger) else 31
        least, most = -(2**bits), 2**bits - 1
        return f"typeof({name}) = 'integer' AND {name} BETWEEN {least} AND {most}"
    if isinstance(column.type, sa.String):
        return f"typeof({name}) = 'text' AND instr({name}, char(0)) = 0"
    if isinstance(column.type, sa.types.TypeDecorator) and isinstance(
        column.type.impl, sa.DateTime
    ):
        return f"typeof({name}) = 'text' AND julianday({name}) IS NOT NULL"
    return None


def refuse_as_postgres(base: Any) -> None:
    """Let SQLite refuse what is no number, text or instant in all mapped tables.

    Trap: SQLite keeps a type per value. A text in a column of numbers is stored.
    """
    for mapper in base.registry.mappers:
        for column in mapper.local_table.columns:
            checked = check_of(column)
            if checked:
                sql = f"{column.name} IS NULL OR ({checked})"
                check = sa.CheckConstraint(sql, name=f"{column.name}_type")
                mapper.local_table.append_constraint(check.ddl_if(dialect="sqlite"))


def can_be_stored(text: str) -> bool:
    """Tell whether a name may be in a table: not if too long, with NUL, or no Unicode.

    PostgreSQL raises an error for the last two, even where they are only looked for;
    to SQLite a pattern ends at NUL.
    """
    encodable = text.isprintable() or not any("\ud800" <= c <= "\udfff" for c in text)
    return len(text) <= LONGEST_NAME and "\0" not in text and encodable
