"""Load many keys in one call, and share the load of each key between threads."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any


class SharedBatches:
    """Loads rows in batches; a key that a thread is loading is not loaded twice."""

    def __init__(self, load_batch: Callable[[list[str]], dict[str, Any]]) -> None:
        """Keep the function that loads.

        `load_batch` takes a list of keys, each once and at least one, and returns the
        rows by key. It leaves out keys that have no row. Threads call it at once.
        """
        raise NotImplementedError

    def load(self, keys: Iterable[str]) -> dict[str, Any]:
        """Return the rows of these keys, and of no others; keys without a row are out.

        Keys that nobody is loading are loaded here, at once, in one call of
        `load_batch`. Then the call waits for the threads that are loading the others.
        Nothing is kept when a load has ended.

        Raises what `load_batch` raised, here or in the thread that was waited for;
        RuntimeError if that thread was told to end (SystemExit, KeyboardInterrupt).
        """
        raise NotImplementedError
