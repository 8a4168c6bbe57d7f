"""Customers by their names: one name for each, and none for nobody."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from course.analytics.arrays import Ints
from course.analytics.typed import INVISIBLE, unwrapped

# What stands for a missing customer, for guests, and in a row of sums. No blanks.
PLACEHOLDERS = frozenset(
    [
        *("nan", "nat", "none", "null", "nil", "n/a", "#n/a", "na", "<na>", "\\n"),
        *("(null)", "(none)", "(blank)", "(notset)", "-", "--", "---", "?"),
        *("undefined", "unknown", "unbekannt", "inconnu", "#value!", "#ref!", "#name?"),
        *("guest", "guests", "gast", "gastkunde", "invitado", "anonymous", "anonym"),
        *("walk-in", "walkin", "cashcustomer", "total", "totals", "grandtotal"),
        *("subtotal", "sum", "summe", "gesamt", "gesamtsumme", "zwischensumme"),
    ]
)
# What many guests may share; it may also be somebody's name or number.
OF_GUESTS = re.compile(
    r"0+|-1|9{3,}|\W+|.*(?:\bguest|\bgast(?:\b|kund|best)|\binvit[ae\u00e9]\b|anonym"
    r"|an[o\u00f3]nim|deleted|\bunknown|no-?reply|walk.?in|cash.?(?:sale|custom)"
    r"|checkout|laufkund|barverkauf).*",
    re.IGNORECASE,
)
MOST_OF_ONE = 0.01  # of the rows: customers seldom have more
TIMES_THE_NEXT = 3  # as many rows as the next customer: a person seldom has
FEWEST_OTHERS = 10  # customers; of fewer, one may well have most rows
ROUNDED = re.compile(r"\d[.,]\d+E\+\d{2,3}")  # 4.50E+18, as a spreadsheet shows it
NOT_SEEN = str.maketrans(dict.fromkeys(INVISIBLE))
WHOLE_FLOAT = re.compile(r"-?\d+\.0")


class Customers(NamedTuple):
    """Who the different texts of a column are."""

    names: list[str]  # of each text; several texts may have one
    placeholders: list[bool]
    rounded: list[bool]


def as_seen(text: str) -> str:
    """Return a name as it looks: without hidden marks, and one code for a letter."""
    text = unwrapped(text)
    if text.isascii():
        return " ".join(text.split()) if "  " in text else text
    # A letter with an accent has two codes, and looks the same; so do blanks.
    return " ".join(unicodedata.normalize("NFC", text).translate(NOT_SEEN).split())


def one_spelling(texts: Sequence[str]) -> list[str]:
    """Return texts so that 12347.0 is 12347, and Ann@x.com is ann@x.com."""
    # pandas writes 12347.0 if a number of the column is missing.
    dotted = [text for text in texts if "." in text]
    floats = all(map(WHOLE_FLOAT.fullmatch, dotted))
    first: dict[str, str] = {}
    names = []
    for text in texts:
        name = text
        if floats and text.endswith(".0"):
            name = text[:-2]
        elif "@" in text:
            name = first.setdefault(text.casefold(), text)
        names.append(name)
    return names


def customers_of(texts: Sequence[str], codes: Ints) -> Customers:
    """Return who the different texts of a column are; `codes` has each row's text.

    Guests may share a number or an account, such as 0 or Guest Checkout: it is
    nobody's if it has far more rows than any other.
    """
    names = one_spelling([as_seen(text) for text in texts])
    placeholders = [name.casefold().replace(" ", "") in PLACEHOLDERS for name in names]
    rows = np.bincount(codes, minlength=len(names))
    most = int(rows.argmax())
    others = np.delete(rows, most)
    if OF_GUESTS.fullmatch(names[most]) and len(others) >= FEWEST_OTHERS:
        enough = max(TIMES_THE_NEXT * others.max(), MOST_OF_ONE * len(codes))
        placeholders[most] = bool(rows[most] > enough)
    rounded = ["E+" in name and bool(ROUNDED.fullmatch(name)) for name in names]
    return Customers(names, placeholders, rounded)
