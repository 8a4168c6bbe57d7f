"""Names and the generation: where entries lie in Redis under a prefix."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Any

import redis

from course.caching.client import (
    drop_idle,
    escape,
    refuse_client,
    run_script,
    unlink_matching,
)
from course.caching.codec import (
    Envelope,
    Hook,
    Unreadable,
    envelope_of,
    key_bytes,
    payload_of,
)
from course.caching.policy import LONGEST_LEASE, LONGEST_TTL, Policy, refuse_policy
from course.caching.scripts import BEGIN, CLAIM, RELEASE
from course.caching.stats import CacheStats

# Kinds of names: values, leases (who may store), failures (for those who waited), tags.
KINDS = ("value", "generation", "lease", "failure", "tag")
STRINGS = {bytes, type(None)}  # what Redis answers where it is asked for strings
NO_GENERATION = "none"  # no entry is of it
# A generation outlives every entry; after 360 days every entry becomes a miss once.
GENERATION_LIFE = 12 * LONGEST_TTL


class OddAnswer(Exception):
    """Raised for an answer that Redis would not give: a connection is out of step."""


def generation_in(stored: bytes | None) -> str:
    """Return a generation as text, whatever bytes somebody has put there."""
    return stored.decode(errors="backslashreplace") if stored else NO_GENERATION


def milliseconds(seconds: float) -> int:
    """Return a time to live as Redis takes it: whole, and at least one."""
    return max(1, int(seconds * 1000))


class Store:
    """Names under a prefix: prefix + kind + ":" + key; and what an entry looks like."""

    def __init__(self, client: Any, prefix: str, clock: Callable[[], float]) -> None:
        refuse_client(client, prefix)
        self.client = client
        self.prefix = prefix
        self.clock = clock
        self.stats = CacheStats()  # hits, misses, corrupt payloads, trips to Redis ...
        self.starts = {kind: f"{prefix}{kind}:".encode() for kind in KINDS}
        self.generation = self.name("generation")
        self.begin_script = self.script(BEGIN)
        self.claim_script = self.script(CLAIM)
        self.release_script = self.script(RELEASE)

    def script(self, text: str) -> Callable[[list[bytes], list[Any]], Any]:
        """Return what runs a script, with its keys and arguments."""
        return partial(run_script, self.client, self.client.register_script(text))

    def name(self, kind: str, key: str | bytes = "") -> bytes:
        """Return the name in Redis of a key, which may hold any bytes."""
        return self.starts[kind] + key_bytes(key)

    def names(self, kind: str, keys: tuple[str | bytes, ...]) -> list[bytes]:
        """Return the names in Redis of some keys."""
        return [self.name(kind, key) for key in keys]

    def sealed(
        self,
        name: bytes,
        entry: Envelope,
        generation: bytes | None,
        encode: Hook | None = None,
    ) -> str:
        """Return an entry's payload; TypeError if JSON would change its value."""
        return payload_of(
            name, entry._replace(generation=generation_in(generation)), encode
        )

    def entry_of(self, value: Any, ttl: float, delta: float = 0.0) -> Envelope:
        """Return what is to be known of a value that lives from now on."""
        now = self.clock()
        return Envelope(value, now, now + ttl, delta)

    def opened(
        self, name: bytes, payload: bytes | None, generation: bytes | None
    ) -> Envelope | None:
        """Return what is in a payload; None if it is not of this generation."""
        if payload is None:
            return None
        try:
            envelope = envelope_of(name, payload)
        except Unreadable:  # a pickle, say
            self.stats.add("corrupt")
            return None
        if envelope is None or generation is None:
            return None
        if envelope.generation != generation_in(generation):
            return None
        return envelope

    def decoded(self, entry: Envelope | None, policy: Policy) -> Envelope | None:
        """Return an entry with its value decoded; None if that fails: a miss."""
        refuse_policy(policy)
        if entry is None or policy.decode is None:
            return entry
        try:
            return entry._replace(value=policy.decode(entry.value))
        except Exception:  # of the caller's hook, which may be newer than the entry
            self.stats.add("corrupt")
            return None

    # What is sent. Each checks the form of the answer: after one that is odd, idle
    # connections are closed, as what comes next on them may be anybody's answer.

    def strings_in(self, answer: Any, number: int) -> list[bytes | None]:
        """Return an answer that has to be so many strings; OddAnswer for others."""
        if type(answer) is not list or len(answer) != number:
            self.refuse_answer(answer)
        if not {type(item) for item in answer} <= STRINGS:
            self.refuse_answer(answer)
        found: list[bytes | None] = answer
        return found

    def count(self, command: Callable[[], Any]) -> int:
        """Return the number that a command gives."""
        answer = command()
        if type(answer) is not int:
            self.refuse_answer(answer)
        return int(answer)

    def last_of(self, pipe: Any) -> Any:
        """Return what the last command of a pipe gives."""
        answers = pipe.execute()
        if type(answers) is not list or not answers:
            self.refuse_answer(answers)
        return answers[-1]

    def does(self, pipe: Any) -> bool:
        """Tell that the last command of a pipe is done; OddAnswer if Redis does not."""
        answer = self.last_of(pipe)
        # A cluster's pipe does not parse the answer of each command.
        if answer is not True and answer not in (b"OK", "OK"):
            self.refuse_answer(answer)
        return True

    def refuse_answer(self, answer: object) -> None:
        """Close the idle connections, and raise OddAnswer."""
        drop_idle(self.client)
        raise OddAnswer(f"Redis answers with a {type(answer).__name__}")

    def get_payloads(self, names: list[bytes]) -> list[bytes | None]:
        """Return what is stored under the names, in one round trip."""
        # The bare command: client.mget's conveniences are a part of every hit's cost.
        answer = self.client.execute_command("MGET", *names)
        return self.strings_in(answer, len(names))

    def begin_generation(self) -> list[bytes | None]:
        """Return the generation that counts, begun if there is none, in a list."""
        new = uuid.uuid4().hex.encode()
        begun = self.begin_script([self.generation], [new, GENERATION_LIFE])
        found = self.strings_in([begun], 1)
        if found == [new]:
            self.drop_copies(self.generation)
        return found

    def take_lease(
        self, key: str, token: bytes, longest_load: float
    ) -> list[bytes | None]:
        """Take the lease on a key, if it is free or held for longer than that.

        Return who has it, the generation, the value and the failure that are stored.
        """
        lease, value, failure = [
            self.name(kind, key) for kind in ("lease", "value", "failure")
        ]
        new = uuid.uuid4().hex.encode()
        lives = (milliseconds(LONGEST_LEASE), milliseconds(longest_load))
        names = [lease, self.generation, value, failure]
        arguments = [token, *lives, new, GENERATION_LIFE]
        found = self.strings_in(self.claim_script(names, arguments), len(names))
        if found[1] == new:
            self.drop_copies(self.generation)
        return found

    def release_lease(
        self, key: str, token: bytes, kind: str, text: str | bytes, seconds: float
    ) -> int:
        """Store a text under a kind and give the lease back; 0 if it is not ours."""
        name = self.name(kind, key)
        arguments = [token, text, milliseconds(seconds)]
        names = [self.name("lease", key), name]
        try:
            return self.count(partial(self.release_script, names, arguments))
        except Exception:
            # The text may be more than Redis takes, or the network in time. A lease
            # that stays would let others wait for a load that is over.
            with suppress(Exception):
                if text:
                    self.release_script(names, [token, "", 1])
            raise
        finally:
            self.drop_copies(name)

    def unlink_each(self, kinds: tuple[str, ...], keys: tuple[str | bytes, ...]) -> int:
        """Delete the keys of these kinds, in order; return how many of the last."""
        pipe = self.client.pipeline(False)  # a full Redis would refuse a transaction
        for kind in kinds:
            pipe.execute_command("UNLINK", *self.names(kind, keys))
        return self.count(partial(self.last_of, pipe))

    def unlink(self, generation: bytes) -> None:
        """Delete the name of the generation; who may not begins another one."""
        try:
            self.count(partial(self.client.unlink, generation))
        except redis.exceptions.NoPermissionError:
            pipe = self.client.pipeline(False)
            pipe.set(generation, uuid.uuid4().hex, ex=GENERATION_LIFE)
            self.does(pipe)

    def sweep(self, kind: str, pattern: bytes) -> int:
        """Delete what matches a glob among the names of a kind; return how many."""
        start = escape(f"{self.prefix}{kind}:").encode()
        return unlink_matching(self.client, start + pattern)

    def sweep_each(self, kinds: tuple[str, ...], pattern: bytes) -> int:
        """Delete what matches a glob, kind by kind; return how many of the last."""
        removed = 0
        for kind in kinds:
            removed = self.sweep(kind, pattern)
        return removed

    def drop_copies(self, *names: bytes) -> None:
        """Drop what this process holds of these names, or all (for the near cache)."""
