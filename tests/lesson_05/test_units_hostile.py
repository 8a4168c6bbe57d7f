"""Lesson 05: files that are none, columns of any kind, amounts as in far countries."""

from __future__ import annotations

import gzip
import io
import zipfile
from datetime import date, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from lesson_05.logs import lesson, orders, write

from course.analytics.amounts import read_amounts
from course.errors import BadInput

CSV = "customer,date,amount\n" + "".join(",".join(row) + "\n" for row in orders())


def zipped() -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("orders.csv", CSV)
    return packed.getvalue()


NO_TEXT = {
    "a spreadsheet or an archive": zipped(),
    "no text": gzip.compress(gzip.compress(CSV.encode())),
    "no text;": b"SQLite format 3\0" + bytes(500),
    "no text; CSV": bytes(1000),
    "no text; CSV, gzipped": b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(600),
}


@pytest.mark.parametrize("said", NO_TEXT)
def test_what_is_no_text_is_called_so(said: str, tmp_path: Path) -> None:
    path = tmp_path / "orders.csv"
    path.write_bytes(NO_TEXT[said])
    with pytest.raises(BadInput, match=rf"orders\.csv: it is {said}") as problem:
        lesson.read_log(path)
    assert len(str(problem.value)) < 400


def test_a_file_of_one_line_is_not_repeated(tmp_path: Path) -> None:
    path = tmp_path / "orders.json"
    path.write_text('[{"customer": "a", "date": "2020-01-01"}' * 9000)
    with pytest.raises(BadInput, match=r"orders\.json: no column could be") as problem:
        lesson.read_log(path)
    assert len(str(problem.value)) < 600


def test_a_header_alone_has_no_rows(tmp_path: Path) -> None:
    path = tmp_path / "orders.csv"
    path.write_text("customer,date,amount\n")
    with pytest.raises(BadInput, match="it has no rows"):
        lesson.read_log(path)


ENCODINGS = ["utf-16-le", "utf-16-be", "utf-16", "utf-32"]


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_wide_letters_are_read(encoding: str, tmp_path: Path) -> None:
    path = tmp_path / "orders.csv"
    text = CSV.replace("c", "\u0418\u0432\u0430\u043d\u043e\u0432\u043d\u0430 " * 3)
    header = "customer,date,amount\n"
    path.write_bytes((header + text.partition("\n")[2]).encode(encoding))
    log = lesson.read_log(path)
    assert len(log.day) == len(orders())
    assert log.ids[0].startswith("\u0418\u0432\u0430")


AMOUNTS = {
    "$12.50 CAD": (12.5, "CAD"),
    "CAD $12.50": (12.5, "CAD"),
    "\u00a512.50 CNY": (12.5, "CNY"),
    "US$12.50 CAD": None,
    "$12.50 EUR": None,
    "SFr. 12.50": (12.5, "CHF"),
    "Rs 12/-": (12, "RS"),
    "1,234/-": (1234, ""),
    "\u200e12.50": (12.5, ""),
    "\ufeff-12.50\u200f": (-12.5, ""),
    "\uff0d\uff11\uff0c\uff12\uff13\uff14\uff0e\uff15": (-1234.5, ""),
    "\u0661\u066c\u0662\u0663\u0664\u066b\u0665": (1234.5, ""),
    "\u20b9\u0967\u0968.\u096b": (12.5, "\u20b9"),
    "12\u00b2": None,
}


@pytest.mark.parametrize("text", AMOUNTS)
def test_amounts_of_far_countries(text: str) -> None:
    found = read_amounts(["1,000.50", text], None, "the amounts")
    value, currency = AMOUNTS[text] or (None, "")
    assert found.currency[1] == currency
    if value is None:
        assert np.isnan(found.value[1])
    else:
        assert found.value[1] == value


def columns() -> dict[str, list[Any]]:
    days = [date(2020, 1, 1 + k) for k in range(12)]
    return {"c": ["a", "b", "c"] * 4, "d": days, "a": [1.5] * 12}


def test_a_batch_of_arrow_is_a_frame() -> None:
    pyarrow = pytest.importorskip("pyarrow")
    batch = pyarrow.table(columns()).to_batches()[0]
    names = {"customer": "c", "date": "d", "amount": "a"}
    log = lesson.TransactionLog.from_frame(batch, **names)
    assert list(log.ids) == ["a", "b", "c"]
    assert log.day[0] == date(2020, 1, 1).toordinal()


@pytest.mark.parametrize("kind", [str, int])
def test_a_column_may_be_called_by_a_number(kind: type) -> None:
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame(columns()).set_axis([0, 1, 2], axis=1)
    names = {"customer": kind(0), "date": kind(1), "amount": kind(2)}
    log = lesson.TransactionLog.from_frame(frame, **names)
    assert log.amount.sum() == 18
    with pytest.raises(BadInput, match="no column 7, of 0, 1, 2"):
        lesson.TransactionLog.from_frame(frame, **names | {"item": 7})


def masked(role: str) -> Any:
    cells = {
        "c": np.arange(12) % 3,
        "d": np.datetime64("2020-01-01") + np.arange(12),
        "a": np.full(12, 1.5),
    }
    return np.ma.array(cells[role], mask=[k == 5 for k in range(12)])


@pytest.mark.parametrize("role", ["c", "d", "a"])
def test_what_lies_under_a_mask_is_no_cell(role: str) -> None:
    names = {"customer": "c", "date": "d", "amount": "a"}
    frame = columns() | {role: masked(role)}
    log = lesson.TransactionLog.from_frame(frame, **names, accept_refused=True)
    assert list(log.refused.values()) == [[5]]
    assert len(log.day) == 11


def test_a_period_of_a_day_is_its_day() -> None:
    pandas = pytest.importorskip("pandas")
    names = {"customer": "c", "date": "d", "amount": "a"}
    frame = pandas.DataFrame(columns())
    frame["d"] = pandas.PeriodIndex(frame["d"], freq="D")
    log = lesson.TransactionLog.from_frame(frame, **names)
    assert log.day[0] == date(2020, 1, 1).toordinal()
    frame["d"] = pandas.PeriodIndex(frame["d"], freq="M")
    with pytest.raises(BadInput, match="'d' holds Period"):
        lesson.TransactionLog.from_frame(frame, **names)


@pytest.mark.parametrize("day", ["-0050-01-01", "0000-12-31", "12000-01-01"])
def test_a_day_beyond_the_calendar_is_refused(day: str) -> None:
    names = {"customer": "c", "date": "d", "amount": "a"}
    days = np.array([day, *["2020-01-01"] * 11], "M8[s]")
    frame = columns() | {"d": days}
    log = lesson.TransactionLog.from_frame(frame, **names, accept_refused=True)
    assert log.refused == {"unreadable date": [0]}


@pytest.mark.parametrize("library", ["pandas", "polars"])
def test_one_column_is_no_frame(library: str) -> None:
    series = pytest.importorskip(library).Series([1.5, 2.5])
    with pytest.raises(BadInput, match="a Series is not a frame"):
        lesson.TransactionLog.from_frame(series, customer="c", date="d")


def test_numbers_of_128_bits_are_names() -> None:
    polars = pytest.importorskip("polars")
    who = polars.Series([2**70 + k % 3 for k in range(12)], dtype=polars.Int128)
    frame = polars.DataFrame(columns() | {"c": who})
    log = lesson.TransactionLog.from_frame(frame, customer="c", date="d")
    assert list(log.ids) == [str(2**70 + k) for k in range(3)]


def test_days_may_be_dates() -> None:
    days = [date(2020, 1, 1), datetime(2020, 1, 2, 23, 59), date(2020, 1, 3)]
    log = lesson.TransactionLog([0, 1, 1], days, [1, 1, 1], range(2))
    first = date(2020, 1, 1).toordinal()
    assert log.day.tolist() == [first, first + 1, first + 2]
    pandas = pytest.importorskip("pandas")
    with pytest.raises(BadInput, match="NaT"):
        lesson.TransactionLog([0, 1, 1], [*days[:2], pandas.NaT], [1, 1, 1], range(2))


def test_the_file_is_named_whatever_is_asked(tmp_path: Path) -> None:
    path = write(tmp_path / "orders.csv", orders(), "customer,date,amount")
    with pytest.raises(BadInput, match=r"orders\.csv: --columns x,y"):
        lesson.read_log(path, "x,y")


def test_a_log_of_nothing_but_refunds_and_their_orders(tmp_path: Path) -> None:
    rows = orders(20)
    back = [[who, "2021-01-01", f"-{paid}"] for who, _, paid in rows]
    path = write(tmp_path / "orders.csv", rows + back)
    with pytest.raises(BadInput, match="a refund cancels each order"):
        lesson.read_log(path)


def test_a_quantity_times_a_price_has_the_bound_of_an_amount(tmp_path: Path) -> None:
    rows = [[who, day, "2", paid] for who, day, paid in orders()]
    header = "customer,date,quantity,price"
    path = write(
        tmp_path / "orders.csv", [*rows, ["c1", "2020-01-05", "1e6", "1e7"]], header
    )
    log = lesson.read_log(path)
    assert len(log.day) == len(rows)
    assert len(log.refused["unreadable amount"]) == 1


def test_a_question_names_the_column_by_its_role(tmp_path: Path) -> None:
    rows = [["c1", "2020-01-05", "1.000", "2.50"]]
    path = write(tmp_path / "orders.csv", rows, "customer,date,quantity,price")
    with pytest.raises(
        BadInput, match=r"the column quantity: '1\.000' may be thousands"
    ):
        lesson.read_log(path)
