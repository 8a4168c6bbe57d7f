"""Lesson 05: files of purchases: columns, amounts, refusals, damage."""

from __future__ import annotations

import gzip
import re
import tracemalloc
from pathlib import Path
from typing import Any

import pytest
from lesson_05.logs import SCRIPT, lesson, orders, parsed, write
from lessons import run, unbroken

from course.analytics.columns import column_positions
from course.errors import BadInput


def figures_of(path: Path, *options: str) -> Any:
    figures = parsed(path, *options)
    for how in ("columns", "read_as"):
        del figures[how]
    return figures


def test_dates_columns_and_packing_give_the_same_figures(tmp_path: Path) -> None:
    rows = orders()
    plain = figures_of(write(tmp_path / "a.csv", rows))
    compact = [[p, c, d.replace("-", "")] for c, d, p in rows]
    other = write(tmp_path / "b.csv", compact, "Order Total,CustomerID,OrderDate")
    assert figures_of(other) == plain
    timed = [[c, f"{d}T23:59:59Z", p] for c, d, p in rows]
    named = write(tmp_path / "c.csv", timed, "x,y,z")
    assert figures_of(named, "--columns", "x,y,z") == plain
    packed = tmp_path / "d.csv.gz"
    packed.write_bytes(gzip.compress((tmp_path / "a.csv").read_bytes()))
    assert figures_of(packed) == plain
    semicolons = (tmp_path / "a.csv").read_text().replace(",", ";").replace(".", ",")
    (tmp_path / "e.csv").write_text("\ufeff" + semicolons, "utf-8")
    assert figures_of(tmp_path / "e.csv") == plain


COLUMNS = {  # header: the columns of customer, date, amount and item, or who compete
    "customer_id,updated_at,created_at,amount": "customer_id created_at amount",
    "customer_id,birth_date,order_time,value": "customer_id order_time value",
    "UserID,OrderDate,discount_amount,order_total": "UserID OrderDate order_total",
    "user,day,total_items,revenue,StockCode": "user day revenue StockCode",
    "UserID,OrderDate,UnitPrice,total_price": "UserID OrderDate total_price",
    "InvoiceDate,UnitPrice,CustomerID": "no column could be the amount",
    "customer,order_date,ship_date,amount": "order_date or ship_date could be the date",
    "user,client,day,amount": "user or client could be the customer",
}


@pytest.mark.parametrize("header", COLUMNS)
def test_columns_are_found_by_whole_words_or_asked_for(
    header: str, tmp_path: Path
) -> None:
    names = header.split(",")
    if "could be" in COLUMNS[header]:
        with pytest.raises(BadInput, match=f"{COLUMNS[header]}.*--columns"):
            column_positions(names, None)
        return
    found = column_positions(names, None)
    assert " ".join(names[i] for i in found.values()) == COLUMNS[header]


def test_the_columns_that_were_read_are_named(tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", orders(), "UserID,OrderDate,order_total")
    shown = unbroken(run(SCRIPT, "--transactions", str(path)).stdout)
    said = "customer UserID, date OrderDate, amount order_total"
    assert re.search(f"columns +{said}\n", shown)


def test_rows_that_cannot_be_used_are_counted_with_their_lines(tmp_path: Path) -> None:
    good = orders()
    bad = [
        ["x", "2020-02-30", "3"],
        ["y", "2020-01-01", "abc"],
        ["", "2020-01-01", "3"],
        ["z", "2020-01-01"],
        ["q", "2020-01-01", "-5"],
        ["q", "2020-01-01", "nan"],
        ["q", "2999-01-01", "5"],
        ["q", "2020-01-01", "1e300"],
    ]
    path = write(tmp_path / "mixed.csv", good[:100] + bad + good[100:])
    log = lesson.read_log(path)
    assert {why: list(lines) for why, lines in log.refused.items()} == {
        "unreadable date": [102],
        "unreadable amount": [103, 107, 109],
        "no customer": [104],
        "too few columns": [105],
        "negative amount": [106],
        "date in the future": [108],
    }
    done = run(SCRIPT, "--transactions", str(path))
    assert (done.returncode, done.stdout) == (2, "")
    assert "1.7% of the rows" in done.stderr
    assert "--accept-refused" in done.stderr
    accepted = ("--accept-refused",)
    figures = parsed(path, *accepted)
    assert figures["rows"] == {"read": 408, "used": 400, "refused": 8}
    assert figures["bgnbd"] == parsed(write(tmp_path / "good.csv", good))["bgnbd"]
    shown = unbroken(run(SCRIPT, "--transactions", str(path), *accepted).stdout)
    assert "3 unreadable amount (line 103, 107, 109)" in shown


def test_duplicates_and_free_orders_are_reported(tmp_path: Path) -> None:
    rows = orders()
    path = write(tmp_path / "twice.csv", [*rows, *rows[:7], ["c1", "2020-01-05", "0"]])
    shown = unbroken(run(SCRIPT, "--transactions", str(path)).stdout)
    assert re.search(r"cost nothing +1, used", shown)
    assert re.search(r"like an earlier row +7, used", shown)
    assert "nan" not in shown.lower()


MANY = [[f"c{i % 30}", f"2020-01-{1 + i % 28:02}", "5"] for i in range(300)]
BAD = {  # name: rows, options, what the one line on stderr must name
    "missing column": ([["a", "b", "c"]], [], "customer"),
    "no usable row": ([["a", "soon", "5"]], [], "1 unreadable date (line 2)"),
    "no rows": ([], [], "it has no rows"),
    "one customer": (
        [["a", f"2020-01-{d:02}", "5"] for d in range(1, 9)],
        [],
        "1 of 1 customers",
    ),
    "no repeat buyer": (
        [[f"c{i}", "2020-01-01", "5"] for i in range(50)],
        [],
        "0 of 50",
    ),
    "all on one day": (
        [[f"c{i % 9}", "2020-01-01", "5"] for i in range(50)],
        [],
        "0 of 9",
    ),
    "all free": ([[c, d, "0"] for c, d, _ in MANY], [], "0 customers paid"),
    "all refunds": ([[c, d, "-1"] for c, d, _ in MANY], [], "300 negative amount"),
    "long horizon": (MANY, ["--horizon", "400"], "--horizon 400: of the log"),
    "early as_of": (MANY, ["--as-of", "2019-12-31"], "2020-01-01"),
    "calibration outside": (MANY, ["--calibration-end", "2021-01-01"], "2020-01-28"),
    "bad column": (MANY, ["--columns", "customer,when,amount"], "customer,when,amount"),
    "bad date": (MANY, ["--as-of", "yesterday"], "'yesterday'"),
    "bad number": (MANY, ["--horizon", "-3"], "--horizon"),
    "two sources": (MANY, ["--simulate", "9"], "--simulate"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_gets_one_line(case: str, tmp_path: Path) -> None:
    rows, options, named = BAD[case]
    header = "a,b,c" if case == "missing column" else "customer,date,amount"
    path = write(tmp_path / "bad.csv", rows, header)
    done = run(SCRIPT, "--transactions", str(path), *options)
    assert (done.returncode, done.stdout) == (2, ""), done.stdout
    assert len(done.stderr.splitlines()) == 1
    assert named in done.stderr


def damaged(name: str, folder: Path) -> Path:
    path = folder / name
    packed = gzip.compress(b"customer,date,amount\n" + b"a,2020-01-01,5\n" * 9999)
    contents = {
        "empty.csv": b"",
        "binary.csv": bytes(range(256)) * 99,
        "cut.csv.gz": packed[: len(packed) // 2],
        "broken.csv.gz": packed[:40] + b"!" * 40 + packed[80:],
        "endless.csv": b"customer,date,amount\n" + b"x" * 3_000_000,
        "quote.csv": b'customer,date,amount\n"a,2020-01-01,5\n'
        + b"b,2020-01-01,5\n" * 20000,
    }
    if name in contents:
        path.write_bytes(contents[name])
    elif name == "folder":
        path.mkdir()
    return path


@pytest.mark.parametrize(
    "name",
    [
        "empty.csv",
        "binary.csv",
        "cut.csv.gz",
        "broken.csv.gz",
        "endless.csv",
        "quote.csv",
        "folder",
        "nowhere.csv",
    ],
)
def test_a_file_that_is_no_log_gets_one_line(name: str, tmp_path: Path) -> None:
    done = run(SCRIPT, "--transactions", str(damaged(name, tmp_path)))
    assert (done.returncode, done.stdout) == (2, "")
    assert len(done.stderr.splitlines()) == 1
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("amount", ["10", "0.01", "999999999"])
def test_strange_but_usable_logs_give_numbers(amount: str, tmp_path: Path) -> None:
    rows = [[c, d, amount] for c, d, _ in orders()]
    path = write(tmp_path / "same.csv", rows)
    shown = run(SCRIPT, "--transactions", str(path))
    assert shown.returncode == 0, shown.stderr
    assert not re.search(r"\b(nan|inf)\b", shown.stdout, re.IGNORECASE)
    assert parsed(path, "--as-of", "2021-01-01", "--accept-dates")["customers"] > 0


def test_a_big_file_is_read_in_bounded_memory(tmp_path: Path) -> None:
    path, line = tmp_path / "big.csv", "customer-{},2020-01-{:02},12.50,{}\n"
    with path.open("w") as file:
        file.write("customer,date,amount,note\n")
        for i in range(60_000):
            file.write(line.format(i % 100, 1 + i % 28, "n" * 200))
    tracemalloc.start()
    log = lesson.read_log(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert len(log.day) == 60_000
    assert path.stat().st_size > 13_000_000
    assert peak < 60_000 * 100  # the text of a row, 230 bytes, is not kept
