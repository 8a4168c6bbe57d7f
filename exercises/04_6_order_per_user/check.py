"""Judges OrderedConsumer with a broker and a handler that fail as they are told to."""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Callable, Iterable
from functools import partial
from types import ModuleType
from typing import Any

from course.practice.checking import Refused, Words, expect

Script = list[Exception]  # what the attempts of a message raise; then they succeed


class NoAccountError(ValueError):
    """A kind of ValueError."""


class Bench:
    """A consumer, its broker and its handler, and a list of all that happens.

    An event is such as "try 3", "done 3", "bury 3: behind" or "ack 3"; the number is
    the delivery's tag.
    """

    def __init__(
        self,
        answer: ModuleType,
        base: float,
        retries: int,
        dead_users: Iterable[str] = (),
    ) -> None:
        self.delivery = answer.Delivery
        self.scripts: dict[int, Script] = {}
        self.events: list[str] = []
        self.times: dict[int, list[float]] = defaultdict(list)  # of attempts, by tag
        self.gone: str | None = None  # the event at which the broker goes away
        self.now = 1000.0
        self.tag = 0
        make = answer.OrderedConsumer
        self.consumer = make(self, self.handle, base, retries, dead_users)

    # The broker and the handler

    def ack(self, tag: int) -> None:
        """Settle a delivery."""
        self.note(f"ack {tag}")

    def bury(self, delivery: Any, reason: str) -> None:
        """Publish a copy of a delivery to the dead letters."""
        self.note(f"bury {delivery.tag}: {reason}")

    def note(self, event: str) -> None:
        """Note what the broker is asked for, unless it goes away."""
        if event == self.gone:
            raise ConnectionError("the broker is gone")
        self.events.append(event)

    def handle(self, delivery: Any) -> None:
        """Attempt a delivery."""
        self.events.append(f"try {delivery.tag}")
        self.times[delivery.tag].append(self.now)
        script = self.scripts[delivery.tag]
        if script:
            raise script.pop(0)

    # What the check does

    def call(self, method: Callable[[float], object]) -> None:
        """Call a method of the consumer; the handler's error must not come out."""
        try:
            method(self.now)
        except ConnectionError as error:
            if self.gone:
                raise
            tried = "the handler raises ConnectionError; the broker is there"
            came = Words("it is let out")
            raise Refused(tried, came, Words("another attempt later"), 2) from error

    def make(self, user: str, *script: Exception) -> Any:
        """Return a new delivery of a user, whose attempts fail as the script says."""
        self.tag += 1
        self.scripts[self.tag] = list(script)
        return self.delivery(self.tag, user, b"change")

    def deliver(self, user: str, *script: Exception) -> None:
        """Deliver a new message of a user."""
        delivery = self.make(user, *script)
        self.call(partial(self.consumer.on_delivery, delivery))

    def tick(self, seconds: float) -> None:
        """Let time pass, and tell the consumer."""
        self.now += seconds
        self.call(self.consumer.on_time)

    def redrive(self, *letters: Any) -> None:
        """Give dead letters back."""
        self.call(partial(self.consumer.redrive, letters))

    def expect(self, tried: str, hint: int, *expected: str) -> None:
        """Compare what has happened since the last time.

        An acknowledgement may come later than expected, but not before its delivery is
        done or buried.
        """
        expect(tried, steps(self.events), steps(expected), hint)
        self.expect_acks(tried, hint)
        acked = f"{tried}: the tags that are acknowledged"
        expect(acked, sorted(acks(self.events)), sorted(acks(expected)), hint)
        self.events.clear()

    def expect_acks(self, tried: str, hint: int) -> None:
        """Refuse what is acknowledged before it is done or buried."""
        for place, event in enumerate(self.events):
            if not event.startswith("ack"):
                acked = f"ack {tag_of(event)}"
                if acked in self.events[:place]:
                    came = Words(f"{acked!r} before {event!r}")
                    raise Refused(tried, came, Words("the other order"), hint)

    def expect_settled(self, tried: str, hint: int, *expected: str) -> None:
        """As expect(), once the consumer had another chance at the same time."""
        self.tick(0)
        self.expect(tried, hint, *expected)


def steps(events: Iterable[str]) -> list[str]:
    """Return the events without the acknowledgements."""
    return [event for event in events if not event.startswith("ack")]


def acks(events: Iterable[str]) -> list[int]:
    """Return the tags that are acknowledged."""
    return [int(event.split()[1]) for event in events if event.startswith("ack")]


def tag_of(event: str) -> int:
    """Return the tag that an event is about."""
    return int(event.split()[1].rstrip(":"))


def away() -> Exception:
    """Return an error that is worth a retry."""
    return ConnectionError("no answer")


def wrong() -> Exception:
    """Return an error that is not."""
    return ValueError("no account")


def done(*tags: int) -> list[str]:
    """Return the events of deliveries that are attempted, and succeed."""
    return [event for tag in tags for event in (f"try {tag}", f"ack {tag}")]


def behind(*tags: int) -> list[str]:
    """Return the events of deliveries that are buried behind another."""
    return [event for tag in tags for event in (f"bury {tag}: behind", f"ack {tag}")]


def failed(tag: int, reason: str) -> list[str]:
    """Return the events of an attempt that fails for good."""
    return [f"try {tag}", f"bury {tag}: {reason}", f"ack {tag}"]


def check(answer: ModuleType, rng: random.Random) -> None:
    """Tell stories of a few users, then let many of them act at random."""
    base = rng.choice((1.0, 2.0, 8.0))
    check_waits(answer, base)
    check_behind(answer, base)
    check_counts(answer, base)
    check_for_good(answer, base)
    check_dead_users(answer, base)
    check_other_users(answer, base)
    check_redrive(answer, base)
    check_redrive_in_steps(answer, base)
    check_broker_goes(answer, base)
    for _ in range(20):
        Crowd(answer, rng).go_on()


def check_waits(answer: ModuleType, base: float) -> None:
    """Succeed, fail for the moment; look at when it is attempted again."""
    bench = Bench(answer, base, 3)
    bench.deliver("ann")
    bench.expect("a message that succeeds", 1, *done(1))
    bench.tick(100 * base)
    bench.expect("on_time after a message that has succeeded", 1)
    bench.deliver("ann", away(), away(), away())
    bench.expect("a message whose first attempt fails", 1, "try 2")
    bench.tick(0.75 * base)
    bench.expect("on_time before the wait of base is over", 1)
    bench.tick(0.25 * base)
    bench.expect("on_time when the wait of base is over", 1, "try 2")
    bench.tick(1.75 * base)
    bench.expect("on_time before the second wait, of 2 * base, is over", 1)
    # Late: the next wait begins at the failure, not when the attempt was due.
    bench.tick(3.25 * base)
    bench.expect("on_time long after the second wait", 1, "try 2")
    bench.tick(3.75 * base)
    tried = "on_time before 4 * base are over since the last failure"
    bench.expect(tried, 1)
    bench.tick(0.25 * base)
    bench.expect("on_time when 4 * base are over since the last failure", 1, *done(2))
    bench.tick(100 * base)
    bench.expect("on_time after it is done", 1)


def check_behind(answer: ModuleType, base: float) -> None:
    """Deliver more of a user whose first message waits."""
    bench = Bench(answer, base, 3)
    bench.deliver("ann", away())
    bench.deliver("ann")
    bench.deliver("ann", away())
    bench.expect("three of a user, the first fails", 1, "try 1")
    bench.tick(0.5 * base)
    bench.deliver("ann")
    bench.expect("a fourth one, before the first is due", 1)
    bench.tick(0.5 * base)
    tried = "the first succeeds; the third, behind it, fails"
    bench.expect(tried, 2, *done(1, 2), "try 3")
    bench.tick(0.75 * base)
    bench.expect("on_time before the third is due", 2)
    bench.tick(0.25 * base)
    bench.expect(
        "four of a user: the third, which waited, succeeds; the fourth is behind",
        2,
        *done(3, 4),
    )
    bench.deliver("ann")
    bench.expect("a fifth one of this user, when nothing waits", 2, *done(5))


def check_counts(answer: ModuleType, base: float) -> None:
    """See that each message has attempts and waits of its own, also with none."""
    bench = Bench(answer, base, 2)
    bench.deliver("ann", away(), away())
    bench.deliver("ann", away(), away())
    bench.tick(base)
    bench.tick(2 * base)
    tried = "two of a user, with 2 retries: the first succeeds at its last attempt"
    bench.expect(tried, 2, "try 1", "try 1", *done(1), "try 2")
    bench.tick(base)
    tried = "two of a user: the second has failed once; on_time after base"
    bench.expect(tried, 2, "try 2")
    bench.tick(2 * base)
    bench.expect("two of a user: the second succeeds at its last attempt", 2, *done(2))
    bench = Bench(answer, base, 1)
    bench.deliver("ann", away(), KeyError("name"))
    bench.tick(base)
    tried = "one retry, and both attempts fail"
    bench.expect_settled(tried, 2, "try 1", *failed(1, "'name'"))
    bench = Bench(answer, base, 0)
    bench.deliver("ann", away())
    tried = "no retries, and the first attempt fails"
    bench.expect_settled(tried, 2, *failed(1, "no answer"))


def check_for_good(answer: ModuleType, base: float) -> None:
    """Fail for good, with others behind, waiting and delivered later."""
    bench = Bench(answer, base, 3)
    bench.deliver("ann", wrong())
    tried = "a message that raises ValueError"
    bench.expect_settled(tried, 2, *failed(1, "no account"))
    bench.deliver("ann")
    bench.expect_settled(
        "one raised ValueError, then another one of the same user", 2, *behind(2)
    )
    bench.tick(1000 * base)
    bench.deliver("ann")
    bench.expect_settled(
        "one raised ValueError, then another one of this user, much later",
        2,
        *behind(3),
    )
    bench = Bench(answer, base, 1)
    bench.deliver("ann", away(), NoAccountError("no account"))
    for _ in range(3):
        bench.deliver("ann")
    bench.tick(base)
    tried = "its second attempt raises a kind of ValueError; three wait behind it"
    after = [*failed(1, "no account"), *behind(2, 3, 4)]
    bench.expect_settled(tried, 2, "try 1", *after)
    bench.deliver("ann")
    bench.expect_settled("a fifth one of this user", 2, *behind(5))


def check_dead_users(answer: ModuleType, base: float) -> None:
    """Begin with users who are dead."""
    names = iter(["ann", "bob"])
    bench = Bench(answer, base, 3, names)
    for user in ("ann", "carol", "bob", "ann"):
        bench.deliver(user)
    tried = "ann and bob are dead from before; ann, carol, bob, ann are delivered"
    expected = [*behind(1), *done(2), *behind(3, 4)]
    bench.expect_settled(tried, 2, *expected)


def check_other_users(answer: ModuleType, base: float) -> None:
    """Keep nobody waiting for another user."""
    bench = Bench(answer, base, 3)
    bench.deliver("ann", away(), away())
    bench.deliver("bob")
    bench.expect("ann's message fails, then one of bob's comes", 1, "try 1", *done(2))
    bench.deliver("carol", wrong())
    bench.deliver("bob", away())
    bench.expect_settled(
        "carol's fails for good, bob's for now", 1, *failed(3, "no account"), "try 4"
    )
    bench.deliver("dave")
    bench.expect(
        "ann's and bob's wait, carol is dead; then one of dave's comes", 1, *done(5)
    )
    bench.deliver("bob")
    bench.deliver("ann")
    bench.tick(base)
    bench.events.sort(key=tag_of)
    tried = "ann's fails again and bob's two succeed, in one on_time (sorted)"
    bench.expect(tried, 1, "try 1", *done(4, 6))
    bench.tick(2 * base)
    bench.expect(
        "ann's succeeds at its third attempt, another is behind it", 1, *done(1, 7)
    )
    for user in ("ann", "bob", "dave", "eve"):
        bench.deliver(user, away())
    bench.events.clear()
    bench.tick(base)
    bench.events.sort(key=tag_of)
    tried = "four users wait, and all succeed in one on_time (sorted)"
    bench.expect(tried, 1, *done(8, 9, 10, 11))


def check_redrive(answer: ModuleType, base: float) -> None:
    """Give the dead letters back, the reason being mended, or not."""
    bench = Bench(answer, base, 1)
    bench.deliver("ann", away(), away())
    bench.deliver("ann")
    bench.tick(base)
    dead = [*failed(1, "no answer"), *behind(2)]
    bench.expect_settled("both attempts of the first fail", 2, "try 1", *dead)
    bench.redrive(bench.make("ann"), bench.make("ann"))
    bench.expect("redrive of two letters, which succeed", 3, *done(3, 4))
    bench.deliver("ann")
    bench.expect("what is delivered after a redrive", 3, *done(5))
    bench = Bench(answer, base, 1, ["ann"])
    letters = [bench.make("ann", *script) for script in ((), (wrong(),), (), ())]
    bench.redrive(*letters)
    tried = "redrive of four letters, the second fails for good"
    expected = [*done(1), *failed(2, "no account"), *behind(3, 4)]
    bench.expect_settled(tried, 3, *expected)
    bench.deliver("ann")
    bench.deliver("bob")
    expected = [*behind(5), *done(6)]
    bench.expect_settled(
        "redrive failed for good; then one of this user, one of another", 3, *expected
    )


def check_redrive_in_steps(answer: ModuleType, base: float) -> None:
    """Let the first of the letters wait, and deliver more meanwhile."""
    for last in (None, wrong()):
        bench = Bench(answer, base, 1)
        bench.deliver("ann", away(), away())
        bench.tick(base)
        bench.tick(0)
        bench.events.clear()
        letters = [bench.make("ann", away()), bench.make("ann")]
        bench.redrive(*letters)
        tried = "redrive of two letters, the first fails for now"
        bench.expect(tried, 3, "try 2")
        bench.deliver("ann")
        bench.deliver("bob")
        bench.expect(
            "a redriven letter waits; then one of this user, one of another",
            3,
            *done(5),
        )
        if last is None:
            bench.tick(base)
            bench.expect(
                "a redriven letter waits; on_time after base: it succeeds",
                3,
                *done(2, 3, 4),
            )
            bench.deliver("ann")
            bench.expect("redrive is through; then one more of this user", 3, *done(6))
        else:
            bench.scripts[2].append(last)
            bench.tick(base)
            expected = [*failed(2, "no account"), *behind(3, 4)]
            tried = "a redriven letter waits; on_time after base: it fails for good"
            bench.expect_settled(tried, 3, *expected)
            bench.deliver("ann")
            bench.expect_settled(
                "redrive failed for good; then one more of this user", 3, *behind(6)
            )


def broker_goes(
    bench: Bench, at: str, tried: str, call: Callable[[], object], whole: list[str]
) -> None:
    """Let the broker go away at an event; see that it is let out, and nothing else.

    `whole` is what would happen if it stayed.
    """
    bench.gone = at
    bench.events.clear()
    what = f"{tried}; the broker is gone at {at!r}"
    try:
        call()
    except ConnectionError:
        came = steps(bench.events)
        expect(what, came, steps(whole)[: len(came)], 3)
        bench.expect_acks(what, 3)
        left = {tag_of(event) for event in steps(whole)[len(came) :]}
        early = sorted(left & set(acks(bench.events)))
        expect(f"{what}: acknowledged all the same", early, [], 3)
        return
    observed = Words(f"no error, but {bench.events}")
    raise Refused(what, observed, Words("ConnectionError"), 3)


def check_broker_goes(answer: ModuleType, base: float) -> None:
    """Let the broker go away at each step."""
    tried = "a message that succeeds"
    bench = Bench(answer, base, 3)
    broker_goes(bench, "ack 1", tried, partial(bench.deliver, "ann"), done(1))
    tried = "a message that fails for good"
    whole = failed(1, "no account")
    for at in whole[1:]:
        bench = Bench(answer, base, 3)
        broker_goes(bench, at, tried, partial(bench.deliver, "ann", wrong()), whole)
    tried = "a message of a dead user"
    for at in behind(1):
        bench = Bench(answer, base, 3, ["ann"])
        broker_goes(bench, at, tried, partial(bench.deliver, "ann"), behind(1))
    tried = "the second attempt fails for good, two wait behind it"
    whole = [*failed(1, "no account"), *behind(2, 3)]
    for at in whole[1:]:
        bench = Bench(answer, base, 3)
        bench.deliver("ann", away(), wrong())
        bench.deliver("ann")
        bench.deliver("ann")
        broker_goes(bench, at, tried, partial(tick_twice, bench, base), whole)
    tried = "redrive of two letters, the first fails for good"
    whole = [*failed(1, "no account"), *behind(2)]
    for at in whole[1:]:
        bench = Bench(answer, base, 3, ["ann"])
        letters = (bench.make("ann", wrong()), bench.make("ann"))
        broker_goes(bench, at, tried, partial(redrive_all, bench, *letters), whole)


def tick_twice(bench: Bench, seconds: float) -> None:
    """Let time pass, and give another chance at the same time."""
    bench.tick(seconds)
    bench.tick(0)


def redrive_all(bench: Bench, *letters: Any) -> None:
    """Give dead letters back, and another chance at the same time."""
    bench.redrive(*letters)
    bench.tick(0)


class Crowd:
    """Some users whose messages fail at random.

    `lives` has the tags of each user since the last redrive, in order.
    """

    def __init__(self, answer: ModuleType, rng: random.Random) -> None:
        self.rng = rng
        self.base = rng.choice((1.0, 2.0))
        self.retries = rng.randrange(4)
        self.bench = Bench(answer, self.base, self.retries)
        self.lives: dict[str, list[int]] = {"ann": [], "bob": [], "carol": []}
        self.dead: set[str] = set()
        self.wholes: dict[int, list[str]] = {}  # what should happen, by tag
        self.fatal: set[int] = set()

    def go_on(self) -> None:
        """Let things happen; look at each user after each of them."""
        for _ in range(60):
            user = self.rng.choice(list(self.lives))
            chance = self.rng.random()
            if chance < 0.5:
                delivery = self.make(user)
                self.bench.call(partial(self.bench.consumer.on_delivery, delivery))
                what = f"one of {user} is delivered"
            elif chance < 0.9 or user not in self.dead or not self.lives[user]:
                self.bench.tick(self.rng.choice((0.5, 1.0, 3.0)))
                what = "on_time"
            else:
                count = len(self.lives[user])
                self.lives[user] = []
                self.dead.discard(user)
                self.bench.redrive(*[self.make(user) for _ in range(count)])
                what = f"redrive of {user}"
            self.bench.tick(0)
            for name in self.lives:
                self.look_at(name, f"users at random: {what}; events of {name}")

    def make(self, user: str) -> Any:
        """Return a new delivery with a script; note what should happen to it."""
        script = [away() for _ in range(self.rng.choice((0, 0, 0, 1, 2, 4)))]
        if self.rng.random() < 0.1:
            script.append(wrong())
        delivery = self.bench.make(user, *script)
        tag = delivery.tag
        self.lives[user].append(tag)
        whole = [f"try {tag}"]
        for place, error in enumerate(script):
            if isinstance(error, ValueError) or place == self.retries:
                self.fatal.add(tag)
                whole.append(f"bury {tag}: {error}")
                break
            whole.append(f"try {tag}")
        self.wholes[tag] = whole
        return delivery

    def whole(self, user: str) -> tuple[list[str], list[int]]:
        """Return all that should happen to a user's messages, and the tags by step."""
        found: list[str] = []
        tags: list[int] = []
        dead = False
        for tag in self.lives[user]:
            events = [f"bury {tag}: behind"] if dead else self.wholes[tag]
            dead = dead or tag in self.fatal
            found += events
            tags += [tag] * len(events)
        return found, tags

    def look_at(self, user: str, tried: str) -> None:
        """Compare what has happened to a user's messages with what should have."""
        whole, tags = self.whole(user)
        mine = set(tags)
        events = [one for one in self.bench.events if tag_of(one) in mine]
        came = steps(events)
        expect(tried, came, whole[: len(came)], 3)
        for tag in mine:
            self.expect_waits(tag, tried)
        settled = mine
        if len(came) < len(whole):
            head = tags[len(came)]
            settled = {tag for tag in mine if tag < head}
            attempts = self.bench.times[head]
            waits = bool(attempts) and self.due(head, len(attempts)) > self.bench.now
            expect(f"{tried}: the first, {head}, has to wait", waits, True, 3)
        elif self.fatal & mine:
            self.dead.add(user)
        expect(f"{tried}: acknowledged", sorted(acks(events)), sorted(settled), 3)

    def due(self, tag: int, attempts: int) -> float:
        """Return when the next attempt may be made."""
        wait: float = self.base * 2 ** (attempts - 1)
        return self.bench.times[tag][attempts - 1] + wait

    def expect_waits(self, tag: int, tried: str) -> None:
        """Refuse an attempt that came too early."""
        times = self.bench.times[tag]
        for place in range(1, len(times)):
            early = times[place] < self.due(tag, place)
            expect(f"{tried}: attempt {place + 1} came too early", early, False, 3)
