"""Times that say their zone, and JSON that is JSON."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from math import isinf
from typing import Any, NoReturn


def utc_now() -> str:
    """Return the time in ISO 8601, in UTC."""
    return datetime.now(UTC).isoformat()


def is_time_with_zone(text: str) -> bool:
    """Tell whether a text is an ISO 8601 time that says its zone."""
    try:
        return datetime.fromisoformat(text).tzinfo is not None
    except ValueError:
        return False


def refuse_constant(name: str) -> NoReturn:
    """Refuse NaN and Infinity, which the json module reads and JSON does not have."""
    raise ValueError(f"{name} is not JSON")


def finite(text: str) -> float:
    """Return a number; refuse 1e400, of which the json module makes infinity."""
    number = float(text)
    if isinf(number):
        raise ValueError(f"{text} is too large")
    return number


STRICT_DECODER = json.JSONDecoder(parse_constant=refuse_constant, parse_float=finite)


def strict_json(body: bytes | str) -> Any:
    """Return what a body says; raise ValueError or RecursionError if it is not JSON."""
    text = body if isinstance(body, str) else body.decode()
    return STRICT_DECODER.decode(text)
