"""What JSON can't hold goes in by str: an object, a set, a date like its text."""

from __future__ import annotations

import hashlib
import inspect
import json
from collections.abc import Callable, Collection
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
            question.append([name, plain(value)])
    name = f"{fn.__module__}.{fn.__qualname__}"
    text = json.dumps([name, question], sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()


def plain(value: Any) -> Any:
    """Return a value in which lists and tuples can be told apart."""
    if isinstance(value, (list, tuple)):
        return [type(value).__name__, [plain(item) for item in value]]
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    return value
