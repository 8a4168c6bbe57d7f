"""Makes the error again for those who wait, of its text."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from typing import Any


class Batch:
    """A call of load_batch under way, and how it ended."""

    def __init__(self) -> None:
        self.ended = threading.Event()
        self.rows: dict[str, Any] = {}
        # It stays if the thread ends before load_batch has returned or raised.
        self.error: Exception | None = RuntimeError("the loading thread has ended")


class SharedBatches:
    """Loads rows in batches; a key that a thread is loading is not loaded twice."""

    def __init__(self, load_batch: Callable[[list[str]], dict[str, Any]]) -> None:
        """Keep the function that loads."""
        self.load_batch = load_batch
        self.lock = threading.Lock()
        self.under_way: dict[str, Batch] = {}

    def load(self, keys: Iterable[str]) -> dict[str, Any]:
        """Return the rows of these keys; a key without a row is left out."""
        asked = list(dict.fromkeys(keys))  # before the lock: it may be a slow generator
        mine = Batch()
        batches = {}
        # All in one step. So those we wait for came before us, and don't wait for us.
        with self.lock:
            for key in asked:
                batches[key] = self.under_way.setdefault(key, mine)
        own = [key for key in asked if batches[key] is mine]
        if own:
            self.lead(own, mine)
        rows = {}
        for key in asked:
            batch = batches[key]
            batch.ended.wait()
            if batch.error is not None:
                raise type(batch.error)(str(batch.error)) from batch.error
            if key in batch.rows:
                rows[key] = batch.rows[key]
        return rows

    def lead(self, keys: list[str], batch: Batch) -> None:
        """Load the keys; however that ends, nobody waits any longer."""
        try:
            batch.rows = self.load_batch(list(keys))
            batch.error = None
        except Exception as error:
            batch.error = error
            raise
        finally:
            # First: those who are told of the end may ask again at once.
            with self.lock:
                for key in keys:
                    del self.under_way[key]
            batch.ended.set()
