"""What a file of rejects keeps of a message: all that it takes to send it again."""

from __future__ import annotations

import base64
import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pika
import pytest
from lessons import load

from course.amqp.pending import Pending
from course.amqp.rejects import rejects_file

lesson = load("04")


def kept(path: Path, pending: Pending) -> dict[str, Any]:
    """Return what a file of rejects says of a message."""
    with rejects_file(str(path)) as rejects:
        rejects.write([pending])
    found: dict[str, Any] = json.loads(path.read_text())
    return found


def test_all_properties_are_kept(tmp_path: Path) -> None:
    about = {"headers": {"traceparent": "00-a"}, "priority": 5, "reply_to": "back"}
    message = lesson.user(1)
    sent = Pending(*lesson.publish_arguments(message, "orders", "now", **about))
    line = kept(tmp_path / "rejects", sent)
    again = Pending(
        line["exchange"],
        line["key"],
        line["body"].encode(),
        pika.BasicProperties(**line["properties"]),
    )
    assert again.properties == sent.properties
    assert (again.body, again.message_id) == (sent.body, message.id)
    assert (again.exchange, again.key) == ("orders", "now")


@pytest.mark.parametrize("value", [b"\xff", datetime(2026, 1, 5, tzinfo=UTC)], ids=repr)
def test_what_json_lacks_is_kept_as_amqp_has_it(tmp_path: Path, value: object) -> None:
    sent = Pending("", "now", b"\xff", pika.BasicProperties(headers={"a": value}))
    line = kept(tmp_path / "rejects", sent)
    encoded = base64.b64decode(line["properties_base64"])
    assert b"".join(pika.BasicProperties().decode(encoded).encode()) == encoded
    assert encoded == b"".join(sent.properties.encode())
    assert base64.b64decode(line["body_base64"]) == sent.body


def test_what_can_never_be_sent_is_kept_for_people(tmp_path: Path) -> None:
    odd = pika.BasicProperties(headers={"a": {1, 2}}, priority=5)
    line = kept(tmp_path / "rejects", Pending("", "now", b"", odd))
    assert line["properties_text"] == "{'headers': {'a': {1, 2}}, 'priority': 5}"
