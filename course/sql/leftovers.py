"""Schemas of our own: dropped at the end of a run, found where a run was killed."""

from __future__ import annotations

import time
from functools import partial

import sqlalchemy as sa
from sqlalchemy import exc

from course.naming import is_of_a_run
from course.sweeping import Leftover, refuse_clocks_apart

DROP_TRIES = 5  # a thread that is ended may have begun one more transaction
LOCK_WAIT = sa.text("SET LOCAL lock_timeout = '1s'")
LOCK_NOT_AVAILABLE = "55P03"
SCHEMAS = sa.text(r"SELECT nspname FROM pg_namespace WHERE nspname LIKE 'module8\_%'")
# Ends who holds a lock in a schema: threads of our own that wait for each other.
END_HOLDERS = sa.text(
    """SELECT pg_terminate_backend(pid) FROM
       (SELECT DISTINCT lock.pid FROM pg_locks AS lock
        JOIN pg_class AS place ON place.oid = lock.relation
        JOIN pg_namespace AS home ON home.oid = place.relnamespace
        WHERE home.nspname = :schema AND lock.pid <> pg_backend_pid()) AS holders"""
)


def drop_schema(engine: sa.Engine, schema: str) -> None:
    """Drop a schema of our own, if it is there, whoever works in it."""
    quoted = engine.dialect.identifier_preparer.quote_identifier(schema)
    for _ in range(DROP_TRIES):
        try:
            with engine.begin() as connection:
                connection.execute(LOCK_WAIT)
                connection.exec_driver_sql(f"DROP SCHEMA IF EXISTS {quoted} CASCADE")
            return
        except exc.DBAPIError as error:
            if error.connection_invalidated:  # somebody has ended this one as well
                continue
            if "too many connections" in str(error.orig):
                time.sleep(0.2)  # those that were just closed may still count
                continue
            if getattr(error.orig, "sqlstate", None) != LOCK_NOT_AVAILABLE:
                raise
        with engine.begin() as connection:
            connection.execute(END_HOLDERS, {"schema": schema})
    raise TimeoutError(f"schema {schema} is in use")


def leftover_schemas(engine: sa.Engine) -> list[Leftover]:
    """Return the schemas that runs have made in this database."""
    with engine.connect() as connection:
        refuse_clocks_apart("PostgreSQL", connection.scalars(sa.func.now()).one())
        names = connection.scalars(SCHEMAS).all()
    found = []
    for name in filter(is_of_a_run, names):
        found.append(Leftover("schema", name, partial(drop_schema, engine, name)))
    return found
