"""The fields of a BSON document that is not whole."""

from __future__ import annotations

from collections.abc import Iterator

LENGTH_BYTES = 4  # that tell how long something is
# How many bytes a value takes, by its type, or how many beside those it tells of.
FIXED = {
    1: 8,
    6: 0,
    7: 12,
    8: 1,
    9: 8,
    10: 0,
    16: 4,
    17: 8,
    18: 8,
    19: 16,
    127: 0,
    255: 0,
}
TOLD = {
    2: LENGTH_BYTES,
    3: 0,
    4: 0,
    5: LENGTH_BYTES + 1,
    12: LENGTH_BYTES + 12,
    13: LENGTH_BYTES,
    14: LENGTH_BYTES,
    15: 0,
}
REGEX = 11  # two texts, each up to a zero


def field_names(data: bytes) -> Iterator[str]:
    """Yield the names of the fields that begin in a document, which may be cut off."""
    place = LENGTH_BYTES
    while place < len(data) and data[place]:
        kind = data[place]
        end = data.find(0, place)
        if end < 0:
            return
        yield data[place + 1 : end].decode("utf-8", "replace")
        place = end_of_value(data, kind, end + 1)


def end_of_value(data: bytes, kind: int, start: int) -> int:
    """Return where a value ends, the end of the data if that is not known."""
    if kind in FIXED:
        return start + FIXED[kind]
    if kind in TOLD:
        told = int.from_bytes(data[start : start + LENGTH_BYTES], "little")
        return start + TOLD[kind] + told
    end = start
    for _text in range(2 if kind == REGEX else 0):
        end = data.find(0, end) + 1
        if not end:
            break
    return end if end > start else len(data)
