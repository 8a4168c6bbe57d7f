"""Amounts as people write them: which mark is the decimal one, decided on a column."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np

from course.analytics.arrays import Floats
from course.analytics.typed import in_ascii_digits, unwrapped
from course.errors import BadInput

LARGEST_AMOUNT = 1e12  # above it, sums lose their cents
MARKS = ".,"
DECIMALS = {".": ".", "point": ".", ",": ",", "comma": ","}  # what --decimal takes
WHOLE = "whole numbers"
BLANKS = " \t\N{NO-BREAK SPACE}\N{NARROW NO-BREAK SPACE}\N{THIN SPACE}\N{FIGURE SPACE}"
GROUPS = BLANKS + "'`\N{ACUTE ACCENT}\N{RIGHT SINGLE QUOTATION MARK}"  # of thousands
NUMBER = re.compile(f"[0-9{MARKS}{re.escape(GROUPS)}]+")
SCIENTIFIC = re.compile(r"\d+(\.\d+)?[eE][+-]?\d{1,3}")
SIGNS_OF_MONEY = "$\u00a2-\u00a5\u0e3f\u20a0-\u20c0\uff04\uffe1\uffe5"
WORDS = (
    r"[A-Z]{3}\.?|[A-Z]{1,2} ?\$|\$US|[A-Z]?kr\.?|z\u0142|K\u010d|Ft|TL|lei|Rs\.?"
    r"|Fr\.?|Euros?|Dollars?|RM|Rp\.?|DM|KM|kn|S/\.?|\u0111|\u0440\u0443\u0431\.?|\u0440\.?"
    r"|\u043b\u0432\.?|\u0433\u0440\u043d\.?|[\u5143\u5186]"
)
CURRENCY = rf"(?i:{WORDS})|[{SIGNS_OF_MONEY}]"
AHEAD = re.compile(rf"({CURRENCY}|R|[-+])[{BLANKS}]*")  # R behind: returned
BEHIND = re.compile(rf"[{BLANKS}]*({CURRENCY}|-)$")
CODES = {
    **dict.fromkeys(("$", "\uff04", "US$", "$US", "US $", "DOLLAR", "DOLLARS"), "USD"),
    **dict.fromkeys(("\u20ac", "EURO", "EUROS"), "EUR"),
    **dict.fromkeys(("\u00a3", "\uffe1"), "GBP"),
    "SFR": "CHF",
    **dict.fromkeys(("\u00a5", "\uffe5", "\u5186"), "JPY"),
}
SHARED = {  # signs of more than one country: a code beside one says whose it is
    "$": {"CAD", "AUD", "NZD", "SGD", "HKD", "TWD", "MXN", "CLP", "COP", "ARS"},
    "\u00a5": {"CNY"},
    "kr": {"SEK", "NOK", "DKK", "ISK"},
}
NO_CENTS = re.compile(r"(?<=\d)([.,:/])[-\N{EM DASH}]{1,2}(?=\D*$)")  # as in 5.--, 5/-


class Written(NamedTuple):
    """An amount without its sign and currency."""

    number: str
    negative: bool
    currency: str


def currency_code(name: str) -> str:
    """Return one spelling of a currency: kr. and Kr are KR, a sign of one is a code."""
    spelled = name.strip().rstrip(".").upper()
    return CODES.get(spelled, spelled)


def taken_apart(text: str) -> Written | None:
    """Return the parts of 12.50, -$12.50, (12.50) or 12,50 EUR; None for others."""
    signs: list[str] = []
    currencies: list[str] = []
    # A dash in the place of the cents is no sign: 1.234,- is not a refund.
    rest = unwrapped(in_ascii_digits(text).strip(BLANKS))
    rest = NO_CENTS.sub(lambda mark: mark[1].strip(":/"), rest)
    while rest and not NUMBER.fullmatch(rest) and not SCIENTIFIC.fullmatch(rest):
        ahead = AHEAD.match(rest)
        behind = BEHIND.search(rest)
        if rest[0] == "(" and rest[-1] == ")":
            part = "-"
            rest = rest[1:-1].strip(BLANKS)
        elif ahead:
            part = ahead[1]
            rest = rest[ahead.end() :]
        elif behind:
            part = behind[1]
            rest = rest[: behind.start()]
        else:
            return None
        (signs if part in "-+" else currencies).append(part)
    named = {currency_code(name) for name in currencies if name not in SHARED}
    for sign in SHARED.keys() & set(currencies):
        if not named & SHARED[sign]:
            named.add(currency_code(sign))
    if len(signs) > 1 or len(named) > 1 or not rest:
        return None
    negative = signs == ["-"]
    return Written(rest, negative, "".join(named))


def value_of(number: str, decimal: str) -> float | None:
    """Return what a number is with this decimal mark; None if it cannot be one."""
    if SCIENTIFIC.fullmatch(number):
        value = float(number)
        return value if value < LARGEST_AMOUNT else None
    head, mark, decimals = number.partition(decimal)
    if mark and not re.fullmatch("[0-9]*", decimals):
        return None
    thousands = re.sub("[0-9]", "", head)
    if len(set(thousands)) > 1:
        return None
    if thousands:
        group = re.escape(thousands[0])
        by_three = f"[1-9][0-9]{{0,2}}({group}[0-9]{{3}})+"
        in_india = f"[1-9][0-9]?({group}[0-9]{{2}})+{group}[0-9]{{3}}"
        if not re.fullmatch(f"{by_three}|{in_india}", head):
            return None
        head = head.replace(thousands[0], "")
    if not head and not decimals:
        return None
    value = float(f"{head or 0}.{decimals or 0}")
    return value if value < LARGEST_AMOUNT else None


def possible_marks(number: str) -> str:
    """Return the decimal marks with which a number can be read; both if it has none."""
    return "".join(mark for mark in MARKS if value_of(number, mark) is not None)


class Style(NamedTuple):
    """How a column writes amounts."""

    decimal: str
    said: str


def style_of(texts: Iterable[str], asked: str | None, what: str) -> Style:
    """Return the decimal mark of a column: as asked, else what its texts prove.

    A proof is a text that only one mark explains: with both marks, two groups, or a
    last group that is not three digits. Raises BadInput where none is there, or both.
    """
    if asked is not None:
        return Style(asked, f"decimal {asked} as asked for")
    proof: dict[str, str] = {}
    open_question = ""
    for text in texts:
        written = taken_apart(text)
        if written is None or not set(written.number) & set(MARKS):
            continue
        marks = possible_marks(written.number)
        if len(marks) == 1:
            proof.setdefault(marks, text.strip())
        elif marks and SCIENTIFIC.fullmatch(written.number) is None:
            open_question = open_question or text.strip()
    options = "--decimal . or --decimal ,"
    if len(proof) > 1:
        both = " and ".join(repr(proof[mark]) for mark in MARKS)
        raise BadInput(f"{what}: written in two ways, as {both}; say {options}")
    if proof:
        (mark,) = proof
        return Style(mark, f"decimal {mark} as in {proof[mark]}")
    if open_question:
        said = f"{open_question!r} may be thousands or decimals, and nothing decides"
        raise BadInput(f"{what}: {said}; say {options}")
    return Style(".", WHOLE)


class AmountTexts(NamedTuple):
    """What the different texts of a column say; NaN for those that are no amount."""

    value: Floats  # negative for refunds
    currency: list[str]  # empty where none is written
    style: Style
    anyhow: Floats  # as `value`, but read with the other mark where only that fits


def read_amounts(texts: Sequence[str], asked: str | None, what: str) -> AmountTexts:
    """Return the amounts of a column's different texts."""
    style = style_of(texts, asked, what)
    other = MARKS.replace(style.decimal, "")
    value = np.full(len(texts), math.nan)
    anyhow = value.copy()
    currency = [""] * len(texts)
    for place, text in enumerate(texts):
        written = taken_apart(text)
        if written is None:
            continue
        sign = -1.0 if written.negative else 1.0
        amount = value_of(written.number, style.decimal)
        if amount is not None:
            value[place] = sign * amount
            currency[place] = written.currency
        else:
            amount = value_of(written.number, other)
        if amount is not None:
            anyhow[place] = sign * amount
    return AmountTexts(value, currency, style, anyhow)
