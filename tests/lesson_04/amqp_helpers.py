"""What the tests of lesson 04 share: connections to a stand-in, and bad bodies."""

from __future__ import annotations

import argparse
import json
import random
from contextlib import AbstractContextManager
from typing import Any

from lessons import load

from course.amqp.finding import parameters_of
from course.amqp.workbench import BrokerEnv
from course.network import LoopbackServer

lesson = load("04")


def open_stand_in() -> AbstractContextManager[BrokerEnv]:
    """Open what the demos run on without RabbitMQ."""
    found: AbstractContextManager[BrokerEnv] = lesson.open_env(
        argparse.Namespace(offline=True, url=None)
    )
    return found


def url_of(broker: LoopbackServer) -> str:
    """Return the URL of a stand-in, or of a network before it."""
    return f"amqp://guest:guest@127.0.0.1:{broker.port}/%2F"


def connection_to(broker: LoopbackServer, **options: Any) -> Any:
    """Return our names on a stand-in."""
    return lesson.RabbitMQConnection(parameters_of(url_of(broker)), **options)


def mutated(rng: random.Random) -> bytes:
    """Return a body that is no message, or that is one with something wrong."""
    good = json.loads(lesson.user(rng.randrange(100)).to_json())
    match rng.randrange(7):
        case 0:
            return rng.randbytes(rng.randrange(200))
        case 1:
            text = json.dumps(good)
            return text[: rng.randrange(len(text))].encode()
        case 2:
            good.pop(rng.choice(list(good)), None)
            good.pop("version", None)
        case 3:
            wrong: list[Any] = [
                None,
                [],
                {},
                -1,
                1.5,
                True,
                "x" * 99,
                10**400,
                "\ud800 ",
            ]
            good[rng.choice(["id", "type", "payload"])] = rng.choice(wrong)
        case 4:
            good["version"] = rng.choice([0, 2, "1", None, True, 1.0, [1]])
        case 5:
            good["payload"] = {"username": 1, "id": "x"}
        case _:
            good[rng.choice(["extra", "__class__", "self", "cls"])] = "x"
    return json.dumps(good).encode()
