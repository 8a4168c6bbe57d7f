"""Judges export_changes() by its file, however often it was killed."""

from __future__ import annotations

import random
import tempfile
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import ModuleType
from typing import Any

from bson import json_util

from course.claims import at_most, clipped, is_a, more_than
from course.mongo.codec import Document
from course.mongo.counting import CommandCounter
from course.practice.checking import Refused, Words, expect
from course.practice.noted import Asked, NotedCollection
from course.standins.mongodb import StandInDatabase

OPTIONS = json_util.JSONOptions(json_mode=json_util.JSONMode.RELAXED, tz_aware=True)
ORDER = [("changed_at", 1), ("_id", 1)]
START = datetime(2025, 3, 1, 8, tzinfo=UTC)
NAMES = (
    *("Ann", "Zoë", "Львів", "李雷", "😀 Ben", "two\nlines", "two\r\nlines", "a\rb"),
    *("next\x85line", "line\u2028separator", "\u2029", 'quo"te', "back\\slash", ""),
)


class Killed(BaseException):
    """Stands for a kill: no `except Exception` holds it up."""


class Watched(NotedCollection):
    """A collection that looks at the file whenever a page is asked for."""

    def __init__(self, inner: Any, path: Path) -> None:
        super().__init__(inner)
        self.path = path
        self.tried = ""
        self.most = 0  # finds; more of them are not going to end
        self.page = 0
        self.whole = 0  # lines of the file that are whole before the run
        self.killed_at = 0  # the number of the find that a kill comes before; 0: none
        self.lines: list[int] = []  # in the file, before each find

    def before(self, asked: Asked) -> None:
        """Judge what is in the file before a page is asked for."""
        number = len(self.asked)
        if self.killed_at and number == self.killed_at:
            raise Killed
        if asked.name != "find":
            return
        words = f"{self.tried}; how often users are asked for"
        expect(words, number, at_most(self.most), 2)
        self.lines.append(content_of(self.path).count(b"\n"))

    def judge_finds(self) -> None:
        """Judge how each page was asked for."""
        finds = [asked for asked in self.asked if asked.name == "find"]
        due = self.whole
        for number, asked in enumerate(finds, start=1):
            words = f"{self.tried}; the limit of a find"
            expect(words, asked.limit, self.page, 3)
            expect(f"{self.tried}; the skip of a find", asked.skip, 0, 3)
            words = f"{self.tried}; lines in the file before page {number} is asked for"
            expect(words, self.lines[number - 1], due, 3)
            due += len(asked.rows)
        wanted = (due - self.whole) // self.page
        words = f"{self.tried}; finds, each of a page"
        expect(words, len(finds), more_than(wanted), 3)


def content_of(path: Path) -> bytes:
    """Return what another process reads in a file; nothing where there is none."""
    return path.read_bytes() if path.exists() else b""


@dataclass
class Trial:
    """A collection, and the file of its export."""

    answer: ModuleType
    folder: Path
    users: list[Document] = field(default_factory=list)

    def __post_init__(self) -> None:
        """Store the users; there is no file yet."""
        database: Any = StandInDatabase(CommandCounter())
        self.path = self.folder / "users.jsonl"
        self.path.unlink(missing_ok=True)
        self.stored = Watched(database["users"], self.path)
        for user in self.users:
            self.store(user)

    def store(self, user: Document) -> None:
        """Store a user, in place of the one with its _id."""
        key = {"_id": user["_id"]}
        self.stored.inner.replace_one(key, dict(user), upsert=True)

    def line(self, user: Document) -> bytes:
        """Return the line of a user, who is stored."""
        found = self.stored.inner.find_one({"_id": user["_id"]})
        text = json_util.dumps(found, json_options=OPTIONS, ensure_ascii=False)
        return text.encode() + b"\n"

    def export(self, tried: str, page: int | None, before: bytes) -> Any:
        """Run the export; `before` is what is whole in the file."""
        watched = self.stored
        watched.asked.clear()
        watched.lines.clear()
        watched.tried = tried
        watched.page = page or 500
        watched.whole = before.count(b"\n")
        watched.most = len(self.users) + 3
        more = () if page is None else (page,)
        try:
            return self.answer.export_changes(watched, self.path, *more)
        except ValueError as error:  # such as of half a letter
            raised = Words(f"{type(error).__name__}: {error}")
            raise Refused(tried, raised, Words("no error"), 2) from error

    def judge(
        self, tried: str, added: list[Document], hint: int, page: int | None = 3
    ) -> None:
        """Run the export, and judge that it adds these users to what is whole."""
        content = content_of(self.path)
        before = content[: content.rfind(b"\n") + 1]
        returned = self.export(tried, page, before)
        wanted = before + b"".join(self.line(user) for user in added)
        judge_content(tried, content_of(self.path), wanted, hint)
        expect(f"{tried}; what is returned", returned, is_a(int), 1)
        expect(f"{tried}; what is returned", returned, len(added), 1)
        self.stored.judge_finds()
        sent = sum(len(asked.rows) for asked in self.stored.asked)
        words = f"{tried}; users that the server sends"
        expect(words, sent, len(added), 3)

    def kill(self, before_page: int, page: int) -> None:
        """Run the export until it is killed before it asks for a page."""
        self.stored.killed_at = before_page
        tried = f"a kill before page {before_page}"
        try:
            self.export(tried, page, b"")
        except Killed:
            return
        finally:
            self.stored.killed_at = 0
        observed = Words("it goes on")
        raise Refused(tried, observed, Words("the end, as nothing holds it up"), 3)


def judge_content(tried: str, content: bytes, wanted: bytes, hint: int) -> None:
    """Judge a file line by line, so that the first that differs is named."""
    there = content.split(b"\n")
    lines = wanted.split(b"\n")
    for number, line in enumerate(lines[:-1], start=1):
        found = there[number - 1] if number <= len(there) else b""
        if found != line:
            words = f"{tried}; line {number} of the file"
            observed, expected = in_words(found), in_words(line)
            if repr(observed) == repr(expected):
                observed, expected = Words(clipped(found)), Words(clipped(line))
            raise Refused(words, observed, expected, hint)
    rest = content[len(wanted) :]
    expect(f"{tried}; what follows line {len(lines) - 1}", rest, b"", hint)


def in_words(line: bytes) -> Words:
    """Return whose line it is."""
    if not line:
        return Words("nothing")
    try:
        user = json_util.loads(line.decode(), json_options=OPTIONS)
        return Words(f"user {user['_id']}, {user['name']!r}, of {user['changed_at']}")
    except (ValueError, KeyError, TypeError):
        return Words(clipped(line))


def user_at(key: int, seconds: float, name: str) -> Document:
    """Return a user who changed so many seconds after the start."""
    at = START + timedelta(seconds=seconds)
    return {"_id": key, "name": name, "points": key % 100, "changed_at": at}


def in_order(users: list[Document]) -> list[Document]:
    """Return users in the order of the file."""
    return sorted(users, key=lambda user: (user["changed_at"], user["_id"]))


def plain_users(rng: random.Random) -> list[Document]:
    """Return users whose changes are in another order than their _id."""
    seconds = rng.sample(range(10_000), 8)
    return [user_at(key, at, f"user {key}") for key, at in enumerate(seconds, start=1)]


def users_of_one_moment(rng: random.Random) -> list[Document]:
    """Return users of whom most changed at two moments."""
    keys = rng.sample(range(1, 1_000), 16)
    users = []
    for place, key in enumerate(keys):
        seconds = (7, 7, 7, 9)[place % 4]
        users.append(user_at(key, seconds, f"user {key}"))
    users.append(user_at(1_001, 3, "early"))
    users.append(user_at(0, 20, "late"))
    return users


def users_with_odd_names(rng: random.Random) -> list[Document]:
    """Return users whose names have line ends and letters of all kinds."""
    names = rng.sample(NAMES, len(NAMES))
    return [user_at(key, key * 60, f"{name} ") for key, name in enumerate(names)]


def plain_trials(answer: ModuleType, folder: Path, rng: random.Random) -> None:
    """Export without a file, with an empty one, and with nothing new."""
    users = plain_users(rng)
    trial = Trial(answer, folder, users)
    trial.judge("8 users and no file yet", in_order(users), 1)
    trial.judge("nothing new", [], 1)
    trial = Trial(answer, folder, users)
    trial.path.touch()
    trial.judge("8 users and an empty file", in_order(users), 1)
    trial = Trial(answer, folder, users)
    trial.judge("8 users in pages of 500, the default", in_order(users), 1, None)
    trial = Trial(answer, folder, users)
    trial.judge("8 users in pages of 4, two full ones", in_order(users), 1, 4)
    Trial(answer, folder, []).judge("no users and no file yet", [], 1)


def moment_trials(answer: ModuleType, folder: Path, rng: random.Random) -> None:
    """Export users of the same moment, in pages and in runs."""
    users = users_of_one_moment(rng)
    for page in (2, 3, 1):
        trial = Trial(answer, folder, users)
        words = f"18 users, 12 of them of one moment, in pages of {page}"
        trial.judge(words, in_order(users), 1, page)
    known = in_order(users)
    for whole in (4, 7, 13):
        trial = Trial(answer, folder, users)
        trial.path.write_bytes(b"".join(map(trial.line, known[:whole])))
        words = f"18 users of whom {whole} are in the file, 12 of one moment"
        trial.judge(words, known[whole:], 1, 3)
    close = [user_at(9 - place, place / 1_000, "close") for place in range(8)]
    trial = Trial(answer, folder, close)
    trial.judge("changes a thousandth of a second apart", close, 2, 3)
    more = [user_at(20 - place, 1 + place / 2, "later") for place in range(4)]
    trial.users += more
    for user in more:
        trial.store(user)
    trial.judge("changes half a second apart, later on", more, 2, 2)


def kill_trials(answer: ModuleType, folder: Path, rng: random.Random) -> None:
    """Export after a kill at any byte, or between two pages."""
    users = in_order(users_with_odd_names(rng))
    trial = Trial(answer, folder, users)
    trial.judge("names with line ends and letters of all kinds", users, 2, 4)
    trial.judge("names of all kinds, and nothing new", [], 2, 4)
    whole = content_of(trial.path)
    for words, cut in cuts(whole, rng):
        trial = Trial(answer, folder, users)
        trial.path.write_bytes(whole[:cut])
        done = whole[:cut].count(b"\n")
        trial.judge(words, users[done:], 2, 4)
    for before_page in (2, 3):
        trial = Trial(answer, folder, users)
        trial.kill(before_page, 4)
        done = 4 * (before_page - 1)
        words = f"after a kill before page {before_page} of 4 users each"
        trial.judge(words, users[done:], 3, 4)
    trial = Trial(answer, folder, users[:-1])
    trial.path.write_bytes(whole[:-9])
    words = "nothing new, and a file that ends with half a line, of a user who is gone"
    trial.judge(words, [], 2, 4)


def cuts(whole: bytes, rng: random.Random) -> list[tuple[str, int]]:
    """Return where a file is cut off, and in words what then is at its end."""
    ends = [place for place, byte in enumerate(whole) if byte == ord("\n")]
    letters = [place for place, byte in enumerate(whole) if 0x80 <= byte < 0xC0]
    number = rng.randrange(3, 10)
    found = [
        ("a file that ends in the middle of a line", ends[number] + 9),
        (f"a file that lacks the line end of line {number + 1}", ends[number]),
        ("a file that ends in the middle of a letter", rng.choice(letters)),
        ("a file that lacks the last line end only", len(whole) - 1),
        ("a file that has half of the first line", ends[0] // 2),
        ("a file that lacks only the line end of the first line", ends[0]),
        ("a file of one byte", 1),
    ]
    for line, end in enumerate(ends, start=1):
        found.append((f"a file that ends with line {line}, whole", end + 1))
    for place in rng.sample(range(len(whole)), 6):
        found.append((f"a file that ends at byte {place}", place))
    return found


def change_trials(answer: ModuleType, folder: Path, rng: random.Random) -> None:
    """Export what changed, came, or went between two runs."""
    users = in_order(plain_users(rng))
    trial = Trial(answer, folder, users)
    trial.judge("8 users", users, 1)
    last = users[-1]
    trial.stored.inner.delete_one({"_id": last["_id"]})
    new = user_at(50, 10_001, "new")
    trial.users.append(new)
    trial.store(new)
    trial.judge("the last exported user is deleted, and one is new", [new], 1)
    key = users[3]["_id"]
    again = user_at(key, 10_002, "changed")
    trial.store(again)
    trial.judge("a user changed who was exported before", [again], 1)
    same = [user_at(60 + place, 10_002, "same moment") for place in range(5)]
    for user in same:
        trial.users.append(user)
        trial.store(user)
    words = "5 users of the moment that the file ends with, and greater _id"
    trial.judge(words, same, 1, 2)
    early = user_at(-5, 10_003, "a small _id")
    trial.users.append(early)
    trial.store(early)
    trial.judge("a user with a small _id who changed last", [early], 1)


def long_trials(answer: ModuleType, folder: Path, rng: random.Random) -> None:
    """Export behind lines that are longer than what is read of a file at once."""
    users = [user_at(key, key, "x" * rng.randrange(10**5, 10**6)) for key in range(4)]
    for whole in (1, 3):
        trial = Trial(answer, folder, users)
        trial.path.write_bytes(b"".join(map(trial.line, users[:whole])))
        words = f"4 users with very long names, of whom {whole} are in the file"
        trial.judge(words, users[whole:], 2, 2)


def odd_trials(answer: ModuleType, folder: Path, rng: random.Random) -> None:
    """Export moments before 1970, and _id of all sizes."""
    keys = (-7, 0, 2**31, 2**53 + 1, 2**62)
    years = rng.sample([1, 20, 56, 60, 90], 5)
    users = []
    for key, year in zip(keys, years, strict=True):
        users.append(user_at(key, -year * 31_557_600, "old"))
    users.append(user_at(-8, -(10**9), "old"))
    users = in_order(users)
    trial = Trial(answer, folder, users)
    trial.judge("_id from -8 to 2**62, changes before 1970", users, 3, 2)
    trial.judge("_id from -8 to 2**62, and nothing new", [], 3, 2)
    for cut in (1, 4):
        trial.path.write_bytes(b"".join(map(trial.line, users[:cut])))
        words = f"_id from -8 to 2**62, of which {cut} are in the file"
        trial.judge(words, users[cut:], 3, 2)


def check(answer: ModuleType, rng: random.Random) -> None:
    """Export what is plain, then the same moments, then after kills and changes."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as name:
        folder = Path(name)
        plain_trials(answer, folder, rng)
        moment_trials(answer, folder, rng)
        change_trials(answer, folder, rng)
        kill_trials(answer, folder, rng)
        long_trials(answer, folder, rng)
        odd_trials(answer, folder, rng)
