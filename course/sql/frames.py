"""Rows as frames of pandas, and back, with the types of their columns."""

from __future__ import annotations

from importlib import import_module
from typing import Any

import sqlalchemy as sa

from course.errors import Skip

# pandas' own default for integers and booleans has no room for NULL. The first kind
# that a column's type is of counts.
FRAME_TYPES: dict[type[sa.types.TypeEngine[Any]], str] = {
    sa.Boolean: "boolean",
    sa.Integer: "Int64",
    sa.Float: "Float64",
    sa.Numeric: "object",  # Decimals, which are exact
    sa.DateTime: "datetime64[us, UTC]",
    sa.String: "string",
}


def pandas_or_skip() -> Any:
    """Return pandas; Skip says how to install it."""
    try:
        return import_module("pandas")
    except ImportError:
        raise Skip("frames: they need pandas (pip install pandas)") from None


def frame_type(column: Any) -> str:
    """Return pandas' type for what a column holds; TypeError where there is none."""
    kind = column.type
    if isinstance(kind, sa.types.TypeDecorator):
        kind = kind.impl_instance
    for known, name in FRAME_TYPES.items():
        if isinstance(kind, known):
            return name
    raise TypeError(f"{column.name} is of type {kind}, which no frame has")


def rows_of(frame: Any) -> list[dict[str, Any]]:
    """Return a frame's rows as a driver takes them: None for what is missing."""
    plain = frame.astype(object).where(frame.notna(), None)
    rows: list[dict[str, Any]] = plain.to_dict("records")
    return rows
