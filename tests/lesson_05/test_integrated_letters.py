"""Lesson 05 --integrated: what a customer is written, and what stays inside."""

from __future__ import annotations

import re
from types import SimpleNamespace
from typing import Any

from lesson_05.logs import lesson

from course.integrated.analytics import Analytics, first_customers
from course.integrated.answers import LETTERS, offers_to_all
from course.integrated.lessons import load_lesson
from course.integrated.letters import Writer

INSIDE = r"\d|churn|score|segment|spend|dormant|at.risk|vip|retention|campaign|lifetime"


def letters_of(log: Any) -> dict[str, Any]:
    """Return the mail to each customer, by address, in the order of sending."""
    people = [
        SimpleNamespace(username=user, email=f"{user}@example.org") for user in log.ids
    ]
    shop: Any = SimpleNamespace(
        analytics=Analytics(lesson),
        writer=Writer(load_lesson("04")),
        documents=SimpleNamespace(people=lambda: people),
        scores={user: [0.83, float(place)] for place, user in enumerate(log.ids)},
        end=log.last_day,
    )
    return {letter.message.recipient: letter for letter in offers_to_all(shop, log)}


def test_a_customer_is_told_what_a_shop_would_say(log: Any) -> None:
    few = first_customers(log, 200)
    letters = letters_of(few)
    assert len(letters) == len(few.ids)
    for letter in letters.values():
        said = f"{letter.message.subject} {letter.message.content}"
        assert not re.search(INSIDE, said, re.IGNORECASE), said
    # Who is worth most is written to first; nothing else of a score gets out.
    assert next(iter(letters)) == f"{few.ids[-1]}@example.org"
    assert len({letter.message.content for letter in letters.values()}) > 1


def test_there_is_a_letter_for_each_strategy() -> None:
    assert set(LETTERS) == set(lesson.STRATEGY.values())
