"""Where a service is, and what may be printed about it."""

from __future__ import annotations

import re
import socket
from argparse import Namespace
from dataclasses import dataclass
from os import environ
from pathlib import Path

from dotenv import dotenv_values

from course.errors import BadInput

HERE = Path(__file__).resolve().parent
PROJECT = HERE.parent if HERE.name == "course" else HERE  # where the lessons are

PASSWORD_IN_URL = re.compile(r"(://[^:/\s]*:)\S*@")
SECRET_OPTION = re.compile(r"([^&?;\s]*(?:pass|secret|token)[^&?;=\s]*=)[^&\s]+", re.I)


def redact(text: object) -> str:
    """Hide the password of every URL in the text."""
    hidden = PASSWORD_IN_URL.sub(r"\1***@", str(text))
    return SECRET_OPTION.sub(r"\1***", hidden)


def setting(name: str, default: str = "") -> str:
    """Return a variable of the environment, else of the .env beside the lessons."""
    if name in environ:
        return environ[name] or default
    path = PROJECT / ".env"
    try:
        return dotenv_values(path).get(name) or default
    except (OSError, UnicodeError) as error:
        reason = type(error).__name__  # its text may show a piece of the file
        raise BadInput(f"{path.name} cannot be read ({reason})") from None


@dataclass(frozen=True)
class ServiceAddress:
    """The URL of a service, and its origin: an option, a variable, or the default."""

    url: str
    source: str  # "--url" or the variable's name: what a complaint points to
    named: bool  # False for the default


def address_of(args: Namespace, variable: str, default: str = "") -> ServiceAddress:
    """Return where to look for a service: at --url, the variable, or the default."""
    if args.url:
        return ServiceAddress(args.url, "--url", named=True)
    if url := setting(variable):
        return ServiceAddress(url, variable, named=True)
    return ServiceAddress(default, variable, named=False)


def accepts_connections(host: str, port: int, limit: float = 0.5) -> bool:
    """Tell whether something listens on a port."""
    try:
        socket.create_connection((host, port), limit).close()
    except OSError:
        return False
    return True
