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


@dataclass(frozen=True)
class Titled:
    """A function that has been given a title, for as long as it lives."""

    fn: weakref.ref[Any]
    held: list[int]  # the objects without a name that its wrappers hold, by their id


TITLED: dict[str, list[Titled]] = {}
TITLED_LOCK = ForkSafeLock()


def full_name(fn: Callable[..., Any]) -> str:
    """Return a function's name in full; TypeError if others have the same."""
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
    held = []
    for layer in layers[:-1]:
        wrapper = Wrapper(layer, layers)
        title += f"@{wrapper.name()}"
        held += [id(one) for one in wrapper.objects]
    note_title(title, layers, held)
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
        self.within = list(layers)  # named elsewhere in the title
        self.objects: list[Any] = []  # that nobody can name

    def name(self) -> str:
        """Return its name, with a hash of what it holds."""
        # By its real type: an object may have the __code__, and the __class__, of what
        # it wraps (numba's, wrapt's).
        if type(self.fn) is not FunctionType:
            module, name = type(self.fn).__module__, type(self.fn).__qualname__
            if type(self.fn) is not MADE_BY_LRU_CACHE:
                self.objects.append(self.fn)
            held: list[Any] = []
        else:
            module = str(self.fn.__globals__.get("__name__"))
            name = self.fn.__code__.co_qualname
            held = held_by(self.fn)
        refuse_nameless(module, name)
        forms = [self.form(value) for value in held if not self.is_named(value)]
        if not forms:
            return f"{module}.{name}"
        content = repr(forms).encode("utf-8", "surrogatepass")
        digest = hashlib.blake2b(content, digest_size=NAME_DIGEST_SIZE).hexdigest()
        return f"{module}.{name}({digest})"

    def is_named(self, value: Any) -> bool:
        """Tell whether a value is what it wraps; or itself, if it counts on that."""
        return any(value is one for one in self.within)

    def form(self, value: Any) -> str:
        """Return a text that is the same for values that do the same."""
        kind = type(value)
        if self.is_named(value):
            return "itself"
        if kind in PLAIN_VALUES:
            return repr(value)  # 1, 1.0 and True are three
        if isinstance(value, NAMED) and not has_owner(value):
            return f"{kind.__name__} {value.__module__}.{value.__qualname__}"
        if kind in CONTAINERS and len(value) <= MOST_ITEMS:
            items = list(value.items()) if kind is dict else list(value)
            forms = self.forms_within(value, items)
            return f"{kind.__name__} {forms if kind in ORDERED else sorted(forms)}"
        if kind is FunctionType and "<lambda>" not in value.__qualname__:
            name = f"{value.__module__}.{value.__code__.co_qualname}"
            return f"{name} {self.forms_within(value, held_by(value))}"
        self.objects.append(value)
        return f"a {kind.__module__}.{kind.__qualname__}"

    def forms_within(self, value: Any, items: list[Any]) -> list[str]:
        """Return the texts of what is in a value, which may hold itself."""
        self.within.append(value)
        return [self.form(item) for item in items]


def held_by(fn: FunctionType) -> list[Any]:
    """Return what a function has closed over, and its defaults."""
    held: list[Any] = [*(fn.__defaults__ or ()), *(fn.__kwdefaults__ or {}).items()]
    for cell in fn.__closure__ or ():
        with suppress(ValueError):  # of a name that has no value yet
            held.append(cell.cell_contents)
    return held


def note_title(title: str, layers: list[Any], held: list[int]) -> None:
    """Note that a function has a title; TypeError if an unlike one has it, too."""
    if is_taken(title, layers, held):
        gc.collect()  # what has ended may still lie about
        if is_taken(title, layers, held):
            raise TypeError(f"{title} is another function's name, too: give it a name=")
    with TITLED_LOCK, suppress(TypeError):  # of what has no weak references
        new = Titled(weakref.ref(layers[0]), held)
        living = [one for one in TITLED.get(title, []) if one.fn() is not None]
        TITLED[title] = [*living, new]


def is_taken(title: str, layers: list[Any], held: list[int]) -> bool:
    """Tell whether an unlike function that lives has this title.

    As two of one file have; or two of one factory, called with two objects. A module
    that is loaded again has new functions, under their old names.
    """
    with TITLED_LOCK:
        known = list(TITLED.get(title, []))
    for one in known:
        theirs = layers_of(one.fn())
        if any(map(are_of_one_file, theirs, layers)):
            return True
        if theirs[-1] is layers[-1] and one.held != held:
            return True
    return False


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
    """Yield the code of each module that runs now, and of the function's."""
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
