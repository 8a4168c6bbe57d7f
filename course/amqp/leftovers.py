"""What runs that were killed have left on a broker, by its management API."""

from __future__ import annotations

import base64
import json
import ssl
import urllib.error
import urllib.request
from functools import partial
from typing import Any
from urllib.parse import quote

from course.ending import remark
from course.naming import made_at
from course.services import redact, setting
from course.sweeping import Leftover

VARIABLE = "RABBITMQ_MANAGEMENT_URL"
API_LIMIT = 5.0  # seconds for an answer


class Management:
    """The management API of a broker, with the login of its AMQP connection."""

    def __init__(self, parameters: Any) -> None:
        # Where it listens is nowhere in AMQP: at its own port, unless a variable says.
        tls = parameters.ssl_options
        usual = f"http://{parameters.host}:15672"
        if tls:
            usual = f"https://{parameters.host}:15671"
        self.base = setting(VARIABLE, usual).rstrip("/")
        self.context: ssl.SSLContext | None = tls.context if tls else None
        self.vhost = quote(parameters.virtual_host, safe="")
        login = parameters.credentials
        pair = f"{login.username}:{login.password}".encode()
        self.headers = {"Authorization": f"Basic {base64.b64encode(pair).decode()}"}

    def ask(self, path: str, method: str = "GET") -> Any:
        """Return what the API answers to a request about this vhost."""
        url = f"{self.base}/api/{path}"
        if not url.startswith(("http://", "https://")):
            raise ValueError(f"{VARIABLE} is no http:// or https:// address")
        request = urllib.request.Request(url, method=method, headers=self.headers)  # noqa: S310
        with urllib.request.urlopen(  # noqa: S310
            request, timeout=API_LIMIT, context=self.context
        ) as answer:
            text = answer.read()
        return json.loads(text) if text else None

    def names(self, kind: str) -> list[str]:
        """Return the names of all "queues" or "exchanges"."""
        return [row["name"] for row in self.ask(f"{kind}/{self.vhost}?columns=name")]

    def delete(self, kind: str, name: str) -> None:
        """Delete a queue or an exchange."""
        self.ask(f"{kind}/{self.vhost}/{quote(name, safe='')}", "DELETE")


def leftovers_on(parameters: Any) -> list[Leftover]:
    """Return the queues and exchanges of runs; none, and why, without the API."""
    api = Management(parameters)
    found = []
    try:
        for kind in ("queues", "exchanges"):
            for name in api.names(kind):
                if made_at(name):
                    delete = partial(api.delete, kind, name)
                    found.append(Leftover(kind.removesuffix("s"), name, delete))
    except (OSError, ValueError) as error:
        why = getattr(error, "reason", None) or type(error).__name__
        remark(
            f"AMQP lists no names, and no management API at {redact(api.base)}: {why}"
        )
        remark("queues of a run expire by themselves, and their exchanges with them")
    return found
