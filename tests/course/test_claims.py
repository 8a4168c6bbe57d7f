"""What a claim expects, and what it says where it is false."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from course.claims import (
    LONGEST,
    Condition,
    at_least,
    at_most,
    between,
    difference,
    is_a,
    less_than,
    more_than,
    near,
    one_of,
    other_than,
)

CONDITIONS: list[tuple[Condition, list[Any], list[Any], str]] = [
    (more_than(5), [6, 5.1], [5, 4, None, "6"], "more than 5"),
    (less_than(5), [4, -1], [5, 6, None], "less than 5"),
    (at_least(5), [5, 6], [4, None], "at least 5"),
    (at_most(5), [5, 4], [6, None], "at most 5"),
    (between(1, 3), [1, 2, 3], [0, 4, None], "between 1 and 3"),
    (near(1.0, 0.1), [0.95, 1.05], [0.8, 1.2, math.nan, None], "1.0 to within 0.1"),
    (other_than(1), [2, None, "1"], [1, True, 1.0], "anything but 1"),
    (one_of(1, "a"), [1, "a"], [2, "b", None], "one of 1, 'a'"),
    (is_a(int, str), [1, "a", True], [1.5, None], "a int or str"),
]


@pytest.mark.parametrize(
    ("condition", "good", "bad", "text"), CONDITIONS, ids=[row[3] for row in CONDITIONS]
)
def test_a_condition_accepts_what_it_says_and_names_what_it_saw(
    condition: Condition, good: list[Any], bad: list[Any], text: str
) -> None:
    assert repr(condition) == text
    for seen in good:
        assert difference(seen, condition) == ""
    for seen in bad:
        assert difference(seen, condition) == f"{seen!r}, not {text}"


def test_facts_by_name_show_only_those_that_differ() -> None:
    observed = {"lazy": 127, "joined": 1, "selectin": 4, "extra": 0}
    expected = {"lazy": 126, "joined": 1, "selectin": less_than(3), "more": 2}
    assert difference(observed, expected) == (
        "lazy 127, not 126; selectin 4, not less than 3; more is missing; "
        "extra was not expected"
    )


def test_facts_within_facts_are_named_by_both() -> None:
    observed = {"a": {"x": 1, "y": 2}, "b": 3}
    expected = {"a": {"x": 1, "y": 3}, "b": 3}
    assert difference(observed, expected) == "a y 2, not 3"


def test_facts_beside_something_else_are_both_shown_whole() -> None:
    assert difference(None, {"a": 1}) == "None, not {'a': 1}"
    assert difference({"a": 1}, [1]) == "{'a': 1}, not [1]"


def test_a_long_value_is_cut() -> None:
    text = difference(list(range(1000)), [])
    seen, _, wanted = text.partition(", not ")
    assert wanted == "[]"
    assert len(seen) == LONGEST
    assert seen.endswith(" ...")


def test_an_error_that_is_no_comparison_passes_through() -> None:
    with pytest.raises(ZeroDivisionError):
        difference(0, Condition("whatever", lambda seen: bool(1 / seen)))


plain = st.none() | st.booleans() | st.integers() | st.text(max_size=3)
nested = st.recursive(
    plain | st.floats(allow_nan=False),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(plain, inner, max_size=3)
    ),
    max_leaves=8,
)


@given(nested, nested)
def test_there_is_a_difference_exactly_where_two_values_differ(
    observed: Any, expected: Any
) -> None:
    assert (difference(observed, expected) == "") == (observed == expected)
    assert difference(observed, observed) == ""


@given(st.dictionaries(st.text("abc", min_size=1), st.integers(0, 3)), st.data())
def test_every_name_that_differs_is_named_and_no_other(
    facts: dict[str, int], data: st.DataObject
) -> None:
    changed = data.draw(st.sets(st.sampled_from(sorted(facts)))) if facts else set()
    expected = {
        name: value + 1 if name in changed else value for name, value in facts.items()
    }
    said = difference(facts, expected)
    named = {part.split()[0] for part in said.split("; ") if part}
    assert named == changed
