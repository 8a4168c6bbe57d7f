"""lru_cache remembers how 1 is written, and finds that for True and 1.0, too."""

from __future__ import annotations

import functools
import hashlib
import inspect
import json
from collections.abc import Callable, Collection
from datetime import date
from typing import Any


def call_key(
    fn: Callable[..., Any],
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    ignored: Collection[str] = (),
) -> str:
    """Return the key of the call `fn(*args, **kwargs)`: one for each question."""
    bound = inspect.signature(fn).bind(*args, **kwargs)
    bound.apply_defaults()
    question = []
    for name, value in bound.arguments.items():
        if name not in ignored:
            question.append([name, plain(value, name)])
    # The name is hashed, too: it may be long, and need not be ASCII.
    text = json.dumps([fn.__module__, fn.__qualname__, question])
    return hashlib.sha256(text.encode()).hexdigest()


@functools.lru_cache(maxsize=10_000)
def written(value: bool | int | float | str | None) -> str:
    """Return a plain value's text; the same ones come again and again."""
    return f"{type(value).__name__} {value!r}"


def plain(value: Any, name: str) -> Any:
    """Return a value as JSON that no other value has; TypeError for other types."""
    kind = type(value)
    if value is None or kind in (bool, int, float, str):
        return written(value)
    if kind is date:
        return ["date", value.isoformat()]
    if kind in (list, tuple):
        return [kind.__name__, [plain(item, name) for item in value]]
    if kind is dict and all(type(key) is str for key in value):
        items = sorted(value.items())
        return ["dict", [[key, plain(item, name)] for key, item in items]]
    raise TypeError(f"{name} holds a {kind.__name__}, which can't be part of a key")
