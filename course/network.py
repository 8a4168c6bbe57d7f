"""A network that is slow, cut, frozen or garbled, for any protocol; its event loop."""

from __future__ import annotations

import asyncio
import threading
from asyncio import StreamReader, StreamWriter
from collections import deque
from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import Any, Self, TypeVar

CALL_LIMIT = 10.0  # seconds that a call to the loop may take
Returned = TypeVar("Returned")


class LoopbackServer:
    """A server on a free loopback port, with an event loop in a thread of its own.

    Use it in a `with` block; `port` is known inside. Subclasses define `serve`.
    """

    port: int

    def __enter__(self) -> Self:
        self.clients: dict[Any, StreamWriter] = {}  # by the tasks that serve them
        self.closing = False
        self.loop = asyncio.new_event_loop()
        self.thread = threading.Thread(target=self.loop.run_forever, daemon=True)
        self.thread.start()
        self.server = self.call(asyncio.start_server, self._welcome, "127.0.0.1", 0)
        self.port = self.server.sockets[0].getsockname()[1]
        return self

    def __exit__(self, *_: object) -> None:
        try:
            self.call(self._shut_down)
        finally:
            self.loop.call_soon_threadsafe(self.loop.stop)
            self.thread.join(CALL_LIMIT)
        self.loop.close()

    def call(
        self, work: Callable[..., Coroutine[Any, Any, Returned]], *args: Any
    ) -> Returned:
        """Run a coroutine function on the loop and return its result.

        Raises RuntimeError where the loop has ended.
        """
        running = work(*args)
        try:
            done = asyncio.run_coroutine_threadsafe(running, self.loop)
        except RuntimeError:
            running.close()  # else Python warns of it, somewhere and later
            raise
        try:
            return done.result(CALL_LIMIT)
        except TimeoutError:
            done.cancel()
            raise

    async def serve(self, reader: StreamReader, writer: StreamWriter) -> None:
        """Talk to one client until it goes, or until the task is cancelled."""
        raise NotImplementedError

    def cut(self) -> None:
        """End every connection without a goodbye; new ones are accepted."""
        self.call(self._cut)

    async def _welcome(self, reader: StreamReader, writer: StreamWriter) -> None:
        if self.closing:
            writer.transport.abort()
            return
        task = asyncio.current_task()
        self.clients[task] = writer
        try:
            with suppress(OSError, asyncio.CancelledError):
                await self.serve(reader, writer)
        finally:
            writer.transport.abort()
            del self.clients[task]

    async def _shut_down(self) -> None:
        self.closing = True
        await self._cut()
        # Trap: a client that was just accepted belongs to asyncio before it is in
        # `clients`; if the server closed now, its socket would stay open.
        while tasks := asyncio.all_tasks() - {asyncio.current_task()}:
            await asyncio.wait(tasks)
        self.server.close()

    async def _cut(self) -> None:
        for task in self.clients:
            task.cancel()
        if self.clients:
            await asyncio.wait(list(self.clients))


class FaultyNetwork(LoopbackServer):
    """A network between a client and a server that can be slow, frozen, cut or garbled.

    The client connects to 127.0.0.1 at `port`, and talks to the server at `target`.
    """

    def __init__(self, host: str, port: int) -> None:
        self.target = (host, port)
        self.delay = 0.0  # seconds that each chunk takes, either way
        self.drip = 0.0  # seconds from byte to byte down, if above 0
        # What happens to the next chunks down, one each: what is passed on in place of
        # one, and whether the connection goes on.
        self.spoilt: deque[Callable[[bytes], tuple[bytes, bool]]] = deque()
        self.round_trips = 0  # each is a chunk up that is followed by one down
        self._last_way = ""
        self._gates = {"up": asyncio.Event(), "down": asyncio.Event()}
        for gate in self._gates.values():
            gate.set()

    def freeze(self, *ways: str) -> None:
        """Let nothing through any more: either way, or only "up" or only "down"."""
        self.call(self._hold, ways or tuple(self._gates))

    def thaw(self) -> None:
        """Let everything through again, first what was held back."""
        self.call(self._hold, ())

    def cut(self) -> None:
        """End every connection, drop what was held back, and work again."""
        super().cut()
        self.thaw()

    def cut_in_reply(self) -> None:
        """Pass on half of what the server says next, then end that connection."""
        self.spoilt.append(lambda data: (data[: len(data) // 2], False))

    def garble(self, garbage: bytes, and_the_reply: bool = False) -> None:
        """Pass on garbage in place of what the server says next, or before it."""

        def spoil(data: bytes) -> tuple[bytes, bool]:
            rest = data if and_the_reply else b""
            return garbage + rest, True

        self.spoilt.append(spoil)

    async def serve(self, reader: StreamReader, writer: StreamWriter) -> None:
        """Pass on what the client and the server send, until both are gone."""
        far_reader, far_writer = await asyncio.open_connection(*self.target)
        up = self._pass_on(reader, far_writer, "up")
        down = self._pass_on(far_reader, writer, "down")
        try:
            await asyncio.gather(up, down)
        finally:
            far_writer.transport.abort()

    async def _pass_on(
        self, reader: StreamReader, writer: StreamWriter, way: str
    ) -> None:
        with suppress(OSError):
            while data := await reader.read(65536):
                await asyncio.sleep(self.delay)
                await self._gates[way].wait()
                if way == "down" and self._last_way == "up":
                    self.round_trips += 1
                self._last_way = way
                goes_on = True
                if way == "down" and self.spoilt:
                    data, goes_on = self.spoilt.popleft()(data)
                while way == "down" and self.drip and data:
                    writer.write(data[:1])
                    data = data[1:]
                    await asyncio.sleep(self.drip)
                writer.write(data)
                await writer.drain()  # one side that stops reading stops the other
                if not goes_on:
                    break
        await self._gates[way].wait()  # a frozen network holds back a goodbye, too
        writer.close()  # which tells the other side

    async def _hold(self, ways: tuple[str, ...]) -> None:
        for way, gate in self._gates.items():
            if way in ways:
                gate.clear()
            else:
                gate.set()
