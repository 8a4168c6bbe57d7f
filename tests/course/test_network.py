"""A network that is slow, frozen or cut, in front of a server that echoes."""

from __future__ import annotations

import gc
import socket
import threading
import time
from asyncio import StreamReader, StreamWriter
from collections.abc import Iterator

import pytest

from course.lab import wait_until
from course.network import FaultyNetwork, LoopbackServer


class EchoServer(LoopbackServer):
    """Says what it is told, and keeps it."""

    def __init__(self) -> None:
        self.heard = b""
        self.gone = 0

    async def serve(self, reader: StreamReader, writer: StreamWriter) -> None:
        try:
            while data := await reader.read(1000):
                self.heard += data
                writer.write(data)
        finally:
            self.gone += 1


class BrokenServer(LoopbackServer):
    """Raises what nobody expects of a server."""

    async def serve(self, reader: StreamReader, writer: StreamWriter) -> None:
        raise LookupError("a mistake of ours")


@pytest.fixture
def server() -> Iterator[EchoServer]:
    with EchoServer() as server:
        yield server


@pytest.fixture
def network(server: EchoServer) -> Iterator[FaultyNetwork]:
    with FaultyNetwork("127.0.0.1", server.port) as network:
        yield network


@pytest.fixture
def client(network: FaultyNetwork) -> Iterator[socket.socket]:
    with connected(network) as client:
        yield client


def connected(network: LoopbackServer) -> socket.socket:
    return socket.create_connection(("127.0.0.1", network.port), timeout=10)


def asked(client: socket.socket, text: bytes) -> bytes:
    client.sendall(text)
    return client.recv(1000)


def hears_nothing(client: socket.socket, seconds: float = 0.1) -> bool:
    client.settimeout(seconds)
    try:
        return not client.recv(1000)
    except TimeoutError:
        return True
    finally:
        client.settimeout(10)


def is_cut(client: socket.socket) -> bool:
    try:
        return client.recv(1000) == b""
    except ConnectionError:
        return True


def test_it_passes_on_both_ways_and_counts_round_trips(
    network: FaultyNetwork, client: socket.socket
) -> None:
    assert network.round_trips == 0
    for number in range(3):
        assert asked(client, b"hello") == b"hello"
        assert network.round_trips == number + 1


def test_a_delay_is_paid_each_way(
    network: FaultyNetwork, client: socket.socket
) -> None:
    network.delay = 0.05
    begin = time.monotonic()
    assert asked(client, b"hello") == b"hello"
    assert time.monotonic() - begin >= 0.1


def test_a_reply_drips_byte_by_byte_until_it_flows_again(
    network: FaultyNetwork, client: socket.socket
) -> None:
    network.drip = 0.05
    begin = time.monotonic()
    client.sendall(b"hello")
    for byte in (b"h", b"e", b"l"):
        assert client.recv(1000) == byte
    assert time.monotonic() - begin >= 0.1
    network.drip = 0.0
    rest = b""
    while len(rest) < 2:
        rest += client.recv(1000)
    assert rest == b"lo"
    assert asked(client, b"again") == b"again"


def test_frozen_up_nothing_reaches_the_server(
    server: EchoServer, network: FaultyNetwork, client: socket.socket
) -> None:
    network.freeze("up")
    client.sendall(b"hello")
    assert hears_nothing(client)
    assert server.heard == b""
    network.thaw()
    assert client.recv(1000) == b"hello"  # what was held back comes


def test_frozen_down_the_server_has_heard_it(
    server: EchoServer, network: FaultyNetwork, client: socket.socket
) -> None:
    network.freeze("down")
    client.sendall(b"hello")
    wait_until(lambda: server.heard == b"hello")
    assert hears_nothing(client)
    network.thaw()
    assert client.recv(1000) == b"hello"


def test_frozen_a_goodbye_does_not_get_through_either(
    server: EchoServer, network: FaultyNetwork, client: socket.socket
) -> None:
    assert asked(client, b"hello") == b"hello"
    network.freeze()
    client.close()
    with pytest.raises(TimeoutError):
        wait_until(lambda: server.gone, limit=0.1)
    network.thaw()
    wait_until(lambda: server.gone)


def test_a_cut_loses_what_was_held_back_and_lets_new_ones_in(
    server: EchoServer, network: FaultyNetwork, client: socket.socket
) -> None:
    network.freeze()
    client.sendall(b"lost")
    assert hears_nothing(client)
    network.cut()
    assert is_cut(client)
    with connected(network) as again:
        assert asked(again, b"hello") == b"hello"
    assert server.heard == b"hello"
    wait_until(lambda: server.gone == 2)


def test_each_end_hears_that_the_other_went(
    server: EchoServer, network: FaultyNetwork, client: socket.socket
) -> None:
    assert asked(client, b"hello") == b"hello"
    server.cut()
    assert is_cut(client)
    with connected(network) as other:
        assert asked(other, b"hello") == b"hello"
    wait_until(lambda: server.gone == 2)


def test_no_server_behind_it_is_a_cut(server: EchoServer) -> None:
    with FaultyNetwork("127.0.0.1", server.port) as network:
        server.call(server._shut_down)
        with connected(network) as client:
            assert is_cut(client)


def test_who_does_not_read_stops_who_writes(
    server: EchoServer, network: FaultyNetwork, client: socket.socket
) -> None:
    client.settimeout(0.5)
    sent = 0
    with pytest.raises(TimeoutError):
        while sent < 200_000_000:
            sent += client.send(b"x" * 100_000)
    assert sent < 200_000_000


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_mistake_in_a_server_ends_its_connection_and_not_the_server(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with BrokenServer() as server:
        for _ in range(2):
            with connected(server) as client:
                assert is_cut(client)
        wait_until(lambda: not server.clients)


def test_after_the_block_nothing_is_left(network: FaultyNetwork) -> None:
    threads = threading.active_count()
    with EchoServer() as server, connected(server) as client:
        assert asked(client, b"hello") == b"hello"
        assert threading.active_count() == threads + 1
    assert threading.active_count() == threads
    assert server.loop.is_closed()
    with pytest.raises(OSError, match="refused"):
        connected(server)


def test_a_call_to_the_loop_is_bounded(
    server: EchoServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("course.network.CALL_LIMIT", 0.05)

    async def wait_for_ever() -> None:
        await server.loop.create_future()

    with pytest.raises(TimeoutError):
        server.call(wait_for_ever)


def test_a_client_that_was_just_let_in_is_not_forgotten() -> None:
    for _ in range(50):  # a socket left open is a ResourceWarning, which is an error
        with EchoServer() as server:
            connected(server).close()


def test_a_reply_can_be_garbled_or_cut(
    network: FaultyNetwork, client: socket.socket
) -> None:
    network.garble(b"??")
    assert asked(client, b"first") == b"??"
    network.garble(b"??", and_the_reply=True)
    assert asked(client, b"second") == b"??second"
    assert asked(client, b"third") == b"third"
    network.cut_in_reply()
    assert asked(client, b"four") == b"fo"
    assert is_cut(client)


def test_a_network_that_has_ended_says_so_and_leaves_nothing_unawaited() -> None:
    with EchoServer() as server, FaultyNetwork("127.0.0.1", server.port) as network:
        pass
    with pytest.raises(RuntimeError, match="closed"):
        network.freeze()  # a coroutine left over would be a warning, here an error
    gc.collect()
