"""On the stand-in and RabbitMQ: what fails is the library's own error, in words."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pika
import pytest
from lessons import load
from services import wait_for

from course.amqp.errors import MessagingError
from course.amqp.internals import broker_words, own_errors, refused

lesson = load("04")
NOBODY = "amqp://guest:guest@127.0.0.1:1/%2F?socket_timeout=1"


def consumers(rabbit: Any, queue: str) -> object:
    with rabbit.connect() as connection:
        found = connection.channel().queue_declare(queue, passive=True)
    return found.method.consumer_count


@pytest.mark.parametrize(
    "ask",
    [
        lesson.redrive,
        lambda rabbit, queue, _: rabbit.ready(queue),
        lambda rabbit, queue, _: consumers(rabbit, queue),
    ],
    ids=["redrive", "ready", "connect"],
)
def test_a_queue_that_is_not_there_is_the_librarys_own_error(
    env: Any, ask: Callable[..., object]
) -> None:
    queue = env.rabbit.name("user_dta")
    with (
        lesson.Producer(env.rabbit) as producer,
        pytest.raises(MessagingError, match=f"^NOT_FOUND - no queue '{queue}") as error,
    ):
        ask(env.rabbit, queue, producer)
    assert isinstance(error.value, pika.exceptions.ChannelClosedByBroker)
    assert error.value.reply_code == 404


def test_a_redrive_whose_connection_is_cut_is_the_librarys_own_error(env: Any) -> None:
    with env.queue("cut.redrive") as queue, lesson.Producer(env.rabbit) as producer:
        lesson.publish_all(producer, queue + ".dead", lesson.users(3))
        with env.network() as (network, far):
            publish = producer.publish

            def cut(*arguments: Any) -> None:
                publish(*arguments)
                network.cut()

            producer.publish = cut
            with pytest.raises(MessagingError):
                lesson.redrive(far, queue, producer)
        # The first is there twice: its acknowledgement was lost with the connection.
        env.until(lambda: env.rabbit.ready(queue + ".dead") == 3)
        assert env.rabbit.ready(queue) == 1


@pytest.mark.parametrize(
    "ask",
    [
        lambda rabbit: rabbit.setup_infrastructure(),
        lambda rabbit: rabbit.teardown(),
        lambda rabbit: rabbit.ready("q"),
        lambda rabbit: lesson.redrive(rabbit, "q", None),
    ],
    ids=["setup", "teardown", "ready", "redrive"],
)
def test_no_broker_is_the_librarys_own_error(ask: Callable[[Any], object]) -> None:
    with pytest.raises(MessagingError, match=r"^Connection refused$") as error:
        ask(lesson.RabbitMQConnection(NOBODY))
    assert isinstance(error.value, pika.exceptions.AMQPError)
    assert broker_words(error.value) == "Connection refused"


def test_errors_of_others_leave_a_connection_as_they_are(env: Any) -> None:
    for block in (env.rabbit.connect, env.rabbit.channel):
        with pytest.raises(OSError, match=r"^my own$") as error, block():
            raise OSError("my own")
        assert not isinstance(error.value, MessagingError)


def leave(rabbit: Any, cut: Callable[[Any], None]) -> None:
    with rabbit.connect() as connection:
        cut(connection)


def fail(rabbit: Any, cut: Callable[[Any], None]) -> None:
    with suppress(KeyError), rabbit.connect() as connection:
        cut(connection)
        raise KeyError("my own")


def close(rabbit: Any, cut: Callable[[Any], None]) -> None:
    connection = rabbit.connect()
    cut(connection)
    with suppress(pika.exceptions.ConnectionWrongStateError):
        connection.close()


@pytest.mark.parametrize("end", [leave, fail, close])
def test_a_connection_that_was_cut_unnoticed_leaves_no_sockets(
    env: Any, end: Callable[[Any, Callable[[Any], None]], None]
) -> None:
    """Its loop sees the end while it waits for something else, as a consumer's does."""
    loops = []
    with env.network() as (network, far):

        def cut(connection: Any) -> None:
            loop = connection._impl.ioloop
            loops.append(loop)
            network.cut()

            def is_over() -> bool:
                loop.poll()
                loop.process_timeouts()
                return bool(connection.is_closed)

            wait_for(is_over)

        end(far, cut)
        assert loops[0]._poller._r_interrupt is None  # it wakes the loop
        assert loops[0]._poller._w_interrupt is None


def test_a_wrong_password_stays_a_refusal() -> None:
    """What the consumer and the command line ask of an error, they ask of ours."""
    words = "ConnectionClosedByBroker: (403) 'ACCESS_REFUSED - Login was refused'"
    with (
        pytest.raises(MessagingError, match=r"^ACCESS_REFUSED - Login was") as error,
        own_errors(pika.exceptions.AMQPError),
    ):
        raise pika.exceptions.ProbableAuthenticationError(words)
    assert refused(error.value)
