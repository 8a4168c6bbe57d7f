"""What may be cached of a function: its results, its name, its arguments."""

from __future__ import annotations

import functools
import hashlib
import inspect
import sys
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from course.caching.codec import strict

BY_POSITION = (
    inspect.Parameter.POSITIONAL_ONLY,
    inspect.Parameter.POSITIONAL_OR_KEYWORD,
)


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
        raise ValueError("write @timed_lru_cache(), with parentheses")
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


class CallKey:
    """Makes a hash of a call's arguments, the same however the call is spelt.

    The parameters are those of the function that is called, not of one that it wraps:
    a wrapper may put in an argument. Of a built-in that does not tell its parameters,
    each spelling is a call of its own.
    """

    def __init__(self, fn: Callable[..., Any]) -> None:
        self.signature: inspect.Signature | None = None
        self.required = 0
        self.defaults: tuple[Any, ...] = ()
        with suppress(ValueError):
            self.signature = inspect.signature(fn, follow_wrapped=False)
        if self.signature is not None:
            parameters = self.signature.parameters.values()
            self.defaults = tuple(parameter.default for parameter in parameters)
            for parameter in parameters:
                if parameter.default is inspect.Parameter.empty:
                    self.required += 1
            if any(parameter.kind not in BY_POSITION for parameter in parameters):
                self.required = sys.maxsize  # never without the signature

    def spelt_out(self, args: Any, kwargs: Any) -> tuple[Any, dict[str, Any]]:
        """Return a call's arguments in one spelling, its defaults filled in."""
        if self.signature is None:
            return args, dict(sorted(kwargs.items()))
        if not kwargs and self.required <= len(args) <= len(self.defaults):
            return args + self.defaults[len(args) :], {}  # ten times as fast
        bound = self.signature.bind(*args, **kwargs)
        bound.apply_defaults()
        return bound.args, dict(sorted(bound.kwargs.items()))

    def digest(self, args: Any, kwargs: Any) -> str:
        """Return the hash; TypeError for arguments that do not fit, or are not JSON."""
        args, kwargs = self.spelt_out(args, kwargs)
        strict([*args, kwargs] if kwargs else [*args], "argument")
        text = ascii((args, kwargs)).encode()  # tells 1, 1.0 and True apart
        return hashlib.blake2b(text, digest_size=16).hexdigest()
