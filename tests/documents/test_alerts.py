"""The alerts of chapter 13: each fires under its fault, and none without one.

A small shop works for minutes that pass when they are told to. Its page of metrics is
read each minute, and what was read is the input of `promtool test rules`.
"""

from __future__ import annotations

import argparse
import json
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import services
from lessons import ROOT, load

from course.amqp.errors import PublishFailed
from course.amqp.trials import running
from course.caching.client import cache_client
from course.lab import ManualClock, raises, wait_until

pytest.importorskip("prometheus_client", reason="it is in requirements-dev.txt")
from prometheus_client import CollectorRegistry, generate_latest

from examples.service.metrics import EVENTS, LessonMetrics

RULES = ROOT / "examples" / "service" / "alerts.yml"
MINUTES = 24
CUT_AT = 5  # one lost connection, which is nothing to wake somebody for
FAULT_AT = 14
Page = dict[str, str]  # values by series, as they are written


@dataclass
class Shop:
    """Takes a signup and ten questions a minute; a fault changes what stands here."""

    caching: Any  # lesson 03
    messaging: Any  # lesson 04
    pipeline: Any
    consumer: Any
    network: Any
    redis: Any
    cache: Any
    actors: dict[str, Any]
    clock: ManualClock = field(default_factory=ManualClock)
    email: str = "ada@example.com"
    key: str = "user_data"
    rank: str = "rank-1"
    relays: bool = True
    consumes: bool = True
    sent: int = 0

    def work(self, minute: int) -> None:
        """Do what comes in within a minute."""
        if minute == CUT_AT:
            self.cut()
        by_name = self.caching.redis_cache(600, cache=self.cache, name=self.rank)
        rank = by_name(abs)
        assert [rank(user) for user in range(10)] == list(range(10))
        self.sign_up()
        if self.relays:
            self.relay()
        if self.consumes:
            wait_until(lambda: self.consumer.counts["acked"] >= self.sent, 30)

    def cut(self) -> None:
        """Cut the consumer's connection; return when it has another."""
        before = self.consumer.counts["reconnects"]
        self.network.cut()
        wait_until(lambda: self.consumer.counts["reconnects"] > before, 30)
        wait_until(self.consumer.ready.is_set, 30)

    def sign_up(self) -> None:
        user = self.messaging.UserDataMessage(
            username="ada",
            email=self.email,
            registration_date="2026-01-01",
            timestamp=datetime.fromtimestamp(self.clock(), UTC).isoformat(),
        )
        self.pipeline.store("a signup", self.messaging.Outgoing(user, self.key))

    def relay(self) -> None:
        if self.key == "user_data":
            self.sent += self.pipeline.relay()
        else:
            assert raises(PublishFailed, self.pipeline.relay)


@contextmanager
def opened_shop() -> Iterator[Shop]:
    import fakeredis

    redis = fakeredis.FakeServer()
    caching = load("03")
    cache = caching.RedisCache(fakeredis.FakeRedis(server=redis))
    lesson = load("04")
    with (
        lesson.open_env(argparse.Namespace(offline=True, url=None)) as env,
        env.network() as (network, far),
        lesson.Producer(env.rabbit) as producer,
        lesson.Ledger() as ledger,
    ):
        queue = env.rabbit.name("user_data")
        consumer = lesson.UserDataConsumer(far, queue, producer, ledger)
        with running(consumer):
            yield Shop(
                caching=caching,
                messaging=lesson,
                pipeline=lesson.UserDataPipeline(producer, ledger),
                consumer=consumer,
                network=network,
                redis=redis,
                cache=cache,
                actors={"relay": producer.counts, "worker": consumer.counts},
            )


def pages(fault: Callable[[Shop, int], None]) -> list[Page]:
    """Return what the page of metrics says at the end of each minute."""
    found = []
    with opened_shop() as shop:
        caches = {"rank": shop.cache.stats}
        outboxes = {"shop": shop.pipeline.ledger}
        metrics = LessonMetrics(caches, shop.actors, outboxes, shop.clock)
        for minute in range(MINUTES):
            if minute >= FAULT_AT:
                fault(shop, minute)
            shop.work(minute)
            shop.clock.advance(60)
            found.append(page_of(metrics))
    return found


def page_of(metrics: Any) -> Page:
    """Return the page's values by series, with the labels that a scrape adds."""
    registry = CollectorRegistry()
    registry.register(metrics)
    text = generate_latest(registry).decode()
    found = {}
    for line in text.splitlines():
        if not line.startswith("#"):
            series, _, value = line.rpartition(" ")
            found[series.replace("{", '{job="shop",instance="one",')] = value
    return found


def promtool() -> str:
    found = shutil.which("promtool")
    if found is None:
        pytest.skip("no promtool on the PATH: it is in Debian's package prometheus")
    return found


def run_promtool(
    scraped: list[Page], expected: dict[int, set[str]], file: Path
) -> None:
    """Have promtool compare which alerts fire, at each minute that is expected."""
    series = sorted(set().union(*scraped))
    inputs = []
    for name in series:
        values = [page.get(name, "_") for page in scraped]
        inputs.append({"series": name, "values": " ".join(values)})
    firing = 'count by (alertname) (ALERTS{alertstate="firing"})'
    checks = []
    for minute, alerts in expected.items():
        found = [
            {"labels": f'{{alertname="{alert}"}}', "value": 1}
            for alert in sorted(alerts)
        ]
        checks.append({"expr": firing, "eval_time": f"{minute}m", "exp_samples": found})
    tests = {"interval": "1m", "input_series": inputs, "promql_expr_test": checks}
    text = {
        "rule_files": [str(RULES)],
        "evaluation_interval": "1m",
        "tests": [tests],
    }
    file.write_text(json.dumps(text), "utf-8")  # which is YAML, too
    done = subprocess.run(
        [promtool(), "test", "rules", str(file)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def nothing(shop: Shop, minute: int) -> None:
    pass


def one_bad_address(shop: Shop, minute: int) -> None:
    if minute == MINUTES - 2:
        shop.email = "nonsense"
    elif minute > MINUTES - 2:
        shop.email = "ada@example.com"


def no_queue(shop: Shop, minute: int) -> None:
    shop.key = "a key that no queue is bound to"


def no_relay(shop: Shop, minute: int) -> None:
    shop.relays = False


def cut(shop: Shop, minute: int) -> None:
    shop.cut()


def consumer_stops(shop: Shop, minute: int) -> None:
    shop.consumes = False
    shop.consumer.stop()


def consumer_is_gone(shop: Shop, minute: int) -> None:
    consumer_stops(shop, minute)
    shop.actors.pop("worker", None)  # and its page with it


def no_redis(shop: Shop, minute: int) -> None:
    shop.redis.connected = False


def release_with_other_keys(shop: Shop, minute: int) -> None:
    shop.rank = f"rank-{minute}"


FAULTS: list[tuple[Callable[[Shop, int], None], set[str]]] = [
    (nothing, set()),
    (one_bad_address, {"DeadLetters"}),
    (no_queue, {"PublishingFails", "OutboxWaits"}),
    (no_relay, {"OutboxWaits"}),
    (cut, {"ConnectionLost"}),
    (consumer_stops, {"NothingConsumed"}),
    (consumer_is_gone, {"NothingConsumed"}),
    (no_redis, {"CacheFails", "HitShareFell"}),
    (release_with_other_keys, {"HitShareFell"}),
]


@pytest.mark.parametrize(("fault", "alerts"), FAULTS)
def test_the_alerts_of_a_fault_fire_and_no_others(
    fault: Callable[[Shop, int], None], alerts: set[str], tmp_path: Path
) -> None:
    promtool()
    expected: dict[int, set[str]] = {minute: set() for minute in range(FAULT_AT)}
    expected[MINUTES - 1] = alerts
    if not alerts:
        expected = dict.fromkeys(range(MINUTES), alerts)
    run_promtool(pages(fault), expected, tmp_path / "test.yml")


def test_a_near_cache_that_hears_nothing_is_noticed(tmp_path: Path) -> None:
    """Redis takes the right to hear of changes away: there are no copies any more."""
    promtool()
    lesson = load("03")
    with services.private("redis") as server:
        if server is None:
            pytest.skip("no redis-server on the PATH")
        client = cache_client(server.url)
        with lesson.NearCache(client, "near:") as near:
            wait_until(lambda: near.copies.followed)
            caches = {"rank": near.stats, "rank nearby": near.near_stats}
            found = []
            for minute in range(MINUTES):
                if minute == FAULT_AT:
                    client.acl_setuser("default", enabled=True, commands=["-subscribe"])
                    client.client_kill_filter(_id=near.listener.connection_id)
                    wait_until(lambda: not near.copies.followed)
                near.set("user", 1)
                for _ in range(10):
                    assert near.get("user") == 1
                found.append(page_of(LessonMetrics(caches, {})))
    expected = {FAULT_AT - 1: set(), MINUTES - 1: {"HitShareFell"}}
    run_promtool(found, expected, tmp_path / "test.yml")


def test_each_alert_has_its_fault_and_is_in_the_guide() -> None:
    there = set(re.findall(r"- alert: (\w+)", RULES.read_text("utf-8")))
    fired = set().union(*(alerts for _, alerts in FAULTS))
    assert fired == there
    guide = (ROOT / "COMPREHENSIVE_GUIDE.md").read_text("utf-8")
    assert there <= set(re.findall(r"- alert: (\w+)", guide))


def test_everything_that_is_counted_is_on_the_page_before_it_happens() -> None:
    """Prometheus sees no increase where a series begins at 1."""
    sources = [*ROOT.glob("course/amqp/*.py"), ROOT / "04_rabbitmq_messaging.py"]
    counted = set()
    for path in sources:
        text = path.read_text("utf-8")
        counted |= set(
            re.findall(r"self\.count(?:\(|s\[)\"(\w+)\"(?:\] \+=|[,)])", text)
        )
        counted |= set(re.findall(r"outcome = \"(\w+)\"", text))
        counted |= set(re.findall(r"self\.counts\[.* else \"(\w+)\"\] \+=", text))
    assert counted == set(EVENTS)
