"""The one module that touches what pika keeps private, and why."""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pika
from pika import exceptions, frame, spec


class SteadyConnection(pika.SelectConnection):  # type: ignore[misc]
    """pika's connection, which one header can't end and a batch leaves at once."""

    def _read_frame(self) -> tuple[int, Any]:
        """Read on past headers that pika cannot decode: a consumer buries those."""
        try:
            return super()._read_frame()  # type: ignore[no-any-return]
        except exceptions.AMQPError:
            raise
        except Exception:
            kind, channel, size = struct.unpack_from(">BHL", self._frame_buffer)
            if kind != spec.FRAME_HEADER:
                raise
            (body,) = struct.unpack_from(">Q", self._frame_buffer, 11)
            about = pika.BasicProperties(headers={"x-retry-count": "undecodable"})
            return size + 8, frame.Header(channel, body, about)

    @contextmanager
    def batch(self) -> Iterator[None]:
        """Hold back what is sent inside, for a single write; pika writes each frame."""
        parts: list[bytes] = []
        self._adapter_emit_data = parts.append
        try:
            yield
        finally:
            del self._adapter_emit_data
            if parts:
                self._adapter_emit_data(b"".join(parts))


FATAL = (exceptions.ProbableAuthenticationError, exceptions.ProbableAccessDeniedError)


def refused(error: Exception) -> bool:
    """Tell whether the broker said no; pika guesses it of any connection lost early."""
    no = re.search(r"ByBroker: \((403|530)\)", str(error))
    return isinstance(error, FATAL) and no is not None


def server_properties(connection: Any) -> dict[str, Any]:
    """Return what a broker says of itself: its product and version.

    pika's blocking connection has these, and no public name for them.
    """
    return dict(connection._impl.server_properties)


def batch(connection: Any) -> Any:
    """Hold back what a blocking connection sends inside, for a single write."""
    return connection._impl.batch()


def hang_up(connection: Any) -> bool:
    """End a connection without a goodbye; tell whether there was one.

    A frozen broker answers no goodbye, and pika has no public way to hang up.
    """
    if connection._transport is None:  # it has not even connected
        return False
    connection._terminate_stream(ConnectionError("closed"))
    return True
