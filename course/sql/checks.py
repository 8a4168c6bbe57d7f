"""What PostgreSQL's types refuse by themselves, and SQLite only by a check."""

from __future__ import annotations

import math
import operator
from decimal import Decimal
from numbers import Number
from typing import Any

import sqlalchemy as sa

LONGEST_NAME = 80  # characters


class Whole(sa.TypeDecorator[int]):
    """A whole number of 32 bits, of any type; ValueError for one that is not whole.

    PostgreSQL rounds 1.5 and Decimal("1.5") to 2. To SQLite, numpy's integers are bytes
    and NaN is NULL, and it takes no Decimal at all.
    """

    impl = sa.Integer
    cache_ok = True

    def process_bind_param(self, value: Any, dialect: sa.Dialect) -> Any:
        """Return an int for a number; what is no number is left to the database."""
        try:
            return int(operator.index(value))
        except TypeError:
            if not isinstance(value, Number):
                return value
        number: Any = value
        if not math.isfinite(number) or number != int(number):
            raise ValueError(f"{value} is not a whole number")
        return int(number)

    def coerce_compared_value(self, op: Any, value: Any) -> Any:
        """Compare and multiply with fractions as fractions."""
        if isinstance(value, float | Decimal):
            return self.impl_instance.coerce_compared_value(op, value)
        return self


class BigWhole(Whole):
    """Unlike Whole: of 64 bits."""

    impl = sa.BigInteger
    cache_ok = True


def instant_check(name: str) -> str:
    """Return what is true of a text that is an instant as SQLAlchemy stores it.

    Any other text would not be found and sorted as the same instant; '12:00' and 30
    February could not even be read again.
    """
    second = f"substr({name}, 1, 19)"
    fraction = f"rtrim(substr({name}, 20), '0123456789')"
    # SQLite takes any month to have 31 days, unless it has to count.
    counted = f"datetime({second}, '+0 days')"
    return f"{counted} IS {second} AND {fraction} IN ('', '.')"


def check_of(column: sa.Column[Any]) -> str | None:
    """Return what SQLite has to check of a column; None where it does by itself."""
    name = column.name
    kind: Any = column.type
    if isinstance(kind, sa.types.TypeDecorator):
        kind = kind.impl_instance
    if isinstance(kind, sa.Integer):
        if column.primary_key:
            return None  # the row's own number, which is nothing else
        bits = 63 if isinstance(kind, sa.BigInteger) else 31
        least, most = -(2**bits), 2**bits - 1
        return f"typeof({name}) = 'integer' AND {name} BETWEEN {least} AND {most}"
    if isinstance(kind, sa.String):
        return f"typeof({name}) = 'text' AND instr({name}, char(0)) = 0"
    if isinstance(kind, sa.DateTime):
        return f"typeof({name}) = 'text' AND {instant_check(name)}"
    return None


def has_length_check(column: sa.Column[Any]) -> bool:
    """Tell whether the model itself says how long a text may be."""
    own = [str(constraint.name) for constraint in column.table.constraints]
    return any(name.endswith(f"{column.name}_length") for name in own)


def refuse_as_postgres(base: Any) -> None:
    """Let SQLite refuse what is no number or instant, or too long, in mapped tables.

    Trap: SQLite keeps a type per value. A text in a column of numbers is stored.
    """
    for mapper in base.registry.mappers:
        for column in mapper.local_table.columns:
            checked = check_of(column)
            if checked:
                longest = getattr(column.type, "length", None)
                if longest and not has_length_check(column):
                    checked += f" AND length({column.name}) <= {longest}"
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
