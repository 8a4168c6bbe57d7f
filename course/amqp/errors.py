"""How a publish fails."""

from __future__ import annotations


class PublishFailed(Exception):
    """Not confirmed: the message may or may not have arrived; send the id again."""


class Unroutable(PublishFailed):
    """The exchange had no queue for it: the broker gave it back."""
