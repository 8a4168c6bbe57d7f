"""Which column of a file is what: whole words decide, and two candidates ask."""

from __future__ import annotations

import csv
import re
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from course.columns import visible
from course.errors import BadInput

# A name counts if it consists of such words and nothing else: total_quantity is no
# total, and member_since no member.
NUMBERED = "(?:id|ids|no|nr|nbr|num|number|nummer|key|code|ref|hash|uuid|guid)*"
WHO = (
    "(?:customer|cust|user|client|member|buyer|shopper|household|account|subscriber"
    "|donor|patron|guest|(?:loyalty|lylty|customer)card|kunden?|klant|cliente|klient)"
)
WHEN = "(?:date|datetime|timestamp|ts|day|created|datum|fecha)"
OF_ORDER = (
    "(?:order|ordered|invoice|purchase|purchased|transaction|trans|trx|txn|tx|sale|sales"
    "|payment|paid|event|booking|bill|billing|receipt|visit|basket|bought|placed|posting"
    "|rechnungs|bestell|kauf|buchungs|creation|completed)"
)
ELSEWHERE = "(?:ship|shipping|shipped|delivery|delivered|due|processed)"
AT = "(?:at|on|of|the|in|time|utc|local|iso)"
MONEY_WORDS = (
    "(?:amount|amt|total|revenue|spend|spent|sales|value|turnover|betrag|umsatz|montant"
    "|importe|importo|bedrag|summe)"
)
PAID = (
    "(?:order|invoice|purchase|transaction|trans|trx|txn|sale|basket|line|net|gross|paid"
    "|payment|grand|sub|tot|dollar|dollars|usd|eur|euro|euros|gbp|chf|in|of|the|sum)"
)
THING = "(?:item|product|prod|sku|stock|article|artikel|upc|ean|asin)"

# By role: names that decide, and those that do only if there are no such names.
ROLE_NAMES = {
    "customer": (
        f"{WHO}(?:unique)?{NUMBERED}",
        f"(?:{WHO}|e)(?:e?mail)?(?:full)?(?:name|e?mail)(?:address)?",
    ),
    "date": (
        f"(?:{OF_ORDER}|{ELSEWHERE}|{AT})*{WHEN}+(?:{OF_ORDER}|{AT})*",
        f"(?:{OF_ORDER})*time",
    ),
    "amount": (
        f"(?:{PAID}|{MONEY_WORDS})*{MONEY_WORDS}(?:{PAID}|{MONEY_WORDS})*"
        f"|(?:{PAID}|total)+price|price(?:paid|total)",
    ),
    "item": (f"{THING}+{NUMBERED}", f"{THING}+(?:name|description)"),
}
HOW_MANY = (
    "quantity|qty|units|menge|pieces|anzahl|st\u00fcck|quantit[e\u00e9a\u00e0]"
    "|qt[e\u00e9a\u00e0]|cantidad|quantidade|aantal|ilo\u015b\u0107"
)
SHORT_WORDS = "pcs|stk|antal"  # which other words have in them, such as custkey
QUANTITY = (
    "(?:order|ordered|item|product|prod|sold|line|sales|total|of)*"
    f"(?:{HOW_MANY}|{SHORT_WORDS})(?:ordered|sold|purchased)?"
)
# What may count pieces without saying so: a price beside it may be that of one piece.
COUNTS = (
    rf".*(?:{HOW_MANY}).*|{SHORT_WORDS}|.*(?<!dis)(?<!ac)count|.*items"
    "|(?:number|num|no|nr)of.*|nb.*"
)
PRICE_WORD = "(?:price|preis|prix|precio|prezzo|prijs|pre\u00e7o)"
UNIT_PRICE = (
    "(?:unit|item|each|piece|product|einzel|st\u00fcck)*"
    f"{PRICE_WORD}(?:per(?:unit|item|piece)|each|unit(?:aire|ario|\u00e1rio))?"
)
WHOLE_PRICE = ".*(?:total|paid|line|sum).*|.*(?<!price|preis)"  # of all the pieces
COIN = "(?:currency|ccy|curr|crcy|waehrung|w\u00e4hrung|devise|moneda|valuta|waluta)"
CURRENCY_NAMES = (  # the first that has a column
    f"{COIN}(?:code|iso|symbol)*",
    f"(?:iso|order|payment|invoice|transaction|sale|sales|amount){COIN}(?:code|iso)*",
)
STATUS_NAMES = (
    "(?:order|payment|financial|transaction|invoice|sale|bestell|auftrags)*"
    "(?:status|statut)"
)
STATUS = "status"  # and "status 2", where there are several
LONGEST_HEADER = 300  # characters; a file of one line is no header
SYNTAX = "CUSTOMER,DATE[,AMOUNT[,ITEM]]"


class Positions(NamedTuple):
    """Where each role stands; an amount may be two columns, or none."""

    at: Mapping[str, int]

    @property
    def how(self) -> str:
        """How amounts come about."""
        if "quantity" in self.at:
            return "quantity x unit price"
        return "amount" if "amount" in self.at else "none"


def joined(name: str) -> str:
    """Return a name as its letters, without what stands between words."""
    return re.sub(r"[\W\d_]+", "", name).casefold()


def matching(header: Sequence[str], pattern: str) -> list[int]:
    """Return the columns whose whole name matches."""
    return [i for i, name in enumerate(header) if re.fullmatch(pattern, joined(name))]


def candidates(header: Sequence[str], role: str) -> list[int]:
    """Return the columns that could have a role, by the best names there are."""
    for pattern in ROLE_NAMES[role]:
        found = matching(header, pattern)
        if found:
            return found
    return []


def listed_names(header: Sequence[str]) -> str:
    """Return the names of a header, as many as one line holds."""
    names = ", ".join(header)
    return names if len(names) <= LONGEST_HEADER else f"{names[:LONGEST_HEADER]} ..."


def ask(header: Sequence[str], free: Sequence[int], role: str) -> BadInput:
    """Return the question which column is meant."""
    which = " or ".join(header[i] for i in free) or "no column"
    said = f"{which} could be the {role}, of {listed_names(header)!r}"
    without = ""
    if role == "amount" and not free:
        without = "; CUSTOMER,DATE alone for a log without amounts"
    elif role == "amount" and len(free) == 1:
        without = ", where AMOUNT may be QUANTITY*PRICE"
    return BadInput(visible(f"{said}; say --columns {SYNTAX}{without}"))


def position(header: Sequence[str], name: str, chosen: str) -> int:
    """Return where a column stands that --columns names."""
    if header.count(name) == 1:
        return header.index(name)
    if name in header:
        said = f"two columns have the name {name}: rename one in the file"
        raise BadInput(f"--columns {chosen}: {said}")
    said = f"it takes {SYNTAX} out of {listed_names(header)}"
    said = f"{said}; AMOUNT may be QUANTITY*PRICE"
    raise BadInput(f"--columns {chosen}: {said}")


def names_in(chosen: str) -> list[str]:
    """Return the names in --columns; one with a comma stands in quotes, as in CSV."""
    return next(csv.reader([chosen]), [])


def chosen_positions(header: Sequence[str], chosen: str) -> dict[str, int]:
    """Return where the columns stand that --columns names."""
    names = [" ".join(name.split()) for name in names_in(chosen)]
    if len(names) not in (2, 3, 4):
        names = [""]  # in no header
    at = {}
    for role, name in zip(ROLE_NAMES, names, strict=False):
        quantity, times, price = name.partition("*")
        if role == "amount" and times and name not in header:
            at["quantity"] = position(header, quantity, chosen)
            at["unit price"] = position(header, price, chosen)
        else:
            at[role] = position(header, name, chosen)
    return at


def column_positions(header: Sequence[str], chosen: str | None) -> dict[str, int]:
    """Return where each role stands: as chosen, else by whole words in the names."""
    found: dict[str, int] = {}
    if chosen:
        found = chosen_positions(header, chosen)
    else:
        for role in ROLE_NAMES:
            free = [i for i in candidates(header, role) if i not in found.values()]
            if len(free) == 1:
                if role == "amount" and beside_count(header, free[0]):
                    raise ask(header, free, role)
                found[role] = free[0]
            elif free or role in ("customer", "date"):
                raise ask(header, free, role)
            elif role == "amount":
                found |= amount_positions(header)
    for pattern in CURRENCY_NAMES:
        free = [i for i in matching(header, pattern) if i not in found.values()]
        if free and "currency" not in found:
            found["currency"] = free[0]
    free = [i for i in matching(header, STATUS_NAMES) if i not in found.values()]
    for number, place in enumerate(free, 1):  # an order and its payment have one each
        found[STATUS if number == 1 else f"{STATUS} {number}"] = place
    return found


def beside_count(header: Sequence[str], place: int) -> bool:
    """Tell whether a price may be that of one piece, as a column may count them."""
    if re.fullmatch(WHOLE_PRICE, joined(header[place])):
        return False
    return any(i != place for i in matching(header, COUNTS))


def amount_positions(header: Sequence[str]) -> dict[str, int]:
    """Return where quantity and price stand, if no column is an amount by itself."""
    quantity = matching(header, QUANTITY)
    price = matching(header, UNIT_PRICE)
    if len(quantity) == 1 and len(price) == 1:
        return {"quantity": quantity[0], "unit price": price[0]}
    alone = matching(header, PRICE_WORD)
    if len(alone) == 1 and not beside_count(header, alone[0]):
        return {"amount": alone[0]}
    if len(header) > 2 or price or quantity:
        several = len(price) > 1 or (price and matching(header, COUNTS))
        raise ask(header, [*price, *quantity] if several else [], "amount")
    return {}  # a customer and a date, and nothing else
