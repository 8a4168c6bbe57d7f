"""Lesson 05: what a TransactionLog takes, and frames of pandas, polars and pyarrow."""

from __future__ import annotations

import datetime
import decimal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from lesson_05.logs import SCRIPT, lesson, orders, parsed, write
from lessons import run

from course.errors import BadInput

pandas = pytest.importorskip("pandas")
polars = pytest.importorskip("polars")
pyarrow = pytest.importorskip("pyarrow")
pytest.importorskip("pyarrow.parquet")


def fitted(log: Any) -> Any:
    t = lesson.customer_table(log, log.last_day)
    fit = lesson.fit_bgnbd(t.x, t.t_last, t.age)
    money = lesson.fit_gamma_gamma(t.x, t.mean_spend)
    return len(t.x), int(t.x.sum()), fit.r, fit.alpha, fit.a, fit.b, money.p, money.q


@pytest.mark.parametrize(
    "width", ["int8", "int16", "int32", "uint16", "uint32", "float64"]
)
def test_codes_of_any_width_give_the_same_table(log: Any, width: str) -> None:
    few = log.where(log.customer < 100) if width == "int8" else log
    narrow = lesson.TransactionLog(
        few.customer.astype(width),
        few.day.astype("int32"),
        few.amount.astype("float32").astype("float64"),
        few.ids,
    )
    mine = lesson.customer_table(narrow, log.last_day)
    theirs = lesson.customer_table(few, log.last_day)
    for name in ("customer", "x", "t_last", "age"):
        assert np.array_equal(vars(mine)[name], vars(theirs)[name]), name


def test_the_models_take_columns_of_any_width(log: Any) -> None:
    t = lesson.customer_table(log, log.last_day)
    whole = lesson.fit_bgnbd(t.x, t.t_last, t.age)
    for width in ("int16", "int32", "float64"):
        columns = [column.astype(width) for column in (t.x, t.t_last, t.age)]
        assert lesson.fit_bgnbd(*columns).r == whole.r
        money = lesson.fit_gamma_gamma(t.x.astype(width), t.mean_spend)
        assert money.p == lesson.fit_gamma_gamma(t.x, t.mean_spend).p
    with pytest.raises(BadInput, match="fractions"):
        lesson.fit_bgnbd(t.x, t.t_last / 7, t.age / 7)


def test_series_with_any_index_are_columns(log: Any) -> None:
    frame = pandas.DataFrame({"c": log.customer, "d": log.day, "a": log.amount})
    shuffled = frame.sample(frac=1, random_state=3)
    given = lesson.TransactionLog(shuffled["c"], shuffled["d"], shuffled["a"], log.ids)
    assert fitted(given) == pytest.approx(fitted(log), rel=1e-12)


BAD_COLUMNS: dict[str, tuple[dict[str, Any], str]] = {
    "lengths": ({"day": np.array([730000])}, "one length"),
    "missing code": ({"customer": np.array([0, -1, 1])}, "-1"),
    "code without a name": ({"customer": np.array([0, 1, 2])}, "2"),
    "texts": ({"customer": np.array(["a", "b", "c"])}, "customer"),
    "fractions": ({"customer": np.array([0, 0.5, 1])}, "fractions"),
    "nan in codes": ({"customer": np.array([0, np.nan, 1])}, "NaN"),
    "days of 1970": ({"day": np.array([10000, 10001, 19000])}, "1970"),
    "nanoseconds": ({"day": np.array([1, 2, 3]) * 10**17}, "ordinals"),
    "missing date": ({"day": np.array(["2020-01-01", "NaT", "NaT"], "M8[D]")}, "NaT"),
    "nan amount": ({"amount": np.array([1, np.nan, 2])}, "NaN"),
    "infinite amount": ({"amount": np.array([1, np.inf, 2])}, "infinity"),
    "refund": ({"amount": np.array([1, -1.0, 2])}, "refund"),
    "text amount": ({"amount": np.array(["1", "x", "2"])}, "amount"),
    "a table": ({"amount": np.ones((3, 2))}, "one column"),
    "missing item": ({"item": np.array([0, -1, 0])}, "item"),
}


@pytest.mark.parametrize("case", BAD_COLUMNS)
def test_the_door_names_what_cannot_be_a_column(case: str) -> None:
    changed, named = BAD_COLUMNS[case]
    columns = {
        "customer": np.array([0, 1, 1]),
        "day": np.array([730000, 730001, 730002]),
        "amount": np.ones(3),
        "item": np.zeros(3, int),
    }
    lesson.TransactionLog(**columns, ids=["a", "b"], items=["thing"])
    with pytest.raises(BadInput, match=named):
        lesson.TransactionLog(**columns | changed, ids=["a", "b"], items=["thing"])


def test_dates_of_numpy_become_ordinals(log: Any) -> None:
    epoch = datetime.date(1970, 1, 1).toordinal()
    days = (log.day - epoch).astype("M8[D]").astype("M8[ns]")
    given = lesson.TransactionLog(log.customer, days, log.amount, log.ids)
    assert np.array_equal(given.day, log.day)


# --- Frames


def sample_columns(log: Any) -> dict[str, Any]:
    when = [datetime.date.fromordinal(day) for day in log.day.tolist()]
    who = [log.ids[code] for code in log.customer.tolist()]
    return {"who": who, "when": when, "paid": log.amount.tolist()}


def pandas_categories(columns: dict[str, Any]) -> Any:
    frame = pandas.DataFrame(columns)
    frame["who"] = frame["who"].astype("category")
    frame["when"] = pandas.to_datetime(frame["when"])
    return frame


def pandas_zone(columns: dict[str, Any]) -> Any:
    frame = pandas_categories(columns)
    late = frame["when"] + pandas.Timedelta(hours=23)
    frame["when"] = late.dt.tz_localize("America/New_York")
    return frame


def pandas_decimals(columns: dict[str, Any]) -> Any:
    paid = [decimal.Decimal(f"{amount:.2f}") for amount in columns["paid"]]
    return pandas.DataFrame(columns | {"paid": paid})


def pandas_texts(columns: dict[str, Any]) -> Any:
    when = [f"{day:%d/%m/%Y}" for day in columns["when"]]
    paid = [f"{amount:.2f}".replace(".", ",") for amount in columns["paid"]]
    return pandas.DataFrame(columns | {"when": when, "paid": paid})


def pandas_numbers(columns: dict[str, Any]) -> Any:
    when = [int(f"{day:%Y%m%d}") for day in columns["when"]]
    return pandas.DataFrame(columns | {"when": when})


def polars_frame(columns: dict[str, Any]) -> Any:
    return polars.DataFrame(columns)


def polars_categories(columns: dict[str, Any]) -> Any:
    frame = polars.DataFrame(columns).with_columns(
        polars.col("who").cast(polars.Categorical)
    )
    late = polars.col("when").cast(polars.Datetime("us")).dt.offset_by("23h")
    zone = late.dt.replace_time_zone("America/New_York")
    return frame.with_columns(zone)


def polars_lazy(columns: dict[str, Any]) -> Any:
    return polars.DataFrame(columns).lazy()


def arrow_table(columns: dict[str, Any]) -> Any:
    return pyarrow.table(columns)


def arrow_dictionary(columns: dict[str, Any]) -> Any:
    table = pyarrow.table(columns)
    when = [
        datetime.datetime(d.year, d.month, d.day, 23, tzinfo=datetime.UTC)
        for d in columns["when"]
    ]
    table = table.set_column(0, "who", table["who"].dictionary_encode())
    return table.set_column(
        1, "when", pyarrow.array(when, pyarrow.timestamp("us", "UTC"))
    )


def arrow_stream(columns: dict[str, Any]) -> Any:
    class Stream:
        def __arrow_c_stream__(self, schema: Any = None) -> Any:
            return pyarrow.table(columns).__arrow_c_stream__(schema)

    return Stream()


def plain_lists(columns: dict[str, Any]) -> Any:
    return columns


FRAMES = [
    pandas_categories,
    pandas_zone,
    pandas_decimals,
    pandas_texts,
    pandas_numbers,
    polars_frame,
    polars_categories,
    polars_lazy,
    arrow_table,
    arrow_dictionary,
    arrow_stream,
    plain_lists,
]


@pytest.mark.parametrize("frame", FRAMES)
def test_a_frame_is_the_log_of_the_file(
    log: Any, frame: Callable[[dict[str, Any]], Any]
) -> None:
    made = frame(sample_columns(log))
    given = lesson.TransactionLog.from_frame(
        made, customer="who", date="when", amount="paid"
    )
    assert given.ids == log.ids
    assert np.array_equal(given.customer, log.customer)
    assert np.array_equal(given.day, log.day)
    assert np.array_equal(given.amount, log.amount)
    assert given.read == {"customer": "who", "date": "when", "amount": "paid"}


def test_a_duckdb_relation_is_a_frame(log: Any) -> None:
    duckdb = pytest.importorskip("duckdb")
    relation = duckdb.sql(
        f"SELECT * FROM read_csv('{lesson.SAMPLE}', all_varchar=true)"
    )
    given = lesson.TransactionLog.from_frame(
        relation, customer="customer", date="date", amount="amount"
    )
    assert np.array_equal(given.amount, log.amount)


def test_rows_of_a_frame_without_a_customer_ask(log: Any) -> None:
    who = np.array([int(log.ids[code]) for code in log.customer], float)
    who[:100] = np.nan
    frame = pandas.DataFrame({"who": who, "when": log.day, "paid": log.amount})
    frame["when"] = [datetime.date.fromordinal(day) for day in log.day.tolist()]
    names = {"customer": "who", "date": "when", "amount": "paid"}
    with pytest.raises(BadInput, match=r"100 no customer.*accept_refused=True"):
        lesson.TransactionLog.from_frame(frame, **names)
    given = lesson.TransactionLog.from_frame(frame, **names, accept_refused=True)
    assert len(given.refused["no customer"]) == 100
    assert given.ids[-1] == "2357"  # and not 2357.0
    engine = lesson.AnalyticsEngine(given, given.last_day)
    by_text = engine.calculate_user_profile("2357")
    assert engine.calculate_user_profile(2357) == by_text
    assert engine.calculate_user_profile(np.int32(2357)) == by_text


def test_a_missing_column_and_no_frame_are_named() -> None:
    frame = pandas.DataFrame({"who": ["a"], "when": ["2020-01-01"]})
    with pytest.raises(BadInput, match="no column 'paid', of who, when"):
        lesson.TransactionLog.from_frame(
            frame, customer="who", date="when", amount="paid"
        )
    with pytest.raises(BadInput, match="int is not a frame"):
        lesson.TransactionLog.from_frame(7, customer="who", date="when")


def test_without_amounts_each_order_counts_as_one() -> None:
    rows = orders()
    frame = {"who": [c for c, _, _ in rows], "when": [d for _, d, _ in rows]}
    given = lesson.TransactionLog.from_frame(frame, customer="who", date="when")
    t = lesson.customer_table(given, given.last_day)
    assert t.spend == pytest.approx(t.x + 1)
    assert not given.has_amounts


@pytest.mark.parametrize("day", [datetime.date, datetime.datetime, np.datetime64])
def test_as_of_may_be_a_date(log: Any, day: Any) -> None:
    cut = day(1997, 9, 30) if day is not np.datetime64 else day("1997-09-30")
    ordinal = datetime.date(1997, 9, 30).toordinal()
    for make in (lesson.AnalyticsEngine, lambda *given: lesson.Forecast(*given, 90)):
        assert np.array_equal(make(log, cut).table.x, make(log, ordinal).table.x)
    assert lesson.Backtest(log, cut, 90).forecast.table.as_of == ordinal


@pytest.mark.parametrize("engine", ["pyarrow", "polars"])
def test_parquet_gives_the_figures_of_csv(
    log: Any, engine: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "orders.parquet"
    table = pyarrow.table(sample_columns(log)).rename_columns(
        ["customer", "date", "amount"]
    )
    pyarrow.parquet.write_table(table, path)
    if engine == "polars":
        monkeypatch.setitem(__import__("sys").modules, "pyarrow", None)
    given = lesson.read_log(path)
    assert np.array_equal(given.amount, log.amount)
    assert given.ids == log.ids
    monkeypatch.undo()
    if engine == "pyarrow":
        figures = parsed(path)
        assert figures["bgnbd"] == parsed(lesson.SAMPLE)["bgnbd"]
        path.write_bytes(path.read_bytes()[:2000])
        done = run(SCRIPT, "--transactions", str(path))
        assert (done.returncode, done.stdout) == (2, "")
        assert len(done.stderr.splitlines()) == 1


def test_parquet_without_a_reader_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.parquet"
    pyarrow.parquet.write_table(pyarrow.table({"customer": ["a"]}), path)
    for name in ("pyarrow", "polars"):
        monkeypatch.setitem(__import__("sys").modules, name, None)
    with pytest.raises(BadInput, match="pip install pyarrow"):
        lesson.read_log(path)


def test_importing_the_lesson_imports_no_frame_library(tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", orders())
    code = f"""import runpy, sys
sys.path.insert(0, {str(SCRIPT.parent)!r})
sys.argv = ["05", "--json", "--transactions", {str(path)!r}]
try: runpy.run_path({str(SCRIPT)!r}, run_name="__main__")
except SystemExit: pass
print({{"pandas", "polars", "pyarrow"}} & set(sys.modules), file=sys.stderr)"""
    script = tmp_path / "probe.py"
    script.write_text(code)
    assert run(script).stderr.strip().endswith("set()")
