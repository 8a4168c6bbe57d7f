"""A load that is to be done under a lease: what it is for, and what came of it."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from course.caching.codec import Envelope
from course.caching.policy import Policy


class LoaderError(RuntimeError):
    """The load that this call waited for failed, in another process."""


def new_token() -> bytes:
    """Return what nobody else has."""
    return uuid.uuid4().hex.encode()


@dataclass
class Job:
    """A load to do: for whom, and how long to wait for somebody else's."""

    key: str
    load: Callable[[], Any]
    policy: Policy
    began: int  # how many changes this process had made before it read
    seen: Envelope | None  # what it read: missing, expired, or soon to expire
    old: Envelope | None = None  # may stand in for what is loaded
    token: bytes = field(default_factory=new_token)  # in the lease, while it may store
    wait: float = 0.0  # seconds, for another thread's or process's load

    def __post_init__(self) -> None:
        self.wait = self.policy.wait

    def serve_meanwhile(self, old: Envelope | None) -> None:
        """Wait for nobody: there is an old value to serve while another one loads."""
        self.old = old
        self.wait = 0.0


class Answer(NamedTuple):
    """A value, and how many changes this process had made when it was read."""

    value: Any
    began: int


class Claim(NamedTuple):
    """What Redis said to a claim: who holds the lease, and what is stored."""

    generation: bytes | None
    holder: bytes
    entry: Envelope | None
    failure: bytes  # of a load: the token of its lease, and why it failed

    def reason(self, token: bytes) -> str:
        """Return why the load with this token failed, or nothing."""
        if not self.failure.startswith(token):
            return ""
        return self.failure[len(token) :].decode()


def failure_text(error: Exception) -> bytes:
    """Return what those who wait in other processes are told, without a traceback."""
    return f"{type(error).__name__}: {error}"[:200].encode(errors="replace")
