"""Hooks for redis_cache: everyday values as JSON, each back with its type.

    @redis_cache(600, key=everyday_key, encode=to_plain, decode=from_plain)
    def sales(day: date, shop: tuple[str, int]) -> pandas.DataFrame: ...

What has no form in JSON becomes a dict of one item, its kind and its text. Data frames
travel in Arrow's stream format, which keeps their types; pickle would run code.
"""

from __future__ import annotations

import base64
import io
import math
import uuid
from collections.abc import Callable
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from importlib import import_module
from typing import Any

MARK = "$"  # begins the name of a kind
COLLECTIONS: dict[str, Callable[[Any], Any]] = {
    "tuple": tuple,
    "set": set,
    "frozenset": frozenset,
}


def bytes_of_frame(frame: Any) -> bytes:
    """Return a data frame in Arrow's stream format, with its index and types."""
    pyarrow = import_module("pyarrow")
    table = pyarrow.Table.from_pandas(frame)
    sink = io.BytesIO()
    with pyarrow.ipc.new_stream(sink, table.schema) as stream:
        stream.write_table(table)
    return sink.getvalue()


def frame_of_bytes(data: bytes) -> Any:
    """Return the data frame that bytes_of_frame() made these bytes of."""
    pyarrow = import_module("pyarrow")
    with pyarrow.ipc.open_stream(io.BytesIO(data)) as stream:
        return stream.read_pandas()


def bytes_of_array(array: Any) -> bytes:
    """Return a NumPy array in NumPy's own format; ValueError for one of objects."""
    numpy = import_module("numpy")
    sink = io.BytesIO()
    numpy.save(sink, array, allow_pickle=False)
    return sink.getvalue()


def array_of_bytes(data: bytes) -> Any:
    """Return the array that bytes_of_array() made these bytes of."""
    numpy = import_module("numpy")
    return numpy.load(io.BytesIO(data), allow_pickle=False)


def text_of(data: bytes) -> str:
    """Return bytes as a text that JSON keeps."""
    return base64.b64encode(data).decode()


def seconds_of(life: timedelta) -> list[int]:
    """Return a time span without rounding."""
    return [life.days, life.seconds, life.microseconds]


# By the name of the exact type, so that nobody has to import pandas to look: what makes
# a plain value of one, and what takes it back.
FORMS: dict[str, tuple[Callable[[Any], Any], Callable[[Any], Any]]] = {
    "datetime.datetime": (datetime.isoformat, datetime.fromisoformat),
    "datetime.date": (date.isoformat, date.fromisoformat),
    "datetime.time": (time.isoformat, time.fromisoformat),
    "datetime.timedelta": (seconds_of, lambda parts: timedelta(*parts)),
    "decimal.Decimal": (str, Decimal),
    "uuid.UUID": (str, uuid.UUID),
    "builtins.bytes": (text_of, base64.b64decode),
    "numpy.ndarray": (
        lambda array: text_of(bytes_of_array(array)),
        lambda text: array_of_bytes(base64.b64decode(text)),
    ),
    "pandas.DataFrame": (
        lambda frame: text_of(bytes_of_frame(frame)),
        lambda text: frame_of_bytes(base64.b64decode(text)),
    ),
}


def type_name(value: object) -> str:
    """Return the name of a value's exact type, as its documentation has it."""
    kind = type(value)
    module = kind.__module__
    if module.startswith("pandas.core."):
        module = "pandas"
    return f"{module}.{kind.__qualname__}"


def to_plain(value: Any) -> Any:
    """Return JSON values of a value; TypeError for one of another type."""
    kind = type(value)
    if value is None or kind in (bool, int, str):
        return value
    if kind is float and math.isfinite(value):
        return value
    if kind is list:
        return [to_plain(item) for item in value]
    if kind is dict and all(type(key) is str and key[:1] != MARK for key in value):
        return {key: to_plain(item) for key, item in value.items()}
    name, plain = to_form(value)
    return {MARK + name: plain}


def to_form(value: Any) -> tuple[str, Any]:
    """Return the kind of what has no form in JSON, and plain values to make it of."""
    kind = type(value)
    name = type_name(value)
    if kind is float:
        form: Any = str(value)
    elif kind is dict:
        form = [[to_plain(key), to_plain(item)] for key, item in value.items()]
    elif kind is tuple:
        form = [to_plain(item) for item in value]
    elif kind in (set, frozenset):
        # In the order of their texts: one set has one form, in every process.
        form = sorted((to_plain(item) for item in value), key=repr)
    elif name in FORMS:
        form = FORMS[name][0](value)
    elif name.startswith("numpy.") and hasattr(value, "dtype"):
        name = "scalar"  # of NumPy's
        form = text_of(bytes_of_array(value))
    else:
        raise TypeError(f"{value!r:.40} is a {name}: it needs an encode of its own")
    return name.removeprefix("builtins."), form


def from_plain(plain: Any) -> Any:
    """Return the value that to_plain() made these JSON values of."""
    if type(plain) is list:
        return [from_plain(item) for item in plain]
    if type(plain) is not dict:
        return plain
    kind, *others = plain or [""]
    if others or kind[:1] != MARK:
        return {key: from_plain(item) for key, item in plain.items()}
    return from_form(kind[1:], plain[kind])


def from_form(kind: str, held: Any) -> Any:
    """Return the value of a kind that has no form in JSON."""
    if kind == "float":
        return float(held)
    if kind == "dict":
        return {from_plain(key): from_plain(item) for key, item in held}
    if kind in COLLECTIONS:
        return COLLECTIONS[kind](from_plain(item) for item in held)
    if kind == "scalar":
        return array_of_bytes(base64.b64decode(held))[()]
    if kind == "bytes":
        kind = "builtins.bytes"
    return FORMS[kind][1](held)


def everyday_key(*args: Any, **kwargs: Any) -> Any:
    """Return plain values of a call's arguments, for key= of redis_cache."""
    return to_plain([list(args), kwargs])
