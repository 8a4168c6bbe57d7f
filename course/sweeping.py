"""`--sweep`: what runs that were killed have left, listed by name and removed."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial

from course.columns import visible
from course.console import table, write
from course.ending import complain, one_line
from course.errors import BadInput
from course.naming import home_of_folders, made_at

OLD = timedelta(hours=1)  # longer than any run takes
CLOCKS_APART = timedelta(minutes=10)


def now() -> datetime:
    """Return the time of this machine's clock, by which what a run makes is named."""
    return datetime.now(UTC)


def refuse_clocks_apart(service: str, its_time: datetime) -> None:
    """Raise BadInput if a server's clock is not ours: what is young may look old."""
    apart = abs(now() - its_time)
    if apart > CLOCKS_APART:
        minutes = f"{apart / timedelta(minutes=1):.0f} minutes apart"
        clocks = f"the clocks of this machine and of {service} are {minutes}"
        raise BadInput(f"--sweep goes by the time: {clocks}")


@dataclass(frozen=True)
class Leftover:
    """Something that a run has made, under a name that says when."""

    kind: str
    name: str
    remove: Callable[[], object]

    @property
    def age(self) -> timedelta:
        """Return for how long it has existed; not at all if it is not ours."""
        made = made_at(self.name)
        return now() - made if made else timedelta(0)


def temporary_folders() -> list[Leftover]:
    """Return the folders of runs that were killed on this machine."""
    found = []
    for path in home_of_folders().glob("module8-*"):
        remove = partial(shutil.rmtree, path)
        found.append(Leftover("folder", path.name, remove))
    return found


def sweep(leftovers: Iterable[Leftover], really: bool) -> int:
    """List what is older than an hour, and remove it if asked to; return a code."""
    old = [one for one in leftovers if one.age > OLD]
    old.sort(key=lambda one: (one.kind, one.name))
    if not old:
        write("nothing of ours is older than an hour")
        return 0
    rows = []
    code = 0
    for one in old:
        rows.append((one.kind, one.name, f"{one.age / timedelta(hours=1):.1f}"))
    table(("kind", "left by a run", "hours old"), *rows)
    if not really:
        write(f"{len(old)} would be removed by --sweep --yes")
        return 0
    for one in old:
        try:
            one.remove()
        except Exception as error:
            complain(visible(f"{one.kind} {one.name} stays: {one_line(error)}"))
            code = 1
    if not code:
        write(f"{len(old)} removed")
    return code
