"""Lesson 05: amounts, dates, columns and refunds as people write them, or asked for."""

from __future__ import annotations

import json
import re
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from lesson_05.logs import SCRIPT, lesson, orders, parsed, write
from lessons import run, unbroken

from course.analytics.columns import column_positions
from course.analytics.dates import distrusted
from course.errors import BadInput


def saved(path: Path, lines: list[str], encoding: str = "utf-8") -> Path:
    path.write_bytes("\n".join([*lines, ""]).encode(encoding))
    return path


def asked(path: Path, *options: str) -> str:
    """Return the one line with which a run asks."""
    done = run(SCRIPT, "--transactions", str(path), "--json", *options)
    assert (done.returncode, done.stdout) == (2, ""), done.stdout[:300]
    assert len(done.stderr.splitlines()) == 1, done.stderr
    return done.stderr


# --- Amounts


def large_orders(mark: str, group: str) -> tuple[list[str], float]:
    """Return lines of orders from 100 to 10,000, written with these marks."""
    rng = np.random.default_rng(7)
    cents = rng.integers(10_000, 1_000_000, 400)
    lines = ["customer;date;amount"]
    for (who, day, _), amount in zip(orders(), cents.tolist(), strict=True):
        text = f"{amount / 100:,.2f}".translate({ord(","): group, ord("."): mark})
        lines.append(f"{who};{day};{text}")
    return lines, float(cents.sum()) / 100


@pytest.mark.parametrize("group", [".", "'", "\u2019", " ", "\u00a0", "\u202f", ""])
@pytest.mark.parametrize("mark", [",", "."])
def test_every_order_of_a_thousand_is_read(
    mark: str, group: str, tmp_path: Path
) -> None:
    if mark == group:
        group = ","
    lines, total = large_orders(mark, group)
    log = lesson.read_log(saved(tmp_path / "a.csv", lines))
    assert float(log.amount.sum()) == pytest.approx(total)
    assert not log.refused
    assert log.reading["amounts"].startswith(f"decimal {mark}")


ONE_MARK = {  # a column: what its first value is, None if nothing decides
    "1.234 | 5.678 | 999": None,
    "1,234 | 5,678 | 12": None,
    "1.234 | 1.234.567": 1234,
    "1.234 | 5,50": 1234,
    "1.234 | 5.50": 1.234,
    "1,234 | 5.50": 1234,
    "1,234 | 5,5": 1.234,
    "1.234 | 0.125": 1.234,
    "1.234 | 1234.567": 1.234,
    "1'234.567 | 1.234": 1234.567,
    "1234 | 12 | 5": 1234,
    "1e3 | 12.5": 1000,
    "1,234 | 1,234,567 | 0.5": 1234,
    "1.5 | 2,5": None,
    "1,234.50 | 1.234,50": None,
}


@pytest.mark.parametrize("column", ONE_MARK)
def test_the_column_decides_or_asks(column: str, tmp_path: Path) -> None:
    texts = column.split(" | ")
    lines = ["customer;date;amount", *(f"c;2020-01-01;{text}" for text in texts)]
    path = saved(tmp_path / "a.csv", lines)
    if ONE_MARK[column] is None:
        assert "--decimal" in asked(path)
        with pytest.raises(BadInput, match="--decimal"):
            lesson.read_log(path)
    else:
        assert lesson.read_log(path).amount[0] == ONE_MARK[column]


def test_an_option_decides_where_the_column_does_not(tmp_path: Path) -> None:
    rows = [[c, d, f"{i % 9 + 1}.{100 + i}"] for i, (c, d, _) in enumerate(orders())]
    path = write(tmp_path / "a.csv", rows)
    assert "--decimal" in asked(path)
    point = lesson.read_log(path, decimal=".")
    comma = lesson.read_log(path, decimal=",")
    assert comma.amount == pytest.approx(1000 * point.amount)
    figures = parsed(path, "--decimal", ",")
    assert figures["read_as"]["amounts"] == "decimal , as asked for"
    assert "--decimal x" in asked(path, "--decimal", "x")


WRITTEN = {
    "\u20ac12.50": 12.5,
    "12.50 USD": 12.5,
    "USD 12.50": 12.5,
    "$ 1,200.00": 1200,
    "1'234.50": 1234.5,
    "1 234.50": 1234.5,
    "CHF 1'234.50": 1234.5,
    "12.50\u00a0\u20ac": 12.5,
    "+12.50": 12.5,
    "12.50 kr": 12.5,
    "R$12.50": 12.5,
    ".50": 0.5,
    "12.": 12,
    "-$12.50": -12.5,
    "$-12.50": -12.5,
    "(12.50)": -12.5,
    "($12.50)": -12.5,
    "12.50-": -12.5,
    "\u221212.50": -12.5,
    "1_000.00": None,
    "12.34.56": None,
    "--5.00": None,
    "$12.50 EUR": None,
    "abc": None,
    "NAN": None,
    "": None,
    "1,23,456.00": 123456,  # as in India
    "1,23,45.00": None,
    "1e300": None,
}


@pytest.mark.parametrize("text", WRITTEN)
def test_signs_and_currencies_around_a_number(text: str) -> None:
    from course.analytics.amounts import read_amounts

    found = read_amounts(["1,000.50", text], None, "the amounts").value[1]
    wanted = WRITTEN[text]
    assert np.isnan(found) if wanted is None else found == wanted


def test_refusals_over_one_in_a_hundred_stop_the_run(tmp_path: Path) -> None:
    rows = orders()
    few = write(tmp_path / "few.csv", [*rows, *[["x", "never", "1.00"]] * 4])
    figures = parsed(few)
    assert figures["rows"]["refused"] == 4
    assert figures["refused"]["unreadable date"] == {
        "rows": 4,
        "lines": [402, 403, 404, 405],
        "values": ["never"] * 4,
        "sum": 4.0,
    }
    many = write(tmp_path / "many.csv", [*rows, *[["x", "never", "1.00"]] * 5])
    assert "--accept-refused" in asked(many)
    assert parsed(many, "--accept-refused")["rows"]["refused"] == 5


def test_one_row_with_much_of_the_sum_stops_the_run(tmp_path: Path) -> None:
    rows = orders()
    path = write(tmp_path / "a.csv", [*rows, ["x", "never", "99999.00"]])
    said = asked(path)
    assert "--accept-refused" in said
    assert "'never'" in said
    shown = unbroken(
        run(SCRIPT, "--transactions", str(path), "--accept-refused").stdout
    )
    assert "readable of them: 99,999.00" in shown
    page = tmp_path / "page.html"
    options = ("--transactions", str(path), "--accept-refused", "--json")
    assert run(SCRIPT, *options, "--report", str(page)).returncode == 0
    assert "99,999.00" in page.read_text()


def test_an_unquoted_decimal_comma_is_not_cut_off(tmp_path: Path) -> None:
    lines = ["customer,date,amount", *(f"{c},{d},12,50" for c, d, _ in orders())]
    assert "too many columns" in asked(saved(tmp_path / "a.csv", lines))


def test_currencies_are_not_added_up(tmp_path: Path) -> None:
    rows = [
        [c, d, p, "EUR" if i % 4 else "USD"] for i, (c, d, p) in enumerate(orders())
    ]
    path = write(tmp_path / "a.csv", rows, "customer,date,amount,currency")
    said = asked(path)
    assert "--currency" in said
    assert "EUR 300" in said
    figures = parsed(path, "--currency", "eur")
    assert figures["rows"]["used"] == 300
    assert figures["read_as"]["currency"] == "EUR"
    signs = [
        [c, d, p.replace(".50", ".50 \u20ac") if i % 2 else f"${p}"]
        for i, (c, d, p) in enumerate(orders())
    ]
    mixed = write(tmp_path / "b.csv", signs)
    assert "--currency" in asked(mixed)
    assert parsed(mixed, "--currency", "USD")["rows"]["used"] == 200


# --- Dates


FORMS = {
    "%d/%m/%Y": "day first",
    "%m/%d/%Y": "month first",
    "%d.%m.%Y": "day first",
    "%d-%m-%y": "day first",
    "%m/%d/%y": "month first",
    "%Y/%m/%d": "year, month, day",
    "%Y%m%d": "year, month, day",
    "%d %b %Y": "year, month, day",
    "%B %d, %Y": "year, month, day",
    "%d-%b-%y": "year, month, day",
    "%a, %d %b %Y": "year, month, day",
    "%m/%d/%Y %H:%M": "month first",
    "%d/%m/%Y %I:%M:%S %p": "day first",
    "%Y-%m-%dT%H:%M:%S.000Z": "year, month, day",
    "%Y-%m-%d %H:%M:%S+02:00": "year, month, day",
}


@pytest.mark.parametrize("form", FORMS)
def test_everyday_dates_are_read(form: str, tmp_path: Path) -> None:
    days = [date.fromisoformat(day) for _, day, _ in orders()]
    rows = [
        [c, day.strftime(form), p]
        for (c, _, p), day in zip(orders(), days, strict=True)
    ]
    log = lesson.read_log(write(tmp_path / "a.csv", rows))
    assert log.day.tolist() == [day.toordinal() for day in days]
    assert log.reading["dates"] == FORMS[form]


def test_day_or_month_first_is_asked_where_nothing_decides(tmp_path: Path) -> None:
    rows = [["c", f"0{1 + i % 9}/0{1 + i % 7}/2020", "5"] for i in range(60)]
    path = write(tmp_path / "a.csv", rows)
    assert "--date-format" in asked(path)
    day_first = lesson.read_log(path, date_format="dmy")
    month_first = lesson.read_log(path, date_format="%m/%d/%Y")
    assert date.fromordinal(day_first.day[1]) == date(2020, 2, 2)
    assert date.fromordinal(day_first.day[8]) == date(2020, 2, 9)
    assert date.fromordinal(month_first.day[8]) == date(2020, 9, 2)
    both = write(
        tmp_path / "b.csv", [["c", "13/01/2020", "5"], ["c", "01/13/2020", "5"]]
    )
    assert "--date-format" in asked(both)
    assert "--date-format" in asked(path, "--date-format", "sometimes")


def outlier(tmp_path: Path, *days: str) -> Path:
    rows = orders()
    return write(tmp_path / "far.csv", [*rows, *(["c1", day, "9.50"] for day in days)])


@pytest.mark.parametrize(
    "days",
    [["2024-06-01"], ["0001-01-01"], ["1970-01-01"], ["2024-06-01", "2025-01-01"]],
)
def test_a_date_far_from_all_others_asks(days: list[str], tmp_path: Path) -> None:
    path = outlier(tmp_path, *days)
    said = asked(path)
    assert "--accept-dates" in said
    if days[0] > "2020":
        assert "--as-of" in said
        cut = re.search(r"--as-of (\S+)", said)
        assert cut
        figures = parsed(path, "--as-of", cut[1])
        assert (
            figures["bgnbd"]
            == parsed(write(tmp_path / "good.csv", orders()), "--as-of", cut[1])[
                "bgnbd"
            ]
        )
    assert parsed(path, "--accept-dates")["customers"] == 79


SEVERAL = [
    ["1968-01-01", "2028-01-01"],
    ["2005-01-01", "2012-01-01", "2019-01-01", "2026-01-01"],
    ["1985-01-01", "1990-01-01", "2005-01-01", "2012-01-01"],
]


@pytest.mark.parametrize("wrong", SEVERAL)
@pytest.mark.parametrize("shop_days", [60, 150, 500])
def test_several_wrong_dates_do_not_hide_each_other(
    wrong: list[str], shop_days: int
) -> None:
    first = date(1997, 1, 1).toordinal()
    days = first + np.linspace(0, 545, shop_days).astype(int).repeat(4)
    far = [date.fromisoformat(day).toordinal() for day in wrong]
    assert distrusted(days) is None
    found = distrusted(np.append(days, far))
    assert found
    assert found.day in far


def test_a_shop_that_grew_late_is_not_distrusted() -> None:
    slow = 730_000 + 60 * np.arange(24)
    quick = slow[-1] + 60 + np.arange(120)
    assert distrusted(np.append(slow, quick.repeat(20))) is None


@pytest.mark.parametrize("day", ["2021-01-01", "9999-12-31"])
def test_as_of_after_the_last_order_asks(day: str, tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", orders())
    assert "--accept-dates" in asked(path, "--as-of", day)
    if day < "2100":
        assert parsed(path, "--as-of", day, "--accept-dates")["as_of"] == day
    else:
        assert "century" in asked(path, "--as-of", day, "--accept-dates")


def test_a_shop_with_a_rhythm_is_not_distrusted(log: Any) -> None:
    start = date(2020, 1, 1).toordinal()
    assert distrusted(log.day) is None
    assert distrusted(np.repeat(start + 7 * np.arange(30), 5)) is None
    assert distrusted(np.repeat(start + 30 * np.arange(12), 5)) is None
    closed = np.concatenate([np.arange(300), np.arange(500, 900)]) + start
    assert distrusted(closed) is None
    assert distrusted(np.array([start, start + 9])) is None


# --- Columns


TAKEN = {  # header: customer, date and amount, or the role that is asked for
    "customer_id,date,total_quantity,sales_rep": "amount",
    "customer_type,date,amount": "customer",
    "user_agent,member_since,date,amount": "customer",
    "customer_type,customer_id,date,total_quantity,amount": "customer_id date amount",
    "user_agent,user_id,date,sales_rep,sales": "user_id date sales",
    "customer_id,customer_unique_id,date,amount": "customer",
    "customer_id,date,net_amount,gross_amount": "amount",
    "customer_id,order_date,created_at,amount": "date",
    "Customer ID,Customer Name,Order Date,Sales,Quantity,Discount,Profit": (
        "Customer ID Order Date Sales"
    ),
    "DATE,STORE_NBR,LYLTY_CARD_NBR,TXN_ID,TOT_SALES": "LYLTY_CARD_NBR DATE TOT_SALES",
    "customer,first_order_date,amount": "date",
    "customer,date,value_added_tax": "amount",
    "customer_lifetime_value,client,date,spend": "client date spend",
    "user_count,user,day,day_of_week,total": "user day total",
    "customer,date,unit_price": "amount",
    "customer,date,discount": "amount",
    "Kundennummer;Rechnungsdatum;Betrag": "Kundennummer Rechnungsdatum Betrag",
}


@pytest.mark.parametrize("header", TAKEN)
def test_whole_words_decide_and_two_candidates_ask(header: str) -> None:
    names = re.split("[,;]", header)
    wanted = TAKEN[header]
    if wanted in ("customer", "date", "amount"):
        with pytest.raises(BadInput, match=f"could be the {wanted}.*--columns"):
            column_positions(names, None)
        return
    found = column_positions(names, None)
    roles = ("customer", "date", "amount")
    assert " ".join(names[found[role]] for role in roles) == wanted


def as_published(log: Any) -> list[str]:
    """Return the sample as the publishers of CDNOW's master lay it out."""
    lines = [" customer_id  date number_of_cds  dollar_value"]
    for code, day, paid in zip(log.customer, log.day, log.amount, strict=True):
        when = date.fromordinal(int(day)).strftime("%Y%m%d")
        lines.append(f"{int(log.ids[code]):>5} {when}{2:>4}{paid:>8.2f}")
    return lines


def test_blanks_separate_as_the_publishers_ship_it(log: Any, tmp_path: Path) -> None:
    path = saved(tmp_path / "master.txt", as_published(log))
    figures = parsed(path)
    assert figures["bgnbd"] == parsed(lesson.SAMPLE)["bgnbd"]
    assert figures["columns"] == {
        "customer": "customer_id",
        "date": "date",
        "amount": "dollar_value",
    }
    assert figures["read_as"]["separator"] == "blanks"


@pytest.mark.parametrize("separator", [",", ";", "\t", "|", "  ", " \t "])
@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-16-le", "utf-16-be"])
def test_separators_and_encodings(
    separator: str, encoding: str, tmp_path: Path
) -> None:
    lines = [separator.join(row) for row in [["customer", "date", "amount"], *orders()]]
    log = lesson.read_log(saved(tmp_path / "a.csv", lines, encoding))
    assert (len(log.day), len(log.ids)) == (400, 79)
    assert log.ids[0] == orders()[0][0]


@pytest.mark.parametrize("mark", [";", "|", ","])
def test_excels_first_line_names_the_separator(mark: str, tmp_path: Path) -> None:
    rows = [["customer", "date", "amount"], *orders()]
    lines = [f"sep={mark}\r", *(mark.join(row) + "\r" for row in rows), f"x{mark}y\r"]
    log = lesson.read_log(saved(tmp_path / "a.csv", lines, "utf-16"))
    assert len(log.day) == 400
    assert list(log.refused["too few columns"]) == [403]


def test_what_excel_saves_in_europe(tmp_path: Path) -> None:
    rows = [f"M\u00fcller {c};{d};{p.replace('.', ',')} \u20ac" for c, d, p in orders()]
    path = saved(tmp_path / "a.csv", ["Kunde;Datum;Betrag", *rows], "cp1252")
    log = lesson.read_log(path)
    assert log.ids[0].startswith("M\u00fcller")
    assert log.reading["encoding"] == "cp1252"
    assert log.reading["currency"] == "EUR"


# --- Quantities, refunds, no amounts


def test_quantity_times_unit_price(tmp_path: Path) -> None:
    rows = [[c, d, "3", "2.55", "tea"] for c, d, _ in orders()]
    header = "CustomerID,InvoiceDate,Quantity,UnitPrice,Description"
    path = write(tmp_path / "a.csv", rows, header)
    assert lesson.read_log(path).amount[0] == 7.65
    figures = parsed(path)
    assert figures["columns"]["unit price"] == "UnitPrice"
    assert "quantity x unit price" in figures["read_as"]["amounts"]
    named = write(tmp_path / "b.csv", rows, "a,b,c,d,e")
    columns = "a,b,c*d,e"
    log = lesson.read_log(named, columns)
    assert (log.amount[0], log.items[0]) == (7.65, "tea")


def test_refunds_are_netted_or_counted_and_summed(tmp_path: Path) -> None:
    rows = [[*row, "1"] for row in orders()]
    whole = [[c, d, "2", "10.25"] for c, d, _, _ in rows]
    cancelled = ["late", "2020-03-01", "3", "2.55"]
    back = ["late", "2020-03-05", "-3", "2.55"]
    alone = ["c1", "2020-03-05", "-1", "99.00"]
    too_early = ["early", "2020-03-01", "-1", "5.00"]
    order = ["early", "2020-03-02", "1", "5.00"]
    given = [back, *whole, cancelled, alone, too_early, order]
    path = write(tmp_path / "a.csv", given, "customer,date,quantity,unit_price")
    log = lesson.read_log(path)
    assert "late" not in log.ids
    assert "early" in log.ids
    assert len(log.day) == 401
    figures = parsed(path)
    assert figures["refunds"] == {
        "rows": 3,
        "sum": -111.65,
        "netted": 1,
        "netted_sum": -7.65,
        "left_sum": -104.0,
    }
    assert figures["rows"] == {"read": 405, "used": 401, "refused": 2}
    shown = unbroken(run(SCRIPT, "--transactions", str(path)).stdout)
    assert "1 with their order, -7.65; 2 without, -104.00" in shown


def test_many_refunds_without_an_order_do_not_stop_a_run(tmp_path: Path) -> None:
    rows = orders()
    refunds = [[c, d, "-7.25"] for c, d, _ in rows[:40]]
    figures = parsed(write(tmp_path / "a.csv", [*rows, *refunds]))
    assert figures["refunds"]["rows"] == 40
    assert figures["rows"]["used"] == 400


@pytest.mark.parametrize("options", [[], ["--columns", "customer,date"]])
def test_a_log_without_amounts_counts_orders(
    options: list[str], tmp_path: Path
) -> None:
    extra = ["channel"] if options else []
    rows = [[c, d, *extra] for c, d, _ in orders()]
    path = write(tmp_path / "a.csv", rows, ",".join(["customer", "date", *extra]))
    if options:
        assert "--columns" in asked(path)
    figures = parsed(path, *options)
    assert figures["read_as"]["amounts"] == "none"
    same = parsed(write(tmp_path / "b.csv", orders()))
    assert figures["bgnbd"] == same["bgnbd"]
    shown = run(SCRIPT, "--transactions", str(path), *options)
    assert shown.returncode == 0
    assert "each order counts as 1" in unbroken(shown.stdout)


def test_a_study_names_what_it_took(tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", orders(), "UserID,OrderDate,order_total")
    done = run(SCRIPT, "--transactions", str(path), "--json")
    figures = json.loads(done.stdout)
    assert figures["columns"]["amount"] == "order_total"
    shown = unbroken(run(SCRIPT, "--transactions", str(path)).stdout)
    assert re.search(r"read as +file CSV, separator comma", shown)
