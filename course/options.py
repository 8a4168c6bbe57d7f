"""The options that all lessons share."""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NoReturn

from course.ending import flush, printing
from course.errors import BadInput
from course.services import HIDDEN
from course.urls import given_url, seconds_above_zero

ADDRESS = re.compile("@|:/")  # in what has one, there may be a password
# What argparse repeats of a command line may be a piece of a password that was typed
# without quotes, or after an option of another program.
SPELLED_OUT = (
    (r"ignored explicit argument .*", "it takes no value"),
    (
        r"ambiguous option: (--[a-z-]*).* could match ",
        r"ambiguous option: \1 could match ",
    ),
    (r"invalid choice: .* \(choose", "invalid choice (choose"),
)


def named(word: str) -> str:
    """Return an argument without its value, if it has the form of an option."""
    found = re.match(r"--[a-z]+(-[a-z]+)*(?==|$)", word)
    return found[0] if found else HIDDEN


def no_such_demo(name: str, demos: Iterable[str]) -> BadInput:
    """Return the complaint; what is no plain word may be an address, and is hidden."""
    wrong = repr(name) if re.fullmatch("[a-z]+([-_][a-z]+)*", name) else HIDDEN
    return BadInput(f"--only: there is no demo {wrong}; there are {', '.join(demos)}")


class OneLine(argparse.ArgumentParser):
    """A parser whose complaint is one line."""

    def error(self, message: str) -> NoReturn:
        """Complain without the usage text."""
        raise BadInput(message)

    def print_help(self, file: Any = None) -> None:
        """Print the help; where that fails, argparse would go on as if it had not."""
        with printing("stdout"):
            print(self.format_help(), end="", file=file)
        flush()


class Parser(OneLine):
    """Parses the options that all lessons share; a complaint is one line."""

    def __init__(self, title: str, demos: Sequence[str]) -> None:
        super().__init__(description=title)
        self.demos = demos
        mode = self.add_mutually_exclusive_group()
        self.add_argument("--list", action="store_true", help="list the demos and exit")
        self.add_argument(
            "--only",
            nargs="*",
            metavar="NAME",
            help="run only these demos; without a name, list them",
        )
        mode.add_argument(
            "--offline",
            action="store_true",
            help="use the stand-in, even if the service is there",
        )
        mode.add_argument(
            "--require-live",
            action="store_true",
            help="exit with 3 if the service is not there",
        )
        self.add_argument(
            "--url",
            type=given_url,
            help="address of the service (a password is safer in the environment)",
        )
        self.add_argument(
            "--connect-timeout",
            type=seconds_above_zero,
            metavar="SECONDS",
            help="how long a service may take to answer (1); an option of its URL wins",
        )
        self.add_argument(
            "--verbose", action="store_true", help="show log lines and tracebacks"
        )
        self.add_argument(
            "--sweep",
            action="store_true",
            help="list what killed runs left behind more than an hour ago",
        )
        self.add_argument("--yes", action="store_true", help="with --sweep, remove it")
        self._add_bets()

    def _add_bets(self) -> None:
        """Add the options of a run in which the reader bets first."""
        self.add_argument(
            "--bet",
            action="store_true",
            help="before each demo, say what is true of it and how sure you are",
        )
        self.add_argument(
            "--answers",
            metavar="FILE",
            help="with --bet, read the answers from a file; - is standard input",
        )
        self.add_argument(
            "--bets-json",
            type=Path,
            metavar="FILE",
            help="with --bet, write the results there",
        )
        self.add_argument(
            "--bet-seed",
            type=int,
            default=0,
            metavar="N",
            help="with --bet, the seed that chooses the statements (0)",
        )

    def error(self, message: str) -> NoReturn:
        """Complain in one line, unlike argparse with its usage text."""
        if ADDRESS.search(message):
            message = f"{message.partition(':')[0]}: is that an address for --url?"
        for said, instead in SPELLED_OUT:
            message = re.sub(said, instead, message, flags=re.DOTALL)
        raise BadInput(message)

    def parse_args(self, args: Any = None, namespace: Any = None) -> Any:
        """Parse the options; refuse those that do not go together."""
        parsed, unknown = self.parse_known_args(args, namespace)
        if unknown and unknown[0] in self.demos:
            raise BadInput(f"choose a demo with --only {unknown[0]}")
        if unknown:
            if ADDRESS.search(" ".join(unknown)):
                raise BadInput("unrecognized arguments: is that an address for --url?")
            self.error(f"unrecognized arguments: {' '.join(map(named, unknown))}")
        if parsed.yes and not parsed.sweep:
            raise BadInput("--yes goes with --sweep")
        if parsed.sweep and parsed.offline:
            raise BadInput("--sweep looks at a service: leave out --offline")
        refuse_bets_with_others(parsed)
        return parsed


def refuse_bets_with_others(parsed: argparse.Namespace) -> None:
    """Refuse the options of bets where nobody bets, and bets where nothing runs."""
    if parsed.bet and parsed.sweep:
        raise BadInput("--bet goes with demos: leave out --sweep")
    if parsed.bet:
        return
    for option in ("answers", "bets_json", "bet_seed"):
        if getattr(parsed, option):
            raise BadInput(f"--{option.replace('_', '-')} goes with --bet")


def swept(env: Any, args: argparse.Namespace) -> int:
    """Sweep the service of a back end, as the options say; 3 if it is not there."""
    if not hasattr(env, "sweep"):
        raise BadInput("--sweep: this lesson leaves nothing on a service")
    code: int = env.sweep(args.yes)
    return code if env.live else code or 3
