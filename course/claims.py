"""What a claim expects: a value, a condition, or a dict of them; and what differs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

LONGEST = 120  # characters of a value in a failure


@dataclass(frozen=True)
class Condition:
    """What a value has to be, other than equal; `text` completes "5, not ..."."""

    text: str
    holds: Callable[[Any], bool]

    def __repr__(self) -> str:
        return self.text

    def accepts(self, seen: Any) -> bool:
        """Tell whether it holds for a value; not if that cannot be compared."""
        try:
            return self.holds(seen)
        except TypeError:  # such as None > 5
            return False


def more_than(limit: Any) -> Condition:
    """Return the condition of being above a limit."""
    return Condition(f"more than {limit!r}", lambda seen: bool(seen > limit))


def less_than(limit: Any) -> Condition:
    """Return the condition of being below a limit."""
    return Condition(f"less than {limit!r}", lambda seen: bool(seen < limit))


def at_least(limit: Any) -> Condition:
    """Return the condition of being a limit or above."""
    return Condition(f"at least {limit!r}", lambda seen: bool(seen >= limit))


def at_most(limit: Any) -> Condition:
    """Return the condition of being a limit or below."""
    return Condition(f"at most {limit!r}", lambda seen: bool(seen <= limit))


def between(low: Any, high: Any) -> Condition:
    """Return the condition of being within two limits, both included."""
    return Condition(
        f"between {low!r} and {high!r}", lambda seen: bool(low <= seen <= high)
    )


def near(value: float, within: float) -> Condition:
    """Return the condition of being as close to a number as `within`."""
    return Condition(
        f"{value!r} to within {within!r}",
        lambda seen: bool(abs(seen - value) <= within),
    )


def other_than(value: Any) -> Condition:
    """Return the condition of being anything but a value."""
    return Condition(f"anything but {clipped(value)}", lambda seen: bool(seen != value))


def one_of(*values: Any) -> Condition:
    """Return the condition of being among some values."""
    return Condition(
        "one of " + ", ".join(map(repr, values)), lambda seen: seen in values
    )


def is_a(*kinds: type) -> Condition:
    """Return the condition of being an instance of a class."""
    names = " or ".join(kind.__name__ for kind in kinds)
    return Condition(f"a {names}", lambda seen: isinstance(seen, kinds))


def clipped(value: object) -> str:
    """Return the repr of a value, cut where it is long."""
    text = repr(value)
    return text if len(text) <= LONGEST else f"{text[: LONGEST - 4]} ..."


def difference(observed: Any, expected: Any) -> str:
    """Return what was observed and was not expected, or "" if all is as expected.

    Dicts are compared by name, so that a failure shows only the facts that differ.
    """
    if isinstance(expected, Mapping) and isinstance(observed, Mapping):
        return difference_by_name(observed, expected)
    if isinstance(expected, Condition):
        wanted = repr(expected)
        same = expected.accepts(observed)
    else:
        wanted = clipped(expected)
        same = bool(observed == expected)
    return "" if same else f"{clipped(observed)}, not {wanted}"


def difference_by_name(observed: Mapping[Any, Any], expected: Mapping[Any, Any]) -> str:
    """Return the entries of two mappings that differ, as one line."""
    found = []
    for name, wanted in expected.items():
        if name not in observed:
            found.append(f"{name} is missing")
        elif differs := difference(observed[name], wanted):
            found.append(f"{name} {differs}")
    for name in observed:
        if name not in expected:
            found.append(f"{name} was not expected")
    return "; ".join(found)
