"""The names under which functions keep their results: each its own."""

from __future__ import annotations

import inspect
import weakref
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import suppress
from types import CodeType, FunctionType
from typing import Any

# Modules of this name are many: each script, each notebook, each child of one.
NAMELESS_MODULES = {"", "__main__", "__mp_main__", "__console__", "builtins", None}

# The functions that have been given a title, as long as they live.
TITLED: defaultdict[str, weakref.WeakSet[Any]] = defaultdict(weakref.WeakSet)


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
    title += "".join(map(name_of_wrapper, wrappers))
    outermost = wrappers[0] if wrappers else innermost
    refuse_namesake(title, outermost)
    with suppress(TypeError):  # of what has no hash, or no weak references
        TITLED[title].add(outermost)
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


def name_of_wrapper(fn: Any) -> str:
    """Return what tells apart two wrappers of one function, which have its name."""
    code = getattr(fn, "__code__", None)
    if code is None:  # an object of a class of its own
        module, name = type(fn).__module__, type(fn).__qualname__
    else:
        module, name = fn.__globals__["__name__"], code.co_qualname
    refuse_nameless(module, name)
    return f"@{module}.{name}"


def refuse_namesake(title: str, fn: Any) -> None:
    """Raise TypeError for a function that has the title of an unlike one.

    As two of one factory have, called with two arguments, or two of one file. A module
    that is loaded again has new functions, under their old names.
    """
    innermost = unwrapped(fn)[1]
    for known in list(TITLED[title]):
        first = unwrapped(known)[1]
        stand_together = first is innermost or are_of_one_file(first, innermost)
        if stand_together and not is_alike(known, fn):
            raise TypeError(f"{title} is another function's name, too: give it a name=")


def is_alike(one: Any, other: Any) -> bool:
    """Tell whether functions do the same: their code, and what they have closed over.

    Of other objects nobody knows what they do: only the same one is alike.
    """
    if one is other:
        return True
    if type(one) is not type(other):
        return False
    if not isinstance(one, FunctionType):
        with suppress(Exception):
            return bool(one == other)
        return False
    if one.__code__ != other.__code__ or one.__globals__ is not other.__globals__:
        return False
    first, second = held_by(one), held_by(other)
    return len(first) == len(second) and all(map(is_alike, first, second))


def held_by(fn: FunctionType) -> list[Any]:
    """Return what a function has closed over, and its defaults."""
    held: list[Any] = [fn.__defaults__, fn.__kwdefaults__]
    for cell in fn.__closure__ or ():
        with suppress(ValueError):  # of a name that has no value yet
            held.append(cell.cell_contents)
    return held


def are_of_one_file(one: Any, other: Any) -> bool:
    """Tell whether two functions of unlike code stand in the file that runs now."""
    wanted = [getattr(one, "__code__", None), getattr(other, "__code__", None)]
    if wanted[0] == wanted[1]:
        return False
    frame = inspect.currentframe()
    while frame is not None:
        if frame.f_code.co_name == "<module>":
            found = list(codes_in(frame.f_code))
            if all(code in found for code in wanted):
                return True
        frame = frame.f_back
    return False


def codes_in(code: CodeType) -> Iterator[CodeType]:
    """Yield the code of every function and class that stands in a piece of code."""
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield constant
            yield from codes_in(constant)
