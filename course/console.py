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
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, ExitStack
from typing import Any, Generic, NoReturn, Protocol, TypeVar

from rich.console import Console
from rich.text import Text

from course.claims import difference
from course.errors import BadInput, ClaimFailed, Skip
from course.services import Terminated, ending_well, redact

WIDTH = 100  # columns; no line of a run is wider
TABLE_WIDTH = 80  # columns; a wider table breaks its headings, then its texts
MIN_TEXT = 12  # columns that a broken text keeps
NAME_WIDTH = 34  # columns of a fact's name
TALLY: Counter[str] = Counter()  # of the run under way


def write(line: str = "", style: str = "", indent: int = 4) -> None:
    """Print a line: in colour on a terminal, broken between words where too long."""
    for part in wrapped(line, indent):
        if sys.stdout.isatty():
            Console(highlight=False).print(Text(part, style), soft_wrap=True)
        else:
            print(part)


def wrapped(line: str, indent: int) -> list[str]:
    """Return the lines of a text; those after the first are indented."""
    if len(line) <= WIDTH:
        return [line]
    return textwrap.wrap(
        line,
        WIDTH,
        subsequent_indent=" " * indent,
        drop_whitespace=True,
        break_long_words=False,
        break_on_hyphens=False,
    )


def fact(name: str, value: object) -> None:
    """Print one aligned fact, the same in every run."""
    write(f"  {name:<{NAME_WIDTH}} {value}", indent=NAME_WIDTH + 3)


def note(text: str) -> None:
    """Print on stderr what differs from run to run, such as a time."""
    print(f"  ~ {text}", file=sys.stderr, flush=True)


def is_number(cell: object) -> bool:
    """Tell whether a cell of a table is a number; numbers are never broken."""
    return isinstance(cell, int | float)


def shrunk(widths: list[int], least: list[int], available: int) -> list[int]:
    """Return the widths, the roomiest made narrower until all fit, if they can."""
    widths = list(widths)
    while sum(widths) > available:
        roomiest = max(range(len(widths)), key=lambda n: widths[n] - least[n])
        if widths[roomiest] <= least[roomiest]:
            break
        widths[roomiest] -= 1
    return widths


def column_widths(columns: Sequence[Sequence[object]]) -> list[int]:
    """Return how wide each column is; the first cell of a column is its heading.

    Where a table is too wide, headings are broken between words, then texts.
    """
    widths = []
    whole_cells = []
    words = []
    for heading, *cells in columns:
        longest_word = max(map(len, str(heading).split()), default=0)
        longest_cell = max((len(str(cell)) for cell in cells), default=0)
        widths.append(max(len(str(heading)), longest_cell))
        whole_cells.append(max(longest_word, longest_cell))
        breaks = not all(map(is_number, cells))
        words.append(max(longest_word, MIN_TEXT) if breaks else whole_cells[-1])
    margins = 2 * len(columns)
    widths = shrunk(widths, whole_cells, TABLE_WIDTH - margins)
    return shrunk(widths, words, WIDTH - margins)


def table(header: Sequence[str], *rows: Sequence[object]) -> None:
    """Print rows under their header; columns of numbers stand to the right."""
    columns = list(zip(header, *rows, strict=True))
    widths = column_widths(columns)
    right = [all(map(is_number, cells)) for _, *cells in columns]
    for row in (header, *rows):
        parts = [textwrap.wrap(str(c), w) for c, w in zip(row, widths, strict=True)]
        height = max(map(len, parts))
        for n in range(height):
            line = ""
            for part, width, to_right in zip(parts, widths, right, strict=True):
                # A heading of one line stands on the last one, above its numbers.
                at = n - (height - len(part)) if row is header else n
                text = part[at] if 0 <= at < len(part) else ""
                line += "  " + (text.rjust(width) if to_right else text.ljust(width))
            write(line.rstrip(), "bold" if row is header else "")


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
            "--url", help="where the service is; the variable keeps a password hidden"
        )
        self.add_argument(
            "--verbose", action="store_true", help="show log lines and tracebacks"
        )

    def error(self, message: str) -> NoReturn:
        """Complain in one line, unlike argparse with its usage text."""
        unknown = re.fullmatch(r"unrecognized arguments: (\S+).*", message)
        if unknown and unknown[1] in self.demos:
            message = f"a demo is chosen by an option: --only {unknown[1]}"
        raise BadInput(message)


class BackEnd(Protocol):
    """What every demo receives knows who answers, and whether it is a real service."""

    @property
    def backend(self) -> str:
        """Return the first line of a run, without `backend: `."""

    @property
    def live(self) -> bool:
        """Tell whether a real service answers."""


Env = TypeVar("Env", bound=BackEnd)
Demo = Callable[[Env], None]


def in_notebook() -> bool:
    """Tell whether IPython runs the cells of a lesson."""
    ipython = sys.modules.get("IPython")
    return ipython is not None and ipython.get_ipython() is not None


class Lesson(Generic[Env]):
    """A lesson: its demos, and what they run on.

    `open_env` opens the service that the options name, or its stand-in, for the length
    of a `with` block, and cleans up at the end of it.
    """

    def __init__(
        self,
        title: str,
        open_env: Callable[[argparse.Namespace], AbstractContextManager[Env]],
    ) -> None:
        self.title = title
        self.open_env = open_env
        self.demos: dict[str, Demo[Env]] = {}
        self.opened = ExitStack()  # of a notebook, from its first demo to the last cell
        self.env: Env | None = None

    def demo(self, run: Demo[Env]) -> Demo[Env]:
        """Register a demo; its docstring's first line is the printed title.

        In a notebook it runs at once, so that it prints under its own cell.
        """
        self.demos[run.__name__] = run
        if run.__module__ == "__main__" and in_notebook():
            self.run_demo(run.__name__, self.notebook_env())
        return run

    def title_of(self, name: str) -> str:
        """Return the title of a demo."""
        return (self.demos[name].__doc__ or name).splitlines()[0]

    def parser(self) -> Parser:
        """Return a parser of the options that all lessons share."""
        return Parser(self.title, [*self.demos])

    def run_demo(self, name: str, env: Env) -> None:
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
            logging.basicConfig(
                level=level, format="%(levelname)s %(name)s: %(message)s"
            )
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

    def notebook_env(self) -> Env:
        """Return what the demos of a notebook share; the last cell closes it."""
        if self.env is None:
            TALLY.clear()
            # A kernel's own arguments are in sys.argv: no option is read from there.
            args = self.parser().parse_args([])
            logging.basicConfig(level=logging.CRITICAL)  # as a script without --verbose
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
