"""A private RabbitMQ that takes one connection more, or none: no refusal for good."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import pika
import pytest
from lesson_04.fault_helpers import LIMIT, SCRIPT
from lessons import load, run
from services import Server, wait_for

from course.amqp.errors import ConsumerRefused, PublishFailed
from course.amqp.trials import consumer_with, running
from course.lab import in_background

lesson = load("04")
VHOST = "limited"


@pytest.fixture
def limited(node: Server) -> Iterator[Any]:
    """Yield our names in a vhost whose limits a test may set."""
    node.ctl("add_vhost", VHOST)
    node.ctl("set_permissions", "-p", VHOST, "guest", ".*", ".*", ".*")
    url = node.url.replace("%2F", VHOST)
    rabbit = lesson.RabbitMQConnection(url, "module8.limited", expires=120)
    rabbit.setup_infrastructure()
    yield rabbit
    node.ctl("delete_vhost", VHOST)


def allow(node: Server, connections: int) -> None:
    limits = f'{{"max-connections": {connections}}}'
    node.ctl("set_vhost_limits", "-p", VHOST, limits)


def refuses(rabbit: Any) -> bool:
    try:
        pika.BlockingConnection(rabbit.parameters).close()
    except pika.exceptions.AMQPError:
        return True
    return False


@pytest.mark.parametrize("mode", [["--require-live"], ["--worker", "user_data"]])
def test_at_the_start_a_full_broker_is_named_in_its_own_words(
    node: Server, limited: Any, mode: list[str]
) -> None:
    allow(node, 0)
    wait_for(lambda: refuses(limited), LIMIT)
    url = node.url.replace("%2F", VHOST)
    done = run(SCRIPT, "--url", url, *mode)
    assert (done.returncode, done.stdout) == (2, ""), done.stderr
    (line,) = done.stderr.splitlines()
    assert "connection limit (0) is reached" in line


def test_later_it_is_tried_again(node: Server, limited: Any) -> None:
    """A producer within its deadline, a consumer until it is stopped."""
    queue = limited.name("user_data")
    with lesson.Producer(limited) as producer:
        lesson.publish_all(producer, queue, lesson.users(1))
        made = consumer_with(lesson.Consumer, str, limited, queue, producer)
        with running(made):
            wait_for(lambda: made.counts["acked"] == 1, LIMIT)
            allow(node, 0)
            node.ctl("close_all_connections", "-p", VHOST, "a fault test")
            wait_for(lambda: refuses(limited), LIMIT)
            producer.deadline = 1.0
            with pytest.raises(PublishFailed, match="connection limit"):
                lesson.publish_all(producer, queue, lesson.users(1))
            producer.deadline = LIMIT
            pending = lesson.send_all(producer, queue, lesson.users(5))
            wait_for(lambda: made._failures > 2, LIMIT)
            allow(node, -1)
            producer.wait(*pending)
            wait_for(lambda: made.counts["acked"] >= 6, LIMIT)


def test_a_right_that_is_missing_ends_a_consumer(node: Server, limited: Any) -> None:
    node.ctl("add_user", "writer", "s3cret-of-writer")
    try:
        rights = (".*", ".*", "^$")  # to configure and to write, not to read
        node.ctl("set_permissions", "-p", VHOST, "writer", *rights)
        url = node.url.replace("%2F", VHOST)
        url = url.replace("guest:guest", "writer:s3cret-of-writer")
        mine = lesson.RabbitMQConnection(url, "module8.limited", expires=120)
        mine.bindings = []  # a binding needs the right to read its exchange
        made = consumer_with(lesson.Consumer, str, mine, mine.name("user_data"))
        ended = in_background(made.start_consuming)
        with pytest.raises(ConsumerRefused, match="ACCESS_REFUSED"):
            ended.result(LIMIT)
        assert made.counts["reconnects"] == 0
    finally:
        with suppress(RuntimeError):
            node.ctl("delete_user", "writer")
