"""What is acknowledged together, and how a publish ends: without a broker."""

from __future__ import annotations

import random
import threading

from course.amqp.errors import PublishFailed
from course.amqp.pending import Confirmation, Pending, until_settled
from course.amqp.settling import OpenTags
from course.lab import in_background, raises


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
