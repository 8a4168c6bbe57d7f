"""Changes of lesson 03 that each make one of its claims false."""

from __future__ import annotations

from lessons import Mutation

MUTATIONS = (
    Mutation(
        "lru",
        "F(25) takes 242,785 calls, or 26 with a cache",
        "self.calls += 1\n"
        "        return n if n < 2 else self.cached(n - 1) + self.cached(n - 2)",
        "self.calls += 1\n"
        "        return n if n < 2 else self.cached(n - 1) + self._step(n - 2)",
    ),
    Mutation(
        "lru",
        "a cache on the method keeps its instance alive",
        "self.cached = functools.lru_cache(maxsize=128)(self._step)",
        "self.cached = functools.lru_cache(maxsize=128)(self._step)\n"
        "        vars(type(self).naive).setdefault('instances', []).append(self)",
    ),
    Mutation(
        "flight",
        "one load serves a hundred threads",
        "return values[key] if key in values else flights.run(key, load)[0]",
        "return values[key] if key in values else fn(key)",
    ),
    Mutation(
        "flight",
        "waiters share one exception",
        "            self.error = error\n",
        "            pass\n",
        file="course/caching/flights.py",
    ),
    Mutation(
        "timed",
        "every entry lives 60 s, not what is left of a slot",
        "entry.expires = self.clock() + self.ttl_seconds",
        "entry.expires = (self.clock() // self.ttl_seconds + 1) * self.ttl_seconds",
    ),
    Mutation(
        "timed",
        "an entry that expires is loaded once for fifty threads",
        "return self.flights.run(entry, fill)[0]",
        "return fill()",
    ),
    Mutation(
        "timed",
        "a coroutine function is refused at once",
        "        refuse_coroutines(fn)\n        cache = TimedCache",
        "        cache = TimedCache",
    ),
    Mutation(
        "tier",
        "what JSON would change is refused, not changed",
        "    strict(value)\n",
        "",
        file="course/caching/codec.py",
    ),
    Mutation(
        "tier",
        "what is stored comes back equal",
        '**envelope._asdict(), "value": value}',
        '**envelope._asdict(), "value": str(value)}',
        file="course/caching/codec.py",
    ),
    Mutation(
        "tier",
        "a pickle is a miss and runs nothing",
        "held = json.loads(payload.decode())",
        'held = (json if payload[:1] == b"{" else __import__("pickle")).loads(payload)',
        file="course/caching/codec.py",
    ),
    Mutation(
        "lease",
        "one load for all, also of None or an exception",
        "if not found[1] or age",
        "if true or age",
        file="course/caching/scripts.py",
    ),
    Mutation(
        "lease",
        "an old value stays after 1 of the tutorial's 21 orders, 0 of the lease's 21",
        "if redis.call('MGET', KEYS[1])[1] ~= ARGV[1] then return 0 end\n",
        "",
        file="course/caching/scripts.py",
    ),
    Mutation(
        "early",
        "XFetch loads early with P = e^(-gap / (beta delta))",
        "math.log(1.0 - draw)",
        "-draw",
    ),
    Mutation(
        "early",
        "with a jitter of 0.2 fewer than 150 do",
        "share = policy.jitter * self.dice.random()",
        "share = 0",
    ),
    Mutation(
        "early",
        "within the grace a failing load gives the old value",
        "if job.old is None:\n                raise",
        "if True:\n                raise",
    ),
    Mutation(
        "invalidation",
        "an escaped pattern removes the key it names",
        're.sub(r"([*?\\[\\]^\\\\-])", r"\\\\\\1", literal)',
        "literal",
        file="course/caching/client.py",
    ),
    Mutation(
        "invalidation",
        "a tag removes its two keys, once",
        "redis.call('UNLINK', KEYS[1])\nreturn removed",
        "return removed",
        file="course/caching/scripts.py",
    ),
    Mutation(
        "invalidation",
        "a cascade over a cycle removes each of four keys once",
        "            queue += new\n",
        "",
    ),
    Mutation(
        "invalidation",
        "a bump: one command, all entries are misses",
        "if envelope is None or generation is None:\n            return None\n"
        "        if envelope.generation != generation_in(generation):\n",
        "if envelope is None:\n",
        file="course/caching/store.py",
    ),
    Mutation(
        "outage",
        "the client is set to two tries of 0.2 s",
        "retries=1)",
        "retries=10)",
        file="course/caching/client.py",
    ),
    Mutation(
        "outage",
        "all callers are answered from the origin",
        "return self.answer_without_lease(job)  # Redis",
        'raise LoaderError("Redis is out")  #',
        error="LoaderError",
    ),
    Mutation(
        "outage",
        "three failures, then nothing is sent",
        "if now < self.retry_at:",
        "if False:",
    ),
    Mutation(
        "outage",
        "half-open: of 100 reads after the cooldown one is sent",
        "            self.retry_at = now + self.cooldown  # this caller",
        "            #",
    ),
    Mutation(
        "outage",
        "a delete lost in the outage is made good",
        "        return self.made > self.paid\n",
        "        return False\n",
        file="course/caching/debts.py",
    ),
    Mutation(
        "outage",
        "one good probe closes the breaker",
        "            self.failures = 0\n            return",
        "            return",
    ),
    Mutation(
        "outage",
        "a read of a copy takes no round trip",
        "return None if missing else found",
        "return None",
        live=True,
        file="course/caching/copies.py",
    ),
    Mutation(
        "outage",
        "50 writes by another client were all seen",
        "self.follower.drop(*names)",
        "pass",
        live=True,
        error="TimeoutError",
        file="course/caching/tracking.py",
    ),
    Mutation(
        "outage",
        "a lost connection empties the near cache",
        "            self.follower.end_copies()\n            with suppress",
        "            with suppress",
        live=True,
        error="TimeoutError",
        file="course/caching/tracking.py",
    ),
    Mutation(
        "services",
        "hits + misses = calls in every tier",
        'self.stats.add("hits" if fresh else "misses")',
        'self.stats.add("hits", int(fresh))',
    ),
    Mutation(
        "services",
        "ten users' recommendations take ten loads",
        "found: Result = self.find_cache().get_or_load(key, load, self.policy)",
        "found: Result = self.find_cache().get(key) or load()",
        file="course/caching/functions.py",
    ),
    Mutation(
        "services",
        "a new name never serves the old model's scores",
        "CachedFunction(fn, name or full_name(fn),",
        "CachedFunction(fn, fn.__qualname__,",
    ),
)
