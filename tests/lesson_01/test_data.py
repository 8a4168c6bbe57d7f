"""Lesson 01 on data that is not the seed's, on SQLite and on PostgreSQL alike."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sqlalchemy as sa
from lessons import load, path_of, run

from course.sql.checks import can_be_stored
from course.sql.experiments import changed_rows
from course.sql.frames import frame_type
from course.sql.measure import plan_of
from course.sql.months import Cohort
from course.sql.postgres import sqlstate_of

lesson = load("01")
Both = tuple[Any, Any]
BIG = 2**53 + 1  # the first whole number that a float cannot hold


@contextmanager
def changed(env: Any) -> Iterator[Any]:
    with env.sessions() as session:
        yield session
        session.rollback()


def user(number: int, **figures: Any) -> Any:
    name = f"u{number}"
    sound = {"username": name, "email": name, "address_id": 1, "logins": 0}
    at = {"registered_at": datetime(2025, 1, 1, tzinfo=UTC)}
    return lesson.User(**sound | at | figures)


# What no database can store


@pytest.mark.parametrize(
    "given", ["a\x00b", "\x00", "\ud800", "x" * 60_000, "%" * 60_000]
)
def test_what_nobody_can_be_called_finds_nobody(both: Both, given: str) -> None:
    for env in both:
        with env.sessions() as session:
            users = lesson.UserRepository(session)
            assert users.find_users_by_name_part(given) == []
            assert users.find_users_by_city(given) == []
            assert users.find_users_by_country(given) == []
            assert users.has_email(given) is False
    assert lesson.FakeUsers().has_email(given) is False


def test_a_name_part_that_ends_at_nul_is_no_shorter_part(both: Both) -> None:
    for env in both:
        with env.sessions() as session:
            users = lesson.UserRepository(session)
            assert len(users.find_users_by_name_part("ras_s")) == 1
            assert users.find_users_by_name_part("ras_s\x00") == []


def test_names_of_any_script_can_be_stored() -> None:
    for name in ("Їжак", "李", "😀" * 80, "", "tab\there"):
        assert can_be_stored(name)


@pytest.mark.parametrize("value", ["abc", b"7", 1.5])
def test_sqlite_refuses_by_a_check_what_raw_sql_brings(both: Both, value: Any) -> None:
    change = sa.text("UPDATE users SET logins = :value WHERE id = 1")
    with pytest.raises(sa.exc.IntegrityError), both[0].engine.begin() as connection:
        connection.execute(change, {"value": value})
    instant = sa.text("UPDATE users SET last_seen_at = 'no day' WHERE id = 1")
    for env in both:
        with pytest.raises(sa.exc.DBAPIError), env.engine.begin() as connection:
            connection.execute(instant)


@pytest.mark.parametrize(
    ("value", "kind"),
    [(date(2025, 1, 1), "date"), ("2025-01-01", "str"), (datetime(2025, 1, 1), "")],
)
def test_what_is_no_instant_gets_a_sentence(both: Both, value: Any, kind: str) -> None:
    for env in both:
        with env.sessions() as session:
            session.add(user(1, registered_at=value))
            with pytest.raises(
                sa.exc.StatementError, match=f"a {kind}.* without a time zone names no"
            ):
                session.flush()


@pytest.mark.parametrize(
    "given",
    ["12:00", "2460000.5", "2025-02-30 00:00:00", "2025-01-31 22:30:00-05:00", "no"],
)
def test_sqlite_refuses_a_text_that_is_no_instant_as_others_are(
    both: Both, given: str
) -> None:
    change = sa.text("UPDATE users SET last_seen_at = :given WHERE id = 1")
    with pytest.raises(sa.exc.IntegrityError), both[0].engine.begin() as connection:
        connection.execute(change, {"given": given})


@pytest.mark.parametrize(
    "given",
    [
        datetime.min.replace(tzinfo=UTC),
        datetime(1969, 12, 31, 23, 59, 59, 999_999, tzinfo=UTC),
        datetime.max.replace(tzinfo=UTC),
    ],
)
def test_every_instant_that_python_has_can_be_stored(
    both: Both, given: datetime
) -> None:
    for env in both:
        with changed(env) as session:
            session.add(user(1, registered_at=given, last_seen_at=given))
            session.flush()
            session.expire_all()
            found = lesson.UserRepository(session).find_users_by_name_part("u1")
            assert found[0].last_seen_at == given
            analytics = lesson.DataScienceAnalytics(session)
            cohorts = analytics.get_user_metrics_by_registration_cohort()
        assert cohorts[given.date().replace(day=1)].users == 1


@pytest.mark.parametrize(
    "given", [1.5, 2.5, Decimal("10.5"), float("nan"), float("inf"), np.float64(0.1)]
)
def test_a_fraction_of_a_cent_is_refused_and_not_rounded(
    both: Both, given: Any
) -> None:
    for env in both:
        for figures in ({"spent_cents": given}, {"logins": given}):
            with changed(env) as session:
                session.add(user(1, **figures))
                with pytest.raises(sa.exc.StatementError, match="not a whole number"):
                    session.flush()


@pytest.mark.parametrize("given", [7, 7.0, Decimal(7), np.int64(7), np.uint8(7)])
def test_a_whole_number_of_any_type_is_stored_and_found(both: Both, given: Any) -> None:
    for env in both:
        with changed(env) as session:
            session.add(user(1, spent_cents=given, address_id=given))
            session.flush()
            spent = sa.select(lesson.User.username).where(
                lesson.User.spent_cents == given, lesson.User.logins < 0.5
            )
            assert session.scalars(spent).all() == ["u1"]
            session.expire_all()
            found = session.get(lesson.User, given)
            assert found is not None and found.id == 7


@pytest.mark.parametrize("length", [80, 81])
def test_a_text_is_as_long_as_its_column_allows_in_each_table(
    both: Both, length: int
) -> None:
    name = "\u0457" * length
    made: tuple[Callable[[], Any], ...] = (
        lambda: lesson.Country(name=name, population=1, gdp_per_capita=1),
        lambda: lesson.City(name=name, country_id=1),
        lambda: lesson.Address(street=name, city_id=1),
        lambda: lesson.Tally(name=name, n=1),
        lambda: lesson.Reading(sensor=name, value=1),
    )
    for env in both:
        for make in made:
            with changed(env) as session:
                session.add(make())
                if length == 80:
                    session.flush()
                    continue
                with pytest.raises(sa.exc.DBAPIError):
                    session.flush()


# Figures


def test_cohorts_are_months_of_utc_in_any_session(both: Both) -> None:
    """New York is five hours behind: of its users, some would move to another month."""
    answers = []
    for env in both:
        with changed(env) as session:
            if env.live:
                session.execute(sa.text("SET LOCAL timezone = 'America/New_York'"))
            analytics = lesson.DataScienceAnalytics(session)
            answers.append(analytics.get_user_metrics_by_registration_cohort())
    assert answers[0] == answers[1]
    assert next(iter(answers[0])) == date(2025, 1, 1)


def test_a_cohort_by_hand(both: Both) -> None:
    new_york = timezone(-timedelta(hours=5))
    for env in both:
        with changed(env) as session:
            session.execute(sa.delete(lesson.User))
            at = datetime(2024, 12, 31, 23, tzinfo=new_york)  # 2025 in UTC
            session.add(user(1, registered_at=at, spent_cents=BIG))
            later = datetime(2026, 2, 1, tzinfo=UTC)
            session.add(user(2, registered_at=at, last_seen_at=later, spent_cents=0))
            session.add(user(3))
            session.flush()
            analytics = lesson.DataScienceAnalytics(session)
            found = analytics.get_user_metrics_by_registration_cohort()
        cohort = Cohort(3, 2, BIG, Counter({None: 2, 13: 1}))
        assert found == {date(2025, 1, 1): cohort}


def test_counts_are_whole_numbers_and_no_cent_is_lost(both: Both) -> None:
    for env in both:
        with changed(env) as session:
            session.execute(sa.delete(lesson.User))
            session.add_all(
                [user(1, spent_cents=BIG), user(2, spent_cents=BIG, logins=1)]
            )
            session.flush()
            figures = lesson.UserRepository(session).get_user_statistics()
            countries = lesson.CountryRepository(session).get_country_statistics()
        assert figures["spent_total"] == 2 * BIG
        assert figures["spent_median"] == BIG
        means = {"logins_mean"}
        for name, figure in figures.items():
            assert isinstance(figure, float if name in means else int), name
        assert [row.spent_cents for row in countries if row.users] == [2 * BIG]


def test_a_country_is_beside_its_population_and_gdp(both: Both) -> None:
    for env in both:
        with changed(env) as session:
            session.execute(sa.delete(lesson.User))
            place = lesson.Country(name="A", population=500_000, gdp_per_capita=7)
            city = lesson.City(name="B", country=place)
            home = lesson.Address(street="C", city=city)
            nowhere = lesson.Country(name="AA", population=0, gdp_per_capita=0)
            session.add_all([home, nowhere])
            session.flush()
            for number, cents in enumerate((None, 1, 200)):
                session.add(user(number, address_id=home.id, spent_cents=cents))
            session.flush()
            first, second, *_ = lesson.CountryRepository(
                session
            ).get_country_statistics()
        assert first._asdict() == {
            "country": "A",
            "cities": 1,
            "users": 3,
            "spent_cents": 201,
            "users_per_million": 6.0,
            "cents_per_user": 67.0,
            "gdp_per_capita": 7,
        }
        assert second == ("AA", 0, 0, 0, None, None, 0)


def test_ranked_and_rich_users_come_with_their_home_in_one_query(both: Both) -> None:
    for env in both:
        with env.sessions() as session, lesson.max_queries(2, env.engine) as sent:
            ranked = lesson.UserRepository(session).get_users_ranked_by_activity()
            rich = lesson.DataScienceAnalytics(session).identify_high_value_users()
            homes = [one.address.city.country.name for _, one in ranked]
            homes += [one.address.city.country.name for one in rich]
        assert len(sent) == 2
        assert len(homes) == 660


def test_a_user_registers_at_the_address_given(both: Both) -> None:
    for env in both:
        with changed(env) as session:
            users = lesson.UserRepository(session)
            lesson.register(users, "new", "new@example.org", 42)
            session.flush()
            (new,) = users.find_users_by_name_part("new")
            assert new.address_id == new.address.id == 42


def test_an_index_finds_the_page_by_key(both: Both) -> None:
    by_logins = lesson.page_by_offset(1).order_by(None).order_by(lesson.User.logins)
    for env in both:
        with env.sessions() as session:
            found = plan_of(session, lesson.page_by_key((lesson.NEW_YEAR, 0)))
            searched = plan_of(session, by_logins)
        assert "ix_users_registered_at_id" in found
        assert "ix_users_registered_at_id" not in searched


# Batches and frames


@pytest.mark.parametrize("way", lesson.LADDER)
def test_an_empty_batch_stores_nothing(both: Both, way: str) -> None:
    for env in both:
        if way == "COPY" and not env.live:
            continue
        with changed(env) as session:
            session.execute(sa.delete(lesson.Reading))
            lesson.LADDER[way](session, [])
            session.flush()
            count = session.scalar(sa.select(sa.func.count(lesson.Reading.id)))
        assert count == 0


def test_a_backfill_ends_where_a_name_is_missing(both: Both) -> None:
    for env in both:
        with env.engine.begin() as connection:
            connection.exec_driver_sql(
                "CREATE TABLE members (id INTEGER PRIMARY KEY, full_name VARCHAR(80))"
            )
            rows = [(1, "'Ada'"), (2, "NULL"), (3, "'Eva'"), (4, "NULL")]
            values = ", ".join(f"({key}, {name})" for key, name in rows)
            connection.exec_driver_sql(f"INSERT INTO members VALUES {values}")
        try:
            lesson.migrate(env.engine, lesson.expand)
            with pytest.raises(ValueError, match="2 members have no full name"):
                lesson.backfill(env.engine, size=1)
            with env.engine.connect() as connection:
                asked = "SELECT display_name FROM members ORDER BY id"
                filled = connection.scalars(sa.text(asked)).all()
            assert filled == ["Ada", None, "Eva", None]
        finally:
            with env.engine.begin() as connection:
                connection.exec_driver_sql("DROP TABLE members")


def test_a_frame_has_the_types_of_its_columns_without_a_row_too(both: Both) -> None:
    expected = {
        "id": "Int64",
        "username": "string",
        "email": "string",
        "registered_at": "datetime64[us, UTC]",
        "last_seen_at": "datetime64[us, UTC]",
        "logins": "Int64",
        "spent_cents": "Int64",
        "address_id": "Int64",
    }
    for env in both:
        with changed(env) as session:
            for _ in range(2):
                frame = lesson.frame_typed(session)
                kinds = {name: str(kind) for name, kind in frame.dtypes.items()}
                assert kinds == expected
                session.execute(sa.delete(lesson.User))
        assert len(frame) == 0


def test_a_frame_brings_back_nulls_microseconds_and_every_cent(both: Both) -> None:
    at = datetime(1900, 1, 1, 0, 0, 0, 123_456, tzinfo=UTC)
    for env in both:
        with changed(env) as session:
            one = session.get_one(lesson.User, 1)
            one.registered_at, one.last_seen_at, one.spent_cents = at, None, 2**63 - 1
            two = session.get_one(lesson.User, 2)
            two.spent_cents, two.last_seen_at = None, at
            frame = lesson.frame_typed(session)
            store = partial(lesson.write_typed, frame=frame)
            assert changed_rows(session, lesson.EVERYBODY, store) == 0


def test_an_empty_frame_stores_nobody(both: Both) -> None:
    for env in both:
        with changed(env) as session:
            lesson.write_typed(session, lesson.frame_typed(session).head(0))
            count = session.scalar(sa.select(sa.func.count(lesson.User.id)))
        assert count == 600


@pytest.mark.parametrize("size", [0, -1])
def test_a_backfill_by_no_rows_is_refused_instead_of_endless(
    both: Both, size: int
) -> None:
    for env in both:
        with pytest.raises(ValueError, match=f"a batch of {size} rows"):
            lesson.backfill(env.engine, size)


def test_a_column_that_no_frame_has_is_named() -> None:
    decimal = sa.Column("price", sa.Numeric(10, 2))
    assert frame_type(decimal) == "object"
    assert frame_type(sa.Column("yes", sa.Boolean)) == "boolean"
    with pytest.raises(TypeError, match="place is of type"):
        frame_type(sa.Column("place", sa.LargeBinary))


def test_without_pandas_the_frames_are_skipped_by_name(tmp_path: Path) -> None:
    (tmp_path / "pandas.py").write_text("raise ImportError('no pandas')\n")
    path = {"PYTHONPATH": str(tmp_path)}
    done = run(path_of("01"), "--offline", "--only", "bulk", env=path)
    assert done.returncode == 0, done.stdout
    assert "[skip] frames: they need pandas (pip install pandas)" in done.stdout


def test_only_an_error_of_the_server_has_a_code() -> None:
    error = sa.exc.OperationalError("SELECT 1", None, OSError("cut"))
    assert sqlstate_of(error) is None
    full = OSError("FATAL: sorry, too many connections")  # psycopg gives it none
    assert sqlstate_of(sa.exc.OperationalError("SELECT 1", None, full)) == "53300"
