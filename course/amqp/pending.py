"""A publish on its way."""

from __future__ import annotations

import copy
import logging
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from queue import Empty, SimpleQueue
from typing import Any

from pika import BasicProperties

from course.amqp.errors import PublishFailed

DEFAULT_EXCHANGE = "amq.default"  # what the broker's refusals call the one without name
UNCHANGING = frozenset({str, int, float, bool, bytes, type(None)})  # kinds of values
MOST_FAILURES = 1000  # that a producer remembers; more of them with a wider window


class Confirmation:
    """The promise of a confirm; it knows whether somebody has asked how it ended.

    Like a Future, but a tenth of its price: there is one for each publish.
    """

    __slots__ = ("_callbacks", "_ends", "_open", "heard")

    def __init__(self) -> None:
        self._ends: list[list[PublishFailed | None]] = []  # the first one counts
        self._callbacks: list[Callable[[Confirmation], object]] = []
        self._open = threading.Lock()  # held until it ends
        self._open.acquire()
        self.heard = False

    def done(self) -> bool:
        """Tell whether it has ended."""
        return bool(self._ends)

    def wait(self, timeout: float) -> bool:
        """Wait until it has ended; tell whether it has."""
        # Trap: a signal handler may ask while this thread does.
        if not self._ends and self._open.acquire(timeout=max(timeout, 0)):
            self._open.release()
        return bool(self._ends)

    def end(self, error: PublishFailed | None) -> None:
        """Settle it, unless that has happened: whoever waited may have given it up."""
        end = [error]
        # Trap: to count them. Of two threads that come together, each would see two,
        # and none would wake up whoever waits.
        self._ends.append(end)
        if self._ends[0] is not end:
            return
        self._open.release()
        self._call_back()

    def add_done_callback(self, callback: Callable[[Confirmation], object]) -> None:
        """Have a function called with this when it ends, in the thread that ends it."""
        self._callbacks.append(callback)
        if self._ends:
            self._call_back()

    def _call_back(self) -> None:
        while self._callbacks:
            try:
                callback = self._callbacks.pop(0)
            except IndexError:  # another thread has called it
                return
            try:
                callback(self)
            except Exception as error:
                logging.getLogger(__name__).error("a callback failed", exc_info=error)

    def has_succeeded(self) -> bool:
        """Tell whether it has ended well; how it failed is no better known by that."""
        return bool(self._ends) and self._ends[0][0] is None

    def exception(self, timeout: float | None = None) -> PublishFailed | None:
        """Return how it failed, or None; from here on it is known.

        Raises:
            TimeoutError: it has not ended in time.
        """
        if not self.wait(threading.TIMEOUT_MAX if timeout is None else timeout):
            raise TimeoutError
        self.heard = True
        return self._ends[0][0]

    def result(self, timeout: float | None = None) -> None:
        """Raise if it failed; from here on that is known."""
        if error := self.exception(timeout):
            raise error


def as_bytes(body: object) -> bytes:
    """Return a body as it is sent; what its owner changes later does not change it."""
    if isinstance(body, str):
        return body.encode()
    if isinstance(body, bytes | bytearray | memoryview):
        return bytes(body)
    raise TypeError(f"a body is bytes or str, not {body!r:.40}")


def as_it_is_now(properties: Any) -> Any:
    """Return a copy of properties, whose owner may take them for the next message."""
    kind: Any = type(properties)
    same = kind.__new__(kind)
    same.__dict__ = vars(properties).copy()
    if properties.headers:
        same.headers = copied_table(properties.headers)
    return same


def copied_table(headers: Any) -> Any:
    """Return a copy of headers; a deep one takes ten times as long."""
    if type(headers) is dict and UNCHANGING.issuperset(map(type, headers.values())):
        return headers.copy()
    return copy.deepcopy(headers)


@dataclass(eq=False, slots=True)
class Pending:
    """A publish on its way: what is sent, and the promise of a confirm."""

    exchange: str
    key: str
    body: bytes
    properties: Any
    confirmed: Confirmation = field(default_factory=Confirmation)
    since: float = field(default_factory=time.monotonic)

    def __post_init__(self) -> None:
        if self.properties is None:
            self.properties = BasicProperties()
        else:
            self.properties = as_it_is_now(self.properties)
        if type(self.body) is not bytes:
            self.body = as_bytes(self.body)
        # What is returned is known by these two: refused here, not in the I/O thread.
        if not isinstance(self.key, str):
            raise TypeError(f"a key is str, not {self.key!r}")
        # One that is not UTF-8 is read as bytes, and sent on as such.
        if not isinstance(self.properties.message_id or "", str | bytes):
            text = f"a message_id is str, not {self.properties.message_id!r}"
            raise TypeError(text)

    @property
    def message_id(self) -> str:
        """The id to send it again with; empty if it has none."""
        found = self.properties.message_id or ""
        if isinstance(found, bytes):
            return found.decode("utf-8", "backslashreplace")
        return str(found)

    @property
    def is_confirmed(self) -> bool:
        """Whether the broker has confirmed it."""
        return self.confirmed.has_succeeded()

    def end(self, error: PublishFailed | None) -> None:
        """Settle it, unless that has happened."""
        # The error may be that of others as well.
        self.confirmed.end(error.about(self.message_id) if error else None)

    @property
    def target(self) -> str:
        """Where it was sent, for an error."""
        return f"{self.key!r} at exchange {self.exchange!r}"

    def is_blamed_by(self, words: str) -> bool:
        """Tell whether a refusal of the broker names its exchange."""
        return f"'{self.exchange or DEFAULT_EXCHANGE}'" in words

    @property
    def sent_to(self) -> tuple[str, str, str]:
        """What a returned message is known by.

        An id alone is not enough: a fanout's messages may share theirs with others.
        """
        return self.exchange, self.key, self.properties.message_id


def until_settled(publishes: Sequence[Pending], limit: float) -> None:
    """Wait until all are confirmed or have failed, or for so many seconds."""
    end = time.monotonic() + limit
    # The last one first: it ends last as a rule, and nobody is woken up in between.
    for pending in reversed(publishes):
        if not pending.confirmed.wait(end - time.monotonic()):
            return


class Window:
    """How many publishes may be open.

    Trap: a signal handler that publishes may interrupt one that takes its place here. A
    semaphore would wait for itself.
    """

    def __init__(self, size: int) -> None:
        self._free: SimpleQueue[None] = SimpleQueue()
        for _ in range(size):
            self.release()

    def acquire(self, timeout: float) -> bool:
        """Take a place, or tell that none became free."""
        try:
            self._free.get(timeout=timeout)
        except Empty:
            return False
        return True

    def release(self) -> None:
        """Give a place back."""
        self._free.put(None)


class Outcomes:
    """Which publishes are unsettled, and which have failed: asked for at the end.

    Trap: a program that never closes its producer would fill the memory with failures.
    So there is a limit, and those go first that somebody has heard of.
    """

    def __init__(self, window: int) -> None:
        self._most = max(window, MOST_FAILURES)  # all that may be open fails at once
        self._lock = threading.RLock()  # a signal may come inside
        self._unsettled: dict[Pending, None] = {}  # in order
        self._failed: dict[Pending, None] = {}

    def add(self, pending: Pending) -> None:
        """Note that a publish is on its way."""
        self._unsettled[pending] = None

    def forget(self, pending: Pending) -> None:
        """Note that there is nothing more to say of a publish."""
        self._unsettled.pop(pending, None)

    def failed(self, pending: Pending) -> None:
        """Note that a publish has failed."""
        with self._lock:
            self._unsettled.pop(pending, None)
            if pending.is_confirmed:  # in the meantime
                return
            self._failed[pending] = None
            if len(self._failed) >= 2 * self._most:  # seldom, as it looks at all
                unheard = [one for one in self._failed if not one.confirmed.heard]
                self._failed = dict.fromkeys(unheard[-self._most :])

    def unsettled(self) -> list[Pending]:
        """Return what is on its way."""
        with self._lock:
            return list(self._unsettled)

    def known(self) -> list[Pending]:
        """Return what has failed, in the order of its end, and what is on its way."""
        with self._lock:
            return [*self._failed, *self._unsettled]

    def unheard(self) -> list[Pending]:
        """Return those of the known whose end nobody has asked for."""
        return [one for one in self.known() if not one.confirmed.heard]


class PublishingHooks:
    """What a producer says of its own: what happens on a channel, and how to wait."""

    def wait(self, *publishes: Pending) -> None:
        """Wait until all are confirmed or have failed; raise the first failure."""
        raise NotImplementedError

    def on_channel(self, channel: Any) -> None:
        """Begin on a new channel."""
        raise NotImplementedError

    def on_lost(self) -> None:
        """Keep what is unconfirmed."""
        raise NotImplementedError

    def transmit(self, channel: Any, pending: Pending) -> None:
        """Publish once."""
        raise NotImplementedError

    def on_confirm(self, frame: Any) -> None:
        """Settle what the broker confirms or refuses."""
        raise NotImplementedError

    def settle(self, settled: Sequence[Pending], error: PublishFailed | None) -> None:
        """End publishes, with an error or without."""
        raise NotImplementedError
