"""What somebody typed, without what programs put around it."""

from __future__ import annotations

import re

INVISIBLE = "\u200b\u200e\u200f\u061c\u2060\ufeff"  # directions of writing, and marks
# As a spreadsheet keeps what looks like a number a text: ="0012", '0012.
KEPT_AS_TEXT = re.compile(r'="(.*)"|\'([-+]?\d.*)')


def unwrapped(text: str) -> str:
    """Return a text without the marks that keep it a text in a spreadsheet."""
    if text[:1] not in ("=", "'"):
        return text
    kept = KEPT_AS_TEXT.fullmatch(text)
    return (kept[1] or kept[2] or "").strip() if kept else text
