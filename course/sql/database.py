"""A database of our own for each run: a new schema, or a temporary file."""

from __future__ import annotations

import argparse
import sqlite3
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy import exc, func, orm

from course.ending import Ended, remove
from course.errors import BadInput, NoService, Skip
from course.naming import new_name
from course.network import FaultyNetwork
from course.services import address_of, redact
from course.sql.connection import is_pooled
from course.sql.experiments import Use, Uses, uses_when_frozen
from course.sql.leftovers import drop_schema, leftover_schemas
from course.sql.postgres import PostgresServer, postgres_server, sqlstate_of
from course.sweeping import Leftover, sweep, temporary_folders

DEFAULT_POSTGRES = "postgresql://postgres@127.0.0.1:5432/postgres"
OpenEngine = Callable[..., sa.Engine]
AT_ONCE = 10  # transactions: so many do demos hold at most
NO_RIGHT = "42501"


@dataclass(frozen=True)
class Openers:
    """The functions of a lesson that open its engines and fill an empty database."""

    sqlite: OpenEngine  # takes a path, and options of create_engine
    postgres: OpenEngine  # takes a URL and a schema, and options of create_engine
    naive: OpenEngine  # takes a path: SQLite as create_engine leaves it
    fill: Callable[[sa.Engine], None]


@dataclass
class Database:
    """What every demo receives: a database that nobody else uses."""

    backend: str
    live: bool  # PostgreSQL, and not SQLite
    openers: Openers
    folder: Path
    open_engine: OpenEngine  # takes options of create_engine
    closing: ExitStack
    url: sa.URL | None = None  # of PostgreSQL
    schema: str = ""  # there
    pooled: bool = False  # a pooler such as PgBouncer stands in between
    opened: list[sa.Engine] = field(default_factory=list)
    ask: Callable[[], object] | None = None  # raises if the server does not answer
    leftovers: Callable[[], list[Leftover]] = list  # schemas of runs that were killed

    def sweep(self, really: bool) -> int:
        """List what killed runs have left, and remove it if asked to."""
        return sweep([*self.leftovers(), *temporary_folders()], really)

    def connect(self, **options: object) -> sa.Engine:
        """Open one more engine on the same data, with other options, until the end.

        The idle connections of the others are closed: a server may allow only a few.
        """
        self.close_idle()
        return self._open(**options)

    def close_idle(self) -> None:
        """Close the connections of all engines that nobody uses just now."""
        for engine in self.opened:
            # What is in use would come back to a pool that nobody closes any more.
            if isinstance(engine.pool, sa.QueuePool) and not engine.pool.checkedout():
                engine.dispose()

    def _open(self, **options: object) -> sa.Engine:
        engine = self.open_engine(**options)
        self.opened.append(engine)
        self.closing.callback(engine.dispose)
        return engine

    def strict(self) -> sa.Engine:
        """Open one more engine, which refuses a conflict at once, without a wait."""
        if self.live:
            return self.connect(isolation_level="SERIALIZABLE")
        return self.connect(timeout=0.001)

    @contextmanager
    def faulty_network(
        self, **options: object
    ) -> Iterator[tuple[FaultyNetwork, sa.Engine]]:
        """Open one more engine, with a network in between that can be frozen."""
        if self.url is None or not self.url.host or self.url.host.startswith("/"):
            raise Skip("a frozen network, killed back ends: needs one host and port")
        host = str(self.url.query.get("hostaddr") or self.url.host)
        with FaultyNetwork(host, self.url.port or 0) as network:
            # The name stays: a certificate may be for it.
            detour = self.url.set(port=network.port)
            detour = detour.update_query_dict({"hostaddr": "127.0.0.1"})
            engine = self.openers.postgres(detour, self.schema, **options)
            try:
                yield network, engine
            finally:
                network.cut()
                engine.dispose()

    def uses_when_frozen(self, use: Use, **options: object) -> dict[str, Uses]:
        """Freeze the network between uses of two engines, one of them with options."""
        with self.faulty_network(**options) as (network, ours):
            utf8 = {"client_encoding": "utf8"}
            plain = sa.create_engine(ours.url, pool_pre_ping=True, connect_args=utf8)
            engines = {"pool_pre_ping alone": plain, "this engine": ours}
            try:
                return uses_when_frozen(network, engines, use)
            finally:
                network.cut()
                plain.dispose()

    @cached_property
    def engine(self) -> sa.Engine:
        """The engine that most demos use; the tables come with its first use."""
        # Not earlier: a notebook defines the tables after its first demo has run.
        engine = self._open()
        self.openers.fill(engine)
        return engine

    @cached_property
    def sessions(self) -> orm.sessionmaker[orm.Session]:
        """Sessions on that engine."""
        return orm.sessionmaker(self.engine)

    @cached_property
    def naive(self) -> sa.Engine:
        """An empty SQLite as a plain create_engine leaves it: the control of claims."""
        engine = self.openers.naive(self.folder / "naive.db")

        @sa.event.listens_for(engine, "connect")
        def set_up(connection: sqlite3.Connection, _: object) -> None:
            # Its files go with the run, so that no commit need wait for the disk.
            connection.execute("PRAGMA synchronous = OFF")

        self.closing.callback(engine.dispose)
        return engine


def temporary_folder(stack: ExitStack) -> Path:
    """Return a new folder that the stack removes; BadInput if there is no room."""
    try:
        # What a thread still makes in it goes with the folder of the run.
        temporary = tempfile.TemporaryDirectory(
            prefix="module8-", ignore_cleanup_errors=True
        )
    except OSError as error:
        raise BadInput(f"name a folder to write in, as TMPDIR: {error}") from None
    return Path(stack.enter_context(temporary))


def create_schema(server: PostgresServer, engine: sa.Engine, schema: str) -> str:
    """Create a schema; return the server's version. Raises BadInput if it refuses."""
    names: list[str] = []  # of the database and the user, as SQL writes them
    try:
        with engine.begin() as connection:
            version = connection.dialect.server_version_info or ()
            driver: Any = connection.connection.driver_connection
            quote = connection.dialect.identifier_preparer.quote
            names = [quote(name) for name in (driver.info.dbname, driver.info.user)]
            connection.exec_driver_sql(f"CREATE SCHEMA {schema}")
    except exc.DBAPIError as error:
        if sqlstate_of(error) == NO_RIGHT and names:
            right = "GRANT CREATE ON DATABASE {} TO {}".format(*names)
            raise server.complaint(error, f"; needed: {right}") from None
        raise server.complaint(error) from None
    except TypeError as error:  # such as an encoding that gives bytes instead of text
        options = ", ".join(server.named.options)
        said = f"psycopg says: {redact(error)}; look at its options: {options}"
        raise BadInput(f"{server.source}: {said}") from None
    return ".".join(map(str, version))


def refuse_too_few(server: PostgresServer, engine: sa.Engine) -> None:
    """Raise BadInput if not as many transactions are allowed at once as demos need."""

    def hold() -> sa.Connection:
        connection = engine.connect()
        connection.execute(sa.select(1))
        return connection

    refused = None
    with ExitStack() as held, ThreadPoolExecutor(AT_ONCE) as threads:
        for opening in [threads.submit(hold) for _ in range(AT_ONCE)]:
            try:
                held.enter_context(opening.result())
            except exc.DBAPIError as error:
                refused = error
    if refused:
        raise server.complaint(refused, f"; the lesson needs {AT_ONCE} connections")


def refuse_elsewhere(server: PostgresServer, engine: sa.Engine, schema: str) -> None:
    """Raise BadInput if statements do not work in our schema, in UTC, with limits."""
    limits = ("lock_timeout", "statement_timeout")
    settings = [func.current_setting(name) for name in ("TimeZone", *limits)]
    try:
        with engine.connect() as connection:
            asked = sa.select(func.current_schema(), *settings)
            place, zone, *bounds = connection.execute(asked).one()
    except exc.DBAPIError as error:
        raise server.complaint(error) from None
    if (place, zone) != (schema, "UTC") or "0" in bounds:
        found = f"schema {place}, time zone {zone}, limits {' and '.join(bounds)}"
        why = f"our settings do not reach PostgreSQL at {server.place}"
        raise BadInput(f"{server.source}: {why}: {found}")


def open_postgres(
    server: PostgresServer, openers: Openers, stack: ExitStack
) -> Database:
    """Open a new schema of our own, which the stack drops at the end."""
    schema = new_name("_")
    open_engine = partial(openers.postgres, server.url, schema)
    folder = temporary_folder(stack)
    database = Database(
        "", True, openers, folder, open_engine, stack, server.url, schema
    )
    try:
        # No pool: dropping the schema at the end must not meet a dead connection.
        engine = database.connect(poolclass=sa.NullPool)
    except ModuleNotFoundError as error:
        raise BadInput(f"no {error.name} here: pip install 'psycopg[binary]'") from None
    place = f"PostgreSQL at {server.place}"
    drop = partial(drop_schema, engine, schema)
    removal = partial(remove, f"schema {schema}", place, drop)
    try:
        version = create_schema(server, engine, schema)
    except Ended:  # it may be there already
        removal()
        raise
    stack.callback(removal)
    trial = database.connect(pool_size=AT_ONCE, max_overflow=0)
    refuse_too_few(server, trial)
    refuse_elsewhere(server, trial, schema)
    with trial.connect() as connection:
        database.pooled = is_pooled(connection.connection.driver_connection)
    trial.dispose()
    database.ask = server.probe
    database.leftovers = partial(leftover_schemas, engine)
    database.backend = f"PostgreSQL {version} at {server.place}"
    if database.pooled:
        database.backend += ", through a pooler"
    return database


def open_sqlite(openers: Openers, stack: ExitStack, why: str = "") -> Database:
    """Open a temporary file, which the stack removes at the end."""
    folder = temporary_folder(stack)
    open_engine = partial(openers.sqlite, folder / "lesson.db")
    backend = "sqlite, in a temporary file"
    if why:
        backend += f" ({why}; docker compose up -d postgres starts one)"
    return Database(backend, False, openers, folder, open_engine, stack)


def chosen_server(args: argparse.Namespace) -> PostgresServer | None:
    """Return the server that the options and the environment name, if they do."""
    looks_for_one = args.require_live or getattr(args, "sweep", False)
    default = DEFAULT_POSTGRES if looks_for_one else ""
    address = address_of(args, "DATABASE_URL", default)
    if args.offline or not address.url:
        return None
    return postgres_server(address)


@contextmanager
def open_database(args: argparse.Namespace, openers: Openers) -> Iterator[Database]:
    """Open PostgreSQL if one is named and answers, else SQLite; clean up at the end."""
    server = chosen_server(args)
    with ExitStack() as stack:
        if server is None:
            yield open_sqlite(openers, stack)
            return
        try:
            server.probe()
        except NoService as reason:
            yield open_sqlite(openers, stack, str(reason))
            return
        yield open_postgres(server, openers, stack)
