"""What the course itself raises, and what each of these leads to."""

from __future__ import annotations


class Skip(Exception):
    """Raised by a demo whose point this back end cannot show; says why."""


class BadInput(Exception):
    """Raised for what the user has to correct: one line on stderr, exit code 2."""


class NoService(Exception):
    """Raised if nothing answers at an address; says why. A stand-in takes over."""


class ClaimFailed(AssertionError):
    """Raised by a claim that does not hold; says what was seen and what expected."""
