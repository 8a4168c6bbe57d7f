"""Tries every order in which the steps of some programs can follow each other.

Each program runs in a thread of its own and stops before each of its steps, until it is
its turn. A run follows a list of turns; the search repeats it, with another choice at
the last place where there was one, until no choice is left (as a model checker does,
but with the real code).
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, NamedTuple

from course.caching.policy import Policy

STEP_LIMIT = 30.0  # seconds that one step may take
MOST_STEPS = 500  # of one order; above, programs wait for each other for ever


class Program:
    """A function in a thread, which stops before each of its steps."""

    def __init__(self, name: str, body: Callable[[], object]) -> None:
        self.name = name
        self.body = body
        self.label = ""  # the step that it stands before
        self.is_idle = False  # it waits for what another program does
        self.ended = False
        self.error: BaseException | None = None
        self.turn = threading.Semaphore(0)
        self.stopped = threading.Semaphore(0)
        self.thread = threading.Thread(target=self.run, daemon=True)

    def run(self) -> None:
        """Run the function, and keep what it raises for whoever gives the turns."""
        try:
            self.body()
        except BaseException as error:
            self.error = error
        self.ended = True
        self.stopped.release()

    def stop_before(self, label: str, is_idle: bool = False) -> None:
        """Wait for the next turn (called by the program itself)."""
        self.label = label
        self.is_idle = is_idle
        self.stopped.release()
        if not self.turn.acquire(timeout=STEP_LIMIT):
            raise TimeoutError("no turn came")

    def go_on(self, start: bool = False) -> None:
        """Let it make its step, and wait until it stands before the next, or ended."""
        if start:
            self.thread.start()
        else:
            self.turn.release()
        if not self.stopped.acquire(timeout=STEP_LIMIT):
            raise TimeoutError(f"{self.name} does not end its step {self.label!r}")
        if self.error is not None:
            raise self.error


@dataclass
class Turns:
    """Programs that take turns; they call step() and idle() from inside."""

    programs: list[Program] = field(default_factory=list)

    def add(self, name: str, body: Callable[[], object]) -> None:
        """Add a program."""
        self.programs.append(Program(name, body))

    def step(self, label: str) -> None:
        """Wait for the turn to make a step; without effect outside of a program."""
        for program in self.programs:
            if program.thread is threading.current_thread():
                program.stop_before(label)

    def idle(self, seconds: float = 0.0) -> None:
        """Wait until another program has made a step, in place of a sleep."""
        for program in self.programs:
            if program.thread is threading.current_thread():
                program.stop_before("wait", is_idle=True)

    def ready(self) -> list[Program]:
        """Return the programs that can make a step."""
        left = [program for program in self.programs if not program.ended]
        # Who waits for others has nothing to do, unless everybody waits.
        return [program for program in left if not program.is_idle] or left

    def play(self, chosen: Sequence[int]) -> list[tuple[str, str, int]]:
        """Run to the end by these choices, then by the first of each; return the steps.

        Of each: the program, its step, and among how many it was chosen.
        """
        for program in self.programs:
            program.go_on(start=True)
        steps: list[tuple[str, str, int]] = []
        while ready := self.ready():
            number = len(steps)
            program = ready[chosen[number] if number < len(chosen) else 0]
            steps.append((program.name, program.label, len(ready)))
            for other in self.programs:
                other.is_idle = other.is_idle and other is program
            program.go_on()
            if len(steps) > MOST_STEPS:
                raise RecursionError("these programs wait for each other")
        return steps


class Explored(NamedTuple):
    """What a search found: how many orders there are, and which of them fail."""

    orders: int
    failing: list[str]  # the simplest first: with the fewest changes of the program

    @property
    def counts(self) -> dict[str, int]:
        """Return how many orders there are, and how many of them fail."""
        return {"orders": self.orders, "stale": len(self.failing)}


def text_of_order(steps: Sequence[tuple[str, str, int]]) -> str:
    """Return an order as text: program: step, step; program: step ..."""
    text = ""
    last = ""
    for program, label, _ in steps:
        if program != last:
            text += f"; {program}: {label}"
        else:
            text += f", {label}"
        last = program
    return text.removeprefix("; ")


def explore(race: Callable[[Turns, int], Callable[[], bool]]) -> Explored:
    """Run all orders of a race, each from the beginning.

    The race adds its programs to the turns that it is given, with a number of its own,
    and returns a function that tells after the run whether it went wrong.
    """
    failing = []
    chosen: list[int] = []
    orders = 0
    while True:
        turns = Turns()
        went_wrong = race(turns, orders)
        steps = turns.play(chosen)
        orders += 1
        if went_wrong():
            failing.append(text_of_order(steps))
        # The last place where another choice is left.
        taken = [*chosen, *(0 for _ in steps[len(chosen) :])]
        while taken and taken[-1] + 1 >= steps[len(taken) - 1][2]:
            taken.pop()
        if not taken:
            break
        chosen = [*taken[:-1], taken[-1] + 1]
    failing.sort(key=lambda order: (order.count(";"), order))
    return Explored(orders, failing)


# What the lesson's race is about: a price in a database, and who reads and writes it.
class Database:
    """A price that one program loads and another changes, in steps of their own."""

    def __init__(self, turns: Turns) -> None:
        self.turns = turns
        self.price = "old"

    def load(self) -> str:
        """Return the price."""
        self.turns.step("load")
        return self.price

    def write(self) -> None:
        """Change the price."""
        self.turns.step("write")
        self.price = "new"


STEPS_OF_A_CACHE = {
    "get_payloads": "read",
    "take_lease": "claim",
    "release_lease": "store",
    "unlink_each": "delete",
}


def take_turns(cache: Any, turns: Turns) -> None:
    """Make each command of a cache a step, and each of its pauses a wait."""
    ask = cache.ask

    def ask_in_turn(command: Any) -> Any:
        function = getattr(command, "func", command)
        turns.step(STEPS_OF_A_CACHE.get(function.__name__, function.__name__))
        return ask(command)

    cache.ask = ask_in_turn
    cache.sleep = turns.idle


class TurnTakingClient:
    """A Redis client whose commands are steps: those of a well-known cache-aside."""

    def __init__(self, client: Any, turns: Turns) -> None:
        self.client = client
        self.turns = turns

    def get(self, name: str) -> Any:
        """Return a value."""
        self.turns.step("read")
        return self.client.get(name)

    def set(self, name: str, value: Any, **options: Any) -> Any:
        """Store a value, or a lock."""
        self.turns.step("lock" if options.get("nx") else "store")
        return self.client.set(name, value, **options)

    def delete(self, name: str) -> Any:
        """Delete a value, or a lock."""
        self.turns.step("unlock" if name.endswith(":lock") else "delete")
        return self.client.delete(name)


class RaceOfClients:
    """One client reads a price with cache-aside while another changes it."""

    def __init__(
        self, read: Callable[..., Any], connect: Callable[[], Any], prefix: str
    ) -> None:
        self.read = read
        self.connect = connect
        self.prefix = prefix

    def __call__(self, turns: Turns, number: int) -> Callable[[], bool]:
        """Add the programs; return what tells whether the old price stays."""
        database = Database(turns)
        client = TurnTakingClient(self.connect(), turns)
        key = f"{self.prefix}raced:{number}"

        def change() -> None:
            database.write()
            client.delete(key)

        turns.add("reader", partial(self.read, client, key, database.load))
        turns.add("writer", change)
        return lambda: b"old" in (client.get(key) or b"")


class RaceOfCaches:
    """Caches read a price while another one changes it."""

    def __init__(self, make_cache: Callable[[], Any], readers: int = 1) -> None:
        self.make_cache = make_cache
        self.readers = readers

    def __call__(self, turns: Turns, number: int) -> Callable[[], bool]:
        """Add the programs; return what tells whether the old price stays, or came."""
        database = Database(turns)
        key = f"raced:{number}"
        policy = Policy(ttl=60)
        caches = [self.make_cache() for _ in range(self.readers + 1)]
        for cache in caches:
            take_turns(cache, turns)
        changed = threading.Event()
        late: list[object] = []  # what readers got who came after the delete

        def change() -> None:
            database.write()
            caches[-1].delete(key)
            changed.set()

        def read(cache: Any) -> None:
            turns.step("ask")
            is_late = changed.is_set()
            found = cache.get_or_load(key, database.load, policy)
            if is_late:
                late.append(found)

        for place, cache in enumerate(caches[:-1], 1):
            name = f"reader {place}" if self.readers > 1 else "reader"
            turns.add(name, partial(read, cache))
        turns.add("writer", change)
        return lambda: "old" in late or any(c.get(key) == "old" for c in caches)
