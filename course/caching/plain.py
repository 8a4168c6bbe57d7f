"""Hooks for redis_cache: everyday values as JSON, each back with its type.

    @redis_cache(600, key=everyday_key, encode=to_plain, decode=from_plain)
    def sales(day: date, shop: tuple[str, int]) -> pandas.DataFrame: ...

What has no form in JSON becomes a dict of one item, its kind and its text. Data frames
travel in Arrow's stream format, pickle would run code. What would come back as anything
else, such as a data frame with a column of sets, is refused with a TypeError.
"""

from __future__ import annotations

import base64
import io
import math
import uuid
from collections.abc import Callable
from datetime import date, datetime, time, timedelta, timezone, tzinfo
from decimal import Decimal
from importlib import import_module
from pathlib import PosixPath, WindowsPath
from typing import Any
from zoneinfo import ZoneInfo

from course.caching.codec import glimpse
from course.caching.functions import SORTED_JSON

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


def frame_form(frame: Any) -> list[Any]:
    """Return a data frame as text, and the step of its index, which Arrow drops.

    TypeError if Arrow changes more: it makes arrays of tuples, and bytes of a UUID.
    """
    form = [text_of(bytes_of_frame(frame)), getattr(frame.index, "freqstr", None)]
    if not is_same_frame(frame_of_form(form), frame):
        raise TypeError(
            "Arrow would change this data frame: it needs a hook of its own"
        )
    return form


def is_same_frame(one: Any, other: Any) -> bool:
    """Tell whether two data frames hold the same, in the same types."""
    for axis, another in ((one.index, other.index), (one.columns, other.columns)):
        if not axis.equals(another) or axis.dtype != another.dtype:
            return False
        if axis.names != another.names:
            return False
    if list(one.dtypes) != list(other.dtypes) or one.attrs != other.attrs:
        return False
    # An object column holds anything; an array equals a list.
    objects = [place for place, kind in enumerate(one.dtypes) if kind.kind == "O"]
    for place in objects:
        if [*map(type, one.iloc[:, place])] != [*map(type, other.iloc[:, place])]:
            return False
    return bool(one.equals(other))


def frame_of_form(held: list[Any]) -> Any:
    """Return the data frame that frame_form() made this of."""
    frame = frame_of_bytes(base64.b64decode(held[0]))
    if held[1] is not None:
        frame.index.freq = held[1]
    return frame


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


def zone_form(zone: tzinfo | None) -> Any:
    """Return a time zone's name, or its offset, or None; TypeError for others."""
    if zone is None:
        return None
    if type(zone) is timezone:
        offset = zone.utcoffset(None)
        name = zone.tzname(None)
        return [seconds_of(offset), *([name] if name != str(timezone(offset)) else [])]
    if type(zone) is ZoneInfo and zone.key:
        return zone.key
    raise TypeError(f"{zone!r:.40} is a zone of a kind of its own: use zoneinfo")


def zone_of(form: Any) -> tzinfo | None:
    """Return the time zone that zone_form() made this of."""
    if form is None:
        return None
    if isinstance(form, str):
        return ZoneInfo(form)
    return timezone(timedelta(*form[0]), *form[1:])


def moment_form(moment: datetime | time) -> list[Any]:
    """Return a time with its zone, and which of two it is when clocks are set back."""
    text = moment.replace(tzinfo=None).isoformat()
    return [text, moment.fold, zone_form(moment.tzinfo)]


def moment_reader(read: Callable[[str], Any]) -> Callable[[list[Any]], Any]:
    """Return what takes back a moment_form() of a kind of time."""
    return lambda held: read(held[0]).replace(fold=held[1], tzinfo=zone_of(held[2]))


def series_form(series: Any) -> list[Any]:
    """Return a column as a data frame of one, and its name."""
    return [frame_form(series.to_frame(MARK)), to_plain(series.name)]


def series_of_form(held: list[Any]) -> Any:
    """Return the column that series_form() made this of."""
    series = frame_of_form(held[0])[MARK]
    return series.rename(from_plain(held[1]))


def timestamp_form(moment: Any) -> list[Any]:
    """Return a time of pandas, in its own unit, with its zone."""
    if moment.tz is None and moment.fold:
        raise TypeError("a fold without a zone: it needs a hook of its own")
    return [text_of(bytes_of_array(moment.asm8)), zone_form(moment.tz)]


def timestamp_of_form(held: list[Any]) -> Any:
    """Return the time that timestamp_form() made this of."""
    pandas = import_module("pandas")
    moment = pandas.Timestamp(array_of_bytes(base64.b64decode(held[0]))[()])
    zone = zone_of(held[1])
    return moment if zone is None else moment.tz_localize("UTC").tz_convert(zone)


# By the name of the exact type, so that nobody has to import pandas to look: what makes
# a plain value of one, and what takes it back.
FORMS: dict[str, tuple[Callable[[Any], Any], Callable[[Any], Any]]] = {
    "datetime.datetime": (moment_form, moment_reader(datetime.fromisoformat)),
    "datetime.date": (date.isoformat, date.fromisoformat),
    "datetime.time": (moment_form, moment_reader(time.fromisoformat)),
    "datetime.timedelta": (seconds_of, lambda parts: timedelta(*parts)),
    "decimal.Decimal": (str, Decimal),
    "uuid.UUID": (str, uuid.UUID),
    "builtins.bytes": (text_of, base64.b64decode),
    "numpy.ndarray": (
        lambda array: text_of(bytes_of_array(array)),
        lambda text: array_of_bytes(base64.b64decode(text)),
    ),
    "pandas.DataFrame": (frame_form, frame_of_form),
    "pandas.Series": (series_form, series_of_form),
    "pandas.Timestamp": (timestamp_form, timestamp_of_form),
    "pathlib.PosixPath": (str, PosixPath),
    "pathlib.WindowsPath": (str, WindowsPath),
}


def is_numpy_scalar(value: object) -> bool:
    """Tell whether a value of NumPy's is one number or text: no masked array, say."""
    return isinstance(value, import_module("numpy").generic)


def type_name(value: object) -> str:
    """Return the name of a value's exact type, as its documentation has it."""
    kind = type(value)
    module = kind.__module__
    for public in ("pandas", "pathlib"):
        if module.startswith((f"{public}.core.", f"{public}._")):
            module = public
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
    elif name.startswith("numpy.") and is_numpy_scalar(value):
        name = "scalar"  # of NumPy's
        form = text_of(bytes_of_array(value))
    else:
        raise TypeError(f"{glimpse(value)} is a {name}: it needs a hook of its own")
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
    return in_one_order(to_plain([list(args), kwargs]))


def in_one_order(plain: Any) -> Any:
    """Return JSON values that are the same for equal dicts, whatever their order."""
    if type(plain) is list:
        return [in_one_order(item) for item in plain]
    if type(plain) is not dict:
        return plain
    found = {key: in_one_order(item) for key, item in plain.items()}
    pairs = found.get(f"{MARK}dict")
    if pairs is not None:
        pairs.sort(key=SORTED_JSON.encode)
    return found
