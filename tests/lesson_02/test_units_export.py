"""Lesson 02 alone: exports cut at any byte, and their memory."""

from __future__ import annotations

import argparse
import io
import time
import timeit
import tracemalloc
import uuid
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import bson
import pytest
from bson import Decimal128
from bson.codec_options import DatetimeConversion
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from lessons import load

from course.lab import outcome_of
from course.mongo.codec import CODEC, RAW
from course.mongo.elements import field_names
from course.mongo.exports import exported
from course.mongo.seed import BARE_EVENT, START, make_events, make_user

lesson = load("02")
relaxed = settings(
    deadline=None,
    max_examples=50,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)


@pytest.fixture
def env() -> Iterator[Any]:
    given = {"offline": True, "require_live": False, "url": None}
    with lesson.open_env(argparse.Namespace(**given)) as found:
        yield found


@relaxed
@given(data=st.data())
def test_an_export_cut_at_any_byte_is_completed(
    env: Any, tmp_path: Path, data: st.DataObject
) -> None:
    if env.db["events"].count_documents({}) != 60:
        env.fresh(events=60)
    processor = lesson.DataProcessor(env.db)
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    whole.unlink(missing_ok=True)
    assert processor.export_data_for_analysis(whole, page=7) == 60
    size = data.draw(st.integers(0, whole.stat().st_size))
    cut.write_bytes(whole.read_bytes()[:size])
    processor.export_data_for_analysis(cut, page=data.draw(st.integers(1, 80)))
    assert cut.read_bytes() == whole.read_bytes()
    with whole.open("rb") as file:
        rows = list(bson.decode_file_iter(file, CODEC))
    assert rows == list(env.db["events"].find().sort("_id", 1))


@pytest.mark.parametrize(
    "text", [b"user,email\n1,a@b\n", b'{"_id": 1}\n', b"PK\3\4zip"]
)
def test_a_file_that_is_no_export_is_left_alone(
    env: Any, tmp_path: Path, text: bytes
) -> None:
    env.fresh(events=3)
    path = tmp_path / "mine.csv"
    path.write_bytes(text)
    with pytest.raises(ValueError, match="not an export of ours"):
        lesson.DataProcessor(env.db).export_data_for_analysis(path)
    assert path.read_bytes() == text


class Endless:
    """A collection of `count` events that are made when they are asked for."""

    def __init__(self, count: int, body: dict[str, Any] | None = None) -> None:
        self.count = count
        self.body = body or make_events(1)[0]

    def find_raw_batches(self, query: Any, sort: Any, limit: int) -> Iterator[bytes]:
        start = query["_id"].get("$gt", 0) + 1 if query else 1
        start = self.count if sort == [("_id", -1)] else start
        for number in range(start, min(start + limit, self.count + 1)):
            yield bson.encode(self.body | {"_id": number}, codec_options=CODEC)


def test_memory_is_flat_from_10_000_to_200_000_documents(tmp_path: Path) -> None:
    peaks = []
    for count in (10_000, 200_000):
        processor = lesson.DataProcessor({"events": Endless(count)})
        path = tmp_path / str(count)
        tracemalloc.start()
        assert processor.export_data_for_analysis(path, page=2_000) == count
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < 1.1 * peaks[0]


def test_what_a_file_holds_when_empty_torn_or_in_any_order(env: Any) -> None:
    env.fresh(events=3)
    events = env.db["events"]
    one, two, three = map(bson.encode, events.find().sort("_id", 1))
    for text, greatest, kept in (
        (b"", None, b""),
        (one[:3], None, b""),
        (one[:-1], None, b""),
        (one, 1, one),
        (one + two[:2], 1, one),
        (one + two[:-1], 1, one),
        (one + three[:-1], 1, one),  # the second has expired since
        (one + two, 2, one + two),
        (two + one, 2, two + one),
    ):
        file = io.BytesIO(text)
        assert exported(file, events).greatest == greatest
        assert file.getvalue() == kept


GZIP = b"\x1f\x8b\x08\x00" + bytes(range(256)) * 190  # its head is a length < 16 MB


@pytest.mark.parametrize(
    "text",
    [
        GZIP[:48_437],
        b"abc",
        b"\x05\0\0\0\0",
        b"\0\0\0\0",
        bson.encode({"_id": 1, "username": "ann"}),
        bson.encode({"_id": 1, "username": "ann"}) * 2 + b"\x20",
        bson.encode({"name": "ann"})[:-3],
        bson.encode({"_id": 1, "username": "ann"})[:-3],
        bson.encode(BARE_EVENT | {"_id": 1})[:-1] + b"\x01",
        bson.encode(BARE_EVENT | {"_id": 1}) + b"\n",
        bson.encode(BARE_EVENT | {"_id": 1}) + GZIP,
        # Of users, in a file with events: what is torn, whole, or comes first.
        bson.encode(BARE_EVENT | {"_id": 1}) + bson.encode(make_user(2))[:-5],
        bson.encode(BARE_EVENT | {"_id": 1}) + bson.encode(make_user(2)),
        bson.encode(make_user(1)) + bson.encode(BARE_EVENT | {"_id": 2}),
        bson.encode(make_user(1)) + bson.encode(BARE_EVENT | {"_id": 2})[:-3],
    ],
)
def test_a_file_is_cut_only_where_it_is_provably_ours(
    env: Any, tmp_path: Path, text: bytes
) -> None:
    env.fresh(events=3)
    path = tmp_path / "events.bson"
    path.write_bytes(text)
    with pytest.raises(ValueError, match="not an export of ours"):
        lesson.DataProcessor(env.db).export_data_for_analysis(path)
    assert path.read_bytes() == text


def test_a_second_export_into_a_file_is_refused(env: Any, tmp_path: Path) -> None:
    env.fresh(events=60)
    export = lesson.DataProcessor(env.db).export_data_for_analysis
    path = tmp_path / "events.bson"
    refused = []

    def again(_written: int) -> None:
        refused.append(str(outcome_of(lambda: export(path))))

    assert export(path, page=20, on_page=again) == 60
    assert refused == ["another export writes to events.bson"] * 3
    assert len(bson.decode_all(path.read_bytes())) == 60
    assert export(path) == 0  # the lock went with the file


def test_events_that_come_late_are_appended_once_if_asked_for(
    env: Any, tmp_path: Path
) -> None:
    env.fresh()
    events, path = env.db["events"], tmp_path / "events.bson"
    events.insert_many([BARE_EVENT | {"_id": key} for key in (1, 2, 5, 7, 9)])
    export = lesson.DataProcessor(env.db).export_data_for_analysis
    assert export(path) == 5
    events.insert_many([BARE_EVENT | {"_id": key} for key in (0, 4, 6, 11)])
    assert export(path) == 1
    assert export(path, page=2, late_from=3) == 2
    assert export(path, page=2, late_from=3) == 0
    assert export(path) == 0  # behind 11, although 6 stands last
    events.insert_one(BARE_EVENT | {"_id": 12})
    assert export(path, late_from=0) == 2
    ids = [row["_id"] for row in bson.decode_all(path.read_bytes())]
    assert ids == [1, 2, 5, 7, 9, 11, 4, 6, 0, 12]
    with pytest.raises(ValueError, match="two types"):
        export(path, late_from=bson.ObjectId())


@pytest.mark.parametrize(
    "odd",
    [
        {"timestamp": bson.DatetimeMS(8_640_000_000_000_000)},  # the year 275760
        {"timestamp": bson.DatetimeMS(-8_640_000_000_000_000)},
        {"metadata": {"at": bson.DatetimeMS(2**62)}},
        {"metadata": {"key": uuid.UUID(int=8)}},
    ],
)
def test_an_export_does_not_look_at_what_it_copies(
    tmp_path: Path, odd: dict[str, Any]
) -> None:
    """A driver's date ends in the year 9999, which is no reason to stop here."""
    body = BARE_EVENT | odd
    many = Endless(25, body)
    export = lesson.DataProcessor({"events": many}).export_data_for_analysis
    path = tmp_path / "events.bson"
    assert export(path, page=10) == 25
    many.count = 40
    assert export(path, page=10) == 15
    codec = CODEC.with_options(datetime_conversion=DatetimeConversion.DATETIME_AUTO)
    rows = bson.decode_all(path.read_bytes(), codec)
    assert [row["_id"] for row in rows] == list(range(1, 41))
    assert rows[-1] == body | {"_id": 40}


@pytest.mark.parametrize(
    ("keys", "more"),
    [
        ([float("nan"), 1], [2]),
        ([1, 2.5, Decimal128("2"), bson.Int64(2**40)], [2**41]),
        ([{"a": 1}, {"a": 2}], [{"a": 3}]),
        ([uuid.UUID(int=1), uuid.UUID(int=2**127)], [uuid.UUID(int=2**127 + 1)]),
        ([START, START + timedelta(1)], [START + timedelta(2)]),
    ],
    ids=["nan", "numbers", "objects", "uuids", "dates"],
)
def test_ids_of_any_kind_are_exported_once(
    mongo_url: str, tmp_path: Path, keys: list[Any], more: list[Any]
) -> None:
    given = {"offline": False, "require_live": True, "url": mongo_url}
    with lesson.open_env(argparse.Namespace(**given)) as env:
        env.fresh()
        export = lesson.DataProcessor(env.db).export_data_for_analysis
        path = tmp_path / "events.bson"
        for batch in (keys, more):
            env.db["events"].insert_many([BARE_EVENT | {"_id": key} for key in batch])
            assert export(path) == len(batch)
            assert export(path) == 0
        assert export(path, late_from=keys[-1]) == 0
        assert export(path, late_from=keys[-1]) == 0


def test_bytes_are_compared_as_a_server_sorts_them(env: Any, tmp_path: Path) -> None:
    env.fresh()
    keys = [b"\2", b"\1\1"]  # the longer is the greater
    env.db["events"].insert_many([BARE_EVENT | {"_id": key} for key in keys])
    export = lesson.DataProcessor(env.db).export_data_for_analysis
    assert export(tmp_path / "events.bson", page=1) == 2
    assert export(tmp_path / "events.bson") == 0


def test_the_fields_of_a_document_are_read_up_to_where_it_is_cut() -> None:
    values = [1.5, "text", {"a": 1}, [1, 2], b"bytes", bson.ObjectId(), True, START]
    values += [None, bson.Regex("a", "i"), bson.Code("f()"), 1, bson.Timestamp(1, 1)]
    values += [2**40, Decimal128("1"), bson.MinKey(), bson.MaxKey()]
    whole = {f"f{number}": value for number, value in enumerate(values)}
    data = bson.encode(whole)
    assert list(field_names(data)) == list(whole)
    found = {len(list(field_names(data[:size]))) for size in range(len(data))}
    assert found == set(range(len(values) + 1))


def test_pages_take_less_than_half_the_memory_of_a_list(
    env: Any, tmp_path: Path
) -> None:
    env.fresh(events=2_000)
    tracemalloc.start()
    lesson.DataProcessor(env.db).export_data_for_analysis(tmp_path / "events")
    pages = tracemalloc.get_traced_memory()[1]
    tracemalloc.reset_peak()
    listed = list(env.db["events"].find())
    everything = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert len(listed) == 2_000
    assert pages < everything / 2


def test_raw_documents_are_decoded_at_least_twice_as_fast() -> None:
    """It was 4 to 6 times, on Python 3.11 to 3.13: a wide ratio, in CPU time."""
    data = b"".join(map(bson.encode, make_events(2_000)))
    best = []
    for codec in (CODEC, RAW):

        def decode(codec: Any = codec) -> None:
            bson.decode_all(data, codec)

        timer = timeit.Timer(decode, "gc.enable()", time.process_time)
        best.append(min(timer.repeat(repeat=10, number=1)))
    assert best[0] > 2 * best[1]
