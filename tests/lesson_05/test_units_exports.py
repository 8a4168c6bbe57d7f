"""Lesson 05: files as shops, payment services and spreadsheets export them."""

from __future__ import annotations

import csv
import io
import uuid
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from lesson_05.logs import lesson, orders, write

from course.analytics.amounts import read_amounts
from course.analytics.columns import column_positions
from course.analytics.dates import read_dates, without_clock
from course.analytics.rules import require_few_refused
from course.analytics.scoresheet import csv_of
from course.analytics.summary import summary_sql
from course.errors import BadInput

ROWS = orders()
CUSTOMERS = len({who for who, _, _ in ROWS})


def refusal(path: Path, columns: str | None = None) -> str:
    """Return with what a file is refused, or some of its rows."""
    with pytest.raises(BadInput) as problem:
        require_few_refused(lesson.read_log(path, columns), "--accept-refused")
    return str(problem.value)


# --- Customers


PLACEHOLDERS = """\
nan
None
NULL
N/A
#N/A
<NA>
\\N
(null)
(not set)
-
guest
Guest
""".splitlines()
SUMS = ["Total", "Grand Total", "Summe", "Subtotal"]


@pytest.mark.parametrize("name", [*PLACEHOLDERS, *SUMS, "unknown", "Walk-in"])
def test_a_placeholder_is_no_customer(name: str, tmp_path: Path) -> None:
    rows = [
        [name if place % 4 == 0 else who, *row]
        for place, (who, *row) in enumerate(ROWS)
    ]
    said = refusal(write(tmp_path / "a.csv", rows))
    assert "100 no customer but a placeholder (line 2, 6" in said
    assert f"{name!r}; --accept-refused" in said


GUESTS = [
    *("Guest Checkout", "guest@shop.com", "Anonymous User", "[deleted]", "99999999"),
    *(".", "Laufkundschaft", "Walk in customer", "cash sale", "no-reply@shop.com"),
]


@pytest.mark.parametrize("name", GUESTS)
def test_an_account_that_guests_share_is_no_customer(name: str, tmp_path: Path) -> None:
    shared = [
        [name if place % 3 == 0 else who, *row]
        for place, (who, *row) in enumerate(ROWS)
    ]
    said = refusal(write(tmp_path / "a.csv", shared))
    assert "134 no customer but a placeholder" in said
    one_of_many = [[name if who == "c7" else who, *row] for who, *row in ROWS]
    log = lesson.read_log(write(tmp_path / "b.csv", one_of_many))
    assert len(log.ids) == CUSTOMERS
    assert not log.refused


@pytest.mark.parametrize("name", ["Mrs Prendergast", "Gastronomie Berg", "Gaston"])
def test_a_good_customer_with_such_letters_is_one(name: str, tmp_path: Path) -> None:
    rows = [
        [name if place % 3 == 0 else who, *row]
        for place, (who, *row) in enumerate(ROWS)
    ]
    assert name in lesson.read_log(write(tmp_path / "a.csv", rows)).ids


@pytest.mark.parametrize("number", ["0", "0.0", "-1"])
def test_a_number_that_guests_share_is_no_customer(number: str, tmp_path: Path) -> None:
    shared = [
        [number if place % 3 == 0 else who[1:], *row]
        for place, (who, *row) in enumerate(ROWS)
    ]
    assert "no customer but a placeholder" in refusal(write(tmp_path / "a.csv", shared))
    one_of_many = [
        [str(int(who[1:]) + int(number[:1] == "-") * -1), *row] for who, *row in ROWS
    ]
    log = lesson.read_log(write(tmp_path / "b.csv", one_of_many))
    assert len(log.ids) == CUSTOMERS
    assert not log.refused


def test_numbers_that_a_spreadsheet_rounded_are_refused(tmp_path: Path) -> None:
    rows = [
        ["4.50E+18" if place % 4 else who, *row]
        for place, (who, *row) in enumerate(ROWS)
    ]
    said = refusal(write(tmp_path / "a.csv", rows))
    assert "300 customer's number rounded by a spreadsheet" in said


SPELLINGS = {
    "floats": ("{}.0", "{}"),
    "addresses": ("a{}@x.com", "A{}@X.com"),
    "accents": ("Jos\u00e9 {}", "Jose\u0301 {}"),
    "hidden marks": ("c{}", "\u200bc{}\u00a0"),
    "texts in a spreadsheet": ('="{}"', "{}"),
    "blanks": ("Ann  Lee {}", "Ann Lee {}"),
    "blanks that do not break": ("Ann\u00a0Lee {}", "Ann Lee {}"),
}


@pytest.mark.parametrize("kind", SPELLINGS)
def test_one_customer_in_two_spellings_is_one(kind: str, tmp_path: Path) -> None:
    rows = [
        [SPELLINGS[kind][place % 2].format(who[1:]), *row]
        for place, (who, *row) in enumerate(ROWS)
    ]
    log = lesson.read_log(write(tmp_path / "a.csv", rows))
    assert len(log.ids) == CUSTOMERS
    assert len(log.day) == len(ROWS)


def test_names_that_only_look_alike_stay_apart(tmp_path: Path) -> None:
    names = ["1.0", "1.1", "c1", "C1", "007", "7", "9007199254740993"]
    rows = [[names[place % 7], *row] for place, (_, *row) in enumerate(ROWS)]
    log = lesson.read_log(write(tmp_path / "a.csv", rows))
    assert sorted(log.ids) == sorted(names)


# --- Amounts


CURRENCIES = """\
R {}
R{}
RM{}
Rp {}
{} DM
{} \u043b\u0432.
{} \u0433\u0440\u043d
{} \u0440.
S/ {}
US ${}
{} $US
{} \u0111
EUR. {}
{} kn
{} dollars
'{}
="{}"
""".splitlines()


@pytest.mark.parametrize("form", CURRENCIES)
def test_a_currency_of_one_country_or_another(form: str) -> None:
    texts = [form.format(number) for number in ("12.50", "1250.25")]
    assert read_amounts(texts, None, "the amounts").value.tolist() == [12.5, 1250.25]


@pytest.mark.parametrize("text", ["12.50 R", "12.50 CR", "12.50 DR"])
def test_a_mark_of_a_bookkeeper_is_no_currency(text: str) -> None:
    assert np.isnan(read_amounts([text], None, "the amounts").value[0])


@pytest.mark.parametrize("minus", "-\u2010\u2011\u2013\u2212\uff0d")
def test_any_dash_is_a_minus(minus: str) -> None:
    found = read_amounts([f"{minus}12.50", f"12.50{minus}"], None, "the amounts").value
    assert found.tolist() == [-12.5, -12.5]


@pytest.mark.parametrize("group", "`\u00b4\u2007")
def test_thousands_by_marks_that_look_alike(group: str) -> None:
    found = read_amounts([f"1{group}234.50", "2.50"], None, "the amounts").value
    assert found.tolist() == [1234.5, 2.5]


@pytest.mark.parametrize("end", ["", ","])
def test_amounts_cut_at_an_unquoted_comma_ask(end: str, tmp_path: Path) -> None:
    rng = np.random.default_rng(2)
    lines = [
        f"{who},{day},{rng.integers(1, 90)},{rng.integers(0, 100):02}{end}"
        for who, day, _ in ROWS
    ]
    path = tmp_path / "a.csv"
    path.write_text("\n".join(["customer,date,amount,note", *lines, ""]))
    said = refusal(path)
    assert "cut at their commas" in said
    assert "--columns" in said
    assert len(lesson.read_log(path, "customer,date,amount").day) == len(ROWS)
    hours = [
        f"{who},{day},12,{place % 24:02}" for place, (who, day, _) in enumerate(ROWS)
    ]
    path.write_text("\n".join(["customer,date,amount,hour", *hours, ""]))
    assert lesson.read_log(path).amount[0] == 12


def test_sales_with_a_minus_ask(tmp_path: Path) -> None:
    rows = [
        [who, day, paid if place % 20 == 0 else f"-{paid}"]
        for place, (who, day, paid) in enumerate(ROWS)
    ]
    said = refusal(write(tmp_path / "a.csv", rows))
    assert "was paid back, and only" in said
    assert "--accept-refused" in said


# --- Orders that are none


@pytest.mark.parametrize("name", ["Status", "order_status", "Financial Status"])
@pytest.mark.parametrize(
    "status", ["Cancelled", "wc-failed", "refunded", "Annul\u00e9e"]
)
def test_a_cancelled_order_is_no_order(status: str, name: str, tmp_path: Path) -> None:
    rows = [
        [*row, status if place % 5 == 0 else "paid"] for place, row in enumerate(ROWS)
    ]
    path = write(tmp_path / "a.csv", rows, f"customer,date,amount,{name}")
    said = refusal(path)
    assert "80 cancelled, by the column of status (line 2, 7" in said
    assert f"such as {status!r}" in said
    assert lesson.read_log(path).read["status"] == name
    assert len(lesson.read_log(path).day) == 320


# --- Headers and rows


def body() -> str:
    return "customer,date,amount\n" + "".join(f"{','.join(row)}\n" for row in ROWS)


ABOVE = {
    "titles": "Orders of 2020\n\nall amounts in EUR;,\n",
    "remarks": "# exported by a shop\n# on a day\n",
    "a line drawn": "--------------------\n",
    "an odd quote": 'Screens of 24"\n',
}


@pytest.mark.parametrize("kind", ABOVE)
def test_a_header_may_stand_below_other_lines(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text(ABOVE[kind] + body() + "x,never,1\n")
    log = lesson.read_log(path)
    assert len(log.day) == len(ROWS)
    place = ABOVE[kind].count("\n") + 1
    assert log.reading["header"] == f"in line {place}"
    assert log.refused == {"unreadable date": [place + len(ROWS) + 1]}


def test_a_name_of_a_column_may_have_two_lines(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text(body().replace("amount", '"Order\namount"', 1) + "x,never,1\n")
    log = lesson.read_log(path)
    assert log.read["amount"] == "Order amount"
    assert log.refused == {"unreadable date": [len(ROWS) + 3]}


def test_a_header_repeated_is_no_row(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text(body() + "\ufeff" + body() + "\x1a")
    log = lesson.read_log(path)
    assert len(log.day) == 2 * len(ROWS)
    assert not log.refused


TABLES = {  # below the header, and around all: as terminals and wikis draw
    "psql": ("-----+-----+-----\n", ""),
    "mysql": ("+-----+-----+-----+\n", "+-----+-----+-----+\n"),
    "markdown": ("|-----|:---:|----:|\n", ""),
    "reports": ("-----------------\n", "=================\n"),
}


@pytest.mark.parametrize("kind", TABLES)
def test_lines_drawn_around_a_table_are_no_rows(kind: str, tmp_path: Path) -> None:
    below, around = TABLES[kind]
    header, *rows = body().replace(",", " | ").splitlines()
    path = tmp_path / "a.csv"
    ends = ("", "") if kind == "psql" else ("| ", " |")
    lines = [f"{ends[0]}{line}{ends[1]}\n" for line in (header, *rows)]
    path.write_text(around + lines[0] + below + "".join(lines[1:]) + around)
    log = lesson.read_log(path)
    assert len(log.day) == len(ROWS)
    assert not log.refused


@pytest.mark.parametrize("columns", [None, "c,2020-01-05,7.50"])
def test_a_file_without_a_header_says_what_to_add(
    columns: str | None, tmp_path: Path
) -> None:
    path = tmp_path / "a.csv"
    path.write_text("c,2020-01-05,7.50\n" + body().partition("\n")[2])
    said = refusal(path, columns)
    assert "put a line such as customer,date,amount above the rows" in said


def test_an_endless_first_line_is_no_header(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("x" * 300_000)
    assert "no column names" in refusal(path)


def test_a_name_with_a_comma_is_named_in_quotes(tmp_path: Path) -> None:
    rows = [[*row, "1"] for row in ROWS]
    path = tmp_path / "a.csv"
    write(path, rows, "customer,date,x,y")
    path.write_text(path.read_text().replace("x,y", '"Gross, EUR",net', 1))
    log = lesson.read_log(path, 'customer,date,"Gross, EUR"')
    assert log.amount[0] == float(ROWS[0][2])


def test_two_columns_of_one_name_can_be_renamed(tmp_path: Path) -> None:
    rows = [[*row, "1"] for row in ROWS]
    path = write(tmp_path / "a.csv", rows, "customer,date,amount,amount")
    assert "rename one" in refusal(path, "customer,date,amount")


def test_rows_may_end_before_what_they_can_do_without(tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", ROWS, "customer,date,amount,currency,item,status")
    log = lesson.read_log(path)
    assert len(log.day) == len(ROWS)
    assert not log.refused


SHOPS = {
    "amazon-order-id,purchase-date,quantity,item-price,buyer-email": "buyer-email",
    "order_id,Customer Email,order_date,total": "Customer Email",
    "Buyer Email Address,date,total": "Buyer Email Address",
}


@pytest.mark.parametrize("header", SHOPS)
def test_an_address_is_a_customer(header: str) -> None:
    names = header.split(",")
    assert names[column_positions(names, None)["customer"]] == SHOPS[header]


@pytest.mark.parametrize("name", ["W\u00e4hrung", "iso_currency", "Crcy", "Devise"])
def test_a_column_of_currencies_in_other_words(name: str, tmp_path: Path) -> None:
    rows = [[*row, ["EUR", "USD"][place % 2]] for place, row in enumerate(ROWS)]
    path = write(tmp_path / "a.csv", rows, f"customer,date,amount,{name}")
    assert "--currency" in refusal(path)
    twice = [[*row, row[-1]] for row in rows]
    path = write(tmp_path / "b.csv", twice, "customer,date,amount,currency,ccy")
    assert "--currency" in refusal(path)


# --- Dates


CLOCKS = """\
2023-09-30T23:59:60Z
Sep  3 2023 10:15AM
30.09.2023 um 10:15 Uhr
30/09/2023 \u00e0 10:15
30.9.2023 klo 10.15
Sep 30, 2023 at 10:15 AM
30/09/2023 10:15:00 p. m.
2023-09-30_10:15:00
2023-09-30 10:15:00 Europe/Berlin
Sat Sep 30 2023 10:15:00 GMT+0200 (Central European Summer Time)
'2023-09-30
""".splitlines()


@pytest.mark.parametrize("text", CLOCKS)
def test_a_time_of_day_in_other_words(text: str) -> None:
    day = 3 if "Sep  3" in text else 30
    found = read_dates([without_clock(text)], None, "the dates").day.tolist()
    assert found == [date(2023, 9, day).toordinal()]


def test_dates_that_a_spreadsheet_turned_round_ask() -> None:
    days = [date(2022, 1, 1) + timedelta(3 * place) for place in range(60)]
    texts = [f"{d:%m/%d/%Y}" if d.day <= 12 else f"{d:%d.%m.%Y}" for d in days]
    with pytest.raises(BadInput, match=r"nothing decides; say --date-format"):
        read_dates(texts, None, "the dates")
    same = [f"{d:%d/%m/%Y}" for d in days] + [f"{d:%d.%m.%Y}" for d in days]
    found = read_dates(same, None, "the dates").day
    assert found.tolist() == 2 * [d.toordinal() for d in days]


# --- Frames


def test_a_pattern_reads_the_times_of_a_frame() -> None:
    frame = {"c": ["a", "b"] * 6, "d": [f"2020-01-{1 + k:02} 10:15" for k in range(12)]}
    names = {"customer": "c", "date": "d"}
    log = lesson.TransactionLog.from_frame(frame, **names, date_format="%Y-%m-%d %H:%M")
    assert log.day[0] == date(2020, 1, 1).toordinal()


NAMES: dict[str, list[Any]] = {
    "uuids": [uuid.UUID(int=k % 3) for k in range(12)],
    "numbers and texts": [7, "x", 7.0, "7"] * 3,
    "texts and numbers": ["7", "x", 7, 7.0] * 3,
    "missing as text": ["a", "b", "nan", "c"] * 3,
}


@pytest.mark.parametrize("kind", NAMES)
def test_customers_of_a_frame_may_be_any_names(kind: str) -> None:
    cells = np.empty(12, object)
    cells[:] = NAMES[kind]
    frame = {"c": cells, "d": [date(2020, 1, 1 + k) for k in range(12)]}
    names = {"customer": "c", "date": "d", "accept_refused": True}
    log = lesson.TransactionLog.from_frame(frame, **names)
    assert len(log.ids) == (2 if "numbers" in kind else 3)


def test_a_status_that_is_a_number_says_nothing(tmp_path: Path) -> None:
    pyarrow = pytest.importorskip("pyarrow")
    pytest.importorskip("pyarrow.parquet")
    who, day, paid = zip(*ROWS, strict=True)
    columns = {"customer": who, "date": day, "amount": paid, "status": [True] * 400}
    path = tmp_path / "a.parquet"
    pyarrow.parquet.write_table(pyarrow.table(columns), path)
    assert "status" not in lesson.read_log(path).reading
    assert len(lesson.read_log(path).day) == len(ROWS)


def test_dates_in_the_future_name_the_option(tmp_path: Path) -> None:
    rows = [[who, f"{int(day[:4]) + 543}{day[4:]}", paid] for who, day, paid in ROWS]
    said = refusal(write(tmp_path / "a.csv", rows))  # years of Buddha's era
    assert "400 date in the future" in said
    assert "--date-format" in said


def test_a_refused_date_of_a_frame_is_shown_as_one() -> None:
    days = [date(2020, 1, 1 + k) for k in range(11)] + [date(2999, 1, 1)]
    frame = {"c": ["a", "b"] * 6, "d": days}
    with pytest.raises(BadInput, match="such as '2999-01-01'"):
        lesson.TransactionLog.from_frame(frame, customer="c", date="d")


# --- What is written


def test_no_mark_of_another_country_makes_a_name_a_formula() -> None:
    names = ["a;=1+1", "a\t=1+1", "a|@b", 'a"b', "a,b", "a\nb", "=1;2", "plain"]
    text = csv_of({"customer": names, "orders": [1] * 8, "segment": ["x"] * 8}).decode()
    rows = list(csv.reader(io.StringIO(text)))
    assert [row[0] for row in rows[1:]] == [*names[:6], "'=1;2", "plain"]
    assert all(row[1:] == ["1", "x"] for row in rows[1:])
    in_europe = list(csv.reader(io.StringIO(text), delimiter=";"))
    assert not any(cell.startswith("=") for row in in_europe for cell in row)


def test_a_query_takes_names_with_commas() -> None:
    sql = summary_sql("duckdb", '"Kunde, Nr.",day,amount', 729_000)
    assert 'SELECT "Kunde, Nr." AS customer' in sql
