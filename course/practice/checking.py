"""What a check says: what was tried, what came out, what should have come out."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from concurrent.futures import wait
from typing import Any, TypeVar

from course.claims import difference
from course.lab import in_background

USUAL_LIMIT = 2.0  # seconds that one call of an answer may take

AnyError = TypeVar("AnyError", bound=Exception)
AnyResult = TypeVar("AnyResult")


class Refused(Exception):
    """Raised by a check at the first thing that is wrong with an answer.

    `tried` says in words what was done, `hint` which of the three hints fits.
    """

    def __init__(self, tried: str, observed: Any, expected: Any, hint: int) -> None:
        super().__init__(tried, observed, expected, hint)
        self.tried = tried
        self.observed = observed
        self.expected = expected
        self.hint = hint

    def __str__(self) -> str:
        """Return it as one sentence."""
        differs = difference(self.observed, self.expected)
        return f"{self.tried}: {differs} (hint {self.hint})"


class Words:
    """Words that stand where a value would, such as "no end within 2 seconds"."""

    def __init__(self, text: str) -> None:
        self.text = text

    def __repr__(self) -> str:
        """Return the words without quotes."""
        return self.text


def expect(tried: str, observed: Any, expected: Any, hint: int) -> None:
    """Refuse the answer if what came out is not what should have.

    `expected` is a value, a condition of course.claims, or a dict of either by name.
    """
    try:
        differs = difference(observed, expected)
    except (TypeError, ValueError):  # such as the == of two arrays
        observed = Words(f"{type(observed).__name__} that cannot be compared")
        raise Refused(tried, observed, expected, hint) from None
    if differs:
        raise Refused(tried, observed, expected, hint)


def expect_error(
    tried: str, kind: type[AnyError], call: Callable[[], object], hint: int
) -> AnyError:
    """Return the error that a call raises; refuse the answer if it raises another.

    NotImplementedError passes: it says that the answer is not written yet.
    """
    wanted = Words(kind.__name__)
    try:
        result = call()
    except NotImplementedError as error:
        if kind is NotImplementedError:
            return error  # type: ignore[return-value]  # it is of that kind
        raise
    except kind as error:
        return error
    except Exception as error:
        raised = Words(f"{type(error).__name__}: {error}")
        raise Refused(tried, raised, wanted, hint) from error
    returned = Words(f"no error, but {result!r}")
    raise Refused(tried, returned, wanted, hint)


def expect_end(
    tried: str,
    call: Callable[[], AnyResult],
    hint: int,
    seconds: float = USUAL_LIMIT,
) -> AnyResult:
    """Return what a call returns; refuse the answer if it does not end in time.

    The call runs in a thread of its own, which goes on where it does not end. What it
    raises is raised here.
    """
    running = in_background(call)
    if not wait([running], seconds).done:
        observed = Words(f"no end within {seconds:g} seconds")
        raise Refused(tried, observed, Words("an end"), hint)
    result: AnyResult = running.result()
    return result


def facts_that_differ(observed: Any, expected: Any) -> tuple[Any, Any]:
    """Return what came out and what should have, of dicts only what differs."""
    if not isinstance(observed, Mapping) or not isinstance(expected, Mapping):
        return observed, expected
    came: dict[Any, Any] = {}
    wanted: dict[Any, Any] = {}
    for name in [*expected, *(name for name in observed if name not in expected)]:
        here = observed.get(name, Words("missing"))
        there = expected.get(name, Words("not there"))
        if difference(here, there):
            came[name] = here
            wanted[name] = there
    return came, wanted
