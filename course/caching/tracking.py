"""Follows the changes of names in Redis, by CLIENT TRACKING."""

from __future__ import annotations

import math
import os
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any, Protocol

import redis

from course.caching.client import refuse_resp3
from course.caching.jobs import error_text
from course.caching.locks import ForkSafeLock
from course.caching.log import RareWarnings

CHANNEL = b"__redis__:invalidate"
RETRY_AFTER = 0.2  # seconds after a loss
RETRY_RIGHTS_AFTER = 10.0  # seconds until somebody may have given the user a right
QUIET = 0.5  # seconds between two PINGs, each to be answered before the next


class Follower(Protocol):
    """Who is told: that changes are followed from now on, of each, and of the end."""

    def begin_copies(self) -> None:
        """Begin to keep copies: from now on every change is told."""

    def confirm_copies(self, asked: float) -> None:
        """Note that all changes from before this moment have been told."""

    def drop(self, *names: bytes) -> None:
        """Drop the copies of these names, or all."""

    def end_copies(self) -> None:
        """Keep no copies any more: changes may be missed."""

    def compare(self, name: bytes, payload: bytes | None) -> None:
        """Drop all copies if that of this name differs from what is stored."""


class OddNews(Exception):
    """Raised for what Redis would not say here: the connection is out of step."""


@contextmanager
def channel_named() -> Iterator[None]:
    """Name the channel that a user has no right to, which Redis does not."""
    try:
        yield
    except redis.exceptions.NoPermissionError as error:
        text = f"{error}; it needs &{CHANNEL.decode()}, the channel of CLIENT TRACKING"
        raise redis.exceptions.NoPermissionError(text) from error


class Witness:
    """Reads a name now and then, on a connection of its own, and waits for nothing."""

    def __init__(self, connection: Any, name: bytes, follower: Follower) -> None:
        self.connection = connection
        self.name = name
        self.follower = follower
        self.is_asked = False

    def ask(self) -> None:
        """Ask for what is stored, unless that has not been answered yet."""
        if not self.is_asked:
            self.connection.send_command("MGET", self.name)
            self.is_asked = True

    def hear(self) -> None:
        """Let the follower compare what is stored with its copy, if it has come."""
        if self.is_asked and self.connection.can_read(timeout=0):
            [stored] = self.connection.read_response()
            self.is_asked = False
            self.follower.compare(self.name, stored)


class ChangeListener:
    """Tells a follower of every change under some prefixes, from a thread of its own.

    Broadcast mode over RESP2: one connection subscribes, and is told of every change.
    A connection that is lost, or says anything else, is made again; whatever ends the
    thread, the copies end first. A forked child makes a connection of its own.
    Of SWAPDB Redis tells nobody. So a witness reads the last of the prefixes, which is
    a whole name, each half second, and it is compared with its copy.
    """

    def __init__(
        self, client: Any, prefixes: Sequence[bytes], follower: Follower
    ) -> None:
        refuse_resp3(client)
        self.pool = client.connection_pool
        self.prefixes = tuple(prefixes)
        self.follower = follower
        self.connection_id = 0
        self.process = 0  # whose thread listens; 0 if none
        self.users = 0  # how often it was started, less how often it was stopped
        self.lock = ForkSafeLock()
        self.stopping = threading.Event()
        self.thread: threading.Thread | None = None
        self.log = RareWarnings()

    def start(self) -> None:
        """Listen, until stopped as often as started."""
        with self.lock:
            self.users += 1
            if self.users == 1:
                self._start_thread()

    def stop(self) -> None:
        """Stop listening, if nobody else needs it, and wait for the thread."""
        with self.lock:
            self.users = max(0, self.users - 1)
            if self.users:
                return
            self.process = 0
            self.stopping.set()
            thread = self.thread
        if thread and thread.is_alive():
            thread.join(5)

    def _start_thread(self) -> None:
        self.process = os.getpid()
        self.stopping = threading.Event()
        self.thread = threading.Thread(target=self.listen, daemon=True)
        # A process may have all the threads that it may have, or be about to end. Then
        # there are no copies, and the next reader tries again.
        try:
            self.thread.start()
        except RuntimeError as error:
            self.warn(error)

    def warn(self, error: Exception) -> None:
        """Log why there are no copies."""
        self.log.warn(f"the near cache keeps no copies: {error_text(error)}")

    def revive(self) -> None:
        """Listen again where the thread is gone: in a forked child, or killed."""
        thread = self.thread
        if not self.process or (
            thread and self.process == os.getpid() and thread.is_alive()
        ):
            return
        with self.lock:
            thread = self.thread
            if not self.process or not thread:
                return
            if self.process != os.getpid() or not thread.is_alive():
                self.follower.end_copies()
                self._start_thread()

    def listen(self) -> None:
        """Follow the changes; after a loss, again with no copies."""
        stopping = self.stopping
        while not stopping.is_set():
            # Whatever it is: a spoilt reply can become any exception, MemoryError too.
            pause = RETRY_AFTER
            try:
                self.follow_one_connection()
            except Exception as error:
                self.warn(error)
                if isinstance(error, redis.exceptions.NoPermissionError):
                    pause = RETRY_RIGHTS_AFTER
            stopping.wait(pause)

    def follow_one_connection(self) -> None:
        """Connect and follow the changes, until that fails or the thread is stopped."""
        options = dict(self.pool.connection_kwargs)
        # The other half of a piece of news may never come.
        options["socket_timeout"] = min(options.get("socket_timeout") or QUIET, QUIET)
        connection = self.pool.connection_class(**options)
        another = self.pool.connection_class(**options)
        try:
            # Trap: a command connects by itself, but not to whom Sentinel names.
            connection.connect()
            another.connect()
            self.subscribe(connection)
            self.follow(connection, Witness(another, self.prefixes[-1], self.follower))
        finally:
            self.follower.end_copies()
            for one in (connection, another):
                with suppress(Exception):
                    one.disconnect()

    def subscribe(self, connection: Any) -> None:
        """Ask to be told, on this connection, of every change under the prefixes."""

        def order(*words: object) -> Any:
            connection.send_command(*words)
            return connection.read_response()

        number = order("CLIENT", "ID")
        if not isinstance(number, int):
            raise OddNews("CLIENT ID gives no number")
        self.connection_id = number
        # For a moment Sentinel still names the master that it has demoted.
        if hasattr(self.pool, "is_master") and order("ROLE")[0] != b"master":
            raise OddNews("the server is no master")
        tracked: list[object] = []
        for prefix in self.prefixes:
            tracked += ["PREFIX", prefix]
        redirect = ("REDIRECT", number)
        if order("CLIENT", "TRACKING", "ON", *redirect, "BCAST", *tracked) != b"OK":
            raise OddNews("CLIENT TRACKING is not answered by OK")
        with channel_named():
            confirmed = order("SUBSCRIBE", CHANNEL) == [b"subscribe", CHANNEL, 1]
        if not confirmed:
            raise OddNews("SUBSCRIBE is not confirmed")
        self.follower.begin_copies()

    def follow(self, connection: Any, witness: Witness) -> None:
        """Pass the changes on until the connection is lost or the thread stopped."""
        stopping = self.stopping
        asked = -math.inf
        is_answered = True
        while not stopping.is_set():
            now = time.monotonic()
            if now >= asked + QUIET:
                # Also where news comes without a pause: it may be old, held back on
                # the way or queued behind more than this thread can read.
                if not is_answered:
                    raise redis.TimeoutError("no answer to PING: news comes too late")
                connection.send_command("PING")
                asked = now
                is_answered = False
                witness.ask()
            witness.hear()
            if not connection.can_read(timeout=QUIET / 2):
                continue
            if self.hear(connection.read_response()):
                is_answered = True
                self.follower.confirm_copies(asked)

    def hear(self, news: Any) -> bool:
        """Pass on what Redis says, and tell whether it answers PING.

        OddNews for anything that it would not say.
        """
        match news:
            case [b"message", channel, None] if channel == CHANNEL:
                self.follower.drop()  # all: Redis was emptied
            case [b"message", channel, [*names]] if channel == CHANNEL:
                for name in names:
                    # Spoilt on the way: another name has changed, we can't tell which.
                    if not isinstance(name, bytes) or not name.startswith(
                        self.prefixes
                    ):
                        raise OddNews("a name that nobody asked for has changed")
                if names:
                    self.follower.drop(*names)
            case [b"pong", b""]:
                return True
            case _:
                raise OddNews(f"this is not news of a change: {news!r:.40}")
        return False
