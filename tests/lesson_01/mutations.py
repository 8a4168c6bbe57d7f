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
NO_COLUMN = "OperationalError: (sqlite3.OperationalError) table members has no column"
NOT_NULL = """\
        batch.alter_column(required, existing_type=NAME, nullable=False)
"""

MUTATIONS = (
    # 1. Engines
    Mutation(
        "engines",
        "a rollback takes SAVEPOINTs and tables along",
        'connection.exec_driver_sql("BEGIN IMMEDIATE")',
        "pass",
    ),
    Mutation(
        "engines",
        "a rollback takes SAVEPOINTs and tables along",
        "connection.rollback()",
        "connection.commit()",
        file="course/sql/experiments.py",
    ),
    # 2. Model
    Mutation(
        "model", "stored: a sound user", "BETWEEN 1 AND 80", "BETWEEN 2 AND 80", 2
    ),
    Mutation(
        "model",
        "refused: a home that does not exist",
        'connection.execute("PRAGMA foreign_keys = ON")',
        'connection.execute("PRAGMA foreign_keys = OFF")',
    ),
    Mutation(
        "model",
        "an instant comes back as that instant",
        "        return value.astimezone(UTC)\n\n    def",
        "        return value\n\n    def",
    ),
    Mutation(
        "model",
        "refused: a datetime without a time zone",
        "not isinstance(value, datetime) or value.utcoffset() is None:",
        "not isinstance(value, datetime):",
    ),
    Mutation(
        "model",
        "refused: a name of 81 letters",
        "length(username) BETWEEN 1 AND 80",
        "length(username) BETWEEN 1 AND 180",
    ),
    Mutation(
        "model",
        "refused: a text for a number",
        "refuse_as_postgres(Base)\n",
        "",
    ),
    # 3. Queries
    Mutation(
        "queries",
        "3 users live in Ukraine, 2 of them in Kyiv",
        "return self._find(Country.name == country_name, given=country_name)",
        "return self._find()",
    ),
    Mutation(
        "queries",
        "SQL as a city's name finds nobody",
        "return self._find(City.name == city_name, given=city_name)",
        "return self._find(text(f\"cities.name = '{city_name}'\"))",
    ),
    Mutation("queries", "an underscore is a letter", ", autoescape=True", ""),
    # 4. Loading
    Mutation(
        "loading",
        "126 queries lazy, 4 selectin, 1 joined",
        "cities = orm.selectinload(Country.cities)",
        "cities = orm.joinedload(Country.cities)",
    ),
    Mutation(
        "loading",
        "all three find the same 600 users",
        "cities = orm.joinedload(Country.cities)",
        'cities = orm.joinedload(Country.cities.and_(City.name > "L"))',
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
        'users.options(country, raiseload("*"))',
        "users.options(country)",
    ),
    # 5. Figures
    Mutation(
        "figures",
        "user statistics equal plain Python",
        "select(spent, share).where(spent.is_not(None))",
        "select(spent, share)",
    ),
    Mutation(
        "figures",
        "country statistics equal plain Python",
        "func.count(City.id.distinct())",
        "func.count(City.id)",
    ),
    Mutation(
        "figures",
        "users with as many logins share a rank",
        "func.rank()",
        "func.row_number()",
    ),
    Mutation(
        "figures",
        "the top tenth are those who spent most",
        ".desc().nulls_last()",
        ".nulls_first()",
    ),
    Mutation(
        "figures",
        "the top tenth are those who spent most",
        ".desc().nulls_last()",
        ".desc()",
        live=True,
    ),
    Mutation(
        "figures",
        "cohorts equal plain Python, in months of UTC",
        "return f\"date({instant}, 'start of month')\"",
        "return f\"date({instant}, 'start of year')\"",
        file="course/sql/months.py",
    ),
    Mutation(
        "figures",
        "cohorts equal plain Python, in months of UTC",
        "timezone('UTC', {instant})",
        "timezone('America/Toronto', {instant})",
        live=True,
        file="course/sql/months.py",
    ),
    Mutation(
        "figures",
        "the shares equal plain Python, in percent",
        "        users = func.count(User.id)\n        # A window",
        "        users = func.count(Address.id.distinct())\n        # A window",
    ),
    Mutation(
        "figures",
        "the shares equal plain Python, in percent",
        "per_country(users, 100.0 * users",
        "per_country(users, 7.0 * users",
    ),
    # 6. Transactions
    Mutation(
        "transactions",
        "only what is committed stays",
        "class UnitOfWork(Session):",
        "class UnitOfWork(Session):\n    close = Session.commit  # type: ignore",
        error="PendingRollbackError: This Session's transaction has been rolled back",
    ),
    Mutation(
        "transactions",
        "the rule is the same on a fake, without a query",
        "user.email.translate(A_TO_Z) == folded for",
        "user.email == email for",
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
        "CLICKS.with_for_update()",
        "CLICKS",
        live=True,
    ),
    Mutation(
        "concurrency",
        "retried: 100 of 100",
        "increment_in_transaction(sessions, pause, attempts=200)",
        "increment_in_transaction(sessions, pause, attempts=1)",
    ),
    Mutation(
        "concurrency",
        "a doctor stays on call, at SERIALIZABLE only",
        "env.connect(isolation_level=level)",
        'env.connect(isolation_level="REPEATABLE READ")',
        live=True,
    ),
    # 8. Pool
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
        "a silent network ends a use, not the program",
        "    bound_waits(engine, idle=limit, busy=7 * limit)\n",
        "",
        live=True,
    ),
    # 9. Bulk
    Mutation(
        "bulk",
        "a call per row, per chunk, or for all",
        "session.connection().execute(insert(Reading), rows)",
        "[session.connection().execute(insert(Reading), row) for row in rows]",
    ),
    Mutation(
        "bulk",
        "a stream takes at most a tenth of the memory of all()",
        "execution_options(yield_per=100)",
        "execution_options()",
    ),
    Mutation(
        "concurrency",
        "8 racing upserts count 8 hits",
        '"n": Tally.n + 1, ',
        '"n": 1, ',
    ),
    Mutation(
        "loading",
        "pages by key slip for nobody",
        "sa.tuple_(*PAGE_KEY) > last",
        "User.registered_at > last[0]",
    ),
    Mutation(
        "bulk",
        "a frame from the columns brings everybody back",
        "columns=[*kinds], dtype=object)",
        "columns=[*kinds], dtype=None)",
    ),
    # 10. Migration
    Mutation(
        "migration",
        "after expand the old code reads and writes",
        'op.add_column("members", sa.Column("display_name", NAME))',
        "rename(op)",
        error=NO_COLUMN,
    ),
    Mutation(
        "migration",
        "contract before backfill is refused and undone",
        NOT_NULL,
        "",
        error=NO_COLUMN,
    ),
    Mutation(
        "migration",
        "contract before backfill is refused and undone",
        "        migrate(engine, clean_up)",
        "        pass",
        live=True,
        error="IntegrityError: (psycopg.errors.CheckViolation)",
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
)
