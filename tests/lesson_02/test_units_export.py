"""Lesson 02 alone: exports cut at any byte, and their memory."""

from __future__ import annotations

import argparse
import io
import time
import timeit
import tracemalloc
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import bson
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from lessons import load

from course.mongo.codec import CODEC, RAW
from course.mongo.seed import make_events

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

    def __init__(self, count: int) -> None:
        self.count = count
        self.body = make_events(1)[0]

    def find_raw_batches(self, query: Any, sort: Any, limit: int) -> Iterator[bytes]:
        start = query["_id"]["$gt"] + 1 if query else 1
        start = self.count if sort == [("_id", -1)] else start
        for number in range(start, min(start + limit, self.count + 1)):
            yield bson.encode(self.body | {"_id": number})


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


def test_the_last_id_of_an_empty_and_of_a_torn_file() -> None:
    one, two = (bson.encode({"_id": number}) for number in (1, 2))
    for text, last, kept in (
        (b"", None, b""),
        (one[:3], None, b""),
        (one[:-1], None, b""),
        (one, 1, one),
        (one + two[:-1], 1, one),
        (one + two, 2, one + two),
    ):
        file = io.BytesIO(text)
        assert lesson.last_id(file) == last
        assert file.getvalue() == kept


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
