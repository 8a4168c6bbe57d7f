"""Lesson 05: columns, totals and states of orders, as shops' programs name them."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from lesson_05.logs import lesson, orders, write

from course.analytics.columns import column_positions
from course.analytics.orders import is_cancelled
from course.analytics.rules import require_few_refused
from course.errors import BadInput

ROWS = orders()
PAID = sum(float(paid) for _, _, paid in ROWS)


# --- Prices beside a number of pieces

COUNTED = [
    *("Quantity Ordered", "QtySold", "Item Count", "No. of units", "number_of_cds"),
    *("Anzahl", "St\u00fcck", "Cantidad", "Quantit\u00e9", "Aantal", "Ilo\u015b\u0107"),
    *("Shipped Qty", "total_items", "Nb articles", "Pcs"),
]


@pytest.mark.parametrize("count", COUNTED)
@pytest.mark.parametrize("price", ["price", "Preis", "Sale Price", "net_price"])
def test_a_price_of_one_piece_is_never_the_amount(count: str, price: str) -> None:
    names = ["customer", "date", count, price]
    try:
        found = column_positions(names, None)
    except BadInput as question:
        assert re.search("could be the amount.*--columns", str(question))
    else:
        assert "amount" not in found
        assert found["quantity"] == 2
        assert found["unit price"] == 3


@pytest.mark.parametrize("count", ["Anzahl", "Quantity Ordered", "Cantidad"])
@pytest.mark.parametrize("price", ["Einzelpreis", "Prix unitaire", "Price each"])
def test_quantity_and_price_in_other_words(
    count: str, price: str, tmp_path: Path
) -> None:
    rows = [[who, day, "2", str(float(paid) / 2)] for who, day, paid in ROWS]
    path = write(tmp_path / "a.csv", rows, f"customer,date,{count},{price}")
    assert lesson.read_log(path).amount.sum() == pytest.approx(PAID)


@pytest.mark.parametrize("price", ["total price", "price paid", "line price", "sales"])
def test_what_all_pieces_cost_is_an_amount_beside_their_number(price: str) -> None:
    names = ["customer", "date", "quantity", "discount", price]
    assert column_positions(names, None)["amount"] == 4


@pytest.mark.parametrize(
    "names", ["account,date,discount", "cust_key,date,state", "customer,date,Lastkauf"]
)
def test_words_that_have_such_letters_count_no_pieces(names: str) -> None:
    header = [*names.split(","), "price"]
    assert column_positions(header, None)["amount"] == 3


# --- Quotes of databases


def test_single_quotes_are_quotes(tmp_path: Path) -> None:
    rows = [[f"'{cell}'" for cell in row] for row in ROWS]
    log = lesson.read_log(write(tmp_path / "a.csv", rows, "'customer','date','amount'"))
    assert log.amount.sum() == pytest.approx(PAID)
    assert set(log.ids) == {who for who, _, _ in ROWS}


# --- Rows of sums


@pytest.mark.parametrize("name", ["TOTAL:", "Grand total (400 orders)", "Insgesamt"])
@pytest.mark.parametrize("way", ["amount", "quantity,price"])
def test_a_row_of_sums_is_no_order_whatever_it_is_called(
    name: str, way: str, tmp_path: Path
) -> None:
    more = [] if way == "amount" else ["1"]
    rows = [[who, day, *more, paid] for who, day, paid in ROWS]
    rows.append([name, "2020-10-26", *more, f"{PAID:.2f}"])
    log = lesson.read_log(write(tmp_path / "a.csv", rows, f"customer,date,{way}"))
    assert log.amount.sum() == pytest.approx(PAID)
    assert log.refused == {"sum of all rows above": [402]}
    assert name not in log.ids
    with pytest.raises(BadInput, match=rf"50\.0% of what .*{re.escape(name)}"):
        require_few_refused(log, "--accept-refused")


def test_few_orders_may_be_the_sum_of_those_before(tmp_path: Path) -> None:
    rows = [[f"c{n}", "2020-01-01", paid] for n, paid in enumerate(["5", "5", "10"])]
    rows += [["c9", "2020-01-02", "0"]] * 30 + [["c8", "2020-01-03", "20"]]
    log = lesson.read_log(write(tmp_path / "a.csv", rows))
    assert not log.refused


def test_what_refunds_left_is_no_sum(tmp_path: Path) -> None:
    rows = [[f"c{n}", "2020-01-01", "50"] for n in range(12)]
    rows += [[f"c{n}", "2020-01-02", "-50"] for n in range(11)]
    rows += [["c20", "2020-01-03", "50"]]
    log = lesson.read_log(write(tmp_path / "a.csv", rows))
    assert log.amount.tolist() == [50, 50]


# --- The states of an order


NO_ORDER = [
    *("Cancelled by customer", "CANCELLED_BY_BUYER", "canceled - refunded"),
    *("Payment failed", "payment_failed", "Order Cancelled", "Auto-cancelled"),
    *("requires_payment_method", "wc-cancelled", "Storniert (Kunde)", "VOIDED"),
]
AN_ORDER = [
    *("partially_refunded", "Refunded partially", "cancellation requested"),
    *("refund denied", "delivered", "paid", "", "Cancelled in part", "not cancelled"),
    *("failed delivery attempt", "completed", "pending", "test drive"),
]


@pytest.mark.parametrize("status", NO_ORDER)
def test_a_status_may_say_more_than_that(status: str) -> None:
    assert is_cancelled(status)


@pytest.mark.parametrize("status", AN_ORDER)
def test_what_is_left_of_an_order_is_one(status: str) -> None:
    assert not is_cancelled(status)


def test_every_status_of_an_order_counts(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    header = "customer,date,amount,Order Status,Payment Status"
    rows = [
        [*row, "failed" if n % 8 == 1 else "done", "refunded" if n % 4 == 0 else "paid"]
        for n, row in enumerate(ROWS)
    ]
    log = lesson.read_log(write(path, rows, header))
    assert len(log.day) == 400 - 100 - 50
    (lines,) = log.refused.values()
    assert lines[:4] == [2, 3, 6, 10]
    assert log.read["status 2"] == "Payment Status"
    assert (
        len(log.reading["refused"]["cancelled, by the column of status"].lines) == 150
    )
