"""Where a service is, and what may be printed about it."""

from __future__ import annotations

import json
import logging
import re
import socket
import sys
import threading
import traceback
import warnings
from argparse import Namespace
from collections.abc import Mapping
from dataclasses import dataclass, field
from io import StringIO
from os import environ
from pathlib import Path
from typing import Any
from urllib.parse import quote, quote_plus, unquote, unquote_plus

from dotenv import dotenv_values
from dotenv.parser import parse_stream

from course.errors import BadInput

HERE = Path(__file__).resolve().parent
PROJECT = HERE.parent if HERE.name == "course" else HERE  # where the lessons are

CONNECT_LIMIT = 1.0  # seconds until a stand-in takes over from a service
HIDDEN = "***"
# Everything up to the last @ before a space: an @ may be a part of a password.
# Trap: what others write may be long. A pattern that is tried at each place, and from
# each looks at all that follows in several ways, takes minutes: hence *+ and ++.
LOGIN_IN_URL = re.compile(
    r"""(?P<scheme> \b [a-z][a-z0-9+.-]{0,30} :/{1,3} | :// )
        (?: (?P<login> [^\s"'<>]* ) | [^@\s:]*+ : [^@\n]*+ ) @""",
    re.IGNORECASE | re.VERBOSE,
)
LOGIN_ALONE = re.compile(r"(?<![\w/])([\w.+-]*+:)[^\s@/*][^\s@]*+@(?=[\w\[])")
# KeyError: and its like are no keys that have a value.
SECRET_WORDS = "(?:pass|pwd|secret|key|token)"  # noqa: S105  (what such names hold)
NAME_OF_SECRET = (
    r"(?<![\w.-])"
    rf"(?=[\w.-]*?{SECRET_WORDS}(?!\w{{0,40}}(?:Error|Exception)))[\w.-]++"
)
SECRET_VALUE = re.compile(
    rf"""({NAME_OF_SECRET} ["']?+ (?: \s*+[=:]\s* | %3D ))
         (?: b? "(?:[^"\\]|\\.)*" | b? '(?:[^'\\]|\\.)*' | [^\s&]+ )""",
    re.IGNORECASE | re.VERBOSE,
)
# Where one of these is a password, hiding the word in our own sentences would tell it;
# the patterns above still hide it in URLs.
USUAL_WORDS = {"admin", "default", "guest", "mongo", "mongodb", "password", "postgres"}
USUAL_WORDS |= {"rabbitmq", "redis", "root", "secret", "test", "user"}
TOO_SHORT = 4  # characters; so does hiding each "a"
SHORT = 8  # characters; less is hidden only where it stands alone
SECRETS: set[str] = set()  # of this process, in each spelling that a library may use


def remember_secret(written: str) -> None:
    """Let `redact` hide a text from now on; `written` is as in a URL, with its %40."""
    plain = unquote(written)
    if len(plain) < TOO_SHORT or plain in USUAL_WORDS:
        return
    for text in {written, plain, unquote_plus(written)}:
        SECRETS.add(text)
        SECRETS.update((quote(text, safe=""), quote(text), quote_plus(text)))
        SECRETS.update((repr(text)[1:-1], json.dumps(text)[1:-1]))


def redact(text: object) -> str:
    """Hide passwords: known ones, those of URLs, and values of keys that say so."""
    hidden = str(text)
    for secret in sorted(SECRETS, key=len, reverse=True):
        if len(secret) >= SHORT:
            hidden = hidden.replace(secret, HIDDEN)
        else:
            alone = rf"(?<!\w){re.escape(secret)}(?!\w)"
            hidden = re.sub(alone, HIDDEN, hidden)
    hidden = "\n".join(map(_without_logins, hidden.split("\n")))
    return SECRET_VALUE.sub(rf"\1{HIDDEN}", hidden)


def _without_logins(line: str) -> str:
    """Hide what stands before each @ of a line; where no @ follows, nobody looks."""
    end = line.rfind("@") + 2  # and the first letter of the host
    if end == 1:
        return line
    hidden = LOGIN_IN_URL.sub(_without_login, line[:end])
    return LOGIN_ALONE.sub(rf"\1{HIDDEN}@", hidden) + line[end:]


def _without_login(found: re.Match[str]) -> str:
    """Keep the user of a URL that is well-formed up to its password, and no more."""
    user, colon, _ = (found["login"] or "").partition(":")
    shown = user if colon and re.fullmatch(r"[\w.%+-]*", user) else ""
    return f"{found['scheme']}{shown}{colon if shown or not user else ''}{HIDDEN}@"


class RedactingFormatter(logging.Formatter):
    """Formats log lines, tracebacks and all, with the secrets in them hidden."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line to print."""
        return redact(super().format(record))


def log_to_stderr(level: int) -> None:
    """Print log lines of a level and above, with the secrets in them hidden.

    The same goes for warnings, and for the traceback of what nobody catches.
    """
    handler = logging.StreamHandler()
    handler.setLevel(level)  # SQLAlchemy's logger has a level of its own
    handler.setFormatter(RedactingFormatter("%(levelname)s %(name)s: %(message)s"))
    logging.basicConfig(level=level, handlers=[handler])
    # Where others have put theirs, such as a test runner's, these stay.
    if sys.excepthook is sys.__excepthook__:
        sys.excepthook = print_hidden
    if threading.excepthook is threading.__excepthook__:
        threading.excepthook = _print_of_a_thread
    if warnings.showwarning.__module__ == "warnings":
        warnings.showwarning = _print_warning


def print_hidden(kind: Any, error: Any, trace: Any) -> None:
    """Print a traceback as Python does, with the secrets in it hidden."""
    text = "".join(traceback.format_exception(kind, error, trace))
    print(redact(text), end="", file=sys.stderr, flush=True)


def _print_of_a_thread(fault: threading.ExceptHookArgs) -> None:
    if fault.exc_type is not SystemExit:
        print_hidden(fault.exc_type, fault.exc_value, fault.exc_traceback)


def _print_warning(
    message: Any, category: Any, filename: Any, lineno: Any, *_: Any, **__: Any
) -> None:
    text = warnings.formatwarning(message, category, filename, lineno)
    print(redact(text), end="", file=sys.stderr)


def setting(name: str, default: str = "") -> str:
    """Return a variable of the environment, else of the .env beside the lessons.

    A file that holds a secret ends with a line break, which is no part of it.
    """
    if name in environ:
        return environ[name].strip() or default
    return (settings_in(PROJECT / ".env").get(name) or "").strip() or default


def settings_in(path: Path) -> Mapping[str, str | None]:
    """Return what an .env says; BadInput for a file, or a line, that cannot be read.

    Trap: dotenv leaves such a line out. A run would take a server that nobody named.
    """
    try:
        text = "" if path.is_dir() else path.read_text("utf-8")
    except FileNotFoundError:
        return {}
    except (OSError, UnicodeError) as error:
        reason = type(error).__name__  # its text may show a piece of the file
        raise BadInput(f"{path.name} cannot be read ({reason})") from None
    for statement in parse_stream(StringIO(text)):
        if statement.error:
            text_before = statement.original.string  # with the empty lines before it
            empty = text_before[: len(text_before) - len(text_before.lstrip())]
            number = statement.original.line + empty.count("\n")
            line = f"line {number} of {path.name}"
            raise BadInput(f"{line} is not of the form NAME=value, each quote closed")
    return dotenv_values(stream=StringIO(text))


@dataclass(frozen=True)
class ServiceAddress:
    """The URL of a service, and its origin: an option, a variable, or the default."""

    url: str = field(repr=False)
    source: str  # "--url" or the variable's name: what a complaint points to
    named: bool  # False for the default
    connect_limit: float = CONNECT_LIMIT  # seconds; an option of the URL goes before it


def address_of(args: Namespace, variable: str, default: str = "") -> ServiceAddress:
    """Return where to look for a service: at --url, the variable, or the default."""
    limit = getattr(args, "connect_timeout", None) or CONNECT_LIMIT
    if args.url:
        return ServiceAddress(args.url, "--url", True, limit)
    if url := setting(variable):
        return ServiceAddress(url, variable, True, limit)
    return ServiceAddress(default, variable, False, limit)


def accepts_connections(host: str, port: int, limit: float = 0.5) -> bool:
    """Tell whether something listens on a port."""
    try:
        socket.create_connection((host, port), limit).close()
    except OSError:
        return False
    return True
