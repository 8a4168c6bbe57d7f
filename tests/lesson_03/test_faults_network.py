"""Lesson 03 behind a network that delays, cuts in mid-reply and sends garbage."""

from __future__ import annotations

import functools
import random
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, NamedTuple

import pytest
import redis
import services
from lessons import load

from course.caching.client import cache_client
from course.caching.copies import PROMISE
from course.caching.policy import Policy
from course.lab import in_background
from course.network import FaultyNetwork

lesson = load("03")

GARBAGE = [
    b"\x00\xff\xfe garbage \r\n",
    b"HTTP/1.1 400 Bad Request\r\n\r\n",
    b"*1152921504606846976\r\n",
    b"$-7\r\n",
    b"*3\r\n$7\r\nmessage\r\n",
    b"+OK\r\n",
    b":12\r\n",
    b"*0\r\n",
    b"*1\r\n*1\r\n*1\r\n:1\r\n",
    b"-ERR nonsense\r\n",
]


class Place(NamedTuple):
    """A Redis, the network in front of it, and a prefix of our own."""

    url: str
    network: FaultyNetwork
    far_url: str  # through the network
    prefix: str


@contextmanager
def behind_a_network(url: str) -> Iterator[Place]:
    """Yield a faulty network in front of Redis; delete what is left there."""
    with redis.Redis.from_url(url) as client:
        address = client.get_connection_kwargs()
    host = str(address.get("host") or "127.0.0.1")
    prefix = f"module8:{uuid.uuid4().hex[:12]}:"
    with FaultyNetwork(host, int(address.get("port") or 6379)) as network:
        far_url = f"redis://127.0.0.1:{network.port}/{address.get('db', 0)}"
        try:
            yield Place(url, network, far_url, prefix)
        finally:
            with redis.Redis.from_url(url) as client:
                for name in client.scan_iter(f"{prefix}*", 1000):
                    client.unlink(name)


@pytest.fixture
def place(redis_url: str) -> Iterator[Place]:
    with behind_a_network(redis_url) as found:
        yield found


def listening(near: Any) -> None:
    services.wait_for(lambda: near.copies.followed)


def until_copied(near: Any) -> None:
    """Wait until a near cache has a copy of the number."""
    services.wait_for(lambda: near_copy(near, "n"))


ENDS: dict[str, BaseException] = {
    "MemoryError": MemoryError(),
    "ValueError": ValueError("not enough values to unpack"),
    "RecursionError": RecursionError(),
    "SystemExit": SystemExit(),
}


@pytest.mark.parametrize("how", ENDS)
@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_whatever_ends_the_listener_no_copy_is_served(
    how: str, place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    writer = lesson.RedisCache(cache_client(place.url, 5.0), place.prefix)
    with lesson.NearCache(cache_client(place.url, 5.0), place.prefix) as near:
        listening(near)
        writer.set("n", 1)
        until_copied(near)
        ended = threading.Event()

        def end(news: Any) -> None:
            ended.set()
            raise ENDS[how]

        monkeypatch.setattr(near.listener, "hear", end)
        writer.set("n", 2)
        assert ended.wait(10)
        services.wait_for(lambda: near.get("n") == 2)
        for number in (3, 4, 5):
            writer.set("n", number)
            services.wait_for(functools.partial(_gives, near, number))
        monkeypatch.undo()
        # It recovers: copies again, and the changes of them are heard.
        until_copied(near)
        writer.set("n", 6)
        services.wait_for(functools.partial(_gives, near, 6))


def test_copies_end_in_time_while_news_trickles(place: Place) -> None:
    """Each byte comes within the socket's timeout, and the news never does."""
    writer = lesson.RedisCache(cache_client(place.url, 5.0), place.prefix)
    with lesson.NearCache(cache_client(place.far_url, 5.0), place.prefix) as near:
        listening(near)
        writer.set("n", 1)
        until_copied(near)
        names = [near.generation, near.name("value", "n")]
        place.network.drip = 0.1
        writer.set("n", 2)
        time.sleep(PROMISE + 0.1)
        for _ in range(20):
            assert near.copies.find(names, object()) is None
            time.sleep(0.05)
        place.network.drip = 0.0
        place.network.cut()
        services.wait_for(functools.partial(_gives, near, 2))


def _gives(cache: Any, number: int) -> bool:
    return bool(cache.get("n") == number)


def test_a_thread_that_is_gone_is_replaced(place: Place) -> None:
    with lesson.NearCache(cache_client(place.url, 5.0), place.prefix) as near:
        listening(near)
        near.listener.stopping.set()
        near.listener.thread.join(10)
        assert not near.copies.followed
        near.get("n")
        listening(near)


def test_the_end_of_a_listener_is_logged_without_secrets(
    place: Place, caplog: pytest.LogCaptureFixture
) -> None:
    with lesson.NearCache(cache_client(place.far_url, 5.0), place.prefix) as near:
        listening(near)
        place.network.cut()
        services.wait_for(lambda: "the near cache keeps no copies: " in caplog.text)


def test_a_near_cache_can_be_entered_twice(place: Place) -> None:
    near = lesson.NearCache(cache_client(place.url, 5.0), place.prefix)
    with near:
        with near:
            listening(near)
            first = near.listener.thread
        listening(near)
        assert near.listener.thread is first
        assert first.is_alive()
    assert not near.copies.followed
    assert not first.is_alive()
    with near:
        listening(near)


@pytest.mark.parametrize("garbage", GARBAGE, ids=lambda garbage: repr(garbage[:20]))
@pytest.mark.parametrize("before", [True, False], ids=["before", "instead"])
def test_garbage_is_never_a_value(garbage: bytes, before: bool, place: Place) -> None:
    """Garbage in place of a reply, or before it: then each reply is another's."""
    direct = lesson.RedisCache(cache_client(place.url, 5.0), place.prefix)
    cache = lesson.RedisCache(cache_client(place.far_url), place.prefix)
    cache.breaker.cooldown = 0.05
    for key in "abc":
        direct.set(key, f"value of {key}")
    assert cache.get("a") == "value of a"
    for _ in range(3):
        place.network.garble(garbage, before)
        for key in "abcabc":
            assert cache.get(key) in (None, f"value of {key}")
            found = cache.get_or_load(key, lambda key=key: f"value of {key}", Policy())
            assert found == f"value of {key}"
    place.network.spoilt.clear()

    def is_well() -> bool:
        return bool(len(cache.get_many("abc")) == 3)

    services.wait_for(is_well)


def test_a_reply_cut_in_the_middle_is_never_a_value(place: Place) -> None:
    direct = lesson.RedisCache(cache_client(place.url, 5.0), place.prefix)
    cache = lesson.RedisCache(cache_client(place.far_url), place.prefix)
    direct.set("k", {"n": 12345678})
    for _ in range(10):
        place.network.cut_in_reply()
        found = cache.get_or_load("k", lambda: {"n": 12345678}, Policy())
        assert found == {"n": 12345678}
    services.wait_for(lambda: cache.get("k") == {"n": 12345678})


@pytest.mark.parametrize("garbage", GARBAGE, ids=lambda garbage: repr(garbage[:20]))
def test_garbage_to_the_listener_ends_its_copies(garbage: bytes, place: Place) -> None:
    writer = lesson.RedisCache(cache_client(place.url, 5.0), place.prefix)
    with lesson.NearCache(cache_client(place.far_url, 2.0), place.prefix) as near:
        for number in range(2):
            listening(near)
            writer.set("n", number)
            services.wait_for(functools.partial(_gives, near, number), 20)
            place.network.garble(garbage)  # perhaps in place of the news
            writer.set("n", number + 10)
            services.wait_for(functools.partial(_gives, near, number + 10), 20)


def near_copy(near: Any, name: str) -> bool:
    return bool(lesson.commands_sent(near, functools.partial(near.get, name)) == 0)


def test_half_a_piece_of_news_ends_the_copies_of_a_patient_client(
    place: Place,
) -> None:
    writer = lesson.RedisCache(cache_client(place.url, 5.0), place.prefix)
    writer.set("n", 0)
    client = redis.Redis.from_url(place.far_url, protocol=2, socket_timeout=60.0)
    with lesson.NearCache(client, place.prefix) as near:
        listening(near)
        services.wait_for(lambda: near_copy(near, "n"))
        heard = threading.Event()

        def half(data: bytes) -> tuple[bytes, bool]:
            heard.set()
            return data[: len(data) // 2], True

        place.network.spoilt.append(half)
        writer.set("n", 1)
        assert heard.wait(10)
        place.network.freeze("down")
        services.wait_for(lambda: not near.copies.followed)
        place.network.cut()


def test_more_news_than_a_listener_can_hear_in_time_ends_its_copies(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    writer = lesson.RedisCache(cache_client(place.url, 5.0), place.prefix)
    writer.set("n", 0)
    ended = threading.Event()

    def chat() -> None:
        while not ended.wait(0.005):
            writer.set("other", "news")

    with lesson.NearCache(cache_client(place.url, 5.0), place.prefix) as near:
        hear = near.listener.hear

        def hear_slowly(news: Any) -> Any:
            time.sleep(0.1)
            return hear(news)

        listening(near)
        monkeypatch.setattr(near.listener, "hear", hear_slowly)
        talking = in_background(chat)
        try:
            services.wait_for(lambda: not near.copies.followed)
        finally:
            ended.set()
            talking.result(60)
        monkeypatch.undo()
        listening(near)


def test_a_process_that_may_have_no_more_threads_reads_without_copies(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(self: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    near = lesson.NearCache(cache_client(place.url, 5.0), place.prefix)
    near.set("n", 1)
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", refuse)
        with near:
            assert near.get("n") == 1
    with near:
        listening(near)
        near.listener.stopping.set()
        near.listener.thread.join(10)
        with monkeypatch.context() as patch:
            patch.setattr(threading.Thread, "start", refuse)
            assert near.get("n") == 1
            assert not near.copies.followed
        near.get("n")
        listening(near)


# Seeded schedules of faults. Each read is accounted for: it gives a number that the
# writer had written, not older than the newest delete that had ended before the read.
SLICE = range(2)
SEEDS = range(2, 26)
STEPS = 30


class Schedule:
    """One seed's run: readers, a writer, and a network that breaks by the dice."""

    def __init__(self, place: Place, seed: int) -> None:
        self.dice = random.Random(seed)
        self.place = place
        self.version = 0
        self.deleted = 0
        self.stop = threading.Event()
        self.reads = 0
        self.wrong: list[str] = []
        breaker = lesson.CircuitBreaker(cooldown=0.1)
        self.near = lesson.NearCache(cache_client(place.far_url), place.prefix)
        self.near.breaker = breaker
        self.policy = Policy(ttl=60, longest_load=1.0, beta=self.dice.choice([0, 1]))

    def load(self) -> int:
        found = self.version
        time.sleep(0.002)
        return found

    def read(self) -> None:
        while not self.stop.is_set():
            newest = self.deleted
            found = self.near.get_or_load("v", self.load, self.policy)
            self.reads += 1
            if not (type(found) is int and newest <= found <= self.version):
                self.wrong.append(f"{found!r} after {newest}, before {self.version}")
            stray = self.near.get("other")
            if stray not in (None, "other's"):
                self.wrong.append(f"{stray!r} for another key")

    def write(self) -> None:
        while not self.stop.is_set():
            self.version += 1
            self.near.delete("v")
            self.deleted = self.version
            self.near.set("other", "other's", 60)
            self.stop.wait(0.01)

    def break_network(self) -> None:
        network = self.place.network
        faults: list[Callable[[], object]] = [
            network.cut,
            network.cut_in_reply,
            lambda: network.garble(self.dice.choice(GARBAGE)),
            lambda: network.garble(self.dice.choice(GARBAGE), True),
            lambda: network.garble(self.dice.randbytes(self.dice.randrange(1, 40))),
            lambda: network.freeze(*self.dice.choice([(), ("up",), ("down",)])),
            lambda: setattr(network, "delay", self.dice.choice([0, 0.01, 0.1])),
        ]
        for _ in range(STEPS):
            self.dice.choice(faults)()
            self.stop.wait(self.dice.uniform(0, 0.1))
            network.thaw()
        network.delay = 0
        network.spoilt.clear()
        network.cut()

    def run(self) -> None:
        with self.near:
            jobs = [in_background(job) for job in (self.read, self.read, self.write)]
            try:
                self.break_network()
            finally:
                self.stop.set()
            for job in jobs:
                job.result(60)
            assert self.wrong == []
            assert self.reads > 0
            stats = self.near.stats
            # Each round of a reader is two lookups; the last may have been one.
            assert stats.hits + stats.misses == 2 * self.reads
            self.recover()

    def recover(self) -> None:
        """A quiet network: what was owed is paid, and copies are kept again."""
        near = self.near
        services.wait_for(lambda: near.settle(0.5), 20)
        listening(near)
        direct = lesson.RedisCache(cache_client(self.place.url, 5.0), near.prefix)
        for number in (1, 2):
            direct.set("n", number)
            services.wait_for(functools.partial(_gives, near, number), 20)
        assert near.get_or_load("v", lambda: self.version, self.policy) == self.version


def play(url: str, seed: int) -> None:
    with behind_a_network(url) as place:
        try:
            Schedule(place, seed).run()
        except BaseException as error:
            error.add_note(f"the schedule of seed {seed} of {__name__} failed")
            raise


@pytest.mark.parametrize("seed", SLICE)
def test_no_wrong_value_under_a_random_schedule_of_faults(
    seed: int, redis_url: str
) -> None:
    play(redis_url, seed)


@pytest.mark.soak
@pytest.mark.parametrize("seed", SEEDS)
def test_no_wrong_value_under_more_random_schedules(seed: int, redis_url: str) -> None:
    play(redis_url, seed)


def test_a_failing_seed_names_itself(
    redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(self: Schedule) -> None:
        raise AssertionError("wrong")

    monkeypatch.setattr(Schedule, "run", fail)
    with ExitStack() as stack:
        caught = stack.enter_context(pytest.raises(AssertionError))
        play(redis_url, 7)
    assert "seed 7 of" in caught.value.__notes__[0]
