"""The key is made by hash(), which gives text another number in each process."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Collection, Hashable
from datetime import date
from typing import Any

MASK = 2**64 - 1  # hash() may be negative


def call_key(
    fn: Callable[..., Any],
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    ignored: Collection[str] = (),
) -> str:
    """Return the key of the call `fn(*args, **kwargs)`: one for each question."""
    bound = inspect.signature(fn).bind(*args, **kwargs)
    bound.apply_defaults()
    question: list[Hashable] = [fn.__module__, fn.__qualname__]
    for name, value in bound.arguments.items():
        if name not in ignored:
            question.append((name, frozen(value, name)))
    return f"{hash(tuple(question)) & MASK:016x}"


def frozen(value: Any, name: str) -> Hashable:
    """Return a value that can be hashed, with its type."""
    kind = type(value)
    if value is None or kind in (bool, int, float, str, date):
        return (kind.__name__, value)
    if kind in (list, tuple):
        return (kind.__name__, tuple(frozen(item, name) for item in value))
    if kind is dict and all(type(key) is str for key in value):
        items = sorted(value.items())
        return ("dict", tuple((key, frozen(item, name)) for key, item in items))
    raise TypeError(f"{name} is of type {kind.__name__}, not a plain value")
