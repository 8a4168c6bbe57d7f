"""Follows the changes of names in Redis, by CLIENT TRACKING."""

from __future__ import annotations

import os
import threading
from collections.abc import Sequence
from contextlib import suppress
from typing import Any, Protocol

import redis

from course.caching.locks import ForkSafeLock

RETRY_AFTER = 0.2  # seconds after a loss
QUIET = 0.5  # seconds of silence, then the connection is asked whether it lives


class Follower(Protocol):
    """Who is told: that changes are followed from now on, of each, and of the end."""

    def begin_copies(self) -> None:
        """Begin to keep copies: from now on every change is told."""

    def drop(self, *names: bytes) -> None:
        """Drop the copies of these names, or all."""

    def end_copies(self) -> None:
        """Keep no copies any more: changes may be missed."""


class ChangeListener:
    """Tells a follower of every change under some prefixes, from a thread of its own.

    Broadcast mode over RESP2: one connection subscribes, and is told of every change.
    A connection that is lost is made again; a forked child makes one of its own.
    """

    def __init__(
        self, client: Any, prefixes: Sequence[bytes], follower: Follower
    ) -> None:
        self.pool = client.connection_pool
        self.prefixes = prefixes
        self.follower = follower
        self.connection_id = 0
        self.process = 0  # whose thread listens; 0 if none
        self.lock = ForkSafeLock()
        self.stopping = threading.Event()

    def start(self) -> None:
        """Listen, until stopped."""
        self.process = os.getpid()
        self.stopping = threading.Event()
        self.thread = threading.Thread(target=self.listen, daemon=True)
        self.thread.start()

    def stop(self) -> None:
        """Stop listening, and wait for the thread."""
        self.process = 0
        self.stopping.set()
        self.thread.join(5)

    def revive(self) -> None:
        """Listen again in a forked child, which has no thread of its parent's."""
        if self.process in (0, os.getpid()):
            return
        with self.lock:
            if self.process != os.getpid():
                self.follower.end_copies()
                self.start()

    def listen(self) -> None:
        """Follow the changes; after a loss, again with no copies."""
        stopping = self.stopping
        while not stopping.is_set():
            connection = self.pool.connection_class(**self.pool.connection_kwargs)
            with suppress(redis.RedisError, OSError):
                self.subscribe(connection)
                self.follow(connection)
            self.follower.end_copies()
            connection.disconnect()
            stopping.wait(RETRY_AFTER)

    def subscribe(self, connection: Any) -> None:
        """Ask to be told, on this connection, of every change under the prefixes."""

        def order(*words: object) -> Any:
            connection.send_command(*words)
            return connection.read_response()

        self.connection_id = order("CLIENT", "ID")
        tracked: list[object] = []
        for prefix in self.prefixes:
            tracked += ["PREFIX", prefix]
        redirect = ("REDIRECT", self.connection_id)
        order("CLIENT", "TRACKING", "ON", *redirect, "BCAST", *tracked)
        order("SUBSCRIBE", "__redis__:invalidate")
        self.follower.begin_copies()

    def follow(self, connection: Any) -> None:
        """Pass the changes on until the connection is lost or the thread stopped."""
        asked = False
        while not self.stopping.is_set():
            if connection.can_read(timeout=QUIET):
                kind, *_, names = connection.read_response()
                asked = False
                if kind == b"message":
                    self.follower.drop(*(names or ()))
            elif asked:
                raise redis.TimeoutError("no answer to PING: the connection is lost")
            else:
                connection.send_command("PING")
                asked = True
