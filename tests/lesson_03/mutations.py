"""Changes of lesson 03 that each make one of its claims false."""

from __future__ import annotations

from lessons import Mutation

MUTATIONS = (
    Mutation(
        "lru",
        "F(25) takes 242,785 calls, or 26 with a memory",
        "n if n < 2 else self.cached(n - 1) + self.cached(n - 2)",
        "n if n < 2 else self.cached(n - 1) + self._step(n - 2)",
    ),
    Mutation(
        "timed",
        "four spellings of a call are one entry",
        "    exec(text, scope)",
        "    if len(bare) == 2:\n"
        '        text = "def cached(*a, **k):\\n" + body.replace("{call}", "*a, **k")\n'
        "    exec(text, scope)",
    ),
    Mutation(
        "timed",
        "1, 1.0 and True are three entries",
        "typed=not self.one)(self.load)",
        "typed=False)(self.load)",
    ),
    Mutation(
        "timed",
        "an instance dies in spite of its cache",
        'PerInstance(fn, plain) if first == "self" else plain(fn)',
        "plain(fn)",
    ),
    Mutation(
        "timed",
        "copy=deepcopy: no caller edits another's result",
        "return _copy_(_found_({call}))",
        "return _found_({call})",
    ),
    Mutation(
        "timed",
        "every entry lives 60 s, not what is left of a slot",
        "= value, self.clock() + self.ttl\n",
        "= value, self.clock() // self.ttl * self.ttl + self.ttl\n",
    ),
    Mutation(
        "timed",
        "a coroutine function is refused at once",
        "        refuse_coroutines(fn)\n        first =",
        "        first =",
    ),
    Mutation(
        "flight",
        "one load serves a hundred threads",
        "self.flights.run(box, lambda: self.fill(box, args, kwargs))[0]",
        "self.fill(box, args, kwargs)",
    ),
    Mutation(
        "flight",
        "waiters share one exception",
        "flight.set_exception(error)",
        "flight.set_result(None)",
    ),
    Mutation(
        "flight",
        "different keys do not wait for each other",
        "self.flights.run(box, ",
        "self.flights.run(0, ",
    ),
    Mutation(
        "tier",
        "what JSON would change is refused, not changed",
        "        strict(value)\n        now",
        "        now",
    ),
    Mutation(
        "tier",
        "what is stored comes back equal",
        '{"value": value}',
        '{"value": str(value)}',
    ),
    Mutation(
        "tier",
        "a pickle is a miss and runs nothing",
        "held = json.loads(payload.decode())",
        'held = (json if payload[:1] == b"{" else pickle).loads(payload)',
    ),
    Mutation(
        "tier",
        "get_many takes one",
        "now, (entries, _) = self.clock(), self.read(keys)",
        "now, entries = self.clock(), [self.read([key])[0][0] for key in keys]",
    ),
    Mutation(
        "lease",
        "one load for all, also of None or an exception",
        "px=int(job.policy.wait * 1000) or 1, nx=True)",
        "px=int(job.policy.wait * 1000) or 1)",
    ),
    Mutation(
        "lease",
        "a delete during a load leaves nothing stale",
        "if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end\n",
        "",
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
        "ttl * (1 - self.jitter * random.random())",
        "ttl",
    ),
    Mutation(
        "early",
        "within the grace a failing load gives the old value",
        "            if job.old is None or not isinstance(error, Exception):\n"
        "                raise\n",
        "            raise\n",
    ),
    Mutation(
        "early",
        "None is kept, for a shorter time than a value",
        "self.none_ttl if value is None and self.none_ttl else self.ttl",
        "self.ttl",
    ),
    Mutation(
        "near",
        "a read of a copy takes no round trip",
        "if all(item is None or isinstance(item, bytes) for item in found):",
        "if not found:",
        live=True,
    ),
    Mutation(
        "near",
        "50 writes by another client were all seen",
        "self.changed(*(names or ()))",
        "pass",
        live=True,
        error="TimeoutError",
    ),
    Mutation(
        "near",
        "a lost connection empties the near cache",
        "                self.copies = None\n            connection",
        "                pass\n            connection",
        live=True,
        error="TimeoutError",
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
        "redis.call('UNLINK', KEYS[1])\n    return removed",
        "return removed",
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
        ' or held["generation"] != generation',
        "",
    ),
    Mutation(
        "outage",
        "the client gives up after two tries of 0.2 s",
        "retries=1)",
        "retries=10)",
        file="course/caching/client.py",
    ),
    Mutation(
        "outage",
        "all callers are answered from the origin",
        "return self.fallback(job)  # Redis",
        'raise LoaderError("Redis is out")  #',
        error="LoaderError",
    ),
    Mutation(
        "outage",
        "three failures, then nothing is sent",
        "if self.failures >= self.threshold and now < self.retry_at:",
        "if False:",
    ),
    Mutation(
        "outage",
        "half-open: of 100 reads after the cooldown one is sent",
        "self.retry_at = now + self.cooldown",
        "self.retry_at = self.retry_at or now + self.cooldown",
    ),
    Mutation(
        "outage",
        "a delete lost in the outage is made good",
        "if self.owed:",
        "if False:",
    ),
    Mutation(
        "outage",
        "one good probe closes the breaker",
        "self.failures = 0 if success else self.failures + 1",
        "self.failures += not success",
    ),
    Mutation(
        "services",
        "hits + misses = calls in every tier",
        'self.stats.add("hits" if hit else "misses")',
        'self.stats.add("hits", int(hit))',
    ),
    Mutation(
        "services",
        "ten users' recommendations take ten loads",
        "return (cache or default_cache()).get_or_load(key, call, chosen)",
        "return (cache or default_cache()).get(key) or call()",
    ),
    Mutation(
        "services",
        "a new name never serves the old model's scores",
        "title = name or title_of(fn)",
        'title = f"{fn.__module__}.{fn.__qualname__}"',
    ),
    Mutation(
        "eviction",
        "TinyLFU beats LRU on a steady trace",
        'if policy == "TinyLFU" and asked[key] <= asked[victim]:',
        "if False:",
    ),
    Mutation(
        "eviction",
        "and LFU when favourites change",
        'if policy == "TinyLFU" and now % (10 * size) == 0:',
        "if False:",
    ),
)
