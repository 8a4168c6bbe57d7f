"""How lessons print, claim, and are run from a terminal or a notebook."""

from __future__ import annotations

import argparse
import atexit
import logging
import os
import re
import sys
import textwrap
import traceback
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager, ExitStack
from typing import Any, Generic, NoReturn, Protocol, TypeVar

import rich.console
import rich.text

from course.claims import difference
from course.errors import BadInput, ClaimFailed, Skip
from course.services import Terminated, ending_well, log_to_stderr, redact
from course.urls import given_url, seconds_above_zero

WIDTH = 100  # columns; no line of a run is wider
TABLE_WIDTH = 80  # columns; a wider table breaks its headings, then its texts
MIN_TEXT = 12  # columns that a broken text keeps
NAME_WIDTH = 34  # columns of a fact's name
TALLY: Counter[str] = Counter()  # of the run under way


def write(text: str = "", style: str = "", indent: int = 4) -> None:
    """Print a text: in colour on a terminal, broken between words where too long."""
    for line in wrapped(text, indent):
        if sys.stdout.isatty():
            terminal = rich.console.Console(highlight=False)
            terminal.print(rich.text.Text(line, style), soft_wrap=True)
        else:
            print(line)


def wrapped(text: str, indent: int = 4) -> list[str]:
    """Return the lines of a text; one that is too long goes on in indented lines.

    A word is broken only where it is longer than a whole line.
    """
    lines = []
    for line in text.splitlines() or [""]:
        if len(line) > WIDTH:
            further = " " * indent
            lines += textwrap.wrap(
                line, WIDTH, subsequent_indent=further, break_on_hyphens=False
            )
        else:
            lines.append(line)
    return lines


def fact(name: str, value: object) -> None:
    """Print one aligned fact, the same in every run."""
    write(f"  {name:<{NAME_WIDTH}} {value}", indent=NAME_WIDTH + 3)


def note(text: str) -> None:
    """Print on stderr what differs from run to run, such as a time."""
    for line in wrapped(f"  ~ {text}"):
        print(line, file=sys.stderr, flush=True)


def is_number(cell: object) -> bool:
    """Tell whether a cell of a table is a number; numbers are never broken."""
    return isinstance(cell, int | float)


def longest_of(texts: Iterable[str]) -> int:
    """Return the length of the longest text."""
    return max(map(len, texts), default=0)


class TableColumn:
    """A column of a table: how wide it is, and how narrow it may get step by step."""

    def __init__(self, heading: str, cells: Sequence[object]) -> None:
        texts = [str(cell) for cell in cells]
        words = [word for text in texts for word in text.split()]
        figures = [word for word in words if re.search(r"\d", word)]
        heading_word = longest_of(heading.split())
        self.numeric = all(map(is_number, cells))
        self.full = max(len(heading), longest_of(texts), 1)
        self.heading_broken = max(heading_word, longest_of(texts))
        self.texts_broken = max(heading_word, longest_of(words))
        self.words_broken = max(heading_word, longest_of(figures), MIN_TEXT)


def shrunk(widths: list[int], least: list[int], available: int) -> list[int]:
    """Return the widths, narrowed where there is room until all fit, if they can."""
    widths = list(widths)
    while sum(widths) > available:
        room = [width - low for width, low in zip(widths, least, strict=True)]
        roomiest = room.index(max(room))
        if room[roomiest] <= 0:
            break
        widths[roomiest] -= 1
    return widths


def column_widths(columns: Sequence[TableColumn]) -> list[int]:
    """Return how wide each column is printed; figures are never broken.

    Where a table is too wide, headings are broken between words, then texts are. Words
    are broken where it would still be wider than a line.
    """
    margins = 2 * len(columns)
    fits = TABLE_WIDTH - margins
    widths = [column.full for column in columns]
    widths = shrunk(widths, [column.heading_broken for column in columns], fits)
    widths = shrunk(widths, [column.texts_broken for column in columns], fits)
    least = [column.words_broken for column in columns]
    return shrunk(widths, least, WIDTH - margins)


def table(header: Sequence[str], *rows: Sequence[object]) -> None:
    """Print rows under their header; columns of numbers stand to the right."""
    columns = []
    for heading, *cells in zip(header, *rows, strict=True):
        columns.append(TableColumn(str(heading), cells))
    widths = column_widths(columns)
    write_row(header, columns, widths, is_header=True)
    for row in rows:
        write_row(row, columns, widths)


def write_row(
    row: Sequence[object],
    columns: Sequence[TableColumn],
    widths: Sequence[int],
    is_header: bool = False,
) -> None:
    """Print a row of a table, on several lines where its cells are broken."""
    cells = []
    for cell, width in zip(row, widths, strict=True):
        cells.append(textwrap.wrap(str(cell), width, break_on_hyphens=False))
    height = max(1, *map(len, cells))
    for lines in cells:
        blank = [""] * (height - len(lines))
        # A shorter heading stands on the last line, right above its numbers.
        lines[:] = blank + lines if is_header else lines + blank
    for parts in zip(*cells, strict=True):
        line = ""
        for part, column, width in zip(parts, columns, widths, strict=True):
            aligned = part.rjust(width) if column.numeric else part.ljust(width)
            line += "  " + aligned
        write(line.rstrip(), "bold" if is_header else "")


def check(claim: str, observed: Any, expected: Any) -> None:
    """Print the claim if what was observed is what was expected, else fail the demo.

    `expected` is a value, a condition of course.claims such as more_than(5), or a dict
    of either by name. Raises ClaimFailed (`python -O` would drop an assert).
    """
    differs = difference(observed, expected)
    if differs:
        raise ClaimFailed(f"{claim}: {differs}")
    TALLY["ok"] += 1
    write(f"  [ok] {claim}", "green")


class Parser(argparse.ArgumentParser):
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
            help="address of the service; a password is safer in its variable",
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

    def error(self, message: str) -> NoReturn:
        """Complain in one line, unlike argparse with its usage text."""
        if re.search("@|:/", message):  # of an address, perhaps with a password
            message = f"{message.partition(':')[0]}: is that an address for --url?"
        unknown = re.fullmatch(r"unrecognized arguments: (\S+).*", message)
        if unknown and unknown[1] in self.demos:
            message = f"choose a demo with --only {unknown[1]}"
        raise BadInput(message)


class BackEnd(Protocol):
    """What every demo receives: it knows what answers, a real service or not."""

    @property
    def backend(self) -> str:
        """Return the first line of a run, without `backend: `."""

    @property
    def live(self) -> bool:
        """Tell whether a real service answers."""


AnyEnv = TypeVar("AnyEnv", bound=BackEnd)
Demo = Callable[[AnyEnv], None]


def in_notebook() -> bool:
    """Tell whether IPython runs the cells of a lesson."""
    ipython = sys.modules.get("IPython")
    return ipython is not None and ipython.get_ipython() is not None


class Lesson(Generic[AnyEnv]):
    """A lesson: its demos, and what they run on.

    `open_env` opens the service that the options name, or its stand-in, for the length
    of a `with` block, and cleans up when the block ends.
    """

    def __init__(
        self,
        title: str,
        open_env: Callable[[argparse.Namespace], AbstractContextManager[AnyEnv]],
    ) -> None:
        self.title = title
        self.open_env = open_env
        self.demos: dict[str, Demo[AnyEnv]] = {}
        self.opened = ExitStack()  # in a notebook, from the first demo to the last cell
        self.env: AnyEnv | None = None

    def demo(self, run: Demo[AnyEnv]) -> Demo[AnyEnv]:
        """Register a demo; its docstring's first line is the printed title.

        In a notebook it runs at once, so that it prints under its own cell.
        """
        self.demos[run.__name__] = run
        if run.__module__ == "__main__" and in_notebook():
            self.run_in_notebook(run.__name__)
        return run

    def title_of(self, name: str) -> str:
        """Return the title of a demo."""
        return (self.demos[name].__doc__ or name).splitlines()[0]

    def parser(self) -> Parser:
        """Return a parser of the options that all lessons share."""
        return Parser(self.title, [*self.demos])

    def run_demo(self, name: str, env: AnyEnv) -> None:
        """Run one demo; a false claim or a broken demo is counted, not raised."""
        number = list(self.demos).index(name) + 1
        write()
        write(f"{number}. {self.title_of(name)}", "bold")
        run_claims(lambda: self.demos[name](env))

    def teach(self, args: argparse.Namespace) -> int:
        """Run the chosen demos on the back end that answers; return the exit code."""
        for name in args.only or ():
            if name not in self.demos:
                known = ", ".join(self.demos)
                raise BadInput(f"--only: there is no demo {name!r}; there are {known}")
        if args.list or args.only == []:
            titles = [(name, self.title_of(name)) for name in self.demos]
            table(("demo", "what it shows"), *titles)
            return 0
        TALLY.clear()
        with self.open_env(args) as env:
            write(f"backend: {env.backend}")
            if args.require_live and not env.live:
                return 3
            for name in self.demos:
                if not args.only or name in args.only:
                    self.run_demo(name, env)
        return print_tally()

    def main(
        self,
        argv: list[str] | None = None,
        parser: Parser | None = None,
        run: Callable[[argparse.Namespace], int] | None = None,
    ) -> int:
        """Do what the command line asks for; return the exit code.

        A lesson with options of its own passes its parser, and what to run.
        """
        parser = parser or self.parser()
        try:
            args = parser.parse_args(argv)
            level = logging.DEBUG if args.verbose else logging.CRITICAL
            log_to_stderr(level)
            with ending_well():
                return (run or self.teach)(args)
        except BadInput as problem:
            print(f"{parser.prog}: {redact(problem)}", file=sys.stderr)
            return 2
        except Terminated as end:
            return 128 + end.number
        except KeyboardInterrupt:
            return 130
        except BrokenPipeError:  # the reader, such as head, has seen enough
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return 141

    def finish(self, name: str, main: Callable[[], int] | None = None) -> None:
        """End a lesson: a script with its exit code, a notebook with its tally.

        `name` is the lesson's __name__; imported, it does nothing.
        """
        if name != "__main__":
            return
        if in_notebook():
            self.opened.close()
            self.env = None
            print_tally()
        else:
            sys.exit((main or self.main)())

    def run_in_notebook(self, name: str) -> None:
        """Run one demo on what all of them share."""
        try:
            self.run_demo(name, self.notebook_env())
        except BadInput as problem:  # the notebook prints it, and saves what it prints
            raise BadInput(redact(problem)) from None

    def notebook_env(self) -> AnyEnv:
        """Return what the demos of a notebook share; the last cell closes it."""
        if self.env is None:
            TALLY.clear()
            # Not from sys.argv, which holds the kernel's own arguments.
            args = self.parser().parse_args([])
            log_to_stderr(logging.CRITICAL)  # as a script without --verbose
            self.env = self.opened.enter_context(self.open_env(args))
            atexit.register(self.opened.close)  # a notebook that is left half-way
            write(f"backend: {self.env.backend}")
        return self.env


def run_claims(run: Callable[[], None]) -> None:
    """Run what makes claims; count a false one, or an error, and print it."""
    try:
        run()
    except BadInput:
        raise
    except Skip as reason:
        TALLY["skipped"] += 1
        write(f"  [skip] {reason}", "yellow")
    except Exception as error:
        TALLY["failed"] += 1
        kind = "" if isinstance(error, ClaimFailed) else f"{type(error).__name__}: "
        write(f"  [FAIL] {kind}{redact(error)}", "bold red")
        logging.debug("%s", redact(traceback.format_exc()))


def print_tally() -> int:
    """Print the last line of a run; return its exit code."""
    counts = [f"{TALLY[kind]} {kind}" for kind in ("ok", "skipped", "failed")]
    write()
    write(", ".join(counts))
    return 1 if TALLY["failed"] else 0
