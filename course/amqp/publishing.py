"""The I/O thread of a producer: it connects, reconnects, resends and batches."""

from __future__ import annotations

import atexit
import logging
import os
import threading
from collections import Counter, deque
from collections.abc import Sequence
from contextlib import suppress
from typing import Any, Self

from pika import exceptions

from course.amqp.errors import NotInTime, ProducerEnded, PublishFailed, Unpublishable
from course.amqp.internals import (
    ITS_OWN_FAULT,
    TolerantConnection,
    TolerantLoop,
    broker_words,
    hang_up,
    refused,
)
from course.amqp.pending import Outcomes, Pending, PublishingHooks, Window
from course.amqp.reconnecting import backoff, refuse_number, refuse_seconds

DEADLINE = 5.0  # seconds a publish may stay unconfirmed; pika alone waits 130
GOODBYE_LIMIT = 1.0  # seconds that a broker may take to say goodbye
AT_ONCE = 100  # publishes in a write: with more of them, the broker would wait for us


class PublishingThread(PublishingHooks):
    """Owns the connection of a producer, in a thread of its own.

    A subclass says what happens on a channel. What does, and all methods here that
    begin with an underscore, run in that thread: pika is not to be called from others.
    """

    def __init__(
        self, rabbit: Any, window: int = 1000, deadline: float = DEADLINE
    ) -> None:
        self.rabbit = rabbit
        refuse_number("window", window)
        self.deadline = deadline
        self.room = Window(window)
        self.blocked = ""  # the broker's reason while it takes no messages
        self.lost = ""  # why there is no connection
        self.counts: Counter[str] = Counter()
        self.waiting: deque[Pending] = deque()  # to be sent, in order
        self.sent: dict[int, Pending] = {}  # unconfirmed, by delivery tag, in order
        self._returned: Counter[tuple[str, str, str]] = Counter()
        self._awake = False  # the I/O thread knows that something waits
        self._waking = False  # it is being told so
        self._again = False  # and has to be told once more
        self._channel: Any = None
        self._connection: Any = None
        self._tag = 0
        self._attempt = 0
        self._one_by_one = 0  # so many are sent alone: one of them closes the channel
        self._closing = False
        self._closed = False
        self._closed_inside = False  # by a callback of ours
        self._process = os.getpid()
        self._lock = threading.RLock()  # of what wakes; a signal may come inside
        self._outcomes = Outcomes(window)
        self._ended: PublishFailed | None = None  # why nothing is sent any more
        self._loop = TolerantLoop(self._on_error)
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._loop.add_callback_threadsafe(self._connect)
        self._thread.start()
        # Trap: the thread ends with the program, and what waits with it.
        atexit.register(self._close_at_exit)

    def __enter__(self) -> Self:
        return self

    @property
    def deadline(self) -> float:
        """For how many seconds a caller waits: not in our own thread, which answers."""
        return 0.0 if self._is_own_thread() else self._deadline

    @deadline.setter
    def deadline(self, seconds: float) -> None:
        refuse_seconds("deadline", seconds)
        self._deadline = seconds

    def _is_own_thread(self) -> bool:
        """Tell whether a callback of a confirm is what runs: it would wait for ever."""
        return threading.current_thread() is self._thread

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        """Close; after an exception at once, without a wait."""
        self.close(flush=kind is None)

    def close(self, flush: bool = True) -> None:
        """Wait for what is unsettled, then close; a second time it does nothing.

        Raises what wait() raises, of publishes whose end nobody has asked for.
        """
        if self._closed:
            return
        self._closed = True
        atexit.unregister(self._close_at_exit)
        if self._process != os.getpid():
            return  # the connection is the parent's, and so is the thread
        try:
            if flush:
                self._wake()  # an exception may have interrupted a send() before it did
                self.wait(*self._outcomes.unheard())
        finally:
            self._end(ProducerEnded("the producer is closed"))
            self._closing = True
            if self._thread.is_alive():
                self._loop.add_callback_threadsafe(self._close)
            self._closed_inside = self._is_own_thread()
            if not self._closed_inside:
                self._thread.join(DEADLINE)
                self._loop.close()

    def _close_at_exit(self) -> None:
        """Close what nobody has closed; nobody is left to catch an error."""
        try:
            self.close()
        except PublishFailed as error:
            log = logging.getLogger(__name__)
            left = len(error.message_ids)
            log.error("the program ends, %d publishes not confirmed: %s", left, error)

    def unconfirmed(self) -> list[Pending]:
        """Return what was sent and is not confirmed: it may have arrived or not.

        Failures that somebody has asked about may be left out.
        """
        return [one for one in self._outcomes.known() if not one.is_confirmed]

    def check_alive(self, pending: Pending) -> None:
        """Raise PublishFailed if nothing is sent any more, with the reason."""
        if self._process != os.getpid():
            # Trap: a fork takes the connection along, and not the thread that serves
            # it. What is sent here would wait for nobody.
            reason = "the producer was made before a fork; the child needs its own"
            raise ProducerEnded(reason).about(pending.message_id)
        if self._ended:
            raise self._ended.about(pending.message_id)

    def enqueue(self, pending: Pending) -> None:
        """Have a publish transmitted, in the order of the calls; from any thread."""
        self._outcomes.add(pending)  # before the look at what _end() sets first
        if self._ended:
            self._outcomes.forget(pending)  # the caller is told
            pending.end(self._ended)
            return
        self.waiting.append(pending)
        if not self._awake:
            self._wake()

    def _wake(self) -> None:
        """Have the I/O thread send what waits."""
        with self._lock:
            self._again = True
            # A signal may interrupt pika here, which holds a lock: nothing but a note.
            while self._again and not self._waking:
                self._again = False
                try:
                    self._awake = True
                    self._waking = True
                    self._loop.add_callback_threadsafe(self.send_waiting)
                except BaseException:
                    # Trap: Ctrl-C, or a time limit by a signal, ends this anywhere.
                    # Taken for told, the thread would never be told again.
                    self._awake = False
                    raise
                finally:
                    self._waking = False

    def too_late(self, pending: Pending, what: str) -> PublishFailed:
        """Return the error of a publish that is past its deadline, with the reason."""
        text = f"{what} within {self.deadline:g} s"
        if self._is_own_thread():
            text += "; what a confirm calls cannot wait for another"
        if self.blocked:
            text += f"; the broker blocks publishers: {self.blocked}"
        elif self.lost:
            text += f"; no connection: {self.lost}"
        return NotInTime(text).about(pending.message_id)

    def sent_up_to(self, last: int) -> list[Pending]:
        """Take all publishes up to a delivery tag off the list of the unconfirmed."""
        tags = []
        for tag in self.sent:  # in order, so that a large window costs nothing
            if tag > last:
                break
            tags.append(tag)
        return [self.sent.pop(tag) for tag in tags]

    def came_back(self, pending: Pending) -> bool:
        """Tell whether the broker has returned a publish, once for each return."""
        if not self._returned or not self._returned[pending.sent_to]:
            return False
        self._returned -= Counter([pending.sent_to])
        return True

    def finish(self, pending: Pending, error: PublishFailed | None) -> None:
        """Count a publish, make room for another, wake up the thread that waits."""
        self.counts[error.outcome if error else "confirmed"] += 1
        pending.end(error)
        if error:
            self._outcomes.failed(pending)
        else:
            self._outcomes.forget(pending)
        self.room.release()
        if self._one_by_one:
            self._one_by_one -= 1
            self._wake()

    def _run(self) -> None:
        try:
            self._loop.start()
        except BaseException as failure:
            logging.getLogger(__name__).exception("the I/O thread of a producer ends")
            self._end(ProducerEnded(f"the I/O thread ended with {failure!r}"))
            self._closing = True
            with suppress(Exception):  # it is broken already
                if hang_up(self._connection):
                    self._loop.start()  # until _on_lost() stops it
        self._end(ProducerEnded("the producer is closed"))
        if self._closed_inside:
            self._loop.close()

    def _end(self, error: PublishFailed) -> None:
        """Fail what is unsettled and, from here on, each send()."""
        with self._lock:
            if self._ended is None:
                self._ended = error
        for pending in self._outcomes.unsettled():
            pending.end(error)
            self._outcomes.failed(pending)

    def _connect(self) -> None:
        self._connection = TolerantConnection(
            self.rabbit.parameters,
            on_open_callback=self._on_open,
            on_open_error_callback=self._on_lost,
            on_close_callback=self._on_lost,
            custom_ioloop=self._loop,
        )

    def _on_open(self, connection: Any) -> None:
        self._attempt = 0
        self.lost = ""
        if self._closing:
            self._close()
            return
        connection.add_on_connection_blocked_callback(self._on_blocked)
        connection.add_on_connection_unblocked_callback(self._on_blocked)
        connection.channel(on_open_callback=self._on_channel)

    def _on_channel(self, channel: Any) -> None:
        self._channel = channel
        self._tag = 0
        channel.add_on_close_callback(self._on_channel_closed)
        channel.add_on_return_callback(self._on_returned)
        self.on_channel(channel)

    # region batching
    def send_waiting(self) -> None:
        """Send what waits, many in one write; in the I/O thread."""
        self._awake = False
        if not (self._channel and self._channel.is_open):
            return  # _on_channel comes back here
        with self._connection.batch():
            for _ in range(min(len(self.waiting), self._at_once())):
                self._send(self.waiting.popleft())
        # The broker begins with these while we make the next ones.
        if self.waiting and not self._one_by_one:
            self._wake()

    def _at_once(self) -> int:
        if self._one_by_one:
            return 0 if self.sent else 1  # finish() comes back here
        return AT_ONCE

    def _send(self, pending: Pending) -> None:
        if pending.confirmed.done():  # given up by wait()
            self.finish(pending, PublishFailed("given up"))
            return
        try:
            self.transmit(self._channel, pending)
        except Exception as error:  # not to be encoded: nothing was sent
            reason = f"{type(error).__name__}: {error}"
            self.settle([pending], Unpublishable(reason))
            return
        self._tag += 1
        self.sent[self._tag] = pending

    # endregion batching

    def _on_returned(self, _: Any, how: Any, properties: Any, __: bytes) -> None:
        # The broker returns a message before it confirms it.
        self._returned[how.exchange, how.routing_key, properties.message_id] += 1

    def _on_blocked(self, _: Any, notice: Any) -> None:
        self.blocked = getattr(notice.method, "reason", "")
        log = logging.getLogger(__name__)
        log.warning("publishing is blocked: %s", self.blocked or "no longer")

    def _on_channel_closed(self, channel: Any, reason: Exception) -> None:
        if not isinstance(reason, exceptions.ChannelClosedByBroker):
            return  # the connection went: _on_lost follows
        # A missing exchange closes the channel under everybody else's messages.
        sent = list(self.sent.values())
        self.sent = {}
        guilty = [one for one in sent if one.is_blamed_by(reason.reply_text)]
        if guilty:
            self.settle(guilty, PublishFailed(reason.reply_text))
            others = [one for one in sent if one not in guilty]
            self.waiting.extendleft(reversed(others))
        else:
            self._look_for_the_guilty(sent, reason)
        self._returned.clear()
        channel.connection.channel(on_open_callback=self._on_channel)

    def _look_for_the_guilty(self, sent: Sequence[Pending], reason: Any) -> None:
        """Send publishes again, so that the one that the broker refuses is found.

        It says what it does not like, and not of which of them: an expiration that is
        no number, a user id of somebody else. One that was sent alone is the one.
        """
        if len(sent) == 1:
            its_own = reason.reply_code in ITS_OWN_FAULT
            kind = Unpublishable if its_own else PublishFailed
            self.settle(sent, kind(reason.reply_text))
            return
        self._one_by_one = max(self._one_by_one, len(sent))
        self.waiting.extendleft(reversed(sent))

    def _on_error(self, error: Exception) -> None:
        """Connect later, if no socket or thread is left to do it with now."""
        if self._closing or (self._connection and self._connection.is_open):
            raise error
        self._on_lost(self._connection, error)

    def _on_lost(self, connection: Any, reason: Exception) -> None:
        if connection is not self._connection:
            return  # it has been given up
        self.blocked = ""
        self.lost = broker_words(reason)
        self._channel = None
        self._connection = None
        if getattr(reason, "reply_code", 0) in ITS_OWN_FAULT:
            sent = list(self.sent.values())
            self.sent = {}
            self._look_for_the_guilty(sent, reason)
        self.on_lost()
        self._returned.clear()
        if self._closing:
            self._loop.stop()
            return
        if refused(reason):
            self._give_up(reason)
        self.counts["reconnects"] += 1
        self._attempt += 1
        self._loop.call_later(backoff(self._attempt), self._connect)

    def _give_up(self, reason: Exception) -> None:
        given_up = []
        for _ in range(len(self.waiting)):  # other threads may add to it meanwhile
            given_up.append(self.waiting.popleft())
        self.settle(given_up, PublishFailed(broker_words(reason)))

    def _close(self) -> None:
        if self._connection is None:
            self._loop.stop()
            return
        # pika trips over a close() while it connects: _on_open comes back here.
        if self._connection.is_open:
            self._connection.close()
        self._loop.call_later(GOODBYE_LIMIT, self._hang_up)

    def _hang_up(self) -> None:
        if not hang_up(self._connection):
            self._loop.stop()
