"""What may be cached of a function: its results, by its arguments."""

from __future__ import annotations

import functools
import hashlib
import inspect
import json
import sys
from collections.abc import (
    AsyncGenerator,
    AsyncIterator,
    Callable,
    Coroutine,
    Generator,
    Iterator,
)
from contextlib import asynccontextmanager, contextmanager, suppress
from functools import partial
from io import IOBase
from pathlib import Path
from typing import Any, Generic, ParamSpec, Protocol, TypeVar

from course.caching.client import escape
from course.caching.codec import strict
from course.caching.policy import Policy, refuse_hook, refuse_policy, refuse_type

Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")
Result_co = TypeVar("Result_co", covariant=True)

# Not in ASCII, where two halves of a character and that character look alike.
SORTED_JSON = json.JSONEncoder(sort_keys=True, ensure_ascii=False)
DIGEST_SIZE = 16  # bytes
ANY_DIGEST = "[0-9a-f]" * 2 * DIGEST_SIZE  # and not what is called "name:another"

# Results for one reader. What @contextmanager makes is one, too: its type has no name.
ANY_ITER: Any = iter
USED_ONCE: tuple[type, ...] = (
    Coroutine,
    Generator,
    AsyncGenerator,
    type(contextmanager(ANY_ITER)(())),
    type(asynccontextmanager(ANY_ITER)(())),
)

BY_POSITION = (
    inspect.Parameter.POSITIONAL_ONLY,
    inspect.Parameter.POSITIONAL_OR_KEYWORD,
)

ANYTHING = {inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD}


def refuse_coroutines(fn: Callable[..., Any]) -> None:
    """Raise TypeError for no function, or one whose result can be used only once."""
    if not callable(fn):
        raise TypeError(f"{fn!r:.60} can't be called: decorate the function itself")
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
    refuse_type("ttl_seconds", ttl_seconds)
    # Not "<= 0": that would let nan pass.
    if not ttl_seconds > 0:
        raise ValueError(f"ttl_seconds is a number above 0, not {ttl_seconds!r}")


def is_empty_once_read(result: object) -> bool:
    """Tell whether a result is an iterator, or a stream that can't be rewound."""
    if isinstance(result, IOBase):
        return not result.closed and not result.seekable()
    if type(result).__module__ == "unittest.mock":  # a mock is anything
        return False
    return isinstance(result, Iterator | AsyncIterator)


def refuse_used_once(result: object) -> None:
    """Raise TypeError for a result that only its first reader can use.

    A lambda that calls a coroutine function does not look like one; and a map or a
    cursor is empty for the next reader, who would not be told. A file can be rewound,
    a pipe can't.
    """
    if isinstance(result, USED_ONCE) or is_empty_once_read(result):
        if isinstance(result, Coroutine):
            result.close()  # else Python warns that nobody has awaited it
        kind = type(result).__name__
        raise TypeError(f"a {kind} is only for its first reader: it can't be cached")


def refuse_misuse(ttl: object, cache: object, policy: object) -> None:
    """Raise TypeError for a decorator that was given a function, client or number."""
    if callable(ttl):
        name = getattr(ttl, "__name__", "the function")
        raise TypeError(f"write @redis_cache() above {name}, with parentheses")
    if cache is not None:
        refuse_cache(cache)
    if policy is not None:
        refuse_policy(policy)


def refuse_cache(cache: object) -> None:
    """Raise TypeError for what loads nothing: a client, say, or the class itself."""
    if isinstance(cache, type):
        found = f"the class {cache.__name__} itself"
    elif not hasattr(cache, "get_or_load"):
        found = f"a {type(cache).__name__}"
    else:
        return
    raise TypeError(f"cache= is a RedisCache(client), not {found}")


def owner_name(fn: Callable[..., Any]) -> str:
    """Return the name of the class in which a function stands, or "" of a plain one."""
    return str(getattr(fn, "__qualname__", "")).rpartition(".")[0]


def class_name(kind: type, home: str | None) -> str:
    """Return the name of a class, as all processes call it that know it.

    Within the function's own module its name alone. A script is __main__ in one process
    and imported by another: by the name of its file.
    """
    module = kind.__module__
    if module == home:
        return kind.__qualname__
    if module in {"__main__", "__mp_main__"}:
        script: Any = sys.modules.get(module, sys.modules["__main__"])
        spec = script.__spec__  # of python -m
        file = getattr(script, "__file__", "__main__")  # of a notebook there is none
        module = spec.name if spec else Path(file).stem
    return f"{module}.{kind.__qualname__}"


def signature_within(fn: Callable[..., Any]) -> inspect.Signature | None:
    """Return the signature of what a wrapper of `(*args, **kwargs)` wraps."""
    with suppress(TypeError, ValueError):  # of a built-in
        parameters = inspect.signature(fn, follow_wrapped=False).parameters.values()
        if hasattr(fn, "__wrapped__") and {one.kind for one in parameters} >= ANYTHING:
            return inspect.signature(fn)
    return None


class CallKey:
    """Makes a hash of a call's arguments, the same however the call is spelt.

    The parameters are those of the function that is called, not of one that it wraps:
    a wrapper may put in an argument. Of a built-in that does not tell its parameters,
    each spelling is a call of its own. A hook makes plain values of the arguments; it
    gets them in one spelling, too, where it takes all parameters. Of a method the key
    holds the class as well: another one may inherit it, and have other results.
    """

    def __init__(
        self, fn: Callable[..., Any], hook: Callable[..., Any] | None = None
    ) -> None:
        refuse_hook("key", hook)
        self.hook = hook
        self.home = getattr(fn, "__module__", None)
        self.owner = owner_name(fn)
        self.signature: inspect.Signature | None = None
        self.inner = signature_within(fn)
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
        self.hook_takes_all = False
        if hook is not None and self.signature is not None:
            with suppress(TypeError, ValueError):
                inspect.signature(hook).bind(*self.signature.parameters)
                self.hook_takes_all = True

    def spelt_out(self, args: Any, kwargs: Any) -> tuple[Any, dict[str, Any]]:
        """Return a call's arguments in one spelling, its defaults filled in."""
        if self.signature is None:
            return args, dict(sorted(kwargs.items()))
        if not kwargs and self.required <= len(args) <= len(self.defaults):
            return args + self.defaults[len(args) :], {}  # ten times as fast
        bound = self.signature.bind(*args, **kwargs)
        bound.apply_defaults()
        return bound.args, dict(sorted(bound.kwargs.items()))

    def spellings(self, args: Any, kwargs: Any) -> list[tuple[Any, dict[str, Any]]]:
        """Return the ways to spell a call that have keys of their own.

        They are several for a wrapper of `(*args, **kwargs)`. The defaults of what it
        wraps are not filled in: it may have others.
        """
        found = [(args, kwargs)]
        # A hook makes of each spelling what it makes of the others.
        if self.inner is None or self.hook is not None:
            return found
        try:
            bound = self.inner.bind_partial(*args, **kwargs)
        except TypeError:  # it does not fit what is wrapped
            return found
        named, by_position, others = {}, [], {}
        for name, value in bound.arguments.items():
            kind = self.inner.parameters[name].kind
            if kind is inspect.Parameter.VAR_POSITIONAL:
                return found  # all before it are by position
            if kind is inspect.Parameter.VAR_KEYWORD:
                others = value
            else:
                named[name] = value
                if kind in BY_POSITION:
                    by_position.append(name)
        for number in range(len(by_position) + 1):
            first = tuple(named[name] for name in by_position[:number])
            rest = {
                name: named[name] for name in named if name not in by_position[:number]
            }
            found.append((first, rest | others))
        return found

    def class_of_call(self, args: Any) -> type | None:
        """Return whose method is called: a class, or that of an object."""
        if not args or not self.owner:
            return None
        kind = args[0] if isinstance(args[0], type) else type(args[0])
        known = [*inspect.getmro(kind), *inspect.getmro(type(kind))]
        is_method = any(one.__qualname__ == self.owner for one in known)
        return kind if is_method else None

    def digest(self, args: Any, kwargs: Any) -> str:
        """Return the hash; TypeError for arguments that do not fit, or are not JSON."""
        if self.hook is None:
            args, kwargs = self.spelt_out(args, kwargs)
            strict([*args, kwargs] if kwargs else [*args], "argument")
            found: Any = (args, kwargs)
        else:
            if self.hook_takes_all:
                args, kwargs = self.spelt_out(args, kwargs)
            found = self.hook(*args, **kwargs)
            strict(found, "what key= returns")
            kind = self.class_of_call(args)
            if kind is not None:
                found = [class_name(kind, self.home), found]
        try:
            text = ascii(found)  # tells 1, 1.0 and True apart
            # The order of a dict's items is no part of its value. One {} is kwargs'.
            if text.count("{") > 1 or self.hook is not None:
                text = SORTED_JSON.encode(found)
        except (RecursionError, ValueError) as error:  # an int of 5,000 digits
            raise TypeError(f"an argument has no form in JSON: {error}") from None
        content = text.encode("utf-8", "surrogatepass")
        return hashlib.blake2b(content, digest_size=DIGEST_SIZE).hexdigest()


class LoadsOnce(Protocol):
    """A cache as a decorated function uses it."""

    def get_or_load(self, key: str, load: Callable[[], Any], policy: Policy, /) -> Any:
        """Return the cached value, else load it."""

    def delete(self, *keys: str | bytes) -> int:
        """Delete values."""

    def clear_pattern(self, pattern: str | bytes, /) -> int:
        """Delete the keys that match a glob."""


class CachedFunction(Generic[Arguments, Result]):
    """A function whose results are kept in a cache that other processes share."""

    __name__: str
    __qualname__: str
    __wrapped__: Callable[..., Any]

    def __init__(
        self,
        fn: Callable[Arguments, Result],
        title: str,
        find_cache: Callable[[], LoadsOnce],
        policy: Policy,
        hook: Callable[..., Any] | None,
    ) -> None:
        if not isinstance(title, str):
            raise TypeError(f"name= is a str, not {title!r:.40}")
        functools.update_wrapper(self, fn, updated=())
        self.fn = fn
        self.title = title
        self.find_cache = find_cache
        self.policy = policy
        self.call_key = CallKey(fn, hook)

    # The slash: a function of its own may have a parameter of this name.
    def __call__(self, /, *args: Arguments.args, **kwargs: Arguments.kwargs) -> Result:
        """Return the cached result, else call the function."""
        key = f"{self.title}:{self.call_key.digest(args, kwargs)}"
        load = partial(self.fn, *args, **kwargs)
        found: Result = self.find_cache().get_or_load(key, load, self.policy)
        return found

    def key(self, /, *args: Arguments.args, **kwargs: Arguments.kwargs) -> str:
        """Return the cache's key of a call."""
        return f"{self.title}:{self.call_key.digest(args, kwargs)}"

    def invalidate(self, /, *args: Arguments.args, **kwargs: Arguments.kwargs) -> int:
        """Delete the result of this call, for all processes; return how many."""
        spellings = self.call_key.spellings(args, kwargs)
        keys = {self.key(*some, **others) for some, others in spellings}
        return self.find_cache().delete(*keys)

    def cache_clear(self) -> int:
        """Delete all results of this function, for all processes; return how many."""
        return self.find_cache().clear_pattern(escape(f"{self.title}:") + ANY_DIGEST)

    def __get__(
        self, instance: object, owner: type | None = None
    ) -> Callable[..., Any]:
        """Refuse a method, whose `self` is a part of no key but of a hook's."""
        # What has no __get__, a partial or a built-in, does not become a method.
        becomes_one = hasattr(self.fn, "__get__")
        if instance is None or not becomes_one or isinstance(self.fn, staticmethod):
            return self
        if self.call_key.hook is None:
            method = self.__name__
            raise TypeError(
                f"{method} is a method: an instance has no plain value for a key. In "
                f"__init__ write self.{method} = redis_cache(60, name=...)"
                f"(self._{method}), with a name that tells instances apart"
            )
        bound: Any = partial(self.__call__, instance)  # type: ignore[arg-type]
        functools.update_wrapper(bound, self.fn)
        bound.key = partial(self.key, instance)  # type: ignore[arg-type]
        bound.invalidate = partial(self.invalidate, instance)  # type: ignore[arg-type]
        bound.cache_clear = self.cache_clear  # of all instances: they share the name
        found: Callable[..., Any] = bound
        return found

    def __reduce__(self) -> str:
        return self.__qualname__  # pickled as the function is, by its name


class TimedFunction(Protocol[Arguments, Result_co]):
    """A function as timed_lru_cache returns it."""

    __name__: str
    __qualname__: str
    __wrapped__: Callable[..., Any]

    def __call__(self, *args: Arguments.args, **kwargs: Arguments.kwargs) -> Result_co:
        """Return the cached result, else call the function."""

    def __get__(
        self, instance: Any, owner: type | None = None, /
    ) -> Callable[..., Result_co]:
        """Return the method of an instance, which is a part of each key."""

    def cache_info(self) -> Any:
        """Return hits, misses, maxsize and currsize."""

    def cache_clear(self) -> None:
        """Forget all results."""

    def cache_parameters(self) -> dict[str, Any]:
        """Return what the decorator was given."""
