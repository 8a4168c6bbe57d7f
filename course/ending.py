"""How a run ends, whatever ends it: a signal, a lost service, output that nobody takes.

The first signal ends the run where it stands. From there on nothing interrupts: what
cleans up has a time limit instead, and names what it could not remove.
"""

from __future__ import annotations

import errno
import logging
import os
import signal
import sys
import textwrap
import threading
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from contextvars import copy_context
from enum import Enum
from types import FrameType
from typing import Any, ParamSpec, TypeVar

from course.columns import WIDTH
from course.lab import in_background
from course.services import redact

Params = ParamSpec("Params")
Outcome = TypeVar("Outcome")
GRACE = 3.0  # seconds in which a signal should have ended what runs
REMOVAL_LIMIT = 10.0  # seconds for a server to remove what is ours
LOST_LIMIT = 2.0  # seconds for one that has not answered before
GIVEN_UP_BY_PYMONGO = "operation cancelled"  # says PyMongo, and not why
FAREWELL = 1.0  # seconds for Python to exit; then the process ends at once
ENDING_SIGNALS = ("SIGINT", "SIGTERM", "SIGHUP")  # Windows has no SIGHUP


class Ended(KeyboardInterrupt):
    """Raised in the main thread to end a run: says why, and with which exit code.

    A KeyboardInterrupt, so that no demo takes it for a failure of what it tries.
    """

    def __init__(self, why: str, code: int, fails: bool = False) -> None:
        super().__init__(why)
        self.code = code
        self.fails = fails  # counts as a failure: its service was lost
        self.told = False  # the reader has been told why


def as_ended(interrupt: KeyboardInterrupt) -> Ended:
    """Return what ends the run; a Ctrl-C that was raised by hand has no code."""
    if isinstance(interrupt, Ended):
        return interrupt
    return Ended("by SIGINT", 130)


class OutputLost(Ended):
    """Raised where stdout or stderr takes nothing any more."""


class Phase(Enum):
    """What a signal does now."""

    OUTSIDE = "nothing: it is not ours"
    OPEN = "it ends what runs, at once"
    HELD = "it waits for what is being opened, for a while"
    CLEANING = "nothing: the run ends anyway"


class Ending:
    """Whether the run of this process has to end, and whether it may right now."""

    def __init__(self) -> None:
        self.phase = Phase.OUTSIDE
        self.reason: Ended | None = None
        self.has_alarm = False

    def on_signal(self, number: int, _: FrameType | None) -> None:
        """End the run, as a signal asks; what comes later changes nothing."""
        if self.reason is None:
            self.reason = Ended(f"by {signal.Signals(number).name}", 128 + number)
            self.set_alarm(GRACE)
            if self.phase is Phase.OPEN:
                self.check()

    def on_alarm(self, *_: object) -> None:
        """Raise the reason, if there is one, unless what it ends is being cleaned up.

        Trap: an exception that a signal raises is lost if it strikes in a finalizer, or
        in a callback of a library. It may also be held up by a wait for threads.
        """
        if self.phase is Phase.OPEN:
            self.set_alarm(GRACE)
            self.check()
        elif self.phase is Phase.HELD:
            if self.reason:  # what opens takes too long: from here on, it is closed
                self.phase = Phase.CLEANING
            self.check()

    def lose(self, why: str) -> None:
        """End the run, since its service is lost; from any thread; "" is no loss."""
        if not why:
            return
        if self.reason is None:
            self.reason = Ended(why, 1, fails=True)
        if threading.current_thread() is threading.main_thread():
            self.check()
        elif self.has_alarm:
            signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGALRM)

    def set_alarm(self, seconds: float) -> None:
        """Have the reason looked at again every so many seconds, or not (0)."""
        if self.has_alarm:
            signal.setitimer(signal.ITIMER_REAL, seconds, seconds)

    def check(self) -> None:
        """Raise the reason to end, if there is one."""
        if self.reason:
            raise Ended(str(self.reason), self.reason.code, self.reason.fails)


ENDING = Ending()


def handlers() -> dict[int, Any]:
    """Return the handlers to set, by signal."""
    found: dict[int, Any] = {}
    for name in ENDING_SIGNALS:
        number = getattr(signal, name, None)
        # Trap: under nohup SIGHUP is ignored, which a handler of ours would undo.
        if number and signal.getsignal(number) is not signal.SIG_IGN:
            found[number] = ENDING.on_signal
    alarm = getattr(signal, "SIGALRM", None)  # not on Windows, not if it is in use
    if alarm and signal.getsignal(alarm) is signal.SIG_DFL:
        found[alarm] = ENDING.on_alarm
    return found


def log_exception(about: Any) -> None:
    """Log what a thread, or a finalizer, has died of: --verbose shows it."""
    kind = about.exc_type
    lines = traceback.format_exception(kind, about.exc_value, about.exc_traceback)
    logging.debug("%s", redact("".join(lines)))


@contextmanager
def quiet_threads() -> Iterator[None]:
    """Print no traceback of a thread, unless somebody else reads them, as pytest."""
    threads = threading.excepthook
    finalizers = sys.unraisablehook
    if threads is threading.__excepthook__:
        threading.excepthook = log_exception
    if finalizers is sys.__unraisablehook__:
        sys.unraisablehook = log_exception
    try:
        yield
    finally:
        threading.excepthook = threads
        sys.unraisablehook = finalizers


@contextmanager
def ending_well() -> Iterator[None]:
    """Have signals end the `interruptible` part of a block, so that it cleans up."""
    if threading.current_thread() is not threading.main_thread():
        yield  # only the main thread may set handlers
        return
    new = handlers()
    before = {number: signal.getsignal(number) for number in new}
    ENDING.reason = None
    ENDING.phase = Phase.HELD
    ENDING.has_alarm = bool(new) and ENDING.on_alarm in new.values()
    try:
        with quiet_threads():
            for number, handler in new.items():
                signal.signal(number, handler)
            # Trap: Python hears a signal between two of its steps. One that comes just
            # before a wait, or to another thread, is heard when the next one wakes it.
            ENDING.set_alarm(GRACE)
            yield
    finally:
        ENDING.phase = Phase.OUTSIDE
        ENDING.set_alarm(0)
        for number, handler in before.items():
            signal.signal(number, handler)


class Interruptible:
    """A block in which a signal ends the run at once; after it, nothing does.

    No generator: what strikes in the code around one would leave it half-way.
    """

    def __enter__(self) -> None:
        if ENDING.phase is not Phase.OUTSIDE:
            ENDING.phase = Phase.OPEN
            ENDING.check()

    def __exit__(self, *_: object) -> None:
        if ENDING.phase is not Phase.OUTSIDE:
            ENDING.phase = Phase.CLEANING


class Held:
    """A block that opens something, and closes it: signals wait.

    In it, `interruptible` blocks are where they strike.
    """

    def __enter__(self) -> None:
        if ENDING.phase is not Phase.OUTSIDE:
            ENDING.phase = Phase.HELD

    def __exit__(self, kind: object, *_: object) -> None:
        if ENDING.phase is Phase.OUTSIDE:
            return
        if kind is None:  # all is closed: now a signal may be heard
            ENDING.phase = Phase.OPEN
            ENDING.check()
        else:
            ENDING.phase = Phase.CLEANING


interruptible = Interruptible
held = Held


def apart(
    work: Callable[Params, Outcome], *args: Params.args, **kwargs: Params.kwargs
) -> Outcome:
    """Do something that a signal may break off, with context variables of its own.

    Trap: PyMongo keeps a call's time limit in two of them. A signal between the two
    leaves half a limit, with which the next call fails, such as one that cleans up.
    """
    return copy_context().run(work, *args, **kwargs)


# What is removed


def complain(text: str) -> None:
    """Print a line on stderr; in silence if nobody can read it."""
    if sys.stderr:  # None where it was closed from the start
        with suppress(OSError, ValueError):
            print(text, file=sys.stderr, flush=True)


def remark(text: str) -> None:
    """Print a remark beside the output, in lines that fit; see `complain`."""
    wrapper = textwrap.TextWrapper(WIDTH, subsequent_indent="    ")
    wrapper.break_on_hyphens = False
    for line in wrapper.wrap(f"  ~ {text}"):
        complain(line)


def in_time(work: Callable[[], object], limit: float) -> None:
    """Do something in a thread of its own; TimeoutError if that takes too long."""
    try:
        done = in_background(work)
    except RuntimeError:  # Python 3.12.0 to 3.12.2 start no thread at their exit
        work()
    else:
        done.result(limit)


def remove(
    what: str,
    place: str,
    work: Callable[[], object],
    otherwise: str = "",
    limit: float = REMOVAL_LIMIT,
) -> None:
    """Remove what is ours on a server; say by name what stays, and why.

    In a thread of its own: no signal breaks it, and a server that is frozen holds up
    nobody. `otherwise` says what becomes of what stays.
    """
    # Not again the whole time for the one server that has not answered before.
    lost = place.rpartition(" at ")[2] in str(ENDING.reason)
    try:
        in_time(work, LOST_LIMIT if lost else limit)
    except TimeoutError:
        state = "does not answer"
    except Exception as error:
        state = "is gone"
        logging.debug("%s: %s", type(error).__name__, redact(error))
    else:
        return
    after = f" ({otherwise})" if otherwise else ""
    remark(f"{place} {state}: {what} left behind{after}")


# What is printed


def one_line(error: Exception) -> str:
    """Return what an error says, as one line, and without SQLAlchemy's link."""
    text = redact(error).partition("\n(Background on this error at")[0]
    return " ".join(text.splitlines())


def with_kind(error: Exception) -> str:
    """Return what an error is and says, as one line."""
    # A library's private class is nothing to look up: it is a kind of a public one.
    kinds = [kind.__name__ for kind in type(error).__mro__]
    kind = next(name for name in kinds if not name.startswith("_"))
    said = one_line(error)
    if said == GIVEN_UP_BY_PYMONGO:
        said += ", since its server was silent to another one"
    return f"{kind}: {said}"


def output_lost(name: str, error: OSError) -> OutputLost:
    """Return what to raise where an output takes nothing any more."""
    if error.errno == errno.EPIPE:  # the reader, such as head, has seen enough
        return OutputLost(f"{name} is closed", 141)
    if error.errno == errno.EIO:  # the terminal is closed
        return OutputLost(f"{name} is gone", 129)
    return OutputLost(f"{name}: {error.strerror or error}", 1)


@contextmanager
def printing(name: str) -> Iterator[None]:
    """End the run where what is printed in the block cannot be written."""
    try:
        yield
    except OSError as error:
        raise output_lost(name, error) from None


def flush() -> None:
    """Write out what is printed so far; OutputLost if that cannot be."""
    if sys.stdout:  # None where it was closed from the start
        with printing("stdout"):
            sys.stdout.flush()


def give_up_stdout() -> None:
    """Let what is still to be written go nowhere, or Python complains at the end."""
    with suppress(OSError, ValueError, AttributeError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
        os.close(nowhere)


def leave(code: int) -> None:
    """End the process of a script, also where threads wait for a dead server.

    Trap: at its exit Python waits for the threads of pools, whatever they wait for.
    """
    if ENDING.reason:
        late = threading.Timer(FAREWELL, os._exit, [code])
        late.daemon = True
        late.start()
    sys.exit(code)
