"""What a reader is told of a file beforehand, and what it refused afterwards."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from course.analytics.amounts import DECIMALS
from course.analytics.dates import check_pattern
from course.errors import BadInput

MOST_REFUSED = 0.01  # of the rows, or of the sum; above, a run stops
FIRST = 5  # lines and values of each reason that are named
UNREADABLE_DATE = "unreadable date"
FUTURE_DATE = "date in the future"
REFUND = "negative amount"  # left over from netting: no order, but no mistake either
OTHER_CURRENCY = "other currency"
CANCELLED_ORDER = "cancelled, by the column of status"
PLACEHOLDER = "no customer but a placeholder"
ROUNDED_NAME = "customer's number rounded by a spreadsheet"
SUM_OF_ROWS = "sum of all rows above"
EXPECTED = {REFUND, OTHER_CURRENCY}


@dataclass(frozen=True)
class ReadingRules:
    """What decides where a file does not: all None where it has to."""

    columns: str | None = None  # CUSTOMER,DATE[,AMOUNT[,ITEM]]
    decimal: str | None = None  # . or ,
    date_format: str | None = None  # dmy, mdy, ymd or a pattern of strptime
    currency: str | None = None  # the only one that is read

    def __post_init__(self) -> None:
        """Bring the rules into one form; BadInput for one that there is not."""
        if self.decimal is not None:
            if self.decimal not in DECIMALS:
                raise BadInput(f"--decimal {self.decimal}: it takes . or ,")
            object.__setattr__(self, "decimal", DECIMALS[self.decimal])
        if self.date_format is not None:
            object.__setattr__(self, "date_format", check_pattern(self.date_format))


class Refusal(NamedTuple):
    """Rows that were refused for one reason."""

    lines: Sequence[int]
    values: Sequence[str]  # the first ones
    sum: float  # of what could be read of their amounts


def refusals(refused: Mapping[str, Sequence[int]]) -> str:
    """Say why rows were refused, how many, and at which lines first."""
    said = []
    for why, lines in refused.items():
        first = ", ".join(map(str, lines[:FIRST]))
        said.append(f"{len(lines):,} {why} (line {first})")
    return ", ".join(said) or "none"


def date_cure(reasons: Iterable[str]) -> str:
    """Return what to say of dates, if some of them could not be read."""
    if not {UNREADABLE_DATE, FUTURE_DATE} & set(reasons):
        return ""
    return "; --date-format says how dates are written"


def refused_figures(log: Any) -> dict[str, dict[str, Any]]:
    """Return by reason how many rows a log refused, their first lines and values."""
    found = {}
    details: Mapping[str, Refusal] = log.reading.get("refused", {})
    for why, lines in log.refused.items():
        one = details.get(why)
        found[why] = {
            "rows": len(lines),
            "lines": [int(line) for line in lines[:FIRST]],
            "values": list(one.values) if one else [],
            "sum": round(one.sum, 6) if one else 0.0,
        }
    return found


def require_few_refused(log: Any, option: str) -> None:
    """Raise BadInput if a log lost more rows, or of its sum, than a mistake does."""
    figures = refused_figures(log)
    lost = {why: row for why, row in figures.items() if why not in EXPECTED}
    rows = sum(row["rows"] for row in lost.values())
    money = sum(abs(row["sum"]) for row in lost.values())
    used = float(log.amount.sum())
    of_rows = rows / max(rows + len(log.day), 1)
    of_money = money / (money + used) if money else 0.0
    back = -figures[REFUND]["sum"] if REFUND in figures else 0.0
    if back > used:
        said = f"{back:,.2f} was paid back, and only {used:,.2f} was paid"
        cure = f"write sales without a minus; {option} goes on"
        raise BadInput(f"{said}: {cure} without what is negative")
    if max(of_rows, of_money) <= MOST_REFUSED:
        return
    reasons = refusals({why: log.refused[why] for why in lost})
    first = next((value for row in lost.values() for value in row["values"]), "")
    example = f", such as {first!r}" if first else ""
    said = f"{of_rows:.1%} of the rows are refused, {of_money:.1%} of what they sum to"
    cure = f"; {option} goes on without them{date_cure(lost)}"
    raise BadInput(f"{said}: {reasons}{example}{cure}")


def netted_rows(log: Any) -> int:
    """Return how many rows are left out as refunds and the orders that they cancel."""
    return 2 * int(log.reading.get("refunds", {}).get("netted", 0))


def reading_figures(log: Any) -> dict[str, Any]:
    """Return what --json says about how a file was understood."""
    if not log.read:
        return {}
    kinds = ("file", "separator", "encoding", "header", "dates", "amounts", "currency")
    understood = {kind: log.reading[kind] for kind in kinds if log.reading.get(kind)}
    return {
        "columns": dict(log.read),
        "read_as": understood,
        "refused": refused_figures(log),
        "refunds": dict(log.reading.get("refunds", {})),
    }


def reading_facts(log: Any) -> dict[str, str]:
    """Return what a report says about how a file was understood."""
    facts = {}
    figures = reading_figures(log)
    if figures:
        facts["columns"] = ", ".join(f"{k} {v}" for k, v in log.read.items())
        facts["read as"] = ", ".join(f"{k} {v}" for k, v in figures["read_as"].items())
    if not log.has_amounts:
        facts["amounts"] = "none: each order counts as 1, in all that is said of spend"
    facts["rows refused"] = refusals(log.refused)
    for why, row in refused_figures(log).items():
        values = ", ".join(map(repr, row["values"]))
        facts[why] = f"{values}; readable of them: {row['sum']:,.2f}"
    refunds = figures.get("refunds") or {"rows": 0}
    if refunds["rows"]:
        netted = f"{refunds['netted']:,} with their order, {refunds['netted_sum']:,.2f}"
        left = refunds["rows"] - refunds["netted"]
        facts["refunds"] = f"{netted}; {left:,} without, {refunds['left_sum']:,.2f}"
    return facts
