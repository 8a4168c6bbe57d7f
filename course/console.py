"""How lessons print, claim, and are run from a terminal or a notebook."""

from __future__ import annotations

import argparse
import atexit
import logging
import sys
import traceback
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import (
    AbstractContextManager,
    ExitStack,
    contextmanager,
    nullcontext,
)
from typing import Any, Generic, Protocol, TypeVar

import rich.console
import rich.text

from course.betting import PRINTED, LessonBets, Printer, bets_of
from course.claims import difference
from course.columns import TableColumn, column_widths, row_lines, visible, wrapped
from course.ending import (
    ENDING,
    Ended,
    OutputLost,
    apart,
    as_ended,
    complain,
    ending_well,
    flush,
    give_up_stdout,
    held,
    interruptible,
    leave,
    one_line,
    printing,
    with_kind,
)
from course.errors import BadInput, ClaimFailed, Skip
from course.naming import folder_of_the_run
from course.options import Parser, no_such_demo, swept
from course.services import log_to_stderr, redact
from course.watching import Watch, absence_of

NAME_WIDTH = 34  # columns of a fact's name
TALLY: Counter[str] = Counter()  # of the run under way


def was_cut_off() -> bool:
    """Tell whether something of this run may still be at work: it was ended, or failed.

    Such as a thread that nobody waited for, or what a worker that was killed had sent.
    """
    return bool(ENDING.reason or TALLY["failed"])


def write(text: str = "", style: str = "", indent: int = 4) -> None:
    """Print a text: in colour on a terminal, broken between words where too long."""
    PRINTED.append(text)
    for line in wrapped(text, indent):
        with printing("stdout"):
            if sys.stdout and sys.stdout.isatty():
                terminal = rich.console.Console(highlight=False)
                terminal.print(rich.text.Text(line, style), soft_wrap=True)
            else:
                print(line)


def fact(name: str, value: object) -> None:
    """Print one aligned fact, the same in every run."""
    write(f"  {name:<{NAME_WIDTH}} {value}", indent=NAME_WIDTH + 3)


def note(text: str) -> None:
    """Print on stderr what differs from run to run, such as a time."""
    for line in wrapped(f"  ~ {text}"):
        if sys.stderr:  # None where it was closed from the start
            with printing("stderr"):
                print(line, file=sys.stderr, flush=True)


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
    for line in row_lines(row, columns, widths, is_header):
        write(line, "bold" if is_header else "")


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

    def run_demo(self, name: str, env: AnyEnv, bets: LessonBets | None = None) -> None:
        """Run one demo; a false claim or a broken demo is counted, not raised."""
        number = list(self.demos).index(name) + 1
        if bets:
            bets.ask_about(name, number)
        write()
        write(f"{number}. {self.title_of(name)}", "bold")
        failed = TALLY["failed"]
        run_claims(lambda: self.demos[name](env))
        if bets:
            bets.betting.settle()
        if TALLY["failed"] > failed:
            ENDING.lose(absence_of(env))

    def teach(self, args: argparse.Namespace) -> int:
        """Run the chosen demos on the back end that answers; return the exit code."""
        for name in args.only or ():
            if name not in self.demos:
                raise no_such_demo(name, self.demos)
        if args.list or args.only == []:
            titles = [(name, self.title_of(name)) for name in self.demos]
            table(("demo", "what it shows"), *titles)
            return 0
        bets = bets_of(args, self.title, Printer(write, table))
        return tallied(lambda: self.teach_on_back_end(args, bets))

    def teach_on_back_end(
        self, args: argparse.Namespace, bets: LessonBets | None
    ) -> int | None:
        """Open the back end, run the demos on it; return an exit code, if one is due.

        It is opened and closed with signals held: they strike while the demos run.
        """
        with (
            bets.summed_up() if bets else nullcontext(),
            held(),
            folder_of_the_run(),
            self.open_env(args) as env,
            told_at_once(),
            interruptible(),
        ):
            write(f"backend: {env.backend}")
            if args.sweep:
                return apart(swept, env, args)
            if args.require_live and not env.live:
                return 3
            with Watch(env):
                for name in self.demos:
                    if not args.only or name in args.only:
                        apart(self.run_demo, name, env, bets)
                        flush()
        return None

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
        with ending_well():
            code = self.run_with_options(argv, parser, run or self.teach)
            try:
                flush()
            except OutputLost as lost:
                give_up_stdout()
                code = code or lost.code
        return code

    def run_with_options(
        self,
        argv: list[str] | None,
        parser: Parser,
        run: Callable[[argparse.Namespace], int],
    ) -> int:
        """Run what the command line asks for; return its exit code, however it ends."""
        try:
            with interruptible():
                args = parser.parse_args(argv)
                level = logging.DEBUG if args.verbose else logging.CRITICAL
                log_to_stderr(level)
                return run(args)
        except BadInput as problem:
            complain(f"{parser.prog}: {visible(redact(problem))}")
            return 2
        except KeyboardInterrupt as interrupt:
            end = as_ended(interrupt)
            if not end.told:
                complain(f"{parser.prog}: ended {end}")
            return end.code
        except BrokenPipeError:  # the reader, such as head, has seen enough
            give_up_stdout()
            return 141
        except Exception as error:
            complain(f"{parser.prog}: {with_kind(error)}")
            logging.debug("%s", redact(traceback.format_exc()))
            return 1

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
            leave((main or self.main)())

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
        is_claim = isinstance(error, ClaimFailed)
        said = one_line(error) if is_claim else with_kind(error)
        write(f"  [FAIL] {said}", "bold red")
        logging.debug("%s", redact(traceback.format_exc()))


def write_anyway(text: str) -> None:
    """Print one of the last lines: on stderr, where stdout takes nothing any more."""
    try:
        write(text)
        flush()
    except OutputLost as lost:
        if lost.code == 1:  # else nobody is there to read it
            complain(text)


def tell(end: Ended) -> None:
    """Print once why the run ends; a service that was lost is a failure."""
    if end.told:
        return
    end.told = True
    kind = "ended"
    if end.fails and not TALLY["failed"]:  # else what has failed is counted
        kind = "FAIL"
        TALLY["failed"] += 1
    write_anyway(f"  [{kind}] {end}")


@contextmanager
def told_at_once() -> Iterator[None]:
    """Say why a run ends before what takes its time: cleaning up."""
    try:
        yield
    except KeyboardInterrupt as interrupt:
        end = as_ended(interrupt)
        tell(end)
        raise end from None


def tallied(run: Callable[[], int | None]) -> int:
    """Run what makes claims; print the tally, whatever ends it; return the exit code.

    `run` returns a code where nothing was tried, so that there is nothing to count.
    """
    TALLY.clear()
    try:
        code = run()
        if code is not None:
            return code
    except KeyboardInterrupt as interrupt:
        end = as_ended(interrupt)
        tell(end)
        print_tally()
        raise end from None
    except BadInput:
        if TALLY.total():  # else nothing but the complaint
            print_tally()
        raise
    return print_tally()


def print_tally() -> int:
    """Print the last line of a run; return its exit code."""
    counts = [f"{TALLY[kind]} {kind}" for kind in ("ok", "skipped", "failed")]
    write_anyway("")
    write_anyway(", ".join(counts))
    return 1 if TALLY["failed"] else 0
