"""What is acknowledged together, and how a publish ends: without a broker."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable
from functools import partial
from typing import Any
from unittest.mock import Mock

import pika
import pytest
from lessons import load

from course.amqp import consuming
from course.amqp.errors import PublishFailed
from course.amqp.pending import Confirmation, Pending, until_settled
from course.amqp.settling import Delivery, OpenTags
from course.amqp.trials import consumer_with
from course.lab import in_background, raises

lesson = load("04")


def settled_by(acknowledgement: tuple[int, bool], known: set[int]) -> set[int]:
    """Return which open deliveries a broker forgets because of an acknowledgement."""
    tag, multiple = acknowledgement
    return {one for one in known if one == tag or (multiple and one < tag)}


def test_many_are_acknowledged_together_and_none_that_is_still_open() -> None:
    rng = random.Random(4)
    frames = 0
    for _ in range(300):
        tags = OpenTags()
        broker: set[int] = set()  # what it waits for
        ours: set[int] = set()  # what is being worked on
        last = 0
        for _ in range(20):
            for _ in range(rng.randrange(6)):
                last += 1
                tags.add(last)
                broker.add(last)
                ours.add(last)
            back = {one for one in ours if rng.random() < 0.1}
            for one in back:
                tags.remove(one)
            broker -= back
            ours -= back
            done = [one for one in ours if rng.random() < 0.6]
            rng.shuffle(done)
            ours.difference_update(done)
            for frame in tags.acknowledged(done):
                forgotten = settled_by(frame, broker)
                assert frame[0] in forgotten  # else the broker closes the channel
                broker -= forgotten
                frames += 1
            assert broker == ours
    assert frames < 300 * 20 * 2


def test_a_publish_ends_once_and_whoever_waits_is_told() -> None:
    confirmed = Confirmation()
    told: list[Confirmation] = []
    confirmed.add_done_callback(told.append)
    waiting = [in_background(lambda: confirmed.wait(5)) for _ in range(2)]
    assert not confirmed.wait(0)
    confirmed.end(None)
    confirmed.end(PublishFailed("too late"))
    confirmed.add_done_callback(told.append)
    assert [one.result(5) for one in waiting] == [True, True]
    assert confirmed.exception() is None
    assert told == [confirmed, confirmed]


def test_callbacks_are_called_in_their_order() -> None:
    confirmed = Confirmation()
    called: list[str] = []
    for name in ("first", "second", "third"):
        confirmed.add_done_callback(partial(lambda name, _: called.append(name), name))
    confirmed.end(None)
    assert called == ["first", "second", "third"]


class Meanwhile(list[Any]):
    """A list to which another thread appends, right after the first one has."""

    def __init__(self, other: Callable[[], object]) -> None:
        self.other = other

    def append(self, one: Any) -> None:
        super().append(one)
        if len(self) == 1:
            self.other()


def test_two_threads_may_end_a_publish_at_the_same_time() -> None:
    ending = Confirmation()
    called: list[Any] = []
    ending.add_done_callback(called.append)
    ending._ends = Meanwhile(lambda: ending.end(None))
    failed = PublishFailed("too late")
    ending.end(failed)
    assert called == [ending]
    assert ending._open.acquire(timeout=0)  # nobody waits in vain
    assert ending.exception(0) is failed


def test_a_callback_that_fails_is_no_end_of_the_thread_that_calls_it() -> None:
    confirmed = Confirmation()
    confirmed.add_done_callback(lambda _: 1 / 0)
    confirmed.end(PublishFailed("refused"))
    assert raises(PublishFailed, confirmed.result)
    assert raises(TimeoutError, lambda: Confirmation().result(0))


def test_all_are_waited_for_and_not_for_ever() -> None:
    pending = [Pending("", "queue", b"", None) for _ in range(3)]
    for one in (pending[2], pending[0]):
        one.end(None)
    threading.Timer(0.05, pending[1].end, [None]).start()
    until_settled(pending, 5)
    assert all(one.is_confirmed for one in pending)
    until_settled([Pending("", "queue", b"", None)], 0.01)


def delivered(tag: int, channel: object, redelivered: bool = False) -> Delivery:
    """Return a delivery of the same message each time."""
    about = pika.BasicProperties(message_id="same")
    return Delivery(channel, tag, about, b"{}", redelivered)


@pytest.mark.parametrize("rejected", [False, True])
def test_what_comes_again_is_begun_unless_it_is_done(rejected: bool) -> None:
    """Its connection went before it was settled; a queue may delay what is rejected."""
    old, new = Mock(is_open=False), Mock(is_open=True)
    consumer = consumer_with(lesson.Consumer, str, None, "queue")
    before = delivered(1, old)
    consumer._channel = old
    before.rejected = rejected
    consumer.acknowledge(before)
    consumer._channel = new
    with consumer.in_hand(delivered(1, new, redelivered=True)) as begun:
        assert begun == rejected


def test_what_comes_again_meanwhile_waits_for_the_one_in_hand() -> None:
    channel = Mock(is_open=True)
    consumer = consumer_with(lesson.Consumer, str, None, "queue")
    consumer._channel = channel
    first = delivered(1, channel)
    again = delivered(2, channel, redelivered=True)
    with consumer.in_hand(first) as begun:
        assert begun
        with consumer.in_hand(again) as begun_again:
            assert not begun_again
    assert consumer.jobs.get(timeout=1) is again  # the first was not done
    with consumer.in_hand(again) as begun_again:
        assert begun_again


@pytest.mark.parametrize(("prefetch", "begins_at"), [(100, 50), (40, 25), (20, 25)])
def test_short_work_lets_the_broker_know_before_it_is_through_with_a_prefetch(
    prefetch: int, begins_at: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    consumer = consumer_with(
        lesson.Consumer, lambda _: None, Mock(), "q", prefetch=prefetch
    )
    consumer.connection = Mock()
    asked: list[Callable[[], None]] = []
    monkeypatch.setattr(consuming, "call_soon", lambda _, work: asked.append(work))
    waited_at = []

    def wait(limit: float) -> None:
        assert limit < 0.1
        waited_at.append(len(consumer.settled))

    consumer._flushed = Mock(wait=wait)
    for tag in range(1, prefetch):
        consumer.acknowledge(Delivery(Mock(), tag, Mock(), b""))
    assert waited_at == [count for count in range(1, prefetch) if count >= begins_at]
    assert asked == [consumer.flush]  # once for all
