"""A database of our own for each run: a new schema, or a temporary file."""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path

import sqlalchemy as sa
from sqlalchemy import exc, orm

from course.ending import Ended, remove
from course.errors import BadInput, NoService
from course.naming import new_name
from course.services import address_of
from course.sql.leftovers import drop_schema, leftover_schemas
from course.sql.postgres import PostgresServer, postgres_server
from course.sweeping import Leftover, sweep, temporary_folders

DEFAULT_POSTGRES = "postgresql://postgres@127.0.0.1:5432/postgres"
OpenEngine = Callable[..., sa.Engine]


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
    ask: Callable[[], object] | None = None  # raises if the server does not answer
    leftovers: Callable[[], list[Leftover]] = list  # schemas of runs that were killed

    def sweep(self, really: bool) -> int:
        """List what killed runs have left, and remove it if asked to."""
        return sweep([*self.leftovers(), *temporary_folders()], really)

    def connect(self, **options: object) -> sa.Engine:
        """Open one more engine on the same data, with other options, until the end."""
        engine = self.open_engine(**options)
        self.closing.callback(engine.dispose)
        return engine

    @cached_property
    def engine(self) -> sa.Engine:
        """The engine that most demos use; the tables come with its first use."""
        # Not earlier: a notebook defines the tables after its first demo has run.
        engine = self.connect()
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
        self.closing.callback(engine.dispose)
        return engine


def temporary_folder(stack: ExitStack) -> Path:
    """Return a new folder that the stack removes; BadInput if there is no room."""
    try:
        temporary = tempfile.TemporaryDirectory(prefix="module8-")
    except OSError as error:
        raise BadInput(f"name a folder to write in, as TMPDIR: {error}") from None
    return Path(stack.enter_context(temporary))


def create_schema(server: PostgresServer, engine: sa.Engine, schema: str) -> str:
    """Create a schema; return the server's version. Raises BadInput if it refuses."""
    try:
        with engine.begin() as connection:
            version = connection.dialect.server_version_info or ()
            connection.exec_driver_sql(f"CREATE SCHEMA {schema}")
    except exc.DBAPIError as error:
        raise server.complaint(error) from None
    return ".".join(map(str, version))


def open_postgres(
    server: PostgresServer, openers: Openers, stack: ExitStack
) -> Database:
    """Open a new schema of our own, which the stack drops at the end."""
    schema = new_name("_")
    open_engine = partial(openers.postgres, server.url, schema)
    folder = temporary_folder(stack)
    database = Database("", True, openers, folder, open_engine, stack)
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
    database.ask = server.probe
    database.leftovers = partial(leftover_schemas, engine)
    database.backend = f"PostgreSQL {version} at {server.place}"
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
