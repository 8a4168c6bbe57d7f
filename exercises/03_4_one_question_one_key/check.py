"""Judges call_key: pairs of calls that are one question, and pairs that are two.

Run as `python check.py ANSWER` it prints the keys of some calls, for other processes.
"""

from __future__ import annotations

import base64
import copy
import importlib.util
import math
import os
import random
import subprocess
import sys
from collections import OrderedDict
from collections.abc import Callable
from datetime import date, datetime
from decimal import Decimal
from enum import Enum, IntEnum
from functools import partial
from pathlib import Path
from types import FunctionType, ModuleType
from typing import Any, NamedTuple

from course.claims import at_least, at_most
from course.lab import outcome_of
from course.practice.checking import Refused, Words, expect, expect_error

SAME = Words("one key")
DIFFERENT = Words("two keys")
CHILD_LIMIT = 6.0  # seconds for a process, on a busy machine, too


class Called(Exception):
    """Raised by the functions whose calls get a key: nobody may call them."""


def report(customer: Any, part: Any = None, *, lines: Any = 10) -> None:
    """Stand for a report with defaults."""
    raise Called


def chart(customer: Any, /, *rest: Any, **options: Any) -> None:
    """Stand for a function with `*rest` and `**options`."""
    raise Called


def search(session: Any, customer: Any, trace: Any = None, limit: Any = 5) -> None:
    """Stand for a function of which two arguments are no part of the question."""
    raise Called


def renamed(fn: Callable[..., Any], module: str, name: str) -> Callable[..., Any]:
    """Return a function like another one, of another module and with another name."""
    original: Any = fn
    short = name.rpartition(".")[2]
    twin = FunctionType(original.__code__, original.__globals__, short)
    twin.__defaults__ = original.__defaults__
    twin.__kwdefaults__ = original.__kwdefaults__
    twin.__module__ = module
    twin.__qualname__ = name
    return twin


# The names are set: in a process of its own this module would be called __main__.
REPORT = renamed(report, "shop.reports", "report")
CHART = renamed(chart, "shop.reports", "chart")
SEARCH = renamed(search, "shop.reports", "search")


class Call(NamedTuple):
    """A call, and how the learner is told of it."""

    fn: Callable[..., Any]
    args: tuple[Any, ...]
    kwargs: dict[str, Any]

    def __str__(self) -> str:
        """Return it as one would write it."""
        words = [repr(value) for value in self.args]
        words += [f"{name}={value!r}" for name, value in self.kwargs.items()]
        return f"{self.fn.__name__}({', '.join(words)})"


def called(fn: Callable[..., Any], *args: Any, **kwargs: Any) -> Call:
    """Return a call as it is written."""
    return Call(fn, args, kwargs)


def check(answer: ModuleType, rng: random.Random) -> None:
    """Judge the form of a key, then pairs of calls, then what is refused."""
    for test in (
        form,
        spellings,
        values,
        parameters,
        functions,
        left_out_of_the_key,
        no_text_shown,
        enough_keys,
        other_processes,
        refused_values,
        refused_calls,
    ):
        test(answer, rng)


def key_of(answer: ModuleType, call: Call, ignored: Any = ()) -> Any:
    """Return the key of a call, or the exception that making it raises."""
    key = outcome_of(partial(answer.call_key, *call, ignored))
    if isinstance(key, NotImplementedError):
        raise key
    return key


def expect_key(tried: str, key: Any, hint: int) -> None:
    """Refuse an answer that raised an exception instead of making a key."""
    if isinstance(key, Exception):
        expect(tried, key, Words("a key"), hint)


def compare(tried: str, keys: list[Any], wanted: Words, hint: int) -> None:
    """Refuse an answer whose keys of two calls are equal, or are not."""
    for key in keys:
        expect_key(tried, key, hint)
    seen = SAME if keys[0] == keys[1] else DIFFERENT
    if seen is not wanted:
        expect(tried, seen, wanted, hint)


def expect_same(answer: ModuleType, one: Call, other: Call, hint: int) -> None:
    """Refuse an answer that has two keys for one question."""
    keys = [key_of(answer, one), key_of(answer, other)]
    compare(f"{one} and {other}", keys, SAME, hint)


def expect_different(answer: ModuleType, one: Call, other: Call, hint: int) -> None:
    """Refuse an answer that has one key for two questions."""
    keys = [key_of(answer, one), key_of(answer, other)]
    compare(f"{one} and {other}", keys, DIFFERENT, hint)


def expect_form(tried: str, key: Any, hint: int) -> None:
    """Refuse a key that has no place in a log."""
    expect_key(tried, key, hint)
    expect(f"{tried}: the type of the key", type(key).__name__, "str", hint)
    facts = {
        "length": len(key),
        "ASCII": key.isascii(),
        "spaces": any(letter.isspace() for letter in key),
        "empty": not key,
    }
    wanted = {"length": at_most(100), "ASCII": True, "spaces": False, "empty": False}
    expect(f"{tried}: its key", facts, wanted, hint)


def form(answer: ModuleType, rng: random.Random) -> None:
    """A key is a short text, also of long arguments and of a long name."""
    number = rng.randrange(1, 1000)
    call = called(REPORT, number, "north", lines=20)
    key = answer.call_key(call.fn, call.args, call.kwargs)
    expect_form(str(call), key, 1)
    expect_same(answer, call, copy.deepcopy(call), 1)
    long = called(REPORT, "a long text " * 50, list(range(200)))
    expect_form("a call with long arguments", key_of(answer, long), 1)
    for about, name in (
        ("a function whose name has 150 letters", "report_" * 21 + "rep"),
        ("a function whose name is not ASCII", "größe_żółw"),
        ("a function within a function", "outer.<locals>.report"),
    ):
        twin = renamed(report, "shop.reports", name)
        expect_form(about, key_of(answer, called(twin, 1)), 1)


def spellings(answer: ModuleType, rng: random.Random) -> None:
    """One call has one key, in whatever way it is written."""
    number = rng.randrange(1, 1000)
    when = date(2026, rng.randrange(1, 13), rng.randrange(1, 29))
    pair = [("north", number), ("south", when)]
    straight = dict(pair)
    turned = dict(reversed(pair))
    for one, other in (
        (called(REPORT, number, "x"), called(REPORT, customer=number, part="x")),
        (called(REPORT, number), called(REPORT, number, None)),
        (called(REPORT, number), called(REPORT, number, lines=10, part=None)),
        (
            called(REPORT, part=when, customer=number),
            called(REPORT, customer=number, part=when),
        ),
        (called(REPORT, straight), called(REPORT, turned)),
        (
            called(REPORT, [(1, {"deep": straight})]),
            called(REPORT, [(1, {"deep": turned})]),
        ),
        (called(CHART, 1, **straight), called(CHART, 1, **turned)),
        (called(CHART, 1, style=straight), called(CHART, 1, style=turned)),
        (called(CHART, 1, turned, 2), called(CHART, 1, straight, 2)),
    ):
        expect_same(answer, one, other, 1)


def values_that_differ(rng: random.Random) -> list[Any]:
    """Return values of which no two may have one key."""
    when = date(2026, rng.randrange(1, 13), rng.randrange(1, 29))
    number = rng.randrange(2, 1000)
    found = [*values_that_look_alike(), *values_like_a_date(when)]
    found += [*values_like_a_written_key(), number, float(number), str(number), -number]
    found += [2**53, 2**53 + 1, 10**30 + number, 10**30 + number + 1, 1e30]
    found += [0.1, 0.1 + 0.2, 0.3, 1e-9, float("inf"), "inf", "Infinity"]
    found += ["A", "a", " a", "a ", "a\n", "\u00e9", "e\u0301", "\u017c", "\\u017c"]
    return found


def values_that_look_alike() -> list[Any]:
    """Return values that differ by their type, or by where one ends."""
    found: list[Any] = [1, True, 1.0, "1", "1.0", "True", "true", [1], (1,), {"1": 1}]
    found += [0, False, 0.0, "0", "", None, "None", "null", [], (), {}, [None]]
    found += [
        [1, 2],
        (1, 2),
        "[1, 2]",
        "(1, 2)",
        [[1], 2],
        [1, [2]],
        [1, 2, []],
        [2, 1],
    ]
    found += [
        {"a": 1},
        [["a", 1]],
        (("a", 1),),
        {"a": 1.0},
        {"a": {"b": 1}},
        {"a": None},
    ]
    found += [
        ("a,b", "c"),
        ("a", "b,c"),
        ("a", "b", "c"),
        "a,b,c",
        ("a, b",),
        ("a", "b"),
    ]
    found += ["'a', 'b'", '"', "'", '\\"', 'a", "b', ["a', 'b"], ["a", "b"], ['a", "b']]
    return found


def values_like_a_date(when: date) -> list[Any]:
    """Return a date, and what a key may write instead of it."""
    text = when.isoformat()
    found: list[Any] = []
    found += [when, text, repr(when), f"date:{text}", ["date", text], ("date", text)]
    found += [{"date": text}, {"__date__": text}, when.toordinal(), [text], str([text])]
    found += [{"$date": text}, {"type": "date", "value": text}, {"date": [text]}]
    return found


def values_like_a_written_key() -> list[Any]:
    """Return values that look like others with their type written beside them."""
    found: list[Any] = []
    found += [["int", 1], ["int", "1"], ["int", "0x1"], "int:1", ["float", 1.0], [1.0]]
    found += [["tuple", [1, 2]], ("tuple", [1, 2]), {"tuple": [1, 2]}, ["list", [1, 2]]]
    found += [
        {"__tuple__": [1, 2]},
        ["dict", [["a", 1]]],
        ["str", "1"],
        ["NoneType", None],
    ]
    return [*found, ["None"], ["bool", True]]


def values(answer: ModuleType, rng: random.Random) -> None:
    """Values that differ in type or content have different keys, at any depth."""
    found = values_that_differ(rng)
    when = next(value for value in found if type(value) is date)
    pairs: list[tuple[Any, Any]] = [(1, True), (1, 1.0), (True, 1.0), (1, "1")]
    pairs += [(None, "None"), ([1, 2], (1, 2)), (when, when.isoformat())]
    pairs += [(("a,b", "c"), ("a", "b,c")), (0, False), (0, None), ("", None)]
    rng.shuffle(pairs)
    for one, other in pairs:
        expect_different(answer, called(REPORT, one), called(REPORT, other), 2)
        # A tuple that equals one from before, as a cache of made keys would find it.
        for deep in (lambda value: (value,), lambda value: [{"k": (value, 2)}]):
            first = called(REPORT, deep(one))
            expect_different(answer, first, called(REPORT, deep(other)), 2)
        options = called(CHART, 1, option=one)
        expect_different(answer, options, called(CHART, 1, option=other), 2)
    rng.shuffle(found)
    seen: dict[Any, Call] = {}
    for value in found:
        call = called(REPORT, value)
        key = key_of(answer, call)
        expect_key(str(call), key, 2)
        if key in seen:
            compare(f"{seen[key]} and {call}", [key, key], DIFFERENT, 2)
        seen[key] = call


def parameters(answer: ModuleType, rng: random.Random) -> None:
    """The same values in other places are another question."""
    first, second = rng.sample(range(1, 1000), 2)
    for one, other in (
        (called(REPORT, first, second), called(REPORT, second, first)),
        (called(REPORT, first, None), called(REPORT, None, first)),
        (called(REPORT, first, second), called(REPORT, first, lines=second)),
        (called(REPORT, (first, second)), called(REPORT, first, second)),
        (called(REPORT, "a,b", "c"), called(REPORT, "a", "b,c")),
        (called(REPORT, "a", "b", lines="c"), called(REPORT, "a', 'b", "c")),
        (called(CHART, 1, first, second), called(CHART, 1, (first, second))),
        (called(CHART, 1, first), called(CHART, 1, [first])),
        (called(CHART, 1, first), called(CHART, 1, rest=first)),
        (called(CHART, 1, first), called(CHART, 1, rest=(first,))),
        (called(CHART, 1, a=first), called(CHART, 1, b=first)),
        (called(CHART, 1, a=first), called(CHART, 1, {"a": first})),
        (called(CHART, 1, a=first), called(CHART, 1, options={"a": first})),
        (called(CHART, first), called(CHART, first, customer=second)),
        (
            called(CHART, first, customer=second),
            called(CHART, second, customer=first),
        ),
    ):
        expect_different(answer, one, other, 2)


def functions(answer: ModuleType, rng: random.Random) -> None:
    """Two functions have two keys for the same arguments."""
    names = [
        ("shop.reports", "report"),
        ("shop.figures", "report"),
        ("shop.reports", "Customers.report"),
        ("shop.reports", "Products.report"),
        ("shop.reports", "chart"),
        ("shop", "reports.report"),
        ("shop.reports.Customers", "report"),
    ]
    number = rng.randrange(1000)
    keys: dict[Any, str] = {}
    for module, name in names:
        key = key_of(answer, called(renamed(report, module, name), number))
        about = f"{name} of the module {module}"
        if key in keys:
            tried = f"{keys[key]} and {about}, both with {number}"
            compare(tried, [key, key], DIFFERENT, 1)
        keys[key] = about


def enough_keys(answer: ModuleType, rng: random.Random) -> None:
    """Keys are long enough for billions of questions."""
    keys = []
    for number in range(300):
        keys.append(key_of(answer, called(REPORT, rng.random(), number)))
    letters: dict[int, set[str]] = {}
    for key in keys:
        for place, letter in enumerate(key):
            letters.setdefault(place, set()).add(letter)
    bits = sum(math.log2(len(found)) for found in letters.values())
    tried = "keys of 300 questions: bits in which they differ"
    expect(tried, round(bits), at_least(60), 3)


class Session:
    """An argument that nobody can write, compare or copy."""

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        """Raise: nobody has to look at it."""
        raise Called

    def __eq__(self, other: object) -> bool:
        """Raise: nobody has to look at it."""
        raise Called


def left_out_of_the_key(answer: ModuleType, rng: random.Random) -> None:
    """What is ignored is no part of the key, whatever it is and wherever it stands."""
    number = rng.randrange(1000)
    made = []
    for about, args, kwargs in (
        ("by position", (Session(), number), {}),
        ("by name", (), {"customer": number, "session": Session(), "trace": {1}}),
        ("in both ways", (Session(), number, Session(), 5), {}),
        ("as plain values", (1, number), {"trace": "t-1"}),
    ):
        for ignored in (["session", "trace"], {"trace", "session"}):
            tried = f"search with session and trace ignored, given {about}"
            key = key_of(answer, Call(SEARCH, args, kwargs), ignored)
            expect_form(tried, key, 2)
            made.append(key)
            compare(f"{tried}, and the first such call", [key, made[0]], SAME, 2)
    ignored = ["session", "trace"]
    other = key_of(answer, called(SEARCH, 1, number + 1), ignored)
    tried = "search with session and trace ignored, for two customers"
    compare(tried, [other, made[0]], DIFFERENT, 2)
    tried = "search with only trace ignored, in two sessions"
    keys = [key_of(answer, called(SEARCH, one, number), ["trace"]) for one in (1, 2)]
    compare(tried, keys, DIFFERENT, 2)


def no_text_shown(answer: ModuleType, rng: random.Random) -> None:
    """Nothing of an argument can be read in a key, and no argument is changed."""
    secret = f"mail{rng.randrange(10**6, 10**7)}"
    number = rng.randrange(10**11, 10**12)
    options = {"zone": [secret, {"b": number, "a": 1}], "also": (number, secret)}
    before = copy.deepcopy(options)
    call = Call(CHART, (secret, [number]), options)
    key = key_of(answer, call)
    expect_form(str(call), key, 1)
    coded = base64.b64encode(secret.encode()).decode().rstrip("=")[:-1]
    for text in (secret, str(number), secret.encode().hex(), coded, f"{number:x}"):
        tried = f"a call with {secret!r} and {number}"
        shown = text in key or text in key.lower()
        expect(f"{tried}: its key shows {text}", shown, False, 1)
    tried = "the arguments after call_key"
    expect(tried, repr(options), repr(before), 3)


def calls_everywhere() -> list[Call]:
    """Return calls whose keys several processes compare."""
    return [
        called(REPORT, 1, "north"),
        called(REPORT, {"b": [1.5, None], "a": (True, date(2026, 1, 31))}),
        called(CHART, "x", 1, 2, **{name: name for name in "qwertyuiop"}),
    ]


def other_processes(answer: ModuleType, rng: random.Random) -> None:
    """The keys are the same in processes with another PYTHONHASHSEED."""
    here = [key_of(answer, call) for call in calls_everywhere()]
    paths = os.pathsep.join(sys.path)
    for seed in rng.sample(range(1, 1000), 2):
        variables = {"PYTHONHASHSEED": str(seed), "PYTHONPATH": paths}
        tried = f"calls in this process, and in one with PYTHONHASHSEED={seed}"
        there = keys_elsewhere(tried, answer, os.environ | variables)[-len(here) :]
        compare(tried, [there, here], SAME, 1)


def keys_elsewhere(tried: str, answer: ModuleType, variables: Any) -> list[str]:
    """Return the keys that the answer makes in a process of its own."""
    try:
        child = subprocess.run(  # noqa: S603  (this file, and the answer)
            [sys.executable, __file__, str(answer.__file__)],
            env=variables,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            encoding="utf-8",
            timeout=CHILD_LIMIT,
            check=False,
        )
    except subprocess.TimeoutExpired:
        late = Words(f"no end within {CHILD_LIMIT:g} seconds")
        raise Refused(tried, late, Words("an end"), 1) from None
    return child.stdout.split()


def values_of_other_types() -> list[tuple[str, Any]]:
    """Return values that no key can be made of, with their names."""
    level = IntEnum("level", "LOW HIGH")
    colour = Enum("colour", "RED BLUE")
    pair = type("pair", (tuple,), {})
    text = type("text", (str,), {})
    number = type("number", (float,), {})
    items = type("items", (list,), {})
    day = type("day", (date,), {})
    return [
        ("a set", {1}),
        ("a frozenset", frozenset({1})),
        ("an object", object()),
        ("bytes", b"x"),
        ("a Decimal", Decimal(1)),
        ("a complex number", 1j),
        ("a datetime", datetime(2026, 1, 31)),
        ("a member of an IntEnum", level(1)),
        ("a member of an Enum", colour(1)),
        ("a subclass of tuple, such as a named one", pair([1])),
        ("an OrderedDict", OrderedDict(a=1)),
        ("a subclass of str", text("x")),
        ("a subclass of float", number(1)),
        ("a subclass of list", items([1])),
        ("a subclass of date", day(2026, 1, 31)),
        ("a dict with the key 1", {1: "x"}),
        ("a dict with the key None", {"a": 1, None: "x"}),
        ("a dict whose key is of a subclass of str", {text("x"): 1}),
        ("a class", int),
    ]


def refused_values(answer: ModuleType, rng: random.Random) -> None:
    """A value of another type raises TypeError with the name of the parameter."""
    for about, value in values_of_other_types():
        for where, whole in (("", value), (" in a list in a dict", {"k": [value]})):
            tried = f"{about}{where} as the argument `customer`"
            make = partial(answer.call_key, REPORT, (whole,), {})
            error = expect_error(tried, TypeError, make, 3)
            named = "customer" in str(error)
            expect(f"{tried}: the TypeError names it", named, True, 3)
        tried = f"{about} among *rest"
        make = partial(answer.call_key, CHART, (1, 2, value), {})
        expect_error(tried, TypeError, make, 3)
        tried = f"{about} among **options"
        make = partial(answer.call_key, CHART, (1,), {"colour": value})
        expect_error(tried, TypeError, make, 3)


def refused_calls(answer: ModuleType, rng: random.Random) -> None:
    """A call that the function would not accept raises TypeError.

    Not among them: chart(customer=1), which Signature.bind() of Python 3.13.0 accepts.
    """
    for call in (
        called(REPORT),
        called(REPORT, 1, 2, 3),
        called(REPORT, 1, colour=2),
        Call(REPORT, (1,), {"customer": 2}),
        called(SEARCH, 1),
    ):
        make = partial(answer.call_key, *call)
        expect_error(f"{call}, which would fail", TypeError, make, 3)


def print_keys(path: str) -> None:
    """Print the keys that an answer makes in this process."""
    spec: Any = importlib.util.spec_from_file_location("answer", Path(path))
    module = importlib.util.module_from_spec(spec)
    sys.modules["answer"] = module
    spec.loader.exec_module(module)
    for call in calls_everywhere():
        print(key_of(module, call))


if __name__ == "__main__":
    print_keys(sys.argv[1])
