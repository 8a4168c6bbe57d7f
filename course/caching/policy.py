"""How long entries live, and what is refused."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

LONGEST_TTL = 30 * 86_400  # seconds; a generation has to outlive every entry
LONGEST_LEASE = 86_400  # seconds; what takes longer to load is not stored


def refuse_type(name: str, number: object) -> None:
    """Raise TypeError for what is no number of seconds: a text, a timedelta, a Decimal.

    ValueError for an int beyond all floats. At once: the sum of a Decimal, or of such
    an int, and a time would fail at the first call.
    """
    if not isinstance(number, int | float):
        raise TypeError(f"{name} is an int or a float, not {number!r:.40}")
    try:
        float(number)
    except OverflowError:
        raise ValueError(f"{name} is an int beyond all floats") from None


def refuse_ttl(name: str, seconds: float) -> None:
    """Raise ValueError for a time to live that makes no sense, nan included."""
    refuse_type(name, seconds)
    if not 0 < seconds <= LONGEST_TTL:
        raise ValueError(f"{name} is above 0, at most 30 days, not {seconds!r}")


def refuse_size(name: str, number: object, least: int) -> None:
    """Raise ValueError for what is no whole number, or less than there has to be."""
    if not isinstance(number, int) or number < least:
        raise ValueError(f"{name} is an int of {least} or more, not {number!r:.40}")


def refuse_hook(name: str, hook: object) -> None:
    """Raise TypeError for what can't be called."""
    if hook is not None and not callable(hook):
        raise TypeError(f"{name} is a function, not {hook!r:.40}")


def refuse_breaker(threshold: object, cooldown: float) -> None:
    """Raise ValueError or TypeError for a breaker that would never close, or open."""
    refuse_size("threshold", threshold, 1)
    refuse_type("cooldown", cooldown)
    if not 0 < cooldown < math.inf:
        raise ValueError(f"cooldown is a time above 0, not {cooldown!r}")


@dataclass(frozen=True)
class Policy:
    """How entries live, in seconds; raises ValueError for what makes no sense."""

    ttl: float = 3600
    none_ttl: float | None = None  # of None ("no such row"); as ttl, if not given
    jitter: float = 0.0  # up to this share of the TTL is cut off at random
    beta: float = 1.0  # of XFetch: above 1 refreshes earlier, 0 never
    grace: float = 0.0  # how long after expiry an old value may stand in
    # Others wait for a load so long, and then load themselves. What nobody else waits
    # for is stored however long it takes.
    longest_load: float = 5.0
    encode: Callable[[Any], Any] | None = None  # makes JSON values of a result
    decode: Callable[[Any], Any] | None = None  # makes the result of them again

    def __post_init__(self) -> None:
        refuse_ttl("ttl", self.ttl)
        refuse_ttl("longest_load", self.longest_load)
        longest = self.ttl
        if self.none_ttl is not None:
            refuse_ttl("none_ttl", self.none_ttl)
            longest = max(longest, self.none_ttl)
        for name in ("jitter", "beta", "grace"):
            refuse_type(name, getattr(self, name))
        if not (0 <= self.jitter < 1 and self.beta >= 0 and self.grace >= 0):
            raise ValueError("jitter is in [0, 1), beta and grace are 0 or more")
        if longest + self.grace > LONGEST_TTL:
            raise ValueError("ttl and grace are at most 30 days together")
        refuse_hook("encode", self.encode)
        refuse_hook("decode", self.decode)
        if (self.encode is None) != (self.decode is None):
            raise ValueError("encode and decode go together")

    def but(self, **changes: Any) -> Policy:
        """Return this policy with the changes that are given, not None."""
        given = {name: value for name, value in changes.items() if value is not None}
        return replace(self, **given)


def refuse_policy(policy: object) -> None:
    """Raise TypeError for what is no policy: a number of seconds, say."""
    if not isinstance(policy, Policy):
        raise TypeError(
            f"policy= is a Policy, such as Policy(ttl=60), not {policy!r:.40}"
        )
