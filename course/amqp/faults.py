"""What a broker short of memory does to its publishers, on a network of ours."""

from __future__ import annotations

from pika import frame, spec

from course.network import FaultyNetwork


def block(network: FaultyNetwork, reason: str) -> None:
    """Say what a broker short of memory says, and take nothing more."""

    async def say_so() -> None:
        blocked = spec.Connection.Blocked(reason)
        notice = frame.Method(0, blocked).marshal()
        for writer in network.clients.values():
            writer.write(notice)

    network.freeze("up")
    network.call(say_so)
