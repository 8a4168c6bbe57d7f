"""For each claim of lesson 04, a change that makes it fail."""

from lessons import Mutation

STAND_IN = "course/standins/amqp_queues.py"

MUTATIONS = (
    Mutation(
        "messages",
        "each bad body is refused with its reason, by one kind of error",
        'Message.known.get(str(data.get("type")))',
        'Message.known.get(str(data.get("type")), Message)',
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
        "        self.waiting.extendleft(reversed(self.sent.values()))\n",
        "",
        error="NotInTime: not confirmed within 5 s",
    ),
    Mutation(
        "publishing",
        "a lost confirm duplicates, with the same ids",
        "        # A broker confirms what it drops; only the mandatory flag tells.\n",
        "        pending.properties.message_id = uuid.uuid4().hex\n",
    ),
    Mutation(
        "publishing",
        "mandatory: what no queue takes is an error",
        "mandatory=True",
        "mandatory=False",
    ),
    Mutation(
        "consuming",
        "on a pool, the connection is served while a job runs",
        "self.jobs.put(Delivery(channel, tag, properties, body, method.redelivered))",
        "self.process(one := Delivery(channel, tag, properties, body))"
        "; self.acknowledge(one)",
    ),
    Mutation(
        "consuming",
        "prefetch 1 waits for each round trip",
        "basic_qos(prefetch_count=count)",
        "basic_qos(prefetch_count=1)",
    ),
    Mutation(
        "stopping",
        "ours comes back each time",
        "                self.pause(error)",
        "                self.stopping.set()",
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
        "wait = self.rabbit.wait_queue(attempts)",
        "wait = self.rabbit.wait_queue(0)",
    ),
    Mutation(
        "retrying",
        "a passing error is retried, a permanent one not",
        "permanent = (PermanentError,)",
        "permanent = ()",
    ),
    Mutation(
        "retrying",
        "dead letters say why and how often",
        "about = self.about_copy(delivery, error, attempts)",
        "about = self.about_copy(delivery, error, 0)",
    ),
    Mutation(
        "retrying",
        "redrive puts both back",
        'producer.publish("", queue, body, about)\n            channel.basic_ack',
        "channel.basic_ack",
    ),
    Mutation(
        "retrying",
        "the one order loses, ours keeps both",
        "    publish_copy()\n    channel.basic_ack(delivery_tag)\n",
        "    channel.basic_ack(delivery_tag)\n    publish_copy()\n",
    ),
    Mutation(
        "idempotency",
        "the inbox makes it 20, not 60",
        "if self.is_done(message) or not self.once(message, self.handle(message)):",
        "if not self.ledger.once(uuid.uuid4().hex, message, self.handle(message)):",
    ),
    Mutation(
        "pipeline",
        "an outbox loses none and invents none",
        "        with self.ledger.transaction() as db:\n"
        "            self.ledger.perform(",
        "        with self.ledger.engine.begin() as db:\n"
        "            self.ledger.put_in_outbox(db, messages)\n"
        "        messages = ()\n"
        "        with self.ledger.transaction() as db:\n"
        "            self.ledger.perform(",
    ),
    Mutation(
        "pipeline",
        "it adds up at every checkpoint",
        'self.publish_copy(delivery, "", self.queue + ".dead", about)',
        '[self.publish_copy(delivery, "", self.queue + ".dead", about) for _ in "12"]',
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
