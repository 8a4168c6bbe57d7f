"""Lesson 03 on a private Redis Cluster: all methods, and a master that is killed."""

from __future__ import annotations

import functools
import threading
import time
import uuid
from collections.abc import Iterator
from typing import Any

import clusters
import fakeredis
import pytest
import redis
import services
from clusters import Cluster
from conftest import absent
from lessons import load, path_of, run
from redis.backoff import NoBackoff
from redis.retry import Retry

from course.caching.client import cluster_client
from course.caching.jobs import LoaderError
from course.caching.policy import Policy
from course.lab import SlowSource, in_background, start_together

lesson = load("03")


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    with clusters.cluster() as found:
        if found is None:
            absent("no redis-server on the PATH")
        assert found
        yield found


@pytest.fixture
def tag() -> str:
    return "{" + uuid.uuid4().hex[:12] + "}:"


def cache_at(cluster: Cluster, prefix: str) -> Any:
    breaker = lesson.CircuitBreaker(cooldown=0.2)
    return lesson.RedisCache(cluster_client(cluster.url, 2.0), prefix, breaker)


def test_every_method_works(cluster: Cluster, tag: str) -> None:
    one, two = (cache_at(cluster, tag) for _ in range(2))
    manager = lesson.CacheInvalidationManager(one)
    policy = Policy(ttl=60)
    assert one.get_or_load("a", lambda: 1, policy) == 1
    assert two.get_or_load("a", lambda: "not called", policy) == 1
    for key in "bcdef":
        assert one.set(key, key)
    assert two.get_many("abcdef") == {"a": 1} | {key: key for key in "bcdef"}
    assert [one.delete("b", "c", "missing"), two.get("b")] == [2, None]
    manager.tag("t", "d", "e")
    assert [manager.invalidate_tag("t"), manager.invalidate_tag("t")] == [2, 0]
    manager.depend("f", "a")
    assert [manager.cascade("a"), one.set("g[1]", 1), one.set("g1", 1)] == [2, True, 1]
    assert [manager.invalidate_pattern("g1"), two.get("g[1]")] == [1, 1]
    assert one.clear_pattern("*") == 1
    one.set("h", 1)
    one.bump()
    assert two.get("h") is None
    assert one.stats.errors == two.stats.errors == 0
    assert not one.owed


def test_a_failure_and_a_delete_under_way_are_as_on_one_server(
    cluster: Cluster, tag: str
) -> None:
    one, two = (cache_at(cluster, tag) for _ in range(2))

    def overtaken() -> str:
        two.delete("k")
        return "old"

    assert one.get_or_load("k", overtaken, Policy()) == "old"
    assert (one.get("k"), one.stats.refused) == (None, 1)
    source = SlowSource(LookupError("no row"), 0.3)
    calls = [
        functools.partial(cache.get_or_load, "e", source.load, Policy())
        for cache in (one, two)
    ]
    outcomes = start_together(calls * 5)
    assert {type(outcome) for outcome in outcomes} <= {LookupError, LoaderError}
    decorated = lesson.redis_cache(60, cache=one, name="f")(lambda n: [n])
    assert [decorated(1), decorated(1), decorated.cache_clear()] == [[1], [1], 1]


def test_the_names_of_one_tag_lie_on_one_node_and_those_of_others_elsewhere(
    cluster: Cluster,
) -> None:
    client: Any = cluster_client(cluster.url, 2.0)
    nodes = set()
    for number in range(30):
        cache = lesson.RedisCache(client, f"{{f{number}}}:")
        names = [cache.name(kind, "key") for kind in ("value", "lease", "tag")]
        names.append(cache.generation)
        slots = {client.keyslot(name) for name in names}
        assert len(slots) == 1
        nodes.add(client.get_node_from_key(cache.generation).port)
    assert len(nodes) == clusters.MASTERS


@pytest.mark.parametrize("prefix", ["cache:", "{}:", "{cache:", "cache}:", "{}{a}:"])
def test_a_prefix_without_a_hash_tag_is_refused(cluster: Cluster, prefix: str) -> None:
    says = "in Redis Cluster a prefix holds a hash tag, as in"
    with pytest.raises(ValueError, match=says):
        lesson.RedisCache(cluster_client(cluster.url, 2.0), prefix)


def test_a_near_cache_and_a_client_that_decodes_are_refused(cluster: Cluster) -> None:
    with pytest.raises(ValueError, match="a near cache listens to one server"):
        lesson.NearCache(cluster_client(cluster.url, 2.0), "{a}:")
    decoding = redis.RedisCluster.from_url(cluster.url, decode_responses=True)
    with pytest.raises(ValueError, match="leave out decode_responses"):
        lesson.RedisCache(decoding, "{a}:")


def test_a_cluster_client_that_asks_replicas_or_for_ever_is_refused(
    cluster: Cluster,
) -> None:
    strategy = redis.cluster.LoadBalancingStrategy.ROUND_ROBIN
    asking: Any = redis.RedisCluster.from_url(
        cluster.url, load_balancing_strategy=strategy
    )
    with pytest.raises(ValueError, match="may not have heard of a delete"):
        lesson.RedisCache(asking, "{a}:")
    endless: Any = cluster_client(cluster.url, 2.0)
    endless.set_retry(Retry(NoBackoff(), -1))
    with pytest.raises(ValueError, match="tries again for ever"):
        lesson.RedisCache(endless, "{a}:")


def test_the_lesson_says_that_it_wants_a_single_server(cluster: Cluster) -> None:
    done = run(path_of("03"), "--only", "lru", "--url", cluster.url)
    assert (done.returncode, done.stdout) == (2, "")
    assert "is a node of a cluster: name a single server" in done.stderr


def test_a_master_is_killed_and_callers_get_answers(cluster: Cluster, tag: str) -> None:
    """Until its replica takes over, the cache does without; then it serves again."""
    cache, other = (cache_at(cluster, tag) for _ in range(2))
    truth = [1]
    policy = Policy(ttl=60, longest_load=1.0)
    stop = threading.Event()
    answers: list[tuple[int, int]] = []

    def read() -> None:
        while not stop.is_set():
            newest = truth[0]
            found = cache.get_or_load("price", lambda: truth[0], policy)
            answers.append((found, newest))
            time.sleep(0.01)

    assert cache.get_or_load("price", lambda: truth[0], policy) == 1
    reading = in_background(read)
    master = cluster.owner(cache.name("value", "price"))
    master.kill()
    try:
        services.wait_for(lambda: cache.stats.errors > 0, 20)
        truth[0] = 2
        cache.delete("price")  # Redis may not receive it
        deleted = len(answers)
        services.wait_for(functools.partial(_is_served, cluster, cache), 30)
        services.wait_for(lambda: cache.settle(1.0), 30)
        services.wait_for(lambda: not cache.breaker.failures, 30)
        hits = cache.stats.hits
        services.wait_for(lambda: cache.stats.hits > hits + 10, 30)
    finally:
        stop.set()
        reading.result(30)
        master.start()
        services.wait_for(cluster.is_whole, 60)
    # From the second answer after the delete: the first may have begun before it.
    assert {found for found, _ in answers[deleted + 2 :]} == {2}
    assert other.get("price") in (2, None)


def _is_served(cluster: Cluster, cache: Any) -> bool:
    try:
        return bool(cluster.owner(cache.generation))
    except LookupError:
        return False


def test_a_cluster_that_answers_nobody_is_an_outage_like_any_other() -> None:
    server = fakeredis.FakeServer()
    client: Any = fakeredis.FakeRedis(server=server)
    cache = lesson.RedisCache(client, "{a}:")

    def lost(*words: Any, **options: Any) -> Any:
        raise redis.exceptions.RedisClusterException("no reachable node")

    client.execute_command = lost
    for _ in range(5):
        assert cache.get_or_load("k", lambda: 1, Policy()) == 1
    assert cache.breaker.failures == 3
