"""Names that say when they were made, so that what a crash leaves has an age."""

from __future__ import annotations

import re
import secrets
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from course.ending import remark

STAMP = "%Y%m%d%H%M%S"  # in UTC
REMOVAL_TRIES = 10  # of the folder of a run
MADE_BY_A_RUN = re.compile(r"module8([_.:-])(\d{14})\1[0-9a-f]{8}(?![0-9a-z])")


def new_name(separator: str) -> str:
    """Return a name that nobody else has, such as module8_20261129131713_5f0c2d9a."""
    now = datetime.now(UTC).strftime(STAMP)
    return separator.join(("module8", now, secrets.token_hex(4)))


def run_name_in(name: str) -> str:
    """Return the name of ours with which a name begins, or nothing."""
    found = MADE_BY_A_RUN.match(name)
    return found[0] if found else ""


def is_of_a_run(name: str) -> bool:
    """Tell whether a name is all ours: one that only begins so is somebody else's."""
    return run_name_in(name) == name != ""


def made_at(name: str) -> datetime | None:
    """Return when a name was made; None if it is not one of ours."""
    found = MADE_BY_A_RUN.match(name)
    if found is None:
        return None
    try:
        return datetime.strptime(found[2], STAMP).replace(tzinfo=UTC)
    except ValueError:  # digits that are no date
        return None


def home_of_folders() -> Path:
    """Return where runs have their folders, also in the midst of one."""
    path = Path(tempfile.gettempdir())
    return path.parent if made_at(path.name) else path


@contextmanager
def folder_of_the_run() -> Iterator[None]:
    """Have all temporary files of a run in one folder, which goes with it.

    Whatever makes one, and whenever that is interrupted: the folder is ours.
    """
    try:
        folder = Path(tempfile.mkdtemp(prefix=f"{new_name('-')}-"))
    except OSError:  # no room, no right: who needs a file will say so
        yield
        return
    before = tempfile.tempdir
    tempfile.tempdir = str(folder)
    try:
        yield
    finally:
        tempfile.tempdir = before
        # Again: a thread that was cut off may just be making a file in it.
        for _ in range(REMOVAL_TRIES):
            shutil.rmtree(folder, ignore_errors=True)
            if not folder.exists():
                break
            time.sleep(0.1)
        else:
            remark(f"{folder} left behind")
