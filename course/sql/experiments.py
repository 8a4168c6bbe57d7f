"""What lesson 01 does to engines, and what is left of them afterwards."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from concurrent.futures import wait
from functools import partial
from typing import Any

import sqlalchemy as sa
from sqlalchemy import exc, orm

from course.lab import in_background, raises
from course.network import FaultyNetwork
from course.sql.backends import BACKEND_PID, end_backend

FROZEN_LIMIT = 10.0  # seconds until a use that has not ended counts as waiting

Use = Callable[[sa.Engine], str]  # runs a query on an engine, and says how it ends
Uses = dict[str, str]  # how they end, in order


def left_after_rollback(engine: sa.Engine) -> dict[str, int]:
    """Roll back a released SAVEPOINT and a new table; count what is left of each."""
    with engine.connect() as connection:
        run = connection.exec_driver_sql
        run("DROP TABLE IF EXISTS drafts")  # of an earlier run of this cell
        run("DROP TABLE IF EXISTS later")
        run("CREATE TABLE drafts (n INTEGER)")
        connection.commit()
        with connection.begin_nested():
            run("INSERT INTO drafts VALUES (1)")
        # The SAVEPOINT is released, and the transaction around it is still open.
        run("CREATE TABLE later (n INTEGER)")
        connection.rollback()
        rows = run("SELECT count(*) FROM drafts").scalar_one()
    tables = int(sa.inspect(engine).has_table("later"))
    return {"SAVEPOINT": rows, "DDL": tables}


def visited(
    session: orm.Session,
    first: Any,
    next_page: Callable[..., Any],
    newcomer: object,
) -> list[int]:
    """Return the keys on all pages; a row is added after the first, and taken back.

    `next_page` gets the number of a page, from 1, and the last row of the one before.
    """
    page = session.execute(first).all()
    session.add(newcomer)
    seen: list[Any] = []
    number = 1
    while page:
        seen += page
        page = session.execute(next_page(number, seen[-1])).all()
        number += 1
    session.rollback()
    return [key for _, key in seen]


def changed_rows(
    session: orm.Session, query: Any, store: Callable[[orm.Session], object]
) -> int:
    """Delete and store a table's rows again; count those that have changed.

    The query asks for all columns of the table. Nothing is committed.
    """
    before = session.execute(query).all()
    (table,) = query.get_final_froms()
    session.execute(sa.delete(table))
    store(session)
    after = session.execute(query).all()
    session.rollback()
    same = [old == new for old, new in zip(before, after, strict=True)]
    return same.count(False)


def is_refused(engine: sa.Engine, table: Any, row: Mapping[str, object]) -> bool:
    """Tell whether a table refuses a row; where it does not, the row is rolled back."""
    statement = sa.insert(table).values(row)
    with engine.connect() as connection:  # without a commit
        return raises(exc.StatementError, lambda: connection.execute(statement))


def uses_after_a_kill(engine: sa.Engine, admin: sa.Engine, use: Use) -> Uses:
    """End the server process of an idle connection; return how the next uses end."""
    with engine.connect() as connection:  # back in the pool afterwards
        pid = connection.scalars(BACKEND_PID).one()
    end_backend(admin, pid)
    return {"next use": use(engine), "then": use(engine)}


def uses_when_frozen(
    network: FaultyNetwork, engines: Mapping[str, sa.Engine], use: Use
) -> dict[str, Uses]:
    """Freeze the network between uses; the last engine has to notice that in time."""
    for engine in engines.values():
        use(engine)  # which leaves a connection in its pool
    network.freeze()
    using = {}
    for name, engine in engines.items():
        using[name] = in_background(partial(use, engine))
    wait([*using.values()][-1:], FROZEN_LIMIT)
    uses = {}
    for name, future in using.items():
        uses[name] = {"frozen": future.result() if future.done() else "waits"}
    network.thaw()
    for name, engine in engines.items():
        using[name].result(FROZEN_LIMIT)
        uses[name]["thawed"] = use(engine)
    return uses
