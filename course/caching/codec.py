"""What may go into Redis: values that JSON gives back as they were."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

PLAIN = {type(None), bool, int, str}  # what JSON always gives back as it was


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
