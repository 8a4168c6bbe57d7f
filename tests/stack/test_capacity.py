"""The capacity tool: its bytes against real servers, its arithmetic against itself."""

from __future__ import annotations

import importlib.util
import sys
import uuid
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from lessons import ROOT
from services import Server

SPEC = importlib.util.spec_from_file_location("capacity", ROOT / "tools/capacity.py")
assert SPEC and SPEC.loader
capacity: Any = importlib.util.module_from_spec(SPEC)
sys.modules["capacity"] = capacity
SPEC.loader.exec_module(capacity)

SHOP = capacity.Shop(1_000_000, 3.0, 10.0, 365.0, 30.0, 10.0, 16e9)
COUNT = 50_000


def test_an_order_takes_what_postgresql_says(postgres_url: str) -> None:
    import psycopg

    table = f"module8_orders_{uuid.uuid4().hex[:8]}"
    with psycopg.connect(postgres_url, autocommit=True) as connection:

        def run(statement: str) -> Any:
            return connection.execute(statement.format(table).encode())

        run(
            "CREATE TABLE {} (id bigint PRIMARY KEY, customer bigint NOT NULL,"
            " cents bigint NOT NULL, at timestamptz NOT NULL)"
        )
        try:
            run("CREATE INDEX ON {} (customer)")
            # Each customer is new, as an index folds equal keys into one entry.
            rows = f"generate_series(1, {COUNT}) n"
            run(f"INSERT INTO {{}} SELECT n, n, n, now() FROM {rows}")
            (measured,) = run("SELECT pg_total_relation_size('{}')").fetchone()
        finally:
            run("DROP TABLE {}")
    assert measured / COUNT == pytest.approx(capacity.order_bytes(), rel=0.15)


def test_an_event_takes_what_the_server_says(mongo_url: str) -> None:
    import pymongo

    name = f"module8_{uuid.uuid4().hex[:8]}"
    client: Any = pymongo.MongoClient(mongo_url, serverSelectionTimeoutMS=5000)
    with client:
        try:
            client[name].events.insert_one(dict(capacity.EVENT))
            size = {"$project": {"bytes": {"$bsonSize": "$$ROOT"}}}
            (found,) = client[name].events.aggregate([size])
        finally:
            client.drop_database(name)
    assert found["bytes"] == capacity.event_bytes()


def test_a_cached_prediction_takes_what_redis_says(private_redis: Server) -> None:
    import redis

    with redis.Redis.from_url(private_redis.url) as client:
        before = client.info("memory")["used_memory"]
        pipe = client.pipeline()
        for number in range(COUNT):
            pipe.set(capacity.KEY[:-8] + f"{number:08}", capacity.VALUE, ex=3600)
        pipe.execute()
        taken = (client.info("memory")["used_memory"] - before) / COUNT
        client.flushdb()
    assert taken == pytest.approx(capacity.cached_bytes(), rel=0.35)


@given(st.integers(1, 10**9), st.floats(1.0, 100.0))
def test_needs_grow_with_the_shop(customers: int, peak: float) -> None:
    def needed(count: int) -> list[Any]:
        shop = capacity.Shop(count, 3.0, 10.0, 365.0, 30.0, peak, 16e9)
        return list(capacity.needs(shop))

    for one, two in zip(needed(customers), needed(2 * customers), strict=True):
        assert two.size == pytest.approx(2 * one.size)
        assert two.rate == pytest.approx(2 * one.rate)
        assert one.nodes <= two.nodes <= 2 * one.nodes


def test_a_million_customers_by_hand() -> None:
    by_store = {need.store: need for need in capacity.needs(SHOP)}
    assert by_store["MongoDB"].size == 1_000_000 * 10 * 365 * capacity.event_bytes()
    assert by_store["MongoDB"].rate == pytest.approx(1_000_000 * 10 / 86_400 * 10)
    assert by_store["PostgreSQL"].size == pytest.approx(
        3_000_000 * capacity.order_bytes()
    )
    assert [need.nodes for need in by_store.values()] == [1, 13, 1, 1]
    # The guide: more than a thousand times the bytes of the orders.
    assert by_store["MongoDB"].size > 1000 * by_store["PostgreSQL"].size


@pytest.mark.parametrize("option", ["--customers", "--ram", "--keep-days"])
def test_nothing_of_it_may_be_zero(
    option: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        capacity.main([option, "0"])
    assert ended.value.code == 2
    assert "greater than 0" in capsys.readouterr().err
