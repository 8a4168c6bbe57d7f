"""Judges SharedBatches: threads whose keys overlap, held in the midst of a load."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, wait
from functools import partial
from types import ModuleType
from typing import Any

from course.lab import in_background, outcome_of, start_together
from course.practice.checking import Refused, Words, expect, expect_end

LIMIT = 2.0  # seconds that anything may take, on a busy machine, too


class SlowKey(str):
    """A key whose look-up takes a moment, so that other threads come in between."""

    __slots__ = ()

    def __hash__(self) -> int:
        time.sleep(0.001)
        return super().__hash__()


class Database:
    """Loads batches, notes them, and holds those whose key has a closed gate."""

    def __init__(self, rows: dict[str, Any]) -> None:
        self.rows = rows
        self.batches: list[Any] = []
        self.gates: dict[str, threading.Event] = {}
        self.effects: dict[str, Callable[[], object]] = {}
        self.loading: list[str] = []
        self.seconds = 0.0
        self.loaded_twice = False
        self.lock = threading.Lock()
        self.changed = threading.Condition(self.lock)

    def hold(self, key: str) -> threading.Event:
        """Close a gate: a batch with this key waits until it is opened."""
        self.gates[key] = threading.Event()
        return self.gates[key]

    def load_batch(self, keys: Any) -> dict[str, Any]:
        """Return the rows of a batch, once its gates are open."""
        with self.changed:
            self.batches.append(list(keys) if type(keys) is list else keys)
            batch = list(keys)
            rows = self.rows  # as they are when the load begins
            self.loaded_twice |= any(key in self.loading for key in batch)
            self.loading += batch
            self.changed.notify_all()
        try:
            time.sleep(self.seconds)
            for key in batch:
                if key in self.gates:
                    self.gates[key].wait(4 * LIMIT)
                if key in self.effects:
                    self.effects[key]()
            return {key: rows[key] for key in batch if key in rows}
        finally:
            with self.lock:
                for key in batch:
                    self.loading.remove(key)

    def count(self, key: str) -> int:
        """Return how many batches had the key."""
        return sum(key in batch for batch in self.batches)

    def is_asked(self, key: str) -> bool:
        """Wait until a batch with the key has come; tell whether one has."""
        with self.changed:
            return self.changed.wait_for(lambda: self.count(key) > 0, LIMIT)


def drawn_keys(rng: random.Random, count: int) -> list[str]:
    """Return the keys of some products."""
    return [f"p{number}" for number in rng.sample(range(100, 1000), count)]


def raising(error: BaseException) -> Callable[[], object]:
    """Return a function that raises."""

    def fail() -> None:
        raise error

    return fail


def ended(tried: str, call: Future[Any], hint: int) -> Any:
    """Return what a call in another thread returned, or the exception it raised."""
    if not wait([call], LIMIT).done:
        late = Words(f"no end within {LIMIT:g} seconds")
        raise Refused(tried, late, Words("an end"), hint)
    error = call.exception()
    if isinstance(error, NotImplementedError):
        raise error
    return call.result() if error is None else error


def loaded(tried: str, batches: Any, keys: list[str], hint: int) -> Any:
    """Return what `load` returns here, or the exception it raises."""
    call = partial(outcome_of, partial(batches.load, keys))
    got = expect_end(tried, call, hint, LIMIT)
    if isinstance(got, NotImplementedError):
        raise got
    return got


def expect_raised(tried: str, got: Any, error: BaseException, hint: int) -> None:
    """Refuse an answer that did not raise such an exception."""
    if type(got) is not type(error) or str(got) != str(error):
        expect(tried, got, Words(repr(error)), hint)


def expect_asked(tried: str, database: Database, key: str, hint: int) -> None:
    """Refuse an answer that has not asked for a key in time."""
    if not database.is_asked(key):
        observed = Words(f"no load of {key}")
        raise Refused(tried, observed, Words("a load at once"), hint)


def check(answer: ModuleType, rng: random.Random) -> None:
    """Load with one thread, then with several of which one is held."""
    for test in (
        alone,
        nothing_kept,
        shared,
        others_go_on,
        rows_that_are_missing,
        own_keys_are_free,
        slow_generator,
        load_within_a_load,
        many_threads,
        failure,
        told_to_end,
        asked_again_at_once,
    ):
        test(answer, rng)


def alone(answer: ModuleType, rng: random.Random) -> None:
    """One thread: each key once, whatever the iterable, and never an empty batch."""
    keys = drawn_keys(rng, 4)
    rows = {key: rng.randrange(1000) for key in keys}
    database = Database(rows)
    batches = answer.SharedBatches(database.load_batch)
    tried = f"load({keys})"
    got = loaded(tried, batches, keys, 1)
    expect(tried, got, rows, 1)
    seen = [sorted(batch) for batch in database.batches]
    expect(f"{tried}: the batches of load_batch", seen, [sorted(keys)], 1)
    twice = [keys[0], keys[1], keys[0]]
    pair = {key: rows[key] for key in twice}
    for form, named in (
        (f"the list {twice}", twice),
        (f"a generator of {twice}", (key for key in twice)),
    ):
        database.batches.clear()
        tried = f"load() of {form}"
        expect(tried, outcome_of(partial(batches.load, named)), pair, 1)
        kinds = [type(batch).__name__ for batch in database.batches]
        expect(f"{tried}: what load_batch gets", kinds, ["list"], 1)
        seen = [sorted(batch) for batch in database.batches]
        expect(f"{tried}: the batches", seen, [sorted(pair)], 1)
    database.batches.clear()
    expect("load([])", outcome_of(partial(batches.load, [])), {}, 1)
    expect("load([]): the batches of load_batch", database.batches, [], 1)


def nothing_kept(answer: ModuleType, rng: random.Random) -> None:
    """After a load has ended, the next call loads again."""
    first, second = drawn_keys(rng, 2)
    database = Database({first: 1, second: 2})
    batches = answer.SharedBatches(database.load_batch)
    batches.load([first, second])
    database.rows = {second: 3}
    tried = f"load({[first, second]}) again, after the database has changed"
    expect(tried, outcome_of(partial(batches.load, [first, second])), {second: 3}, 1)


def shared(answer: ModuleType, rng: random.Random) -> None:
    """A thread loads what is its own at once, then waits for the others."""
    one, both, two, extra = drawn_keys(rng, 4)
    rows = {one: 1, both: 2, two: 3}
    database = Database(rows | {extra: 4})
    batches = answer.SharedBatches(database.load_batch)
    gate = database.hold(one)
    first = [one, both, extra]
    leader = in_background(partial(batches.load, first))
    expect_asked(f"load({first}) in a thread", database, one, 1)
    waiter = in_background(partial(batches.load, [both, two, one]))
    tried = f"a thread loads {first}, slowly; load({[both, two, one]})"
    expect_asked(tried, database, two, 2)
    expect(f"{tried}: its batch", database.batches[1], [two], 1)
    gate.set()
    expect(tried, ended(tried, waiter, 2), rows, 1)
    got = ended(tried, leader, 2)
    expect(f"{tried}: what the first thread gets", got, {one: 1, both: 2, extra: 4}, 1)
    counts = {key: database.count(key) for key in rows}
    expect(f"{tried}: the loads of each", counts, dict.fromkeys(rows, 1), 1)


def others_go_on(answer: ModuleType, rng: random.Random) -> None:
    """Neither a slow load nor one who waits for it holds up calls for other keys."""
    slow, own, other, late = drawn_keys(rng, 4)
    database = Database({slow: 1, own: 2, other: 3, late: 4})
    batches = answer.SharedBatches(database.load_batch)
    gate = database.hold(slow)
    leader = in_background(partial(batches.load, [slow]))
    expect_asked(f"load({[slow]}) in a thread", database, slow, 1)
    tried = f"load({[other]}) while a thread loads {slow}"
    got = loaded(tried, batches, [other], 2)
    expect(tried, got, {other: 3}, 2)
    waiters = [in_background(partial(batches.load, [own, slow]))]
    waiters.append(in_background(partial(batches.load, [slow])))
    expect_asked(f"load({[own, slow]}) while {slow} is loading", database, own, 2)
    tried = f"load({[late]}) while a thread loads {slow} and two wait for it"
    got = loaded(tried, batches, [late], 2)
    expect(tried, got, {late: 4}, 2)
    gate.set()
    tried = f"two threads that wait for {slow}"
    expect(tried, ended(tried, waiters[0], 2), {own: 2, slow: 1}, 2)
    expect(tried, ended(tried, waiters[1], 2), {slow: 1}, 2)
    ended(tried, leader, 2)
    expect(f"{tried}: empty batches", database.batches.count([]), 0, 1)


def rows_that_are_missing(answer: ModuleType, rng: random.Random) -> None:
    """A row may be None; a key without a row is left out, for a waiter too."""
    empty, missing, own = drawn_keys(rng, 3)
    database = Database({empty: None, own: 1})
    batches = answer.SharedBatches(database.load_batch)
    about = f"{empty} has the row None, {missing} has no row"
    tried = f"load({[empty, missing]}), where {about}"
    got = loaded(tried, batches, [empty, missing], 2)
    expect(tried, got, {empty: None}, 2)
    database.batches.clear()
    gate = database.hold(missing)
    leader = in_background(partial(batches.load, [empty, missing]))
    again = f"load({[empty, missing]}) a second time; {about}"
    expect_asked(again, database, missing, 2)
    waiter = in_background(partial(batches.load, [missing, own, empty]))
    tried = f"load({[missing, own, empty]}) while a thread loads {empty} and {missing}"
    expect_asked(tried, database, own, 2)
    gate.set()
    expect(f"{tried}; {about}", ended(tried, waiter, 2), {own: 1, empty: None}, 2)
    expect("the thread that loads them", ended(tried, leader, 2), {empty: None}, 2)


def own_keys_are_free(answer: ModuleType, rng: random.Random) -> None:
    """A key whose load has ended is free, though its thread waits for another."""
    slow, own = drawn_keys(rng, 2)
    database = Database({slow: 1, own: 2})
    batches = answer.SharedBatches(database.load_batch)
    gate = database.hold(slow)
    leader = in_background(partial(batches.load, [slow]))
    expect_asked(f"load({[slow]}) in a thread", database, slow, 1)
    waiter = in_background(partial(batches.load, [own, slow]))
    expect_asked(f"load({[own, slow]}) while {slow} is loading", database, own, 2)
    database.rows = {slow: 1, own: 3}
    tried = f"load({[own]}) when a thread has loaded it, and waits for {slow}"
    expect_new_row(tried, batches, own, 3)
    gate.set()
    ended(tried, leader, 2)
    expect(f"{tried}: that thread", ended(tried, waiter, 2), {slow: 1, own: 2}, 2)


def expect_new_row(tried: str, batches: Any, key: str, row: int) -> None:
    """Refuse an answer that does not load a key again, once its load has ended."""
    deadline = time.monotonic() + LIMIT
    got = loaded(tried, batches, [key], 3)
    while got != {key: row} and time.monotonic() < deadline:
        time.sleep(0.001)  # the end of the load before may not be noted yet
        got = loaded(tried, batches, [key], 3)
    expect(f"{tried}; the row is {row} by now", got, {key: row}, 3)


def slow_generator(answer: ModuleType, rng: random.Random) -> None:
    """Others go on while a generator of keys takes its time."""
    first, second, other = drawn_keys(rng, 3)
    database = Database({first: 1, second: 2, other: 3})
    batches = answer.SharedBatches(database.load_batch)
    begun = threading.Event()
    go_on = threading.Event()

    def names() -> Iterator[str]:
        yield first
        begun.set()
        go_on.wait(4 * LIMIT)
        yield second

    reader = in_background(partial(batches.load, names()))
    tried = f"load() of a generator that is slow after {first}"
    expect(f"{tried}: it is read", begun.wait(LIMIT), True, 1)
    meanwhile = f"load({[other]}) while a generator of keys is slow"
    got = loaded(meanwhile, batches, [other], 3)
    expect(meanwhile, got, {other: 3}, 3)
    go_on.set()
    expect(tried, ended(tried, reader, 1), {first: 1, second: 2}, 1)


def load_within_a_load(answer: ModuleType, rng: random.Random) -> None:
    """load_batch calls load for other keys."""
    bundle, part, other = drawn_keys(rng, 3)
    database = Database({bundle: 1, part: 2, other: 3})
    batches = answer.SharedBatches(database.load_batch)
    inner: list[Any] = []
    database.effects[bundle] = lambda: inner.append(batches.load([part, other]))
    tried = f"load({[bundle]}), whose load_batch calls load({[part, other]})"
    got = loaded(tried, batches, [bundle], 2)
    expect(tried, got, {bundle: 1}, 2)
    expect(f"{tried}: the inner call", inner, [{part: 2, other: 3}], 2)


def many_threads(answer: ModuleType, rng: random.Random) -> None:
    """Threads ask for overlapping keys, each in its own order, at the same moment."""
    keys = drawn_keys(rng, 6)
    database = Database({key: key.upper() for key in keys})
    database.seconds = 0.01
    batches = answer.SharedBatches(database.load_batch)
    tried = "eight threads ask for four of six keys at once, each in its own order"
    for _ in range(5):
        asked = [rng.sample(keys, 4) for _ in range(8)]
        calls = [partial(batches.load, map(SlowKey, some)) for some in asked]
        together = partial(start_together, calls)
        outcomes = expect_end(tried, together, 2, 2 * LIMIT)  # eight are slower
        wrong = []
        for some, outcome in zip(asked, outcomes, strict=True):
            if outcome != {key: key.upper() for key in some}:
                wrong.append(outcome)
        expect(f"{tried}: answers that are wrong", wrong[:1], [], 2)
        observed = "a key is loaded by two threads at once"
        if database.loaded_twice:
            raise Refused(tried, Words(observed), Words("by one"), 2)


def failure(answer: ModuleType, rng: random.Random) -> None:
    """All who wait for a key of a batch raise what load_batch raised."""
    slow, both, own = drawn_keys(rng, 3)
    database = Database({slow: 1, both: 2, own: 3})
    batches = answer.SharedBatches(database.load_batch)
    gate = database.hold(slow)
    database.effects[slow] = raising(KeyError("no such table"))
    leader = in_background(partial(batches.load, [slow, both]))
    expect_asked(f"load({[slow, both]}) in a thread", database, slow, 1)
    waiter = in_background(partial(batches.load, [own, both]))
    about = f"load_batch raises KeyError for {slow} and {both}"
    tried = f"{about}; a thread waits for {both}"
    expect_asked(tried, database, own, 2)
    gate.set()
    error = KeyError("no such table")
    expect_raised(f"{about}: the caller", ended(tried, leader, 3), error, 3)
    expect_raised(tried, ended(tried, waiter, 3), error, 3)
    counts = {key: database.count(key) for key in (slow, both)}
    expect(f"{tried}: the loads of each", counts, {slow: 1, both: 1}, 3)
    database.effects.clear()
    tried = f"{about}; the next call for both"
    got = loaded(tried, batches, [slow, both], 3)
    expect(tried, got, {slow: 1, both: 2}, 3)


def told_to_end(answer: ModuleType, rng: random.Random) -> None:
    """What ends a thread ends no other; nobody waits for it for ever."""
    for kind in (SystemExit, KeyboardInterrupt):
        slow, both, own = drawn_keys(rng, 3)
        database = Database({slow: 1, both: 2, own: 3})
        batches = answer.SharedBatches(database.load_batch)
        gate = database.hold(slow)
        database.effects[slow] = raising(kind())
        leader = in_background(partial(batches.load, [slow, both]))
        expect_asked(f"load({[slow, both]}) in a thread", database, slow, 1)
        waiter = in_background(partial(batches.load, [both, own]))
        about = f"load_batch raises {kind.__name__} for {slow} and {both}"
        tried = f"{about}; a thread waits for {both}"
        expect_asked(tried, database, own, 2)
        gate.set()
        expect_raised(f"{about}: the caller", ended(tried, leader, 3), kind(), 3)
        got = ended(tried, waiter, 3)
        if not isinstance(got, RuntimeError):
            expect(tried, got, Words("a RuntimeError"), 3)
        database.effects.clear()
        tried = f"{about}; the next call for both"
        got = loaded(tried, batches, [both, slow], 3)
        expect(tried, got, {slow: 1, both: 2}, 3)


def asked_again_at_once(answer: ModuleType, rng: random.Random) -> None:
    """One who waited and is told of a failure asks again, and gets a new load."""
    # What a thread does to many slow keys takes so long that others come in between.
    *others, slow, own = (SlowKey(key) for key in drawn_keys(rng, 12))
    database = Database({slow: 1, own: 2})
    batches = answer.SharedBatches(database.load_batch)

    def ask_twice() -> Any:
        outcome_of(partial(batches.load, [own, slow]))
        database.effects.clear()
        return batches.load([slow])

    tried = "one who waited for a load that failed asks again at once"
    for _ in range(4):
        database.batches.clear()
        gate = database.hold(slow)
        database.effects[slow] = raising(LookupError("no such table"))
        leader = in_background(partial(batches.load, [*others, slow]))
        expect_asked("load() of eleven keys in a thread", database, slow, 1)
        waiter = in_background(ask_twice)
        expect_asked(tried, database, own, 2)
        gate.set()
        expect(tried, ended(tried, waiter, 3), {slow: 1}, 3)
        ended(tried, leader, 3)
