"""What somebody typed, without what programs put around it."""

from __future__ import annotations

import re
import unicodedata

INVISIBLE = "\u200b\u200e\u200f\u061c\u2060\ufeff"  # directions of writing, and marks
# Marks between digits, Arabic ones and those of full width: as they are read here.
FAR_MARKS = {"\u066b": ".", "\u066c": ",", "\uff0e": ".", "\uff0c": ",", "\uff0f": "/"}
HYPHENS = dict.fromkeys("\u2010\u2011\u2013\u2212\uff0d", "-")
NEAR = str.maketrans(dict.fromkeys(INVISIBLE, "") | FAR_MARKS | HYPHENS)
# As a spreadsheet keeps what looks like a number a text: ="0012", '0012; or a database
# puts any text in quotes that CSV does not know: '0012'.
KEPT_AS_TEXT = re.compile(r'="(.*)"|\'(.*)\'|\'([-+]?\d.*)')


def unwrapped(text: str) -> str:
    """Return a text without the marks that keep it a text in a spreadsheet."""
    if text[:1] not in ("=", "'"):
        return text
    kept = KEPT_AS_TEXT.fullmatch(text)
    return (kept[1] or kept[2] or kept[3] or "").strip() if kept else text


def in_ascii_digits(text: str) -> str:
    """Return a number or a date with the digits 0 to 9, whatever script it is in."""
    if text.isascii():
        return text
    digits = (str(unicodedata.decimal(one, one)) for one in text.translate(NEAR))
    return "".join(digits)
