"""Other ways of getting rows into PostgreSQL, and out again as a frame.

Each as its own documentation says, in one transaction, into the table `readings` of a
schema that the caller names, whose rows are (sensor text, value integer).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib import import_module
from typing import Any

import pandas as pd
import psycopg
import pyarrow as pa
import sqlalchemy as sa

asyncpg: Any = import_module("asyncpg")
adbc: Any = import_module("adbc_driver_postgresql.dbapi")

Rows = Sequence[tuple[str, int]]
CHUNK = 1_000  # rows of one statement
SELECT = "SELECT id, sensor, value FROM readings ORDER BY id"


class Peers:
    """Open connections of each client, all in the same schema."""

    def __init__(self, url: sa.URL, schema: str) -> None:
        plain = url.set(drivername="postgresql", query={})
        self.address = plain.render_as_string(hide_password=False)
        self.schema = schema
        self.loop = asyncio.new_event_loop()

    def __enter__(self) -> Peers:
        path = f"SET search_path TO {self.schema}"
        self.psycopg: Any = psycopg.connect(self.address, autocommit=False)
        self.psycopg.execute(path)
        self.psycopg.commit()
        options = {"server_settings": {"search_path": self.schema}}
        connecting = asyncpg.connect(self.address, **options)
        self.asyncpg: Any = self.loop.run_until_complete(connecting)
        self.adbc: Any = adbc.connect(self.address)
        with self.adbc.cursor() as cursor:
            cursor.execute(path)
        self.adbc.commit()
        return self

    def __exit__(self, *_: object) -> None:
        self.psycopg.close()
        self.loop.run_until_complete(self.asyncpg.close())
        self.loop.close()
        self.adbc.close()

    def by_values(self, rows: Rows) -> None:
        """Send long statements with a mark for each value."""
        with self.transaction() as cursor:
            for start in range(0, len(rows), CHUNK):
                chunk = rows[start : start + CHUNK]
                marks = ", ".join(["(%s, %s)"] * len(chunk))
                statement = f"INSERT INTO readings (sensor, value) VALUES {marks}"
                cursor.execute(statement, [value for row in chunk for value in row])

    def by_unnest(self, rows: Rows) -> None:
        """Send two arrays, in one statement."""
        statement = (
            "INSERT INTO readings (sensor, value) "
            "SELECT * FROM unnest(%s::text[], %s::integer[])"
        )
        sensors = [sensor for sensor, _ in rows]
        values = [value for _, value in rows]
        with self.transaction() as cursor:
            cursor.execute(statement, (sensors, values))

    def by_copy(self, rows: Rows) -> None:
        """Copy as text."""
        statement = "COPY readings (sensor, value) FROM STDIN"
        with self.transaction() as cursor, cursor.copy(statement) as copy:
            for row in rows:
                copy.write_row(row)

    def by_copy_binary(self, rows: Rows) -> None:
        """Copy in the server's own format, whose types have to be named."""
        statement = "COPY readings (sensor, value) FROM STDIN (FORMAT BINARY)"
        with self.transaction() as cursor, cursor.copy(statement) as copy:
            copy.set_types(["text", "int4"])
            for row in rows:
                copy.write_row(row)

    def by_asyncpg(self, rows: Rows) -> None:
        """Copy by asyncpg, which always does so in binary."""
        copying = self.asyncpg.copy_records_to_table(
            "readings",
            records=rows,
            columns=["sensor", "value"],
            schema_name=self.schema,
        )
        self.loop.run_until_complete(copying)

    def by_adbc(self, rows: Rows) -> None:
        """Copy a table of Arrow by ADBC; making it of the rows is included."""
        columns = {
            "sensor": pa.array([sensor for sensor, _ in rows], pa.string()),
            "value": pa.array([value for _, value in rows], pa.int32()),
        }
        with self.adbc.cursor() as cursor:
            cursor.adbc_ingest("readings", pa.table(columns), mode="append")
        self.adbc.commit()

    @contextmanager
    def transaction(self) -> Iterator[Any]:
        """Yield a cursor of psycopg, and commit at the end."""
        with self.psycopg.transaction(), self.psycopg.cursor() as cursor:
            yield cursor
        self.psycopg.commit()

    def ways_in(self) -> dict[str, Callable[[Rows], None]]:
        """Return the ways in by their names."""
        return {
            "psycopg, VALUES of 1,000 rows": self.by_values,
            "psycopg, unnest of two arrays": self.by_unnest,
            "psycopg, COPY": self.by_copy,
            "psycopg, COPY BINARY": self.by_copy_binary,
            "asyncpg, copy_records_to_table": self.by_asyncpg,
            "ADBC, adbc_ingest of Arrow": self.by_adbc,
        }

    def frame_by_psycopg(self) -> pd.DataFrame:
        """Return all rows as a frame, by tuples of Python."""
        with self.transaction() as cursor:
            found = cursor.execute(SELECT).fetchall()
        return pd.DataFrame(found, columns=["id", "sensor", "value"])

    def frame_by_asyncpg(self) -> pd.DataFrame:
        """Return all rows as a frame, by records of asyncpg."""
        found = self.loop.run_until_complete(self.asyncpg.fetch(SELECT))
        return pd.DataFrame(found, columns=["id", "sensor", "value"])

    def frame_by_adbc(self) -> pd.DataFrame:
        """Return all rows as a frame, by columns of Arrow."""
        with self.adbc.cursor() as cursor:
            cursor.execute(SELECT)
            frame: pd.DataFrame = cursor.fetch_arrow_table().to_pandas()
        self.adbc.rollback()
        return frame

    def ways_out(self, engine: sa.Engine) -> dict[str, Callable[[], pd.DataFrame]]:
        """Return the ways out by their names, pandas' own first."""

        def by_read_sql() -> pd.DataFrame:
            with engine.connect() as connection:
                return pd.read_sql(sa.text(SELECT), connection)

        return {
            "pandas.read_sql over SQLAlchemy": by_read_sql,
            "psycopg, fetchall": self.frame_by_psycopg,
            "asyncpg, fetch": self.frame_by_asyncpg,
            "ADBC, fetch_arrow_table": self.frame_by_adbc,
        }
