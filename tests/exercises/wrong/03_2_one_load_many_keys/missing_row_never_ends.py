"""Only keys that got a row are marked as ended: who waits for another key hangs."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from concurrent.futures import Future
from typing import Any


class SharedBatches:
    """Loads rows in batches; a key that a thread is loading is not loaded twice."""

    def __init__(self, load_batch: Callable[[list[str]], dict[str, Any]]) -> None:
        """Keep the function that loads."""
        self.load_batch = load_batch
        self.lock = threading.Lock()
        self.futures: dict[str, Future[Any]] = {}

    def load(self, keys: Iterable[str]) -> dict[str, Any]:
        """Return the rows of these keys; a key without a row is left out."""
        own: dict[str, Future[Any]] = {}
        others: dict[str, Future[Any]] = {}
        asked = list(dict.fromkeys(keys))
        with self.lock:
            for key in asked:
                if key in self.futures:
                    others[key] = self.futures[key]
                else:
                    own[key] = self.futures[key] = Future()
        rows: dict[str, Any] = {}
        if own:
            rows = self.load_own(own)
        for key, future in others.items():
            rows[key] = future.result()
        return rows

    def load_own(self, own: dict[str, Future[Any]]) -> dict[str, Any]:
        """Load our keys, and hand each row to those who wait for it."""
        try:
            found = self.load_batch(list(own))
        except BaseException as error:
            shared = error
            if not isinstance(error, Exception):
                shared = RuntimeError("the loading thread has ended")
            for key, future in own.items():
                with self.lock:
                    self.futures.pop(key)
                future.set_exception(shared)
            raise
        rows = {}
        for key, row in found.items():
            if key in own:
                rows[key] = row
                with self.lock:
                    future = self.futures.pop(key)
                future.set_result(row)
        return rows
