"""Rows that are no orders: cancelled ones, and amounts that a comma has cut in two."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from course.analytics.months import plain_letters
from course.errors import BadInput

# What shops write of an order that did not come about, or was paid back as a whole.
CANCELLED = frozenset(
    [
        *("cancelled", "canceled", "cancel", "refunded", "void", "voided", "failed"),
        *("declined", "denied", "rejected", "reversed", "expired", "abandoned"),
        *("chargeback", "charged back", "uncollectible", "draft", "test", "trash"),
        *("storniert", "storno", "annule", "annulee", "rembourse", "remboursee"),
        *("cancelado", "cancelada", "annullato", "anulowane", "geannuleerd"),
    ]
)
NEVER_PAID = {"requires payment method", "incomplete expired", "unpaid cancelled"}
BEFORE_STATE = {"wc", "order", "payment", "transaction", "auto", "automatically"}
GONE = CANCELLED - {"test", "draft", "cancel", "expired", "failed", "rejected"}
OF_A_PART = re.compile("part|teil|request|pending|not ")  # the rest of it is an order
CUT_ROWS = range(20, 1000)  # rows that show whether amounts are cut
MINUTES = 59  # what has two digits and is no more may be minutes, a month or a day


def is_cancelled(status: str) -> bool:
    """Tell whether a status says that there is no order: such words, or first of all.

    payment_failed, Cancelled by customer; but partially refunded is still an order.
    """
    words = re.findall(r"[^\W_]+", plain_letters(status))
    while words and words[0] in BEFORE_STATE:
        words = words[1:]
    said = " ".join(words)
    if said in CANCELLED or said in NEVER_PAID:
        return True
    return words[:1] != [] and words[0] in GONE and OF_A_PART.search(said) is None


class CutAmounts:
    """Watches whether a comma separates columns and is the decimal mark, too.

    Somebody wrote 12,50 without quotes, and a column was free behind: 12 would be the
    amount, and 50 a remark.
    """

    def __init__(
        self, names: Sequence[str], separator: str, at: Mapping[str, int]
    ) -> None:
        """Watch the column behind that of the amounts, if it has no role itself."""
        self.names = names
        self.place = at.get("amount", len(names))
        behind = self.place + 1
        free = behind < len(names) and behind not in at.values()
        self.watching = free and separator == ","
        self.units: list[str] = []
        self.behind: list[str] = []

    def see(self, row: Sequence[str]) -> None:
        """Take a row, as long as there are few."""
        if row[self.place + 1].strip():
            self.units.append(row[self.place].strip())
            self.behind.append(row[self.place + 1])
        self.watching = len(self.units) < CUT_ROWS.stop

    def check(self) -> None:
        """Raise BadInput if what stands behind whole amounts is always in cents."""
        whole = all(re.fullmatch(r"-?\d+", units) for units in self.units)
        in_cents = all(re.fullmatch(r"\d\d", cents) for cents in self.behind)
        if len(self.units) < CUT_ROWS.start or not (whole and in_cents):
            return
        if min(self.behind) < "10" and max(self.behind) > str(MINUTES):
            amount, other = self.names[self.place : self.place + 2]
            said = f"{amount} holds {self.units[0]}, and {other} {self.behind[0]}"
            cure = "write them in quotes, or say --columns"
            raise BadInput(f"amounts seem to be cut at their commas: {said}; {cure}")
