"""An option may have the name of a parameter, whose value it then replaces."""

from __future__ import annotations

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
    arguments = dict(bound.arguments)
    for name, parameter in inspect.signature(fn).parameters.items():
        if parameter.kind is inspect.Parameter.VAR_KEYWORD:
            arguments.update(arguments.pop(name))
    question = []
    for name, value in sorted(arguments.items()):
        if name not in ignored:
            question.append([name, plain(value, name)])
    # The name is hashed, too: it may be long, and need not be ASCII.
    text = json.dumps([fn.__module__, fn.__qualname__, question])
    return hashlib.sha256(text.encode()).hexdigest()


def plain(value: Any, name: str) -> Any:
    """Return a value as JSON that no other value has; TypeError for other types."""
    kind = type(value)
    if value is None or kind in (bool, float, str):
        return value  # JSON tells these apart: true, 1.0, "1"
    if kind is int:
        return ["int", hex(value)]  # JSON refuses an int of 5,000 digits
    if kind is date:
        return ["date", value.isoformat()]
    if kind in (list, tuple):
        return [kind.__name__, [plain(item, name) for item in value]]
    if kind is dict and all(type(key) is str for key in value):
        items = sorted(value.items())
        return ["dict", [[key, plain(item, name)] for key, item in items]]
    raise TypeError(f"{name} holds a {kind.__name__}, which can't be part of a key")
