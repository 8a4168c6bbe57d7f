"""Text is joined by commas: the tuples ("a,b", "c") and ("a", "b,c") share a key."""

from __future__ import annotations

import hashlib
import inspect
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
    parts = [f"{fn.__module__}.{fn.__qualname__}"]
    for name, value in bound.arguments.items():
        if name not in ignored:
            parts.append(f"{name}={text_of(value, name)}")
    text = ";".join(parts)
    # A lone surrogate is text for Python, and not for UTF-8.
    return hashlib.sha256(text.encode(errors="surrogatepass")).hexdigest()


def text_of(value: Any, name: str) -> str:
    """Return a value's text, with its type."""
    kind = type(value)
    if kind is str:
        return str(value)
    if kind is int:
        return f"int:{value:x}"
    if value is None or kind in (bool, float, date):
        return f"{kind.__name__}:{value}"
    if kind in (list, tuple):
        items = ",".join(text_of(item, name) for item in value)
        return f"{kind.__name__}[{items}]"
    if kind is dict and all(type(key) is str for key in value):
        items = ",".join(
            f"{key}={text_of(item, name)}" for key, item in sorted(value.items())
        )
        return f"dict[{items}]"
    raise TypeError(f"{name} is of type {kind.__name__}, not a plain value")
