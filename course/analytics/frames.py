"""Columns out of a frame: pandas, polars, pyarrow, or what speaks Arrow."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Any, NamedTuple
from uuid import UUID

import numpy as np

from course.analytics.amounts import LARGEST_AMOUNT
from course.analytics.arrays import EPOCH_DAY, LAST_DAY, Floats, Ints
from course.analytics.columns import STATUS, column_positions
from course.analytics.dates import without_clock
from course.analytics.rawrows import RawRows, TextColumn
from course.analytics.read import PurchaseColumns, understood
from course.analytics.rules import ReadingRules
from course.columns import visible
from course.errors import BadInput

MISSING = {"NoneType", "NAType", "NaTType"}
TEXTS = {"customer", "item", "currency"}
LARGEST_EXACT = 2.0**53  # of whole numbers that a float keeps apart
NAMING_TYPES = (str, int, float, Decimal, UUID, np.number)  # types that name a customer
MONEY_ROLES = {"amount", "quantity", "unit price"}


def pyarrow_or_none() -> Any:
    """Return pyarrow, None if it is not installed."""
    try:
        import pyarrow  # noqa: PLC0415
        import pyarrow.compute  # noqa: PLC0415
        import pyarrow.parquet  # noqa: PLC0415
    except ImportError:
        return None
    return pyarrow


def polars_or_none() -> Any:
    """Return polars, None if it is not installed."""
    try:
        import polars  # noqa: PLC0415
    except ImportError:
        return None
    return polars


def labels_of(frame: Any) -> list[Any]:
    """Return what a frame calls its columns; pandas may use numbers for that."""
    for attribute in ("column_names", "columns"):
        names = getattr(frame, attribute, None)
        if isinstance(names, Iterable):
            return list(names)
    return list(frame) if isinstance(frame, Mapping) else []


def with_columns(frame: Any) -> Any:
    """Return a frame that gives a column by its name; BadInput if it is none."""
    if type(frame).__name__ == "LazyFrame":
        return frame.collect()
    if type(frame).__name__ == "RecordBatch":
        return pyarrow_or_none().Table.from_batches([frame])
    known = ("DataFrame", "Table")
    if isinstance(frame, Mapping) or type(frame).__name__ in known:
        return frame
    if hasattr(frame, "__arrow_c_stream__"):
        pyarrow = pyarrow_or_none()
        polars = polars_or_none()
        try:
            if pyarrow is not None:
                return pyarrow.table(frame)
            if polars is not None:
                return polars.DataFrame(frame)
        except Exception:  # each library has its own; a single column is such a stream
            said = f"a {type(frame).__name__} is not a frame"
            raise BadInput(f"{said}: it has no named columns") from None
        raise BadInput("to read an Arrow stream, install pyarrow or polars")
    raise BadInput(f"a {type(frame).__name__} is not a frame: it has no named columns")


def column_of(frame: Any, name: str) -> Any:
    """Return a column of a frame; BadInput names those that there are."""
    labels = labels_of(frame)
    names = [str(label) for label in labels]
    if names.count(str(name)) == 1:
        return frame[labels[names.index(str(name))]]
    there = "two columns" if str(name) in names else "no column"
    raise BadInput(visible(f"the frame has {there} {name!r}, of {', '.join(names)}"))


class Cells(NamedTuple):
    """A column in one of three forms."""

    texts: TextColumn | None = None  # empty where a cell is missing
    numbers: Floats | None = None  # NaN where one is missing
    days: Ints | None = None  # 0 where one is missing


def is_missing(cell: Any) -> bool:
    """Tell whether a cell is None, NaN, NA or NaT."""
    if type(cell).__name__ in MISSING:
        return True
    return isinstance(cell, float) and math.isnan(cell)


def raw_array(column: Any) -> Any:
    """Return a column as a numpy array; times of day are local, as they are written."""
    kind = str(getattr(column, "dtype", getattr(column, "type", "")))
    module = type(column).__module__.partition(".")[0]
    if module == "polars" and kind.startswith("Datetime"):
        column = column.dt.replace_time_zone(None)
    if module == "pyarrow" and kind.startswith("timestamp") and "tz=" in kind:
        column = pyarrow_or_none().compute.local_timestamp(column)
    if kind == "period[D]":
        column = column.dt.to_timestamp()
    if np.ma.is_masked(column):
        return np.array(column.tolist(), object)  # what lies under a mask is no cell
    if cell_by_cell(column, module, kind):
        cells = column.to_pylist() if module == "pyarrow" else column.to_list()
        return np.array(cells, object)
    if hasattr(column, "to_numpy"):
        return column.to_numpy()
    return np.asarray(column)


def cell_by_cell(column: Any, module: str, kind: str) -> bool:
    """Tell whether numpy would change cells, and objects are needed."""
    # As floats, which is how numpy would mark a missing one, long numbers merge.
    if module == "pyarrow":
        gaps = "int" in kind and column.null_count
        return bool(gaps) or kind.startswith(("dictionary", "decimal", "date"))
    if module == "polars":
        return "128" in kind or ("Int" in kind and bool(column.null_count()))
    if module == "pandas":
        gaps = "int" in kind.lower() and column.hasnans
        # With a time zone, which has a comma: timestamps, one by one.
        return bool(gaps) or "," in kind or kind == "category"
    return False


def cells_of(column: Any, name: str, named: bool = False) -> Cells:
    """Return the cells of a column; BadInput for what is no column of a log.

    Whole numbers that are names, as of customers, are kept as texts.
    """
    found = raw_array(column)
    if found.ndim != 1:
        raise BadInput(visible(f"{name!r} is not one column"))
    kind = found.dtype.kind
    if kind == "M":
        missing = np.isnat(found)
        days = found.astype("datetime64[D]").astype(np.int64) + EPOCH_DAY
        # Beyond the calendar of dates: a frame may hold year -50, or 12000.
        days[missing | (days < 1) | (days > LAST_DAY)] = 0
        return Cells(days=days)
    if kind in "iu":
        return Cells(numbers=found)
    if kind == "f":
        return Cells(numbers=found.astype(np.float64))
    if kind in "OUT":
        return cells_of_objects(found.tolist(), name, named)
    raise BadInput(visible(f"the column {name!r} holds {found.dtype}"))


def cells_of_objects(cells: list[Any], name: str, named: bool) -> Cells:
    """Return cells that are Python objects, by what the first of them is."""
    first = next((cell for cell in cells if not is_missing(cell)), "")
    if isinstance(first, str) or (named and isinstance(first, NAMING_TYPES)):
        texts = TextColumn()
        for cell in cells:
            texts.add("" if is_missing(cell) else name_of(cell, name))
        return Cells(texts=texts)
    try:
        if isinstance(first, date):
            days = [0 if is_missing(cell) else cell.toordinal() for cell in cells]
            return Cells(days=np.array(days, np.int64))
        numbers = [math.nan if is_missing(cell) else float(cell) for cell in cells]
    except (AttributeError, TypeError, ValueError):
        said = f"the column {name!r} holds {type(first).__name__} and other things"
        raise BadInput(visible(said)) from None
    return Cells(numbers=np.array(numbers))


def name_of(cell: Any, column: str) -> str:
    """Return the text by which a customer or an item is known."""
    if isinstance(cell, float | np.floating):
        check_told_apart(np.array([cell]), column)
        return number_text(float(cell))
    return str(cell).strip()


def as_texts(cells: Cells, name: str) -> TextColumn:
    """Return numbers as their texts, by which customers, items and days are known."""
    if cells.texts is not None:
        return cells.texts
    if cells.numbers is None:
        raise BadInput(visible(f"the column {name!r} holds dates"))
    check_told_apart(cells.numbers, name)
    different, first, place = np.unique(
        cells.numbers, return_index=True, return_inverse=True
    )
    # In the order in which they come, as in a file.
    order = np.argsort(first, kind="stable")
    rank = np.empty(len(order), np.int64)
    rank[order] = np.arange(len(order))
    texts = [number_text(number) for number in different[order].tolist()]
    column = TextColumn(texts, rank[place])
    if len(column.code_of) < len(texts):
        raise BadInput(visible(f"the column {name!r} holds numbers that look alike"))
    return column


def check_told_apart(numbers: Floats, name: str) -> None:
    """Raise BadInput for floats so large that neighbouring whole numbers merge."""
    if numbers.dtype.kind == "f" and (np.abs(numbers) >= LARGEST_EXACT).any():
        said = f"the column {name!r} holds floats too large to be told apart"
        raise BadInput(visible(f"{said}: make them whole numbers or texts"))


def usable_amounts(numbers: Floats) -> Floats:
    """Return amounts as in a file: NaN for one that is infinite, or too large."""
    found = numbers.astype(np.float64)
    found[~(np.abs(found) < LARGEST_AMOUNT)] = math.nan
    return found


def number_text(number: float) -> str:
    """Return 12347 for 12347.0, as a column with a missing cell has it; '' for NaN."""
    if math.isnan(number):
        return ""
    whole_number = float(number).is_integer()
    return str(int(number)) if whole_number else str(number)


def raw_rows(frame: Any, names: Mapping[str, str], rules: ReadingRules) -> RawRows:
    """Return the rows of a frame by role."""
    raw = RawRows(list(names))
    lengths = set()
    for role, name in names.items():
        column = column_of(frame, name)
        if role.startswith(STATUS) and raw_array(column).dtype.kind not in "OUT":
            del raw.columns[role]  # a number or a truth, which says nothing
            continue
        named = role in TEXTS or role.startswith(STATUS)
        cells = cells_of(column, name, named=named)
        lengths.add(max(map(length_of, cells)))
        if role == "date" and cells.days is not None:
            raw.days = cells.days
        elif role in MONEY_ROLES and cells.numbers is not None:
            raw.numbers[role] = usable_amounts(cells.numbers)
        elif role == "date":
            texts = as_texts(cells, name)
            cut = "%" not in (rules.date_format or "")
            raw.columns[role] = days_only(texts) if cut else texts
        elif role in MONEY_ROLES and cells.texts is None:
            raise BadInput(visible(f"the column {name!r} holds dates, not amounts"))
        else:
            raw.columns[role] = as_texts(cells, name)
    if len(lengths) > 1:
        raise BadInput("the columns of the frame are not of one length")
    raw.lines = np.arange(lengths.pop())
    if not len(raw.lines):
        raise BadInput("the frame has no rows")
    return raw


def length_of(cells: Any) -> int:
    """Return how many cells there are."""
    if cells is None:
        return 0
    return len(cells.codes) if isinstance(cells, TextColumn) else len(cells)


def days_only(column: TextColumn) -> TextColumn:
    """Return a column of timestamps without their times of day."""
    cut = [without_clock(text) for text in column.texts]
    place_of = {text: place for place, text in enumerate(dict.fromkeys(cut))}
    places = np.array([place_of[text] for text in cut], np.int64)
    return TextColumn(list(place_of), places[column.rows])


def frame_columns(
    frame: Any,
    names: Mapping[str, str],
    rules: ReadingRules,
    kind: str = "frame",
) -> PurchaseColumns:
    """Return the columns of a log out of a frame; `names` has each role's column."""
    raw = raw_rows(with_columns(frame), names, rules)
    return understood(raw, rules, names, {"file": kind})


def parquet_columns(path: Path, rules: ReadingRules) -> PurchaseColumns:
    """Read a Parquet file of purchases, by pyarrow or polars."""
    name = visible(str(path))
    pyarrow = pyarrow_or_none()
    polars: Any = None if pyarrow is not None else polars_or_none()
    if pyarrow is None and polars is None:
        raise BadInput(f"{name}: to read Parquet, pip install pyarrow (or polars)")
    # Whatever is wrong with the file, the library names it in its own way.
    try:
        if pyarrow is not None:
            header: Sequence[str] = pyarrow.parquet.read_schema(path).names
        else:
            header = list(polars.read_parquet_schema(path))
    except Exception as problem:
        raise BadInput(
            f"{name}: no whole Parquet file: {first_line(problem)}"
        ) from None
    at = column_positions(header, rules.columns)
    names = {role: header[place] for role, place in at.items()}
    wanted = list(dict.fromkeys(names.values()))
    try:
        if pyarrow is not None:
            table = pyarrow.parquet.read_table(path, columns=wanted)
        else:
            table = polars.read_parquet(path, columns=wanted)
    except Exception as problem:
        raise BadInput(
            f"{name}: no whole Parquet file: {first_line(problem)}"
        ) from None
    try:
        return frame_columns(table, names, rules, kind="Parquet")
    except BadInput as problem:
        raise BadInput(f"{name}: {problem}") from None


def first_line(problem: Exception) -> str:
    """Return the first line of what a library says."""
    return (str(problem).splitlines() or [type(problem).__name__])[0]
