"""The names under which functions keep their results: each its own."""

from __future__ import annotations

import functools
import gc
import hashlib
import inspect
import weakref
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from types import BuiltinFunctionType, CodeType, FunctionType, ModuleType
from typing import Any

from course.caching.locks import ForkSafeLock

# Modules of this name are many: each script, each notebook, each child of one.
NAMELESS_MODULES = {"", "__main__", "__mp_main__", "__console__", "builtins", None}

NAMED = (type, BuiltinFunctionType)  # classes, and functions that are written in C
PLAIN_VALUES = {type(None), bool, int, float, complex, str, bytes}
ORDERED = {tuple, list}
CONTAINERS = {tuple, list, dict, set, frozenset}
MOST_ITEMS = 100  # of a container; a larger one is a thing of its own
MADE_BY_LRU_CACHE = type(functools.lru_cache(len))  # it only calls what it wraps
NAME_DIGEST_SIZE = 8  # bytes
KNOWN = "itself"  # or what it wraps: named elsewhere


@dataclass(frozen=True)
class Titled:
    """A function that has been given a title, for as long as it lives."""

    fn: weakref.ref[Any]
    unnamed: list[int]  # what its wrappers hold and nobody can name, by id


TITLED: dict[str, list[Titled]] = {}
TITLED_LOCK = ForkSafeLock()


def full_name(fn: Callable[..., Any]) -> str:
    """Return a function's name in full; TypeError if another could have it."""
    name = getattr(fn, "__qualname__", "<no name>")
    layers = layers_of(fn)
    # What wraps a bound method has its name, and is not one.
    is_bound = any(map(has_owner, [fn, *layers]))
    # "_" is what functions are called that singledispatch registers.
    if is_bound or "<" in name or name.rpartition(".")[2] == "_":
        kind = "a bound method" if is_bound else "a local function, lambda or object"
        raise TypeError(f"{name} is {kind}, others may be called so: give it a name=")
    module = getattr(fn, "__module__", None)
    refuse_nameless(module, name)
    title = f"{module}.{name}"
    unnamed: list[int] = []
    for layer in layers[:-1]:
        wrapper = Wrapper(layer, layers)
        title += f"@{wrapper.name()}"
        unnamed += [id(one) for one in wrapper.unnamed]
    if not is_ours(title, layers, unnamed):
        gc.collect()  # what has ended may still lie about
        if not is_ours(title, layers, unnamed):
            raise TypeError(f"{title} is another function's name, too: give it a name=")
    return title


def has_owner(fn: Any) -> bool:
    """Tell whether a function is bound to an object, or to a class."""
    owner = getattr(fn, "__self__", None)
    return owner is not None and not isinstance(owner, ModuleType)


def refuse_nameless(module: str | None, name: str) -> None:
    """Raise TypeError for a module that is called as others are."""
    if module in NAMELESS_MODULES or "<" in str(module):  # "<run_path>"
        raise TypeError(
            f"{module}.{name} may be a function of any script or notebook: give it a "
            "name= that no other has, such as name='shop.report'; and give projects "
            "that share a Redis a prefix each"
        )


def layers_of(fn: Any) -> list[Any]:
    """Return a function's wrappers, the outermost first, and what they wrap."""
    layers = []
    seen = set()
    while hasattr(fn, "__wrapped__") and id(fn) not in seen:
        seen.add(id(fn))
        if not isinstance(fn, staticmethod):
            layers.append(fn)
        fn = fn.__wrapped__
    return [*layers, fn]


class Wrapper:
    """One of a function's wrappers: its name, and what it has closed over.

    Two wrappers of one factory have one name. A text or a number that tells them apart
    becomes a part of it, the same in every process; of another object, a client, say,
    nobody knows what it changes.
    """

    def __init__(self, fn: Any, layers: list[Any]) -> None:
        self.fn = fn
        self.visiting = list(layers)  # what it wraps has a name already
        self.unnamed: list[Any] = []  # objects that nobody can name

    def name(self) -> str:
        """Return its name, with a hash of what it holds."""
        # By its real type: an object may have the __code__, and the __class__, of what
        # it wraps (numba's, wrapt's).
        if type(self.fn) is not FunctionType:
            module, name = type(self.fn).__module__, type(self.fn).__qualname__
            refuse_nameless(module, name)
            if type(self.fn) is not MADE_BY_LRU_CACHE:
                self.unnamed.append(self.fn)
            return f"{module}.{name}"
        name = self.name_of_code(self.fn)
        forms = [self.form(value) for value in held_by(self.fn)]
        if all(form == KNOWN for form in forms):
            return name
        content = repr(forms).encode("utf-8", "surrogatepass")
        digest = hashlib.blake2b(content, digest_size=NAME_DIGEST_SIZE).hexdigest()
        return f"{name}({digest})"

    def name_of_code(self, fn: FunctionType) -> str:
        """Return where the code of a function stands."""
        module, name = fn.__globals__.get("__name__"), fn.__code__.co_qualname
        refuse_nameless(module, name)
        return f"{module}.{name}"

    def form(self, value: Any) -> str:
        """Return a text that stands for a value, the same in every process."""
        kind = type(value)
        if any(value is one for one in self.visiting):
            return KNOWN
        if kind in PLAIN_VALUES:
            return repr(value)  # 1, 1.0 and True are three
        if kind is FunctionType:
            # Two of one name in a function have two codes. Of one, each call has it.
            if "<locals>" in value.__qualname__ or "<lambda>" in value.__qualname__:
                self.unnamed.append(value.__code__)
            name = self.name_of_code(value)
            return f"{name} {self.forms_within(value, held_by(value))}"
        if isinstance(value, NAMED) and not has_owner(value):
            if value.__module__ != "builtins":
                refuse_nameless(value.__module__, value.__qualname__)
            if "<locals>" in value.__qualname__:
                self.unnamed.append(value)
            return f"{value.__module__}.{value.__qualname__}"
        if kind in CONTAINERS and len(value) <= MOST_ITEMS:
            items = list(value.items()) if kind is dict else list(value)
            forms = self.forms_within(value, items)
            return f"{kind.__name__} {forms if kind in ORDERED else sorted(forms)}"
        self.unnamed.append(value)
        return f"a {kind.__module__}.{kind.__qualname__}"

    def forms_within(self, value: Any, items: list[Any]) -> list[str]:
        """Return the texts of what is in a value, which may hold itself."""
        self.visiting.append(value)
        forms = [self.form(item) for item in items]
        self.visiting.pop()
        return forms


def held_by(fn: FunctionType) -> list[Any]:
    """Return what a function has closed over, and its defaults."""
    held: list[Any] = [*(fn.__defaults__ or ()), *(fn.__kwdefaults__ or {}).items()]
    for cell in fn.__closure__ or ():
        with suppress(ValueError):  # of a name that has no value yet
            held.append(cell.cell_contents)
    return held


def is_ours(title: str, layers: list[Any], unnamed: list[int]) -> bool:
    """Note that a function has a title; False if that belongs to another that lives.

    As it does for two of one file; or two of one factory, called with two objects. A
    module that is loaded again has new functions, under their old names.
    """
    with TITLED_LOCK:
        living = [one for one in TITLED.get(title, []) if one.fn() is not None]
        if any(one.fn() is layers[0] for one in living):
            return True  # decorated anew, as at each call of a program
        for one in living:
            theirs = layers_of(one.fn())
            if any(map(are_of_one_file, theirs, layers)):
                return False
            if theirs[-1] is layers[-1] and one.unnamed != unnamed:
                return False
        with suppress(TypeError):  # of what has no weak references
            living.append(Titled(weakref.ref(layers[0]), unnamed))
        TITLED[title] = living
        return True


def are_of_one_file(one: Any, other: Any) -> bool:
    """Tell whether two functions of unlike code stand in one file, as it is now."""
    wanted = [getattr(one, "__code__", None), getattr(other, "__code__", None)]
    if wanted[0] == wanted[1]:
        return False
    for code in codes_of_modules(other):
        found = list(codes_in(code))
        if all(one in found for one in wanted):
            return True
    return False


def codes_of_modules(fn: Any) -> Iterator[CodeType]:
    """Yield the code of each module that is being imported, and of the function's."""
    frame = inspect.currentframe()
    while frame is not None:
        if frame.f_code.co_name == "<module>":
            yield frame.f_code
        frame = frame.f_back
    place = getattr(fn, "__globals__", {})
    with suppress(Exception):  # it has no file, or a loader of its own kind
        code = place["__loader__"].get_code(place["__name__"])
        if isinstance(code, CodeType):
            yield code


def codes_in(code: CodeType) -> Iterator[CodeType]:
    """Yield the code of every function and class that stands in a piece of code."""
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield constant
            yield from codes_in(constant)
