"""What may go into Redis: values that JSON gives back as they were, in envelopes."""

from __future__ import annotations

import json
import math
import zlib
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

PLAIN = {type(None), bool, int, str}  # what JSON always gives back as it was
SCHEMA = 2  # of the envelope; an entry of another version is a miss
# An envelope begins with its checksum, in eight hexadecimal digits.
SUM_START = b'{"sum":"'
SUM_END = b'",'
HALF = "\\ud"  # begins a surrogate, as JSON writes it
BODY = len(SUM_START) + 8 + len(SUM_END)

# json.loads looks for a decoder, and for spaces, in a third of the time that the value
# takes, if it is small. Whether something follows the value, the checksum tells.
decode_json = json.JSONDecoder().raw_decode

Hook = Callable[[Any], Any]


def glimpse(value: Any) -> str:
    """Return the beginning of a value's text, whatever its size and its methods."""
    if type(value) in (bytes, bytearray):
        value = value[:40]  # not the text of a whole file
    try:
        return f"{value!r:.40}"
    except Exception:
        return "a value without a text"


def key_bytes(key: object) -> bytes:
    """Return a key, or a glob, as Redis has it: any bytes; TypeError for others."""
    if isinstance(key, bytes):
        return key
    if not isinstance(key, str):
        raise TypeError(f"a key is a str or bytes, not {glimpse(key)}")
    # A lone surrogate is a character of a file name, say; UTF-8 alone refuses it.
    return key.encode("utf-8", "surrogatepass")


# region strict
def strict(value: Any, where: str = "result") -> None:
    """Raise TypeError for what JSON would change: (1, 2), {1: 2}, nan, a date."""
    kind = type(value)
    if kind in PLAIN or (kind is float and math.isfinite(value)):
        return
    if kind is list:
        items: Iterable[tuple[Any, Any]] = enumerate(value)
    elif kind is dict and all(type(key) is str for key in value):
        items = value.items()
    else:
        use = "str, int, finite float, bool, None, list or dict with str keys"
        found = f"{where} is {glimpse(value)} ({kind.__name__})"
        raise TypeError(f"{found}, which JSON would change; use {use}")
    for key, item in items:
        if type(item) not in PLAIN:
            try:
                strict(item, f"{where}[{key!r}]")
            except RecursionError:  # it is nested too deep, or contains itself
                found = f"{where:.40} is nested too deep for JSON"
                raise TypeError(found) from None


# endregion strict


class Envelope(NamedTuple):
    """A value and what is known of it; times in Unix seconds."""

    value: Any
    created: float
    expires: float
    delta: float = 0.0  # seconds that the load took
    generation: str = ""
    checksum: str = ""  # of what was stored, and of the name that it was stored under


class Unreadable(Exception):
    """Raised for a payload that is no envelope of ours."""


def checksum_of(name: bytes, body: bytes) -> str:
    """Return what tells whether this is what was stored, and under this name.

    A network that mixes up answers is rare; a wrong price that looks right is worse
    than a miss.
    """
    return f"{zlib.crc32(body, zlib.crc32(name)):08x}"


def payload_of(name: bytes, envelope: Envelope, encode: Hook | None = None, /) -> str:
    """Return the JSON to store; raise TypeError if it would not come back equal."""
    value = envelope.value
    if encode is not None:
        value = encode(value)
    strict(value)
    held = {"v": SCHEMA, **envelope._asdict(), "value": value}
    del held["checksum"]
    try:
        body = json.dumps(held, separators=(",", ":"))[1:]
    except (RecursionError, ValueError) as error:  # an int of 5,000 digits
        raise TypeError(f"result is not JSON: {error}") from None
    # JSON writes a character beyond 16 bits as two halves. A text that holds two such
    # halves, each on its own, would come back as that character.
    if HALF in body and json.loads("{" + body) != held:
        raise TypeError("result has a text of two surrogates, which JSON would join")
    checksum = checksum_of(name, body.encode())
    return f"{SUM_START.decode()}{checksum}{SUM_END.decode()}{body}"


def envelope_of(name: bytes, payload: bytes) -> Envelope | None:
    """Return what is in a payload, None if it is of another schema; or Unreadable.

    Never pickle: it would let anyone who can write to Redis run code here.
    """
    try:
        held, _ = decode_json(payload.decode())
        if held["v"] != SCHEMA:
            return None
        checksum = held["sum"]
        if checksum_of(name, payload[BODY:]) != checksum:
            raise Unreadable
        return Envelope(
            held["value"],
            float(held["created"]),
            float(held["expires"]),
            float(held["delta"]),
            held["generation"],
            checksum,
        )
    except Exception:  # whatever somebody has put there
        raise Unreadable from None
