"""The command line of practice.py: which words there are, and what each runs."""

from __future__ import annotations

from pathlib import Path

from course.columns import visible
from course.ending import (
    OutputLost,
    as_ended,
    complain,
    ending_well,
    flush,
    give_up_stdout,
    interruptible,
    one_line,
)
from course.errors import BadInput
from course.options import OneLine
from course.practice.bets import BETTING
from course.practice.finding import FINDING
from course.practice.learner import Command, Learner
from course.practice.surveying import SURVEYING
from course.practice.writing import WRITING
from course.services import redact

# A kind of exercise adds its commands here; `list` is what a bare `practice.py` does.
COMMANDS: tuple[Command, ...] = (*WRITING, *FINDING, *BETTING, *SURVEYING)


def command_parser() -> OneLine:
    """Return a parser of all commands."""
    parser = OneLine(
        prog="practice.py",
        description="Exercises that judge: write it again, find the bug, bet first.",
    )
    words = parser.add_subparsers(metavar="COMMAND", required=False)
    for command in COMMANDS:
        inner = words.add_parser(
            command.name, help=command.summary, description=command.summary
        )
        if command.options:
            command.options(inner)
        inner.set_defaults(run=command.run)
    parser.set_defaults(run=COMMANDS[0].run)
    return parser


def practise(root: Path, argv: list[str] | None = None) -> int:
    """Do what the command line asks for; return the exit code."""
    with ending_well():
        try:
            with interruptible():
                args = command_parser().parse_args(argv)
                code: int = args.run(Learner(root), args)
                flush()
                return code
        except BadInput as problem:
            complain(f"practice.py: {visible(redact(problem))}")
            return 2
        except OutputLost as lost:
            if lost.code == 1:  # else the reader has gone
                complain(f"practice.py: ended {lost}")
            give_up_stdout()
            return lost.code
        except BrokenPipeError:  # the reader, such as head, has seen enough
            give_up_stdout()
            return 141
        except OSError as problem:  # a folder that may not be written, a full disk
            complain(f"practice.py: {type(problem).__name__}: {one_line(problem)}")
            return 2
        except KeyboardInterrupt as interrupt:
            return as_ended(interrupt).code
