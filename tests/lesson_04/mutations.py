"""For each claim of lesson 04, a change that makes it fail."""

from lessons import Mutation

PUBLISHING = "course/amqp/publishing.py"
STAND_IN = "course/standins/amqp_queues.py"

MUTATIONS = (
    Mutation(
        "messages",
        "each bad body is refused with its reason, by one kind of error",
        'MESSAGES.get(str(data.get("type")))',
        'MESSAGES.get(str(data.get("type")), Message)',
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
        "return rest_fits or topic_match(pattern[1:], words)",
        "return rest_fits",
        file=STAND_IN,
    ),
    Mutation(
        "routing",
        "each queue has what is bound to it",
        "self.bindings.append((work, self.name(exchange), key))",
        'self.bindings.append((work, self.name(exchange), key.replace("#", "*.*")))',
    ),
    Mutation(
        "publishing",
        "unconfirmed is sent again: 200, not 0",
        "self._waiting.extendleft(reversed(self.sent.values()))",
        "self._waiting.clear()",
        error="PublishFailed",
        file=PUBLISHING,
    ),
    Mutation(
        "publishing",
        "a lost confirm duplicates, with the same ids",
        "        where = (one.exchange, one.key)\n",
        "        where = (one.exchange, one.key)\n"
        "        one.properties.message_id = uuid.uuid4().hex\n",
    ),
    Mutation(
        "publishing",
        "mandatory: what no queue takes is an error",
        "mandatory=True",
        "mandatory=False",
    ),
    Mutation(
        "consuming",
        "on a pool, heartbeats are answered meanwhile",
        "self.jobs.put(Delivery(channel, method.delivery_tag, properties, body))",
        "self.process(one := Delivery(channel, method.delivery_tag, properties, body))"
        "; self.acknowledge(one)",
    ),
    Mutation(
        "consuming",
        "prefetch 1 waits for each round trip",
        "basic_qos(prefetch_count=self.prefetch)",
        "basic_qos(prefetch_count=1)",
    ),
    Mutation(
        "stopping",
        "ours comes back each time",
        "            self.pause(error)",
        "            self.stopping.set()",
    ),
    Mutation(
        "stopping",
        "drained, nothing is done twice",
        "        self.wait_for_the_pool()\n",
        "",
    ),
    Mutation(
        "retrying",
        "a queue per delay lets the short waits pass, one queue waits for its head",
        "wait = producer.rabbit.wait_queue(attempt)",
        "wait = producer.rabbit.wait_queue(3)",
    ),
    Mutation(
        "retrying",
        "attempts back off exponentially",
        "where = (self.rabbit.wait_queue(attempts), self.queue)",
        "where = (self.rabbit.wait_queue(0), self.queue)",
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
        '"x-retry-count": attempts if final else attempts + 1',
        '"x-retry-count": 0 if final else attempts + 1',
    ),
    Mutation(
        "retrying",
        "redrive puts both back",
        'producer.publish("", queue, body, properties)\n            channel.basic_ack',
        "channel.basic_ack",
    ),
    Mutation(
        "retrying",
        "the one order loses, ours keeps both",
        "            try:\n                self.process(delivery)\n",
        "            try:\n"
        "                self.acknowledge(delivery)\n"
        "                self.process(delivery)\n"
        "                continue\n",
    ),
    Mutation(
        "idempotency",
        "the inbox makes it 20, not 60",
        "if db.execute(mark, (queue, message.id)).rowcount == 0:",
        "if db.execute(mark, (queue, message.id)).rowcount < 0:",
    ),
    Mutation(
        "pipeline",
        "an outbox loses none and invents none",
        "        with self.ledger.transaction() as db:\n            db.execute(",
        "        self.ledger.db.executemany(\n"
        '            "INSERT INTO outbox VALUES (NULL, ?, ?)", rows\n'
        "        )\n"
        "        self.ledger.db.commit()\n"
        "        rows = []\n"
        "        with self.ledger.transaction() as db:\n            db.execute(",
    ),
    Mutation(
        "pipeline",
        "it adds up at every checkpoint",
        "self.producer.publish(*where, delivery.body, properties)",
        "where, properties",
        error="TimeoutError",
    ),
    Mutation(
        "pipeline",
        "the four bad addresses are dead letters",
        'if not name or "." not in domain:',
        "if not domain:",
    ),
    Mutation(
        "priorities",
        "it overtakes what is not fetched yet",
        '{"x-max-priority": priorities}',
        "{}",
    ),
)
