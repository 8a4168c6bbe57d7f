"""The one module that touches what pika keeps private, and why.

pika 1.x has no public way to read on past a header that it cannot decode, to write many
frames in one go, to hang up without a goodbye, to read and to acknowledge on a blocking
connection without leaving its loop for each message, or to ask it which broker it is.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from functools import cache
from typing import Any

import pika
from pika import exceptions, frame, spec
from pika.adapters.select_connection import IOLoop
from pika.adapters.utils.connection_workflow import AMQPConnectorException

from course.amqp.errors import MessagingError

LOGIN_ERRORS = (
    exceptions.ProbableAuthenticationError,
    exceptions.ProbableAccessDeniedError,
)
# What a new connection may mend. The last is no AMQPError: a login that takes too long.
CONNECTION_LOST = (exceptions.AMQPError, OSError, AMQPConnectorException)
FRAME_HEAD = ">BHL"  # its kind, its channel, its size
BODY_SIZE_AT = (
    11  # bytes into the frame of a header: 7 of the frame's head, 4 of its own
)
READ_AT_ONCE = 65_536  # bytes; pika reads 4,096
DECODED_AT_ONCE = 4_096  # of these
CONTENT = (frame.Header, frame.Body)  # which comes, and goes to its channel
DELIVER = spec.Basic.Deliver  # what it begins with
# Replies to what nobody may send, or declare, like this: PRECONDITION_FAILED,
# FRAME_ERROR, SYNTAX_ERROR, COMMAND_INVALID, UNEXPECTED_FRAME, NOT_IMPLEMENTED.
ITS_OWN_FAULT = (406, 501, 502, 503, 505, 540)


class TolerantLoop(IOLoop):  # type: ignore[misc]
    """pika's loop, which hands on what would end it: no socket, or no thread, is left.

    A connection needs one of each to begin, and a moment later there may be some.
    """

    def __init__(self, on_error: Callable[[Exception], None]) -> None:
        super().__init__()
        self._on_error = on_error

    def process_timeouts(self) -> None:
        """Call what is to be called."""
        try:
            super().process_timeouts()
        except (OSError, RuntimeError) as error:
            self._on_error(error)


class TolerantConnection(pika.SelectConnection):  # type: ignore[misc]
    """pika's connection, which one header can't end and a batch leaves at once."""

    def _read_frame(self) -> tuple[int, Any]:
        """Read on past headers that pika cannot decode: a consumer buries those.

        RabbitMQ takes and delivers them, for instance a time in the far future. pika
        drops the connection, and would drop it again at each redelivery.
        """
        try:
            return frame.decode_frame(self._frame_buffer)  # type: ignore[no-any-return]
        except exceptions.AMQPError:
            raise
        except Exception:
            buffer = self._frame_buffer
            kind, channel, size = struct.unpack_from(FRAME_HEAD, buffer)
            if kind != spec.FRAME_HEADER:
                raise
            (body_size,) = struct.unpack_from(">Q", buffer, BODY_SIZE_AT)
            headers = {"x-retry-count": "undecodable"}  # which no consumer accepts
            properties = pika.BasicProperties(headers=headers)
            return size + 8, frame.Header(channel, body_size, properties)

    def _proto_connection_made(self, transport: Any) -> None:
        """Read more at once: each read leaves the interpreter to the other threads."""
        transport._MAX_RECV_BYTES = READ_AT_ONCE
        super()._proto_connection_made(transport)

    def _on_data_available(self, data: bytes) -> None:
        """Decode in small parts: pika moves what is left of a part after each frame."""
        for start in range(0, len(data), DECODED_AT_ONCE):
            super()._on_data_available(data[start : start + DECODED_AT_ONCE])

    def _process_frame(self, value: Any) -> None:
        """Spare content the search for who waits for an answer."""
        kind = type(value)
        begins = kind is frame.Method and type(value.method) is DELIVER
        if begins or kind in CONTENT:
            self.frames_received += 1
            self._deliver_frame_to_channel(value)
        else:
            super()._process_frame(value)

    def _output_marshaled_frames(self, frames: Sequence[bytes]) -> None:
        """Refuse properties that no frame can hold: the broker would hang up.

        pika divides a body into frames, and writes a header of any size.
        """
        if len(frames) > 1 and len(frames[1]) > self.params.frame_max:
            raise ValueError(f"its properties are larger than {self.params.frame_max}")
        super()._output_marshaled_frames(frames)

    @contextmanager
    def batch(self) -> Iterator[None]:
        """Hold back what is sent inside, for a single write; pika writes each frame."""
        parts: list[bytes] = []
        self._adapter_emit_data = parts.append
        try:
            yield
        finally:
            del self._adapter_emit_data  # the class's own is there again
            if parts:
                self._adapter_emit_data(b"".join(parts))


@cache
def own_kind(kind: Any) -> Any:
    """Return a kind of pika's errors that is the library's own as well."""

    def words(error: BaseException) -> str:
        if error.__cause__:
            return broker_words(error.__cause__)
        return str(kind.__str__(error))

    return type(kind.__name__, (MessagingError, kind), {"__str__": words})


@contextmanager
def own_errors(*kinds: type[BaseException]) -> Iterator[None]:
    """Raise these of pika's errors as the library's own, in the broker's words.

    They stay what they are: an `except` for pika's catches them, too.
    """
    try:
        yield
    except MessagingError:
        raise
    except kinds as error:
        kind: Any = type(error)
        raise own_kind(kind)(*error.args) from error


# What a connection that is open may raise; no OSError, which may be somebody else's.
BY_THE_BROKER = (exceptions.AMQPConnectionError, exceptions.ChannelClosedByBroker)


class BrokerConnection(pika.BlockingConnection):  # type: ignore[misc]
    """pika's blocking connection, whose errors leave `with` as the library's own."""

    def __init__(self, parameters: Any) -> None:
        with own_errors(*CONNECTION_LOST):
            try:
                super().__init__(parameters, TolerantConnection)
            except RuntimeError as error:  # no thread is left to ask for the address
                raise exceptions.AMQPConnectionError(str(error)) from error

    def __exit__(self, kind: Any, error: Any, traceback: Any) -> None:
        with own_errors(*BY_THE_BROKER):
            try:
                super().__exit__(kind, error, traceback)
            finally:
                self._release()
            if isinstance(error, BY_THE_BROKER):
                raise error

    def close(self, *reason: Any, **more: Any) -> None:
        """Close as pika does, and leave no socket, whatever happened before."""
        try:
            super().close(*reason, **more)
        finally:
            self._release()

    def _release(self) -> None:
        # Trap: a loop that saw the end of its connection while it did something else
        # keeps the sockets that wake it up. Of one that was closed, nothing is left.
        if self.is_closed:
            self._cleanup()


def batch_of(connection: Any) -> AbstractContextManager[None]:
    """Hold back what a blocking connection sends inside, for a single write."""
    batch: AbstractContextManager[None] = connection._impl.batch()
    return batch


def deliver_at_once(channel: Any, note: Callable[[int], None]) -> None:
    """Call a blocking channel's callbacks as soon as a message is read.

    pika collects the messages first, and leaves its loop to hand them on. `note` gets
    the delivery tag of each one before its callback does.
    """

    def hand_on(_: object, method: Any, properties: Any, body: bytes) -> None:
        note(method.delivery_tag)
        subscription = channel._consumer_infos[method.consumer_tag]
        subscription.on_message_callback(channel, method, properties, body)

    channel._on_consumer_message_delivery = hand_on


def call_soon(connection: Any, callback: Callable[[], None]) -> None:
    """Have a blocking connection's loop call something; from any thread.

    Unlike its add_callback_threadsafe(), which leaves the loop to call it: this must
    not wait for the broker.
    """
    connection._impl.ioloop.add_callback_threadsafe(callback)


def acknowledge(channel: Any, tag: int, multiple: bool) -> None:
    """Acknowledge a message of a blocking channel, or all up to it, without a wait."""
    channel._impl.basic_ack(tag, multiple)


def reject(channel: Any, tag: int) -> None:
    """Give a message of a blocking channel back, without a wait."""
    channel._impl.basic_reject(tag, requeue=True)


def server_properties(connection: Any) -> dict[str, Any]:
    """Return what a blocking connection's broker says of itself, such as a version."""
    return dict(connection._impl.server_properties)


def hang_up(connection: Any) -> bool:
    """End a connection without a goodbye, as a frozen broker answers none.

    Tells whether there was a connection: it may not have come so far.
    """
    if connection._transport is None:
        return False
    connection._terminate_stream(ConnectionError("closed"))
    return True


def broker_words(error: BaseException) -> str:
    """Return the broker's own words about what went wrong, else the error's."""
    if isinstance(error, MessagingError):
        return str(error)
    if isinstance(error, (exceptions.ConnectionClosed, exceptions.ChannelClosed)):
        return str(error.reply_text)
    # A login that fails is wrapped in a guess of pika's, which repeats them.
    said = re.search(r"ByBroker: \(\d+\) (['\"])(.*)\1", str(error))
    if said:
        return said[2]
    # One that never came about wraps what the socket said, several times.
    said = re.search(r"Error\(-?\d+, '([^']+)'\)", repr(error))
    if said:
        return said[1]
    return str(error) or type(error).__name__


def refused(error: BaseException) -> bool:
    """Tell whether the broker said no; pika guesses it of any connection lost early.

    A limit on connections is no refusal: after a restart all come at the same time,
    and a moment later there is room.
    """
    if isinstance(error, MessagingError) and error.__cause__:
        error = error.__cause__
    by_broker = re.search(r"ByBroker: \((403|530)\)", str(error))
    if not isinstance(error, LOGIN_ERRORS) or by_broker is None:
        return False
    return not is_limit(error)


def is_limit(error: BaseException) -> bool:
    """Tell whether the broker has as many connections as it may have."""
    return (
        re.search(r"limit .*reached|reached .*limit", broker_words(error)) is not None
    )


NOT_NOW = ("exclusive use", "is down", "inaccessible")  # in a refusal that will pass


def refused_for_good(error: exceptions.ChannelClosedByBroker) -> bool:
    """Tell whether a channel was closed for a name or a right that nobody has."""
    if error.reply_code not in (403, 404):
        return False
    return not any(words in error.reply_text for words in NOT_NOW)
