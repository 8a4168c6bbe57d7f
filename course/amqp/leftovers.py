"""What runs that were killed have left on a broker, by its management API."""

from __future__ import annotations

import base64
import json
import re
import ssl
import urllib.error
import urllib.request
from datetime import UTC
from email.utils import parsedate_to_datetime
from functools import partial
from http.client import HTTPException
from typing import Any
from urllib.parse import quote

from course.ending import remark
from course.errors import BadInput
from course.naming import run_name_in
from course.services import redact, setting
from course.sweeping import Leftover, refuse_clocks_apart

VARIABLE = "RABBITMQ_MANAGEMENT_URL"
API_LIMIT = 5.0  # seconds for an answer
# Without a login: it is that of the broker, and stands in the AMQP URL.
ADDRESS_OF_API = re.compile(
    r"https?://([\w.-]+|\[[0-9a-f:.]+\])(?::([0-9]{1,5}))?(/[\w/.-]*)?", re.IGNORECASE
)


def checked(address: str) -> str:
    """Refuse what is no address of an API; no part of it is repeated."""
    found = ADDRESS_OF_API.fullmatch(address)
    if found is None or not 0 < int(found[2] or 80) < 65536:
        form = "http://host:15672, without a login"
        raise BadInput(f"{VARIABLE} is not of the form {form}")
    return address


class StayingThere(urllib.request.HTTPRedirectHandler):
    """Follows an answer to no other place."""

    def redirect_request(self, *_: Any) -> None:
        """Leave a redirection as the error that it is."""


def straight(context: ssl.SSLContext | None) -> urllib.request.OpenerDirector:
    """Return what asks a server itself, as AMQP does.

    Trap: urllib asks the proxy that the environment names, and goes wherever an answer
    sends it. Each time the login of the broker goes along.
    """
    return urllib.request.build_opener(
        urllib.request.ProxyHandler({}),
        urllib.request.HTTPSHandler(context=context),
        StayingThere(),
    )


class Management:
    """The management API of a broker, with the login of its AMQP connection."""

    def __init__(self, parameters: Any) -> None:
        # Where it listens is nowhere in AMQP: at its own port, unless a variable says.
        tls = parameters.ssl_options
        host = f"[{parameters.host}]" if ":" in parameters.host else parameters.host
        usual = f"https://{host}:15671" if tls else f"http://{host}:15672"
        self.base = checked(setting(VARIABLE, usual)).rstrip("/")
        self.opener = straight(tls.context if tls else None)
        self.vhost = quote(parameters.virtual_host, safe="")
        login = parameters.credentials
        pair = f"{login.username}:{login.password}".encode()
        self.headers = {"Authorization": f"Basic {base64.b64encode(pair).decode()}"}

    def ask(self, path: str, method: str = "GET") -> Any:
        """Return what the API answers to a request about this vhost."""
        url = f"{self.base}/api/{path}"
        request = urllib.request.Request(url, method=method, headers=self.headers)  # noqa: S310
        with self.opener.open(request, timeout=API_LIMIT) as answer:
            if date := answer.headers["Date"]:
                its_time = parsedate_to_datetime(date).replace(tzinfo=UTC)  # it is GMT
                refuse_clocks_apart("RabbitMQ", its_time)
            text = answer.read()
        return json.loads(text) if text else None

    def names(self, kind: str) -> list[str]:
        """Return the names of all "queues" or "exchanges"."""
        rows = self.ask(f"{kind}/{self.vhost}?columns=name")
        try:
            return [str(row["name"]) for row in rows]
        except (TypeError, KeyError):
            raise ValueError("that is not an answer of a management API") from None

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
                prefix = run_name_in(name)
                if prefix and name.startswith(f"{prefix}."):
                    delete = partial(api.delete, kind, name)
                    found.append(Leftover(kind.removesuffix("s"), name, delete))
    except (OSError, ValueError, HTTPException) as error:
        remark(f"AMQP lists no names, and {problem_of(api, error)}")
        remark("queues of a run expire by themselves, and their exchanges with them")
    return found


def problem_of(api: Management, error: Exception) -> str:
    """Return why an API told no names; one that refuses a login is there."""
    why = getattr(error, "reason", None) or type(error).__name__
    place = redact(api.base)
    if isinstance(error, urllib.error.HTTPError) and error.code in (401, 403):
        return f"the management API at {place} lets only users with its tag in: {why}"
    return f"no management API at {place}: {why}"
