"""Files that a study writes: never over an input, through a link, or half."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterable
from pathlib import Path

from course.columns import visible
from course.errors import BadInput


def same_file(one: Path, other: Path) -> bool:
    """Tell whether two names lead to one file, through links or not."""
    try:
        return one.samefile(other)
    except OSError:
        return False


def check_reachable(path: Path) -> None:
    """Raise BadInput for a name that the system does not take, such as a long one."""
    try:
        path.lstat()
    except (FileNotFoundError, NotADirectoryError):
        return  # nothing is there yet
    except (OSError, ValueError) as problem:
        why = getattr(problem, "strerror", None) or problem
        raise BadInput(f"{visible(str(path))}: {why}") from None


def check_output(path: Path, inputs: Iterable[Path], force: bool) -> None:
    """Raise BadInput for a file that must not be written."""
    name = visible(str(path))
    if any(same_file(path, source) for source in inputs):
        raise BadInput(f"{name}: it is the input, and is not overwritten")
    check_reachable(path)
    if path.is_symlink():
        raise BadInput(f"{name}: it is a link; name the file itself")
    if path.is_dir():
        raise BadInput(f"{name}: it is a folder")
    if not path.parent.is_dir():
        raise BadInput(f"{name}: there is no folder {visible(str(path.parent))}")
    if path.exists() and not path.is_file():
        raise BadInput(f"{name}: it is not a file")
    if path.exists() and not force:
        raise BadInput(f"{name}: it exists; --force replaces it")


def check_folder(path: Path) -> None:
    """Raise BadInput for a folder that cannot be one for pictures."""
    name = visible(str(path))
    check_reachable(path)
    if path.is_symlink():
        raise BadInput(f"{name}: it is a link; name the folder itself")
    if path.exists() and not path.is_dir():
        raise BadInput(f"{name}: it is not a folder")
    if not path.parent.is_dir():
        raise BadInput(f"{name}: there is no folder {visible(str(path.parent))}")


def check_outputs(
    files: Iterable[Path],
    folder: Path | None,
    inputs: Iterable[Path],
    force: bool,
) -> None:
    """Raise BadInput before any work is done, if an output must not be written."""
    sources = list(inputs)
    seen: set[Path] = set()
    for path in files:
        check_output(path, sources, force)
        whole = path.parent.resolve() / path.name
        if whole in seen:
            raise BadInput(f"{visible(str(path))}: two outputs, one file")
        seen.add(whole)
    if folder is not None:
        check_folder(folder)


def save(path: Path, content: bytes, force: bool = False) -> None:
    """Write a file that only its owner may read; BadInput names it if that fails.

    The content is written beside it first: there is the whole file, or none.
    """
    check_output(path, (), force)
    try:
        number, name = tempfile.mkstemp(prefix=".new-", dir=path.parent)  # mode 0600
        beside = Path(name)
        try:
            with os.fdopen(number, "wb") as file:
                file.write(content)
            put_in_place(beside, path, force)
        finally:
            beside.unlink(missing_ok=True)
    except OSError as problem:
        raise BadInput(f"{visible(str(path))}: {problem.strerror}") from None


def put_in_place(beside: Path, path: Path, force: bool) -> None:
    """Give a written file its name; without `force` only if nothing has it."""
    if force:
        beside.replace(path)
        return
    try:
        # Unlike a rename, this fails where somebody was faster.
        path.hardlink_to(beside)
    except FileExistsError:
        raise
    except OSError:  # a file system without hard links
        check_output(path, (), force)
        beside.replace(path)


def make_folder(path: Path) -> None:
    """Make a folder, but not the folders above it."""
    check_folder(path)
    try:
        path.mkdir(exist_ok=True)
    except OSError as problem:
        raise BadInput(f"{visible(str(path))}: {problem.strerror}") from None
