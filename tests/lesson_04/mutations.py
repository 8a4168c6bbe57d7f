"""For each claim of lesson 04, a change that makes it fail."""

from lessons import Mutation

MUTATIONS = (
    Mutation(
        "messages",
        "each bad body is dead with its reason, each good one done",
        'MESSAGES.get(str(data.get("type")))',
        'MESSAGES.get(str(data.get("type")), Message)',
    ),
    Mutation(
        "messages",
        "a good one comes back equal from JSON",
        "names = list(Message.kinds())",
        "names = list(Message.kinds())[:3]",
    ),
    Mutation(
        "messages",
        "what JSON would change is refused",
        "if json.loads(text) != body:",
        "if not text:",
    ),
    Mutation(
        "routing",
        "# is zero or more words, * is one",
        "return rest or topic_match(pattern[1:], words)",
        "return rest",
    ),
    Mutation(
        "routing",
        "mandatory: what no queue takes is an error",
        "mandatory=True",
        "mandatory=False",
    ),
    Mutation(
        "routing",
        "each queue has what is bound to it",
        'if flags["type"] == "fanout" or pattern == key or topic:',
        "if pattern == key.upper() or topic:",
        error="Unroutable",
    ),
    Mutation(
        "publishing",
        "unconfirmed is sent again: 200, not 0",
        "self._waiting.extendleft(reversed(self.sent.values()))",
        "self._waiting.clear()",
        error="PublishFailed",
    ),
    Mutation(
        "publishing",
        "a lost confirm duplicates, with the same ids",
        "                one = self._waiting.popleft()\n",
        "                one = self._waiting.popleft()\n"
        "                one.properties.message_id = uuid.uuid4().hex\n",
    ),
    Mutation(
        "windows",
        "a window takes under a third of the round trips",
        "threading.BoundedSemaphore(window)",
        "threading.BoundedSemaphore(1)",
    ),
    Mutation(
        "deadlines",
        "the deadline ends the wait and says why",
        "* bool(self.blocked)",
        "* 0",
    ),
    Mutation(
        "deadlines",
        "sent again with the same id, it is there",
        "self._loop.call_later(backoff(self._attempt), self._connect)",
        "self.counts",
        error="PublishFailed",
    ),
    Mutation(
        "consuming",
        "on a pool, heartbeats are answered meanwhile",
        "self._jobs.put(Delivery(channel, method.delivery_tag, properties, body))",
        "self._process(one := Delivery(channel, method.delivery_tag, properties, body))"
        "; self._acknowledge(one)",
    ),
    Mutation(
        "consuming",
        "prefetch 1 waits for each round trip",
        "basic_qos(prefetch_count=self.prefetch)",
        "basic_qos(prefetch_count=1)",
    ),
    Mutation(
        "threads",
        "only the producer delivers all 400",
        "rush(lambda message: publish(producer, queue, [message]))",
        'rush(lambda message: channel.basic_publish("", queue, b"0"), 1)',
    ),
    Mutation(
        "surviving",
        "ours comes back each time",
        "self._stopping.wait(backoff(attempt))",
        "self._stopping.set()",
        error="TimeoutError",
    ),
    Mutation(
        "surviving",
        "a cancelled consumer declares its queue again",
        "self.rabbit.declare(channel, self.rabbit.plan)",
        "self.rabbit.declare(channel, [])",
    ),
    Mutation(
        "stopping",
        "drained, nothing is done twice",
        "while self._busy and time.monotonic() < end:",
        "while time.monotonic() < 0:",
    ),
    Mutation(
        "waiting",
        "a queue per delay is within 100 ms, one queue waits for its head",
        "wait = env.rabbit.wait_queue(attempt)",
        "wait = env.rabbit.wait_queue(3)",
    ),
    Mutation(
        "retrying",
        "attempts back off exponentially",
        "2.0 ** min(attempt, MAX_RETRIES - 1)",
        "2.0",
    ),
    Mutation(
        "retrying",
        "a passing error is retried, a permanent one not",
        "final = isinstance(error, self.permanent) or attempts >= limit",
        "final = attempts >= limit",
    ),
    Mutation(
        "retrying",
        "dead letters say why and how often",
        '"x-retry-count": attempts + (not final)',
        '"x-retry-count": 0 if final else attempts + 1',
    ),
    Mutation(
        "retrying",
        "redrive puts both back",
        'producer.publish("", queue, body, old)\n            channel.basic_ack',
        "channel.basic_ack",
    ),
    Mutation(
        "crashing",
        "the one order loses, ours keeps both",
        "self._process(delivery)\n                    self._acknowledge(delivery)",
        "self._acknowledge(delivery)\n                    self._process(delivery)",
    ),
    Mutation(
        "idempotency",
        "the inbox makes it 20, not 60",
        "if db.execute(mark, (queue, message.id)).rowcount == 0:",
        "if db.execute(mark, (queue, message.id)).rowcount < 0:",
    ),
    Mutation(
        "outbox",
        "an outbox loses none and invents none",
        "        with self.ledger.transaction() as db:\n            db.execute(",
        "        self.ledger.db.executemany(\n"
        '            "INSERT INTO outbox VALUES (NULL, ?, ?)",\n'
        "            [(message.to_json(), cause) for message in messages],\n"
        "        )\n"
        "        self.ledger.db.commit()\n"
        "        messages = ()\n"
        "        with self.ledger.transaction() as db:\n            db.execute(",
    ),
    Mutation(
        "priorities",
        "it overtakes what is not fetched yet",
        '{"x-max-priority": priorities}',
        "{}",
    ),
    Mutation(
        "pipeline",
        "it adds up at every checkpoint",
        "self.producer.publish(*where, delivery.body, about)",
        "where, about",
        error="TimeoutError",
    ),
    Mutation(
        "pipeline",
        "the four bad addresses are dead letters",
        'if not name or "." not in domain:',
        "if not domain:",
    ),
    Mutation(
        "refusing",
        "a different declaration is refused by name",
        'raise _Refused(406, f"PRECONDITION_FAILED - {what}: {how}")',
        "logging.debug(how)",
    ),
    Mutation(
        "refusing",
        "the last death comes first",
        'headers["x-death"] = [death, *others]',
        'headers["x-death"] = [*others, death]',
    ),
)
