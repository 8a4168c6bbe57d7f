"""The stores beside SQL, and how a process lends its stand-ins to the workers."""

from __future__ import annotations

import secrets
import threading
from collections.abc import Sequence
from contextlib import ExitStack
from multiprocessing.managers import BaseManager
from typing import Any

from course.integrated.cache import ScoreCache
from course.integrated.documents import Documents
from course.integrated.sql import Row
from course.integrated.task import Lent

ANY_PORT = ("127.0.0.1", 0)


class Stores:
    """What a worker changes outside SQL; each call may come twice, and counts once."""

    def __init__(self, documents: Documents, scores: ScoreCache) -> None:
        self.documents = documents
        self.scores = scores

    def insert(self, collection: str, rows: Sequence[Row]) -> None:
        """Insert documents that carry their _id."""
        self.documents.insert(collection, rows)

    def forget(self, users: list[str]) -> None:
        """Delete scores."""
        self.scores.forget(users)


class StandIns(BaseManager):
    """Lends the stores of one process to workers, whose calls go over loopback."""


def lend(stores: Stores, stack: ExitStack) -> Lent:
    """Serve stand-ins that live in this process, until the stack closes."""
    key = secrets.token_hex(16)  # a manager unpickles what it is sent: not by anybody
    StandIns.register("stores", lambda: stores)
    manager = StandIns(ANY_PORT, key.encode())
    server: Any = manager.get_server()
    serving = threading.Thread(target=server.serve_forever, daemon=True)
    serving.start()

    def stop() -> None:
        server.stop_event.set()  # which serve_forever has made by then

    stack.callback(stop)
    _, port = server.address
    return Lent(port, key)


def borrow(lent: Lent) -> Any:
    """Return the stores of the process that lends them."""
    StandIns.register("stores")
    address = ("127.0.0.1", lent.port)
    manager: Any = StandIns(address, lent.key.encode())
    manager.connect()
    return manager.stores()
