"""Files that a study writes: never over an input, through a link, or half."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable
from functools import partial
from pathlib import Path

from course.columns import visible
from course.errors import BadInput
from course.files import write_whole


def same_file(one: Path, other: Path) -> bool:
    """Tell whether two names lead to one file, through links or not."""
    try:
        return one.samefile(other)
    except (OSError, ValueError):
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
    if str(path) == "-":
        raise BadInput("-: name a file; nothing but text and --json goes to stdout")
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
    if str(path) == "-":
        raise BadInput("-: name a folder")
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
    inside: Iterable[str],
    inputs: Iterable[Path],
    force: bool,
) -> None:
    """Raise BadInput before any work is done, if an output must not be written.

    `inside` names what is written into the folder.
    """
    sources = list(inputs)
    outputs = list(files)
    for path in outputs:
        check_output(path, sources, force)
    seen = set()
    if folder is not None:
        check_folder(folder)
        seen.add(resolved(folder))
        drawn = [folder / name for name in inside]
        for path in drawn if folder.is_dir() else []:
            check_output(path, sources, force)
        outputs += drawn
    for path in outputs:
        whole = resolved(path)
        if whole in seen:
            raise BadInput(f"{visible(str(path))}: two outputs, one file")
        seen.add(whole)


def resolved(path: Path) -> Path:
    """Return where a file would be, whatever its folder is called.

    Some systems take Page.html for page.html, and one code of a letter for another.
    """
    name = unicodedata.normalize("NFC", path.name).casefold()
    return path.parent.resolve() / name


def save(path: Path, content: bytes, force: bool = False) -> None:
    """Write a file that only its owner may read; BadInput names it if that fails."""
    check_output(path, (), force)
    try:
        write_whole(path, content, partial(put_in_place, force=force), mode=0o600)
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
