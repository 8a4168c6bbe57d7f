"""On the stand-in and RabbitMQ: a producer that nobody closes, or that is disturbed."""

from __future__ import annotations

import errno
import subprocess
import sys
from typing import Any

import pytest
from lessons import load, path_of
from pika.adapters.utils import connection_workflow, selector_ioloop_adapter
from services import wait_for

from course.amqp.errors import Unroutable
from course.amqp.pending import Outcomes, Pending
from course.amqp.trials import consumer_with, emptied, running

lesson = load("04")
SEND_AND_END = """
import sys
import lessons, pika
lesson = lessons.load("04")
port, user, password, vhost, prefix, queue = sys.argv[1:]
login = pika.PlainCredentials(user, password)
where = pika.ConnectionParameters("127.0.0.1", int(port), vhost, login)
producer = lesson.Producer(lesson.RabbitMQConnection(where, prefix))
lesson.send_all(producer, queue, lesson.users(300))
"""


def interrupt(*_: object) -> None:
    """Do what a signal handler does that raises."""
    raise KeyboardInterrupt


def send_interrupted(
    producer: Any, queue: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Send a message; Ctrl-C comes while the I/O thread is being woken up."""
    with monkeypatch.context() as patch:
        patch.setattr(producer._loop, "add_callback_threadsafe", interrupt)
        with pytest.raises(KeyboardInterrupt):
            lesson.send_all(producer, queue, lesson.users(1))


def test_a_send_that_is_interrupted_keeps_no_other_waiting(
    env: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    with env.queue("interrupted") as queue:
        with lesson.Producer(env.rabbit) as producer:
            lesson.publish_all(producer, queue, lesson.users(1))
            send_interrupted(producer, queue, monkeypatch)
            lesson.publish_all(producer, queue, lesson.users(1))
            send_interrupted(producer, queue, monkeypatch)
        assert len(emptied(env.rabbit, queue)) == 4


def test_failures_that_are_known_hide_none_that_is_not(env: Any) -> None:
    lost = lesson.user(1)
    with (
        pytest.raises(Unroutable) as failed,
        lesson.Producer(env.rabbit) as producer,
    ):
        lesson.send_all(producer, "nowhere", [lost])
        for _ in range(5):
            with pytest.raises(Unroutable):
                lesson.publish_all(producer, "nowhere", lesson.users(500))
    assert failed.value.message_ids == [lost.id]


def test_all_that_fails_in_a_wide_window_is_named(env: Any) -> None:
    with (
        pytest.raises(Unroutable) as failed,
        lesson.Producer(env.rabbit, window=2500) as producer,
    ):
        pending = lesson.send_all(producer, "nowhere", lesson.users(2500))
        wait_for(lambda: producer.counts["returned"] == 2500, 30)
        assert producer.unconfirmed() == pending
    assert failed.value.message_ids == [one.message_id for one in pending]


def end_of_a_program(env: Any, queue: str) -> str:
    """Send 300 messages in a program that never closes its producer; return stderr."""
    where = env.rabbit.parameters
    login = where.credentials
    about = (login.username, login.password, where.virtual_host, env.rabbit.prefix)
    argv = [sys.executable, "-c", SEND_AND_END, str(where.port), *about, queue]
    ended = subprocess.run(
        argv,
        cwd=path_of("04").parent,
        env={"PYTHONPATH": "tests", "PATH": ""},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    return ended.stderr


def test_a_program_that_closes_nothing_loses_nothing_in_silence(env: Any) -> None:
    with env.queue("unclosed") as queue:
        assert end_of_a_program(env, queue) == ""
        assert len(emptied(env.rabbit, queue)) == 300
        said = end_of_a_program(env, queue + ".nowhere")
    assert "300 publishes not confirmed: no queue for" in said


SHORTAGES: dict[str, Any] = {
    "no socket": (connection_workflow.AMQPConnector, OSError, errno.EMFILE, "no more"),
    "no thread": (selector_ioloop_adapter._AddressResolver, RuntimeError, "no more"),
}


@pytest.mark.parametrize("what", SHORTAGES)
def test_what_a_connection_lacks_now_may_be_there_later(
    env: Any, what: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    kind, error, *reason = SHORTAGES[what]

    def fail(*_: Any, **__: Any) -> None:
        raise error(*reason)

    with (
        env.queue("shortage") as queue,
        env.network() as (network, far),
        lesson.Producer(far) as producer,
    ):
        lesson.publish_all(producer, queue, lesson.users(1))
        consumer = consumer_with(lesson.Consumer, str, far, queue, producer)
        with running(consumer):
            wait_for(lambda: consumer.counts["acked"] == 1, 20)
            with monkeypatch.context() as patch:
                patch.setattr(kind, "start", fail)
                network.cut()
                wait_for(lambda: producer.counts["reconnects"] > 2, 20)
                wait_for(lambda: consumer.counts["reconnects"] > 2, 20)
                assert "no more" in producer.lost
            producer.deadline = 20.0
            lesson.publish_all(producer, queue, lesson.users(1))
            wait_for(lambda: consumer.counts["acked"] >= 2, 20)


def test_what_was_confirmed_in_the_meantime_has_not_failed() -> None:
    """The connection ends for good just after a confirm has come."""
    outcomes = Outcomes(window=5)
    confirmed, failed = (Pending("", "queue", b"", None) for _ in range(2))
    for pending in (confirmed, failed):
        outcomes.add(pending)
    confirmed.end(None)
    for pending in outcomes.unsettled():
        outcomes.failed(pending)
    assert outcomes.known() == [failed]
