"""What may go into Redis: values that JSON gives back as they were, in envelopes."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from typing import Any, NamedTuple

PLAIN = {type(None), bool, int, str}  # what JSON always gives back as it was
SCHEMA = 1  # of the envelope; an entry of another version is a miss


# region strict
def strict(value: Any, where: str = "result") -> None:
    """Raise TypeError for what JSON would change: (1, 2), {1: 2}, nan, a datetime."""
    kind = type(value)
    if kind in PLAIN or (kind is float and math.isfinite(value)):
        return
    if kind is list:
        items: Iterable[tuple[Any, Any]] = enumerate(value)
    elif kind is dict and all(type(key) is str for key in value):
        items = value.items()
    else:
        use = "str, int, finite float, bool, None, list or dict with str keys"
        found = f"{where} is {value!r:.40} ({kind.__name__})"
        raise TypeError(f"{found}, which JSON would change; use {use}")
    for key, item in items:
        if type(item) not in PLAIN:
            strict(item, f"{where}[{key!r}]")


# endregion strict


class Envelope(NamedTuple):
    """A value and what is known of it; times in Unix seconds."""

    value: Any
    created: float
    expires: float
    delta: float = 0.0  # seconds that the load took
    generation: str = ""


class Unreadable(Exception):
    """Raised for a payload that is no envelope of ours."""


def payload_of(envelope: Envelope) -> str:
    """Return the JSON to store; raise TypeError if it would not come back equal."""
    strict(envelope.value)
    held = {"v": SCHEMA, **envelope._asdict()}
    return json.dumps(held, separators=(",", ":"))


def envelope_of(payload: bytes) -> Envelope | None:
    """Return what is in a payload, None if it is of another schema; or Unreadable.

    Never pickle: it would let anyone who can write to Redis run code here.
    """
    try:
        held = json.loads(payload.decode())  # faster than guessing the encoding
        if held["v"] != SCHEMA:
            return None
        return Envelope(
            held["value"],
            float(held["created"]),
            float(held["expires"]),
            float(held["delta"]),
            held["generation"],
        )
    except (TypeError, ValueError, ArithmeticError, LookupError, RecursionError):
        raise Unreadable from None
