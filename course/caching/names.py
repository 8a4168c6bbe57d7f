"""The names under which functions keep their results: each its own."""

from __future__ import annotations

import gc
import inspect
import weakref
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from types import CodeType, FunctionType, ModuleType
from typing import Any

from course.caching.locks import ForkSafeLock

# Modules of this name are many: each script, each notebook, each child of one.
NAMELESS_MODULES = {"", "__main__", "__mp_main__", "__console__", "builtins", None}

PLACE_OF_MODULE = (
    "__file__",
    "__loader__",
    "__name__",
)  # of a module, among its globals

# What is equal here does the same in every function. (kind, value): 1 is not True.
PLAIN_TEXTS = {type(None), bool, int, str, bytes}
PLAIN_NUMBERS = {float, complex}  # by their text: 0.0 equals -0.0
ITEMS_OF: dict[Any, Callable[[Any], Iterable[Any]]] = {
    tuple: list,
    list: list,
    dict: dict.items,
}
MOST_ITEMS = 100  # items of a container; a table that is closed over is not copied


def full_name(fn: Callable[..., Any]) -> str:
    """Return a function's name in full; TypeError if others have the same."""
    name = getattr(fn, "__qualname__", "<no name>")
    wrappers, innermost = unwrapped(fn)
    # What wraps a bound method has its name, and is not one.
    is_bound = any(map(has_owner, [fn, *wrappers, innermost]))
    # "_" is what functions are called that singledispatch registers.
    if is_bound or "<" in name or name.rpartition(".")[2] == "_":
        kind = "a bound method" if is_bound else "a local function, lambda or object"
        raise TypeError(f"{name} is {kind}, others may be called so: give it a name=")
    module = getattr(fn, "__module__", None)
    refuse_nameless(module, name)
    title = f"{module}.{name}"
    title += "".join(map(name_of_wrapper, wrappers))
    TITLES.give(title, wrappers[0] if wrappers else innermost, innermost)
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
    # By its real type: an object may have the __code__, and the __class__, of what it
    # wraps (numba's, wrapt's).
    if type(fn) is FunctionType:
        module, name = fn.__globals__.get("__name__"), fn.__code__.co_qualname
    else:
        module, name = type(fn).__module__, type(fn).__qualname__
    refuse_nameless(module, name)
    return f"@{module}.{name}"


class Referent:
    """An object that a function has closed over, or that is called as one.

    It is not kept alive. Of what can be called nobody knows what it does: only the same
    one is alike.
    """

    def __init__(self, value: Any) -> None:
        self.find: Callable[[], Any] = lambda: value
        with suppress(TypeError):  # of what has no weak references
            self.find = weakref.ref(value)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Referent):
            return False
        one, two = self.find(), other.find()
        if one is two:
            return one is not None
        if callable(one) or type(one) is not type(two):
            return False
        with suppress(Exception):  # of its own comparison: an array's, say
            return bool(one == two)
        return False

    __hash__ = None  # type: ignore[assignment]


def held_by(fn: FunctionType) -> list[Any]:
    """Return what a function has closed over, and its defaults."""
    held: list[Any] = [fn.__defaults__, fn.__kwdefaults__]
    for cell in fn.__closure__ or ():
        with suppress(ValueError):  # of a name that has no value yet
            held.append(cell.cell_contents)
    return held


class Titled:
    """A function that has been given a title, and what it did then."""

    def __init__(self, fn: Any, innermost: Any) -> None:
        self.fn = Referent(fn)
        self.innermost = Referent(innermost)
        self.codes: list[tuple[CodeType, dict[str, Any]]] = []  # and where from
        # Its results stay in Redis. Of two functions that hold only texts and numbers
        # anyone can tell whether they do the same, also when one of them is gone.
        self.is_known_for_good = True
        self.form = self.form_of(fn, (innermost,))

    def form_of(self, value: Any, outside: tuple[Any, ...]) -> Any:
        """Return what is equal for functions that do the same, as they are now.

        That is their code, and what they have closed over.
        """
        kind = type(value)
        if kind in PLAIN_TEXTS:
            return kind, value
        if kind in PLAIN_NUMBERS:
            return kind, repr(value)
        # What it wraps; or itself, if it counts its own calls, say.
        if any(value is one for one in outside):
            return [value is one for one in outside]
        within = (*outside, value)
        if kind is FunctionType:
            place = {name: value.__globals__.get(name) for name in PLACE_OF_MODULE}
            self.codes.append((value.__code__, place))
            held = [self.form_of(item, within) for item in held_by(value)]
            # A module that is imported once more has other globals, of the same file.
            module = place["__file__"] or id(value.__globals__)
            return value.__code__, module, held
        if kind in ITEMS_OF and len(value) <= MOST_ITEMS:
            # As it is now: it may fill up later.
            items = list(ITEMS_OF[kind](value))
            return kind, [self.form_of(item, within) for item in items]
        self.is_known_for_good = False
        return Referent(value)

    def counts(self) -> bool:
        """Tell whether another function may still be mistaken for this one."""
        if self.innermost.find() is None:
            return False
        return self.is_known_for_good or self.fn.find() is not None

    def differs(self, later: Titled) -> bool:
        """Tell whether a later one does something else, and is no new version of it.

        As two of one factory do, called with two arguments, or two of one file. A
        module that is loaded again has new functions, under their old names.
        """
        one, two = self.innermost.find(), later.innermost.find()
        if one is not two:
            return are_of_one_file(one, two)
        if self.fn == later.fn or self.form == later.form:
            return False
        return not self.is_of_old_version()

    def is_twin(self, other: Titled) -> bool:
        """Tell whether the other one will always be known for doing the same."""
        if not (self.is_known_for_good and self.innermost == other.innermost):
            return False
        return bool(self.form == other.form)

    def is_of_old_version(self) -> bool:
        """Tell whether a part of what it did does not stand in its file any more."""
        for code, place in self.codes:
            now = code_of_module(place)
            if now is not None and code not in codes_in(now):
                return True
        return False


class Titles:
    """The functions that have been given a title, by that."""

    def __init__(self) -> None:
        self.lock = ForkSafeLock()
        self.given: dict[str, list[Titled]] = {}

    def give(self, title: str, fn: Any, innermost: Any) -> None:
        """Note that a function has a title; TypeError if an unlike one has it, too."""
        new = Titled(fn, innermost)
        if self.add(title, new):
            return
        gc.collect()  # an app, or a module, that has ended may still lie about
        if not self.add(title, new):
            raise TypeError(f"{title} is another function's name, too: give it a name=")

    def add(self, title: str, new: Titled) -> bool:
        """Add a function to those of its title; False if an unlike one is there."""
        with self.lock:
            known = [one for one in self.given.get(title, []) if one.counts()]
            if any(one.differs(new) for one in known):
                return False
            if not any(map(new.is_twin, known)):  # else one of them is enough
                known.append(new)
            self.given[title] = known
            return True


TITLES = Titles()


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
    code = code_of_module(getattr(fn, "__globals__", {}))
    if code is not None:
        yield code


def code_of_module(place: dict[str, Any]) -> CodeType | None:
    """Return the code of a module, as its file is now; None if nobody can tell."""
    with suppress(Exception):  # it has no file, or a loader of its own kind
        code = place["__loader__"].get_code(place["__name__"])
        return code if isinstance(code, CodeType) else None
    return None


def codes_in(code: CodeType) -> Iterator[CodeType]:
    """Yield the code of every function and class that stands in a piece of code."""
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield constant
            yield from codes_in(constant)
