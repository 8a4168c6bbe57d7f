"""A load that is to be done under a lease: what it is for, and what came of it."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from course.caching.codec import Envelope
from course.caching.policy import Policy
from course.services import redact


class LoaderError(RuntimeError):
    """The load that this call waited for failed, in another process.

    Its text is the name and the text of what was raised there, at most 200 bytes.
    """


def new_token() -> bytes:
    """Return what nobody else has."""
    return uuid.uuid4().hex.encode()


@dataclass
class Job:
    """A load to do: for whom, and how long to wait for somebody else's."""

    key: str
    origin: Callable[[], Any]  # what really loads
    policy: Policy
    asked: float  # when, by time.perf_counter(): before it read
    seen: Envelope | None  # what it read: missing, expired, or soon to expire
    old: Envelope | None = None  # may stand in for what is loaded
    token: bytes = field(default_factory=new_token)  # in the lease, while it may store
    timeout: float = 0.0  # seconds to wait for another thread's or process's load

    def __post_init__(self) -> None:
        self.timeout = self.policy.longest_load

    def serve_meanwhile(self, old: Envelope | None) -> None:
        """Wait for nobody: there is an old value to serve while another one loads."""
        self.old = old
        self.timeout = 0.0


class Answer(NamedTuple):
    """A value, and who may have it; times are those of time.perf_counter().

    A caller gets no value from before an invalidation that had ended when it asked.
    """

    value: Any
    valid_until: float  # an answer to those who asked by then
    started: float = 0.0  # when its load began
    seconds: float = 0.0  # that its load took


class Claim(NamedTuple):
    """What Redis said to a claim: who holds the lease, and what is stored."""

    generation: bytes | None
    holder: bytes
    entry: Envelope | None
    failure: bytes  # of a load: the token of its lease, and why it failed
    asked: float  # when, by time.perf_counter()

    def reason(self, token: bytes) -> str:
        """Return why the load with this token failed, or nothing."""
        if not token or not self.failure.startswith(token):
            return ""
        return self.failure[len(token) :].decode(errors="replace")


def failure_text(error: Exception) -> bytes:
    """Return what those who wait in other processes are told, without a traceback."""
    return error_text(error)[:200].encode(errors="replace")


def error_text(error: Exception) -> str:
    """Return an error's name and text; a log has many readers, so without secrets."""
    try:
        return redact(f"{type(error).__name__}: {error}")
    except Exception:  # it has a __str__ of its own, which fails
        return type(error).__name__
