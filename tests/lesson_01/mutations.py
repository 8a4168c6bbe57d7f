"""For each claim of lesson 01, a change that makes it fail."""

from lessons import Mutation

NAIVE = """\
    pause()
    with sessions.begin() as session:
        session.execute(WRITE.values(n=n + 1))
"""
ATOMIC = NAIVE.replace("n=n + 1", "n=Tally.n + 1")
READ = """\
    with sessions() as session:
        n = session.scalars(CLICKS).one()
"""
COPY = """\
    with cursor.copy("COPY readings (sensor, value) FROM STDIN") as copy:
        for row in rows:
            copy.write_row((row["sensor"], row["value"]))
"""
INSERT = """\
    insertion = "INSERT INTO readings (sensor, value) VALUES (%(sensor)s, %(value)s)"
    cursor.executemany(insertion, rows)
"""
BEGIN = """\
        with engine.begin() as connection:
            connection.execute(insert(Tally)"""
AUTOCOMMIT = BEGIN.replace(
    "engine.begin()",
    "engine.execution_options(isolation_level='AUTOCOMMIT').connect()",
)
NOT_NULL = """\
        batch.alter_column(required, existing_type=NAME, nullable=False)
"""

MUTATIONS = (
    # 1. Model
    Mutation(
        "model",
        "refused: a home that does not exist",
        'connection.execute("PRAGMA foreign_keys = ON")',
        'connection.execute("PRAGMA foreign_keys = OFF")',
    ),
    Mutation(
        "model",
        "an instant comes back as that instant",
        "return value and value.astimezone(UTC)",
        "return value",
    ),
    Mutation(
        "model",
        "refused: a datetime without a time zone",
        "if value is not None and value.utcoffset() is None:",
        "if value is not None and value.year < 1:",
    ),
    Mutation(
        "model",
        "refused: a name of 81 letters",
        "length(username) BETWEEN 1 AND 80",
        "length(username) BETWEEN 1 AND 180",
    ),
    # 2. Queries
    Mutation(
        "queries",
        "3 users live in Ukraine, 2 of them in Kyiv",
        "return self._find(Country.name == country_name)",
        "return self._find()",
    ),
    Mutation(
        "queries",
        "SQL as a city's name finds nobody",
        "return self._find(City.name == city_name)",
        "return self._find(text(f\"cities.name = '{city_name}'\"))",
    ),
    Mutation("queries", "an underscore is a letter", ", autoescape=True", ""),
    # 3. Loading
    Mutation(
        "loading",
        "126 queries lazy, 4 selectin, 1 joined",
        "SELECTIN = orm.selectinload(Country.cities)",
        "SELECTIN = orm.joinedload(Country.cities)",
    ),
    Mutation(
        "loading",
        "all three find the same 600 users",
        "JOINED = orm.joinedload(Country.cities)",
        'JOINED = orm.joinedload(Country.cities.and_(City.name > "L"))',
    ),
    Mutation(
        "loading",
        "a budget of 4 queries stops the lazy loop",
        "if len(sent) > limit:",
        "if len(sent) > limit * 100:",
    ),
    Mutation(
        "loading",
        "a repository's user raises instead of loading on the sly",
        'users.options(path.contains_eager(City.country), raiseload("*"))',
        "users.options(path.contains_eager(City.country))",
    ),
    # 4. Statistics
    Mutation(
        "statistics",
        "user statistics equal plain Python",
        "select(User.spent_cents, share).where(User.spent_cents.is_not(None))",
        "select(User.spent_cents, share)",
    ),
    Mutation(
        "statistics",
        "country statistics equal plain Python",
        "func.count(City.id.distinct())",
        "func.count(City.id)",
    ),
    # 5. Ranking and cohorts
    Mutation(
        "ranking",
        "users with as many logins share a rank",
        "func.rank()",
        "func.row_number()",
    ),
    Mutation(
        "ranking",
        "the top tenth are those who spent most",
        ".desc().nulls_last()",
        ".nulls_first()",
    ),
    Mutation(
        "ranking",
        "the top tenth are those who spent most",
        ".desc().nulls_last()",
        ".desc()",
        live=True,
    ),
    Mutation(
        "ranking",
        "cohorts equal plain Python, in months of UTC",
        'sa.extract("year", instant) * 12 + sa.extract("month", instant) - 1',
        'sa.extract("month", instant) - 1',
    ),
    Mutation(
        "ranking",
        "cohorts equal plain Python, in months of UTC",
        "-ctimezone=UTC",
        "-ctimezone=America/Toronto",
        live=True,
    ),
    Mutation(
        "ranking",
        "the shares equal plain Python, in percent",
        "n = func.count(User.id)",
        "n = func.count(Address.id.distinct())",
    ),
    Mutation(
        "ranking",
        "the shares equal plain Python, in percent",
        "per_country(n, 100.0 * n",
        "per_country(n, 7.0 * n",
    ),
    # 6. Transactions
    Mutation(
        "transactions",
        "only what is committed stays",
        "class UnitOfWork(Session):",
        "class UnitOfWork(Session):\n    close = Session.commit  # type: ignore",
        error="PendingRollbackError",
    ),
    Mutation(
        "transactions",
        "the rule is the same on a fake, without a query",
        "user.email.translate(A_TO_Z) == folded for user in self",
        "user.email == email for user in self",
    ),
    Mutation(
        "transactions",
        "a rollback takes SAVEPOINTs and tables along",
        "session.rollback()\n        inner",
        "session.commit()\n        inner",
    ),
    # 7. Concurrency
    Mutation("concurrency", "read, think, write loses updates", NAIVE, ATOMIC),
    Mutation("concurrency", "atomic: 100 of 100", ATOMIC, READ + NAIVE),
    Mutation(
        "concurrency",
        "versioned: 100 of 100",
        '{"version_id_col": version}',
        "{}",
    ),
    Mutation("concurrency", "locked: 100 of 100", '"BEGIN IMMEDIATE"', '"BEGIN"'),
    Mutation(
        "concurrency",
        "locked: 100 of 100",
        "CLICKS.with_for_update() if lock else CLICKS",
        "CLICKS",
        live=True,
    ),
    Mutation(
        "concurrency",
        "retried: 100 of 100",
        "partial(in_one, attempts=200)",
        "partial(in_one, attempts=1)",
    ),
    Mutation(
        "concurrency",
        "a mistake is not retried",
        "if attempt >= attempts or not code_of(error).startswith(codes):",
        "if attempt >= attempts:",
    ),
    Mutation(
        "concurrency",
        "a doctor stays on call, at SERIALIZABLE only",
        "env.connect(isolation_level=level)",
        'env.connect(isolation_level="REPEATABLE READ")',
        live=True,
    ),
    Mutation(
        "concurrency",
        "retried, a deadlock ends well",
        '("40001", "40P01", "SQLITE_BUSY", "StaleDataError")',
        '("40001", "SQLITE_BUSY", "StaleDataError")',
        live=True,
    ),
    # 8. Pool
    Mutation(
        "pool",
        "20 uses share one connection",
        'POOL = {"pool_size": 2, "max_overflow": 1, "pool_timeout": 0.1, ',
        'POOL = {"poolclass": sa.NullPool, ',
    ),
    Mutation(
        "pool",
        "a pool that is used up says so at once",
        '"max_overflow": 1',
        '"max_overflow": -1',
    ),
    Mutation(
        "pool",
        "pre_ping replaces a dead connection unseen",
        'POOL | {"pool_pre_ping": pre_ping}',
        'POOL | {"pool_pre_ping": False}',
        live=True,
    ),
    Mutation(
        "pool",
        "a transaction dies as a whole, the next one lives",
        BEGIN,
        AUTOCOMMIT,
        live=True,
    ),
    # 9. Bulk
    Mutation(
        "bulk",
        "a statement per row, per chunk, or for all",
        "session.execute(insert(Reading), rows)",
        "[session.execute(insert(Reading), row) for row in rows]",
    ),
    Mutation(
        "bulk",
        "a stream takes at most a tenth of the memory of all()",
        "found if options else found.all()",
        "found.all()",
    ),
    Mutation(
        "bulk",
        "8 racing upserts count 8 hits",
        '"n": Tally.n + 1, ',
        '"n": 1, ',
    ),
    Mutation(
        "bulk",
        "pages by key slip for nobody",
        "sa.tuple_(User.registered_at, User.id) > last",
        "User.registered_at > last[0]",
    ),
    Mutation(
        "bulk",
        "an index finds the page by key",
        'sa.Index(None, "registered_at", "id"),',
        "",
    ),
    Mutation(
        "bulk", "COPY is at least 4 x as fast as executemany", COPY, INSERT, live=True
    ),
    # 10. Migration
    Mutation(
        "migration",
        "after expand the old code reads and writes",
        "expand = partial(add, name=NEW)",
        "expand = partial(settle, required=OLD, gone=OLD)",
        error="OperationalError",
    ),
    Mutation(
        "migration",
        "contract before backfill is refused and undone",
        NOT_NULL,
        "",
        error="OperationalError",
    ),
    Mutation(
        "migration",
        "contract before backfill is refused and undone",
        "        migrate(engine, clean_up)",
        "        pass",
        live=True,
        error="IntegrityError",
    ),
    Mutation(
        "migration",
        "no backfill locks more than 100 rows",
        " LIMIT :size",
        " OR :size < 0",
    ),
    Mutation(
        "migration",
        "after contract the database is the model",
        "batch.drop_column(gone)",
        "batch.alter_column(gone, existing_type=NAME, nullable=True)",
    ),
    Mutation(
        "migration",
        "downgrade brings table and names back",
        'SET full_name = display_name"',
        "SET full_name = 'somebody'\"",
    ),
    Mutation(
        "migration",
        "the SQL to review needs no database",
        "    for step in steps:\n        step(Operations(context))",
        "    for step in steps[:1]:\n        step(Operations(context))",
    ),
)
