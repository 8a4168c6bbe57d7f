"""Make the key under which the result of a call is cached."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any


def call_key(
    fn: Callable[..., Any],
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    ignored: Collection[str] = (),
) -> str:
    """Return the key of the call `fn(*args, **kwargs)`: one for each question.

    `fn` is a function of Python, with a module, a qualified name and a signature.
    `ignored` names parameters that are no part of the question.
    An argument is None, a bool, an int, a float, a str or a datetime.date, or a list, a
    tuple or a dict with str keys of such values; of exactly these types, no subclass.
    The key has at most 100 characters, all ASCII and none a space. It shows no
    argument.

    Raises TypeError, with the name of the parameter, for an argument of another type,
    and TypeError for arguments that `fn` would not accept.
    """
    raise NotImplementedError
