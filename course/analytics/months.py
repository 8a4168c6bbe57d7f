"""Months by their names, in the languages of western and northern Europe and Poland."""

from __future__ import annotations

import unicodedata
from functools import cache

# By month, in English, German, French, Spanish, Italian, Portuguese, Dutch, Swedish,
# Danish, Norwegian and Polish, without accents.
MONTH_NAMES = (
    "january januar janner janvier enero gennaio janeiro januari stycznia styczen",
    "february februar feber fevrier febrero febbraio fevereiro februari lutego luty",
    "march marz maerz mars marzo marco maart marts marca marzec",
    "april avril abril aprile kwietnia kwiecien",
    "may mai mayo maggio maio mei maj maja",
    "june juni juin junio giugno junho czerwca czerwiec",
    "july juli juillet julio luglio julho lipca lipiec",
    "august aout agosto augustus augusti sierpnia sierpien",
    "september septembre septiembre setiembre settembre setembro wrzesnia wrzesien",
    "october oktober octobre octubre ottobre outubro pazdziernika pazdziernik",
    "november novembre noviembre novembro listopada listopad",
    "december dezember decembre diciembre dicembre dezembro desember grudnia grudzien",
)
SHORTENED = {"mrz": 3, "mrt": 3}  # not by leaving off the end
SHORTEST = 3  # letters: fewer are the beginning of two months


def plain_letters(text: str) -> str:
    """Return a text in small letters without accents."""
    apart = unicodedata.normalize("NFD", text.casefold())
    return "".join(letter for letter in apart if not unicodedata.combining(letter))


@cache
def months_by_name() -> dict[str, int]:
    """Return the month of each name, and of each beginning that only it has."""
    found: dict[str, set[int]] = {}
    for number, names in enumerate(MONTH_NAMES, 1):
        for name in names.split():
            for end in range(SHORTEST, len(name) + 1):
                found.setdefault(name[:end], set()).add(number)
    # French jui is juin or juillet.
    clear = {name: months.pop() for name, months in found.items() if len(months) == 1}
    return clear | SHORTENED


def month_of(name: str) -> int:
    """Return the number of a month, 0 for what is no name of one."""
    return months_by_name().get(plain_letters(name), 0)
