"""Lesson 01 at 50,000 rows: loading, streaming, paging and the price of a ping.

Peers: the drivers themselves (sqlite3, psycopg), under SQLAlchemy's Core and ORM; on
PostgreSQL, if one answers at $DATABASE_URL or on the standard loopback port, also what
needs no SQLAlchemy: long statements, arrays, COPY by three drivers (peers_01.py).
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from measure import ended_well, markdown, median, seconds, versions
from peers_01 import Peers

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))
from lessons import load

from course.sql.database import chosen_server
from course.sql.measure import peak_bytes
from course.sql.seed import readings

lesson = load("01")
ROWS = 50_000
CHUNK = lesson.CHUNK
PAGE = 50
Row = list[object]


def note(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


PACKAGES = versions("sqlalchemy")
LIVE_PACKAGES = versions(
    "sqlalchemy", "psycopg", "asyncpg", "adbc-driver-postgresql", "pandas", "pyarrow"
)
ROW_DICTS = readings(ROWS)
ROW_TUPLES = [tuple(row.values()) for row in ROW_DICTS]


def load_values(session: Any, rows: list[dict[str, Any]]) -> None:
    """Send long statements, compiled again each time."""
    for start in range(0, len(rows), CHUNK):
        chunk = rows[start : start + CHUNK]
        session.execute(sa.insert(lesson.Reading).values(chunk))


def load_orm(session: Any, rows: list[dict[str, Any]]) -> None:
    """Send one statement for all rows, by the ORM."""
    session.execute(sa.insert(lesson.Reading), rows)


def ladder_of(env: Any) -> dict[str, Callable[..., None]]:
    """Return the lesson's ways in and two more, slowest first."""
    ways = lesson.LADDER
    names = ["add_all", "values(1000 rows)", "ORM, ids back", "ORM", "Core", "COPY"]
    more = {"values(1000 rows)": load_values, "ORM": load_orm}
    chosen = {name: more.get(name) or ways[name] for name in names}
    if not env.live:
        del chosen["COPY"]
    return chosen


def load_driver(env: Any) -> None:
    """Load with the driver alone, in one transaction."""
    mark = "%s" if env.live else "?"
    statement = f"INSERT INTO readings (sensor, value) VALUES ({mark}, {mark})"
    with env.engine.begin() as connection:
        connection.connection.cursor().executemany(statement, ROW_TUPLES)


def load_way(env: Any, way: Callable[..., None]) -> None:
    with env.sessions() as session:
        way(session, ROW_DICTS)
        session.commit()


def statements_of(env: Any, run: Callable[[], None]) -> int:
    """Return the statements that a way in sends, by the lesson's counter."""
    with lesson.max_queries(math.inf, env.engine) as sent:
        run()
    return len(sent)


def load_each(env: Any) -> None:
    """Load a 50th, committed row by row."""
    with env.sessions() as session:
        lesson.LADDER[lesson.EACH](session, ROW_DICTS[: ROWS // 50])


def emptied(env: Any, load_rows: Callable[[], None]) -> None:
    """Empty the table, which takes milliseconds on both, and load it."""
    with env.engine.begin() as connection:
        empty = "TRUNCATE readings" if env.live else "DELETE FROM readings"
        connection.execute(sa.text(empty))
    load_rows()


def ladder(env: Any, peers: Peers | None) -> list[Row]:
    """Return way, statements, rows per second and the ratio to Core, slowest first."""
    contestants: dict[str, Callable[[], None]] = {
        name: partial(load_way, env, way) for name, way in ladder_of(env).items()
    }
    statements = {name: statements_of(env, run) for name, run in contestants.items()}
    contestants["the driver's executemany"] = partial(load_driver, env)
    if peers:
        for name, way in peers.ways_in().items():
            contestants[name] = partial(way, ROW_TUPLES)
    timed = seconds(
        {name: partial(emptied, env, run) for name, run in contestants.items()},
        repeats=3,
    )
    rates = {name: ROWS / median(values) for name, values in timed.items()}
    each = seconds({lesson.EACH: partial(load_each, env)}, repeats=1)[lesson.EACH]
    rates = {lesson.EACH: ROWS / 50 / median(each)} | rates
    statements |= {"the driver's executemany": 1, "COPY": 1}  # past the counter
    statements[lesson.EACH] = 50 * statements_of(env, partial(load_each, env))
    statements["psycopg, VALUES of 1,000 rows"] = ROWS // CHUNK
    rows: list[Row] = []
    for name in sorted(rates, key=lambda name: rates[name]):
        ratio = rates[name] / rates["Core"]
        calls = statements.get(name, 1)
        rows.append([name, calls, f"{rates[name]:,.0f}", f"{ratio:.3g}"])
    return rows


def frames_out(env: Any, peers: Peers) -> list[Row]:
    """Return way, rows per second into a frame and the ratio to pandas' own."""
    ways = peers.ways_out(env.engine)
    frames = [way() for way in ways.values()]
    for frame in frames:
        assert len(frame) == ROWS
        assert frame["value"].sum() == frames[0]["value"].sum()
    timed = seconds(ways, repeats=5)
    rates = {name: ROWS / median(values) for name, values in timed.items()}
    first = next(iter(rates.values()))
    return [
        [name, f"{rate:,.0f}", f"{rate / first:.3g}"] for name, rate in rates.items()
    ]


def streaming(env: Any) -> float:
    """Return how many times the memory of a stream .all() takes."""

    with env.sessions() as session:
        whole = peak_bytes(partial(lesson.total_of_all, session))
        part = peak_bytes(partial(lesson.total_streamed, session))
    return whole / part


def paging(env: Any) -> float:
    """Return how many times longer the last page takes by OFFSET than by key."""
    reading = lesson.Reading
    ordered = sa.select(reading.id, reading.value).order_by(reading.id).limit(PAGE)
    with env.sessions() as session:
        session.execute(sa.text("ANALYZE readings"))
        first, last = session.execute(
            sa.select(sa.func.min(reading.id), sa.func.max(reading.id))
        ).one()
        assert last - first + 1 == ROWS  # nothing else loads into this table
        by_key = ordered.where(reading.id > last - PAGE)
        by_offset = ordered.offset(ROWS - PAGE)
        assert session.execute(by_key).all() == session.execute(by_offset).all()

        def pages(statement: Any) -> None:
            for _ in range(20):
                session.execute(statement).all()

        timed = seconds(
            {"offset": partial(pages, by_offset), "key": partial(pages, by_key)}, 5
        )
    ratio: float = median(timed["offset"]) / median(timed["key"])
    return ratio


def pinging(env: Any) -> float:
    """Return the time of a checkout with a ping and a query, over one without."""

    def uses(engine: Any) -> None:
        for _ in range(200):
            lesson.use(engine)

    engines = {ping: env.connect(pool_pre_ping=ping) for ping in (False, True)}
    timed = seconds({str(ping): partial(uses, e) for ping, e in engines.items()}, 5)
    ratio: float = median(timed["True"]) / median(timed["False"])
    return ratio


def measured(title: str, env: Any, peers: Peers | None) -> list[Row]:
    """Print the ladder of a database and return the rows of its bars."""
    note(f"{title}: the ladder")
    steps = ladder(env, peers)
    print(
        f"\n{title}, {ROWS:,} rows of two columns; a commit each measured on a 50th. "
        f"{LIVE_PACKAGES if peers else PACKAGES}\n"
    )
    print(markdown(["way in", "statements", "rows/s", "x Core"], steps))
    emptied(env, partial(load_way, env, lesson.LADDER["Core"]))
    if peers:
        print(f"\n{title}, the same rows out again, as a frame of pandas:\n")
        print(markdown(["way out", "rows/s", "x read_sql"], frames_out(env, peers)))
    speed = {str(name): float(str(ratio)) for name, *_, ratio in steps}
    note(f"{title}: streaming, paging, pinging")
    bars: list[tuple[str, float, float | None]] = [
        (
            "Core / the driver's executemany",
            1 / speed["the driver's executemany"],
            None,
        ),
        ("memory of .all() / yield_per", streaming(env), 10),
        (f"last page of {ROWS // PAGE:,}: OFFSET / key", paging(env), 2),
        ("a query with / without pool_pre_ping", pinging(env), None),
    ]
    if env.live:
        bars.insert(1, ("COPY / Core's executemany", speed["COPY"], 4))
    return [
        [
            f"{title}: {name}",
            "" if bar is None else f">= {bar}",
            f"{value:.3g}",
            "" if bar is None else ("yes" if value >= bar else "NO"),
        ]
        for name, value, bar in bars
    ]


def schema_of(env: Any) -> str:
    """Return the schema that the lesson works in."""
    with env.engine.connect() as connection:
        name: str = connection.scalar(sa.text("SELECT current_schema()"))
    return name


def main() -> int:
    results: list[Row] = []
    # With require_live the usual port is asked, too, where no variable names one.
    usual = {"require_live": True, "url": None}
    chosen_server(argparse.Namespace(offline=False, **usual))  # refuses what is no URL
    for title, offline in (("SQLite", True), ("PostgreSQL", False)):
        with lesson.open_env(argparse.Namespace(offline=offline, **usual)) as env:
            if env.live:
                with Peers(env.engine.url, schema_of(env)) as peers:
                    results += measured(title, env, peers)
            elif offline:
                results += measured(title, env, None)
            else:
                print(f"\nNot measured on PostgreSQL: {env.backend}.")
    print()
    print(markdown(["", "bar", "measured", "met"], results))
    return 0


if __name__ == "__main__":
    sys.exit(ended_well(main))
