"""--sweep shows the login of a broker to its own management API, and to nobody else."""

from __future__ import annotations

import base64
from asyncio import StreamReader, StreamWriter

import pika
import pytest

from course.amqp.leftovers import leftovers_on
from course.network import LoopbackServer

PARAMETERS = pika.URLParameters("amqp://app:Xq7Zk9WvJmQ@127.0.0.1:1/%2F")
LOGIN = base64.b64encode(b"app:Xq7Zk9WvJmQ")


class Listening(LoopbackServer):
    """Keeps what it is asked; its answer is always the same."""

    def __init__(self, answer: str = "404 Not Found") -> None:
        self.answer = f"HTTP/1.1 {answer}\r\nContent-Length: 0\r\n\r\n".encode()
        self.heard = b""

    async def serve(self, reader: StreamReader, writer: StreamWriter) -> None:
        self.heard += await reader.read(4096)
        writer.write(self.answer)
        writer.close()


def test_a_proxy_of_the_environment_is_not_asked(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with Listening() as proxy, Listening() as api:
        monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{proxy.port}")
        monkeypatch.delenv("no_proxy", raising=False)
        place = f"http://127.0.0.1:{api.port}"
        monkeypatch.setenv("RABBITMQ_MANAGEMENT_URL", place)
        assert leftovers_on(PARAMETERS) == []
    assert proxy.heard == b""
    assert LOGIN in api.heard


@pytest.mark.parametrize("code", [301, 302, 303, 307, 308])
def test_where_an_answer_sends_it_nobody_is_asked(
    code: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with Listening() as elsewhere:
        sent_on = f"{code} Elsewhere\r\nLocation: http://127.0.0.1:{elsewhere.port}/"
        with Listening(sent_on) as api:
            place = f"http://127.0.0.1:{api.port}"
            monkeypatch.setenv("RABBITMQ_MANAGEMENT_URL", place)
            assert leftovers_on(PARAMETERS) == []
    assert elsewhere.heard == b""
    assert LOGIN in api.heard
    said = " ".join(capsys.readouterr().err.split())
    assert f"no management API at {place}: Elsewhere" in said
