"""SQL without surprises: the same rows and the same answers on SQLite and PostgreSQL.

(to be written)
"""

# /// script
# requires-python = ">=3.11"
# dependencies = ["sqlalchemy>=2.1,<2.2", "psycopg[binary]>=3.2,<4", "alembic>=1.19,<2",
#                 "python-dotenv>=1.0,<2", "rich>=13.7,<16"]
# ///

from __future__ import annotations

import argparse
import logging
import os
import re
import sys
import traceback
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from dotenv import dotenv_values
from rich.console import Console
from rich.text import Text

# region harness
# The same bytes in all five scripts (a test compares them): each file runs alone.
DEMOS: dict[str, Callable[[Env], None]] = {}
TALLY: Counter[str] = Counter()


class Skip(Exception):
    """Raised by a demo whose point this back end cannot show; says why."""


class BadInput(Exception):
    """Raised for what the user has to mend: one line on stderr, exit code 2."""


class Parser(argparse.ArgumentParser):
    """Parses the options that all lessons share; a complaint is one line."""

    def __init__(self) -> None:
        super().__init__(description=(__doc__ or "").split("\n\n")[0])
        mode = self.add_mutually_exclusive_group()
        self.add_argument("--list", action="store_true", help="list the demos and exit")
        self.add_argument("--only", nargs="+", metavar="NAME", help="run these demos")
        mode.add_argument("--offline", action="store_true", help="take the stand-in")
        mode.add_argument(
            "--require-live", action="store_true", help="exit 3 if absent"
        )
        self.add_argument("--url", help="the service, instead of the variable's")
        self.add_argument("--verbose", action="store_true", help="logs and tracebacks")

    def error(self, message: str) -> NoReturn:
        """Complain in one line, unlike argparse with its usage text."""
        raise BadInput(message)


def demo(fn: Callable[[Env], None]) -> Callable[[Env], None]:
    """Register a demo; the first line of its docstring is the printed title."""
    DEMOS[fn.__name__] = fn
    return fn


def redact(text: object) -> str:
    """Hide the password of every URL in the text."""
    return re.sub(r"(://[^:/\s]*:)\S*@|(password=)[^&\s]+", r"\1\2***@", str(text))


def setting(name: str, default: str = "") -> str:
    """Return a variable of the environment, else of .env beside this file."""
    dotenv = dotenv_values(Path(__file__).with_name(".env"))
    return os.environ.get(name, dotenv.get(name)) or default


def say(line: str = "", style: str = "") -> None:
    """Print a line: in colour on a terminal, plain when piped."""
    if sys.stdout.isatty():
        Console(highlight=False).print(Text(line, style), soft_wrap=True)
    else:
        print(line)


def show(name: str, value: object) -> None:
    """Print one aligned fact, the same in every run."""
    say(f"  {name:<34} {value}")


def table(header: Sequence[str], *rows: Sequence[object]) -> None:
    """Print rows under their header, columns of numbers to the right."""
    columns = list(zip(header, *rows, strict=True))
    width = [max(len(str(cell)) for cell in column) for column in columns]
    right = [all(isinstance(cell, int | float) for cell in c[1:]) for c in columns]
    for row in (header, *rows):
        cells = zip(row, width, right, strict=True)
        line = "".join(f"  {cell!s:{'>' if r else '<'}{w}}" for cell, w, r in cells)
        say(line.rstrip(), "bold" if row is header else "")


def aside(text: str) -> None:
    """Print what differs from run to run, such as a time, on stderr."""
    print(f"  ~ {text}", file=sys.stderr, flush=True)


def check(claim: str, holds: bool) -> None:
    """Print the claim if it holds, else fail the demo (-O would drop an assert)."""
    if not holds:
        raise AssertionError(claim)
    TALLY["ok"] += 1
    say(f"  [ok] {claim}", "green")


def run_demo(env: Env, run: Callable[[Env], None]) -> None:
    """Run one demo; a false claim or a broken demo is counted, not raised."""
    try:
        run(env)
    except BadInput:
        raise
    except Skip as reason:
        TALLY["skipped"] += 1
        say(f"  [skip] {reason}", "yellow")
    except Exception as error:
        TALLY["failed"] += 1
        kind = "" if isinstance(error, AssertionError) else f"{type(error).__name__}: "
        say(f"  [FAIL] {kind}{redact(error)}", "bold red")
        logging.debug("%s", redact(traceback.format_exc()))


def teach(args: argparse.Namespace) -> int:
    """Run the chosen demos on the back end that answers; return the exit code."""
    if unknown := set(args.only or ()) - set(DEMOS):
        raise BadInput(
            f"--only: no demo {min(unknown)!r}; there are {', '.join(DEMOS)}"
        )
    titles = {
        name: (run.__doc__ or name).splitlines()[0] for name, run in DEMOS.items()
    }
    if args.list:
        table(("demo", "what it shows"), *titles.items())
        return 0
    TALLY.clear()
    with open_env(args) as env:
        say(f"backend: {env.backend}")
        if args.require_live and not env.live:
            return 3
        for number, (name, run) in enumerate(DEMOS.items(), 1):
            if name in (args.only or DEMOS):
                say(f"\n{number}. {titles[name]}", "bold")
                run_demo(env, run)
    say(
        "\n"
        + ", ".join(f"{TALLY[kind]} {kind}" for kind in ("ok", "skipped", "failed"))
    )
    return 1 if TALLY["failed"] else 0


def command(
    parser: Parser, argv: list[str] | None, run: Callable[[argparse.Namespace], int]
) -> int:
    """Run what the command line asks for; return the exit code."""
    try:
        args = parser.parse_args(argv)
        level = logging.DEBUG if args.verbose else logging.CRITICAL
        logging.basicConfig(level=level, format="%(levelname)s %(name)s: %(message)s")
        return run(args)
    except BadInput as problem:
        print(f"{parser.prog}: {redact(problem)}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130


# endregion harness


@dataclass
class Env:
    """What every demo receives: which back end answered."""

    backend: str
    live: bool


@contextmanager
def open_env(args: argparse.Namespace) -> Iterator[Env]:
    """Open the back end."""
    yield Env("sqlite, in a temporary file", live=False)


# %% 1. A claim


@demo
def model(env: Env) -> None:
    """Model: a claim."""
    table(("country", "users"), ("Ukraine", 3), ("France", 12))
    check("three users are in Ukraine", env.backend != "")


def main(argv: list[str] | None = None) -> int:
    """Teach, with the options of the command line; return the exit code."""
    return command(Parser(), argv, teach)


if __name__ == "__main__":
    sys.exit(main())
