"""Files that are written whole or not at all."""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable
from pathlib import Path


def write_whole(
    path: Path,
    content: bytes,
    put: Callable[[Path, Path], object] | None = None,
    mode: int = 0o666,
) -> None:
    """Write a file: a reader sees the old one or the new one, never half of it.

    The content is written beside it first; `put` then gives that its name, which
    otherwise replaces what has it. The mode is cut by the umask. Raises OSError.
    """
    beside = path.with_name(f".new-{secrets.token_hex(8)}")  # however long the name is
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0)
    number = os.open(beside, flags, mode)
    try:
        with os.fdopen(number, "wb") as file:
            file.write(content)
        if put:
            put(beside, path)
        else:
            beside.replace(path)
    finally:
        beside.unlink(missing_ok=True)
