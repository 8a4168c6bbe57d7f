"""The names under which functions keep their results: each its own."""

from __future__ import annotations

import inspect
import weakref
from collections.abc import Callable
from contextlib import suppress
from typing import Any

# Modules of this name are many: each script, each notebook, each child of one.
NAMELESS_MODULES = {"", "__main__", "__mp_main__", "__console__", "builtins", None}

# By what is inside, and by title: the first wrapper of that name.
WRAPPED: weakref.WeakKeyDictionary[Any, dict[str, Callable[[], Any]]] = (
    weakref.WeakKeyDictionary()
)


def full_name(fn: Callable[..., Any]) -> str:
    """Return a function's name in full; TypeError if others have the same."""
    name = getattr(fn, "__qualname__", "<no name>")
    owner = getattr(fn, "__self__", None)
    is_bound = owner is not None and not inspect.ismodule(owner)
    # "_" is what functions are called that singledispatch registers.
    if is_bound or "<" in name or name.rpartition(".")[2] == "_":
        kind = "a bound method" if is_bound else "a local function, lambda or object"
        raise TypeError(f"{name} is {kind}, others may be called so: give it a name=")
    module = getattr(fn, "__module__", None)
    refuse_nameless(module, name)
    title = f"{module}.{name}"
    wrappers, innermost = unwrapped(fn)
    if wrappers:
        title += "".join(map(name_of_wrapper, wrappers))
        refuse_twin(title, wrappers[0], innermost)
    return title


def refuse_nameless(module: str | None, name: str) -> None:
    """Raise TypeError for a module that is called as others are."""
    if module in NAMELESS_MODULES or "<" in str(module):  # "<run_path>"
        raise TypeError(
            f"{module}.{name} may be a function of any script or notebook: give it a "
            "name= that no other has, such as name='shop.report'; and give projects "
            "that share a Redis a prefix each"
        )


def unwrapped(fn: Any) -> tuple[list[Any], Any]:
    """Return a function's wrappers, the outermost first, and what they wrap."""
    wrappers = []
    seen = set()
    while hasattr(fn, "__wrapped__") and id(fn) not in seen:
        seen.add(id(fn))
        if not isinstance(fn, staticmethod):
            wrappers.append(fn)
        fn = fn.__wrapped__
    return wrappers, fn


def refuse_twin(title: str, wrapper: Any, innermost: Any) -> None:
    """Raise TypeError for a second wrapper that has a first one's name.

    As two of one factory have, called with two arguments. A module that is loaded
    again has a new function inside.
    """
    known = None
    with suppress(TypeError):  # of what has no hash, or no weak references
        first = WRAPPED.setdefault(innermost, {})
        known = first.get(title, lambda: None)()
        if known is None:
            first[title] = weakref.ref(wrapper)
    if known is not None and known is not wrapper:
        raise TypeError(f"{title} is another wrapper's name, too: give it a name=")


def name_of_wrapper(fn: Any) -> str:
    """Return what tells apart two wrappers of one function, which have its name."""
    code = getattr(fn, "__code__", None)
    if code is None:  # an object of a class of its own
        module, name = type(fn).__module__, type(fn).__qualname__
    else:
        module, name = fn.__globals__["__name__"], code.co_qualname
    refuse_nameless(module, name)
    return f"@{module}.{name}"
