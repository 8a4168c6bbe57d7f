"""What may be cached of a function: its results, its name, its arguments."""

from __future__ import annotations

import functools
import hashlib
import inspect
from collections.abc import Callable
from typing import Any

from course.caching.codec import strict


def refuse_coroutines(fn: Callable[..., Any]) -> None:
    """Raise TypeError for a function whose result can be used only once."""
    while isinstance(fn, functools.partial):
        fn = fn.func
    call = getattr(type(fn), "__call__", None)  # noqa: B004  (of an object's class)
    for one in (fn, call):
        is_used_once = (
            inspect.iscoroutinefunction(one)
            or inspect.isgeneratorfunction(one)
            or inspect.isasyncgenfunction(one)
        )
        if is_used_once:
            name = getattr(fn, "__qualname__", repr(fn))
            raise TypeError(
                f"{name} returns a coroutine or generator, which only its first "
                "reader can use: cache a plain function's result"
            )


def refuse_limits(maxsize: object, ttl_seconds: float) -> None:
    """Raise ValueError for limits of a cache that make no sense."""
    if callable(maxsize):
        raise ValueError("write @timed_lru_cache(), with brackets")
    if maxsize is not None and not (isinstance(maxsize, int) and maxsize >= 0):
        raise ValueError(f"maxsize is 0, above or None, not {maxsize!r}")
    # Not "<= 0": that would let nan pass.
    if not ttl_seconds > 0:
        raise ValueError(f"ttl_seconds is a number above 0, not {ttl_seconds!r}")


def full_name(fn: Callable[..., Any]) -> str:
    """Return a function's name in full; TypeError if others have the same."""
    name = getattr(fn, "__qualname__", "<no name>")
    owner = getattr(fn, "__self__", None)
    is_bound = owner is not None and not inspect.ismodule(owner)
    if is_bound or "<" in name:
        kind = "a bound method" if is_bound else "a local function, lambda or object"
        raise TypeError(f"{name} is {kind}, others may be called so: give it a name=")
    return f"{fn.__module__}.{name}"


def signature_of(fn: Callable[..., Any]) -> inspect.Signature | None:
    """Return a function's own parameters; None for a built-in that does not tell.

    Of a decorated function they are those of the wrapper, which we are to call: it may
    put in an argument that the wrapped one asks for.
    """
    try:
        return inspect.signature(fn, follow_wrapped=False)
    except ValueError:
        return None


def digest_of(
    signature: inspect.Signature | None, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> str:
    """Return a hash of a call's arguments, the same however the call is spelt.

    Raises TypeError for arguments that do not fit, or are no plain JSON values.
    """
    if signature is not None:
        bound = signature.bind(*args, **kwargs)
        bound.apply_defaults()
        args = bound.args
        kwargs = bound.kwargs
    named = dict(sorted(kwargs.items()))
    strict([*args, named] if named else [*args], "argument")
    text = ascii((args, named)).encode()  # tells 1, 1.0 and True apart
    return hashlib.blake2b(text, digest_size=16).hexdigest()
