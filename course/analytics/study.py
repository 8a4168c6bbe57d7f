"""A log studied as the command line says: figures, tables, a page, pictures."""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from course.analytics.arrays import Grid, iso, ordinal
from course.analytics.dates import known_until
from course.analytics.grids import cell, print_grid, turned
from course.analytics.history import history_facts, history_figures
from course.analytics.output import check_output, check_outputs, make_folder, save
from course.analytics.page import page
from course.analytics.pictures import PICTURES, pictures_of
from course.analytics.report import report_of
from course.analytics.rules import (
    netted_rows,
    reading_facts,
    reading_figures,
    require_few_refused,
)
from course.analytics.scoresheet import saved_as, score_table
from course.analytics.simulate import SPAN, require_memory
from course.analytics.wording import how_many
from course.columns import visible
from course.console import fact, note, write
from course.errors import BadInput

MANY = 1_000_000  # rows or customers; above, say what takes its time
SHORTEST_BACKTEST = 7  # days, unless options ask for less
DUE_DAYS = 90  # whose next order is due: a quarter, as far as a campaign plans


@dataclass(frozen=True)
class Makers:
    """The lesson's functions and classes, by which a study is made.

    They are passed in, as nothing in course/ imports a lesson; hence `Any` for a log,
    a Forecast, a Backtest and an InsightsGenerator.
    """

    sample: Path
    read_log: Callable[..., Any]
    simulate: Callable[[int, int], Any]
    forecast: Callable[..., Any]
    backtest: Callable[..., Any]
    insights: Callable[..., Any]
    segment_rule: Callable[[Any], Any]


def backtest_window(
    args: argparse.Namespace, first: int, as_of: int
) -> tuple[int, int]:
    """Return the day at which a backtest stands, and the days that it looks ahead.

    The last third of the log, unless options say otherwise: then the past holds as many
    days to choose a model on, and as many to fit it on.
    """
    end = args.calibration_end
    days = args.horizon
    if end is None and days is None:
        days = (as_of - first + 1) // 3
    if days is None:
        days = as_of - end
    if end is None:
        end = as_of - days
    return end, days


def no_room(args: argparse.Namespace, first: int, as_of: int) -> str:
    """Return why a backtest that was asked for has no place in the log."""
    log = f"the log of {iso(first)} to {iso(as_of)}"
    end = args.calibration_end
    if end is not None and not first <= end < as_of:
        return f"--calibration-end {iso(end)}: it has to lie in {log}, before its end"
    most = as_of - (first if end is None else end)
    left = f" after {iso(end)}" if end else ""
    days = how_many(most, "day")
    return f"--horizon {args.horizon}: of {log}, {days} can be predicted{left}"


def require_outcome(end: Any, days: int, last_day: int) -> None:
    """Raise BadInput if a log ends so early that nobody knows what came of a forecast.

    The last days of a shop may well be without an order: a quarter may be missing.
    """
    missing = ordinal(end) + days - last_day
    if missing > days // 4:
        said = f"{days:,} days after {iso(ordinal(end))} cannot be compared"
        raise BadInput(f"{said}: the last order is on {iso(last_day)}")


def repeated(log: Any) -> int:
    """Return how many rows are copies of another; two equal orders may be real."""
    known = (log.item, log.amount, log.day, log.customer)
    columns = [column for column in known if column is not None]
    order = np.lexsort(columns)
    new = np.any([np.diff(column[order]) != 0 for column in columns], axis=0)
    return len(order) - 1 - int(new.sum())


@contextmanager
def left_by(option: str) -> Iterator[None]:
    """Say of a log that is too short for the models which option made it so, if any."""
    try:
        yield
    except BadInput as problem:
        raise BadInput(f"{option}: {problem}" if option else str(problem)) from None


def require_paid(log: Any) -> None:
    """Raise BadInput for a log in which nobody paid anything."""
    if log.has_amounts and not log.amount.any():
        cure = "--columns CUSTOMER,DATE studies orders without their amounts"
        raise BadInput(f"0 customers paid anything: {cure}")


class Study:
    """One log, as the options say: a forecast, and a backtest if there can be one."""

    def __init__(self, args: argparse.Namespace, make: Makers) -> None:
        self.make = make
        self.log = self.chosen_log(args)
        first = int(self.log.day.min())
        as_of = known_until(self.log, args.as_of, args.accept_dates)
        asked = bool(args.calibration_end or args.horizon)
        self.record = self.backtest(args, first, as_of) if asked else None
        if not asked and not args.simulate:
            with suppress(BadInput):  # too few customers for that
                self.record = self.backtest(args, first, as_of)
        known = self.log.where(self.log.day <= as_of)
        then = self.record.forecast if self.record else None
        days = then.days if then else SPAN
        with left_by(f"--as-of {iso(args.as_of)}" if args.as_of else ""):
            self.now = make.forecast(known, as_of, days, learn=then is not None)
        # What is printed as chosen makes the figures, and is what was tested.
        if then:
            self.now.follow(then)
        # The fit that is shown: at the cut, whose figures a backtest has tested.
        self.fitted = then or self.now
        if args.as_of and not asked:
            self.fitted = self.now
        self.history = history_figures(self.log, as_of)
        report = make.insights(self.now, self.record)
        self.segments = report.generate_segment_report()
        self.insights = report._generate_insights(self.segments)

    def chosen_log(self, args: argparse.Namespace) -> Any:
        """Return the log that the options name, simulated or read."""
        if args.simulate:
            require_memory(args.simulate)
            self.name = f"{args.simulate:,} simulated"
            if args.simulate > MANY:
                note(f"simulating {args.simulate:,} customers")
            log = self.make.simulate(args.simulate, args.seed)
        else:
            path = args.transactions or self.make.sample
            self.name = visible(path.name)
            log = self.make.read_log(
                path,
                args.columns,
                decimal=args.decimal,
                date_format=args.date_format,
                currency=args.currency,
            )
            if not args.accept_refused:
                require_few_refused(log, "--accept-refused")
            require_paid(log)
        if len(log.day) > MANY:
            note(f"features, fits and forecasts from {len(log.day):,} orders")
        return log

    def backtest(self, args: argparse.Namespace, first: int, as_of: int) -> Any:
        """Return the backtest within the days up to `as_of`."""
        end, days = backtest_window(args, first, as_of)
        asked = args.calibration_end or args.horizon
        if asked and not first <= end < end + days <= as_of:
            raise BadInput(no_room(args, first, as_of))
        if not asked and days < SHORTEST_BACKTEST:
            raise BadInput("the log is too short for a backtest")
        known = self.log.where(self.log.day <= as_of)
        option = "--calibration-end" if args.calibration_end else "--horizon"
        said = f"{option}: a backtest has only the orders up to {iso(end)}"
        with left_by(said):
            return self.make.backtest(known, end, days)

    def due(self) -> int:
        """Return who will order within DUE_DAYS, as likely as not or likelier."""
        everybody = np.arange(len(self.now.table.x))
        days = self.now.days_until(everybody, 0.5)
        return int((days <= DUE_DAYS).sum())

    def figures(self) -> dict[str, Any]:
        """Return what --json prints; NaN becomes None there."""
        refused = sum(map(len, self.log.refused.values()))
        netted = netted_rows(self.log)
        used = len(self.log.day)
        fit = {k: v for k, v in vars(self.fitted.bgnbd).items() if k != "covariance"}
        scores = self.record.scores if self.record else {"churn": {}, "value": {}}
        return {
            "customers": len(self.now.table.x),
            "rows": {"read": used + refused + netted, "used": used, "refused": refused},
            **reading_figures(self.log),
            "as_of": iso(self.now.table.as_of),
            "fitted_at": iso(self.fitted.table.as_of),
            "horizon_days": self.now.days,
            f"due_in_{DUE_DAYS}_days": self.due(),
            "bgnbd": fit,
            "gamma_gamma": vars(self.fitted.money),
            **scores,
            "chosen": {"churn": self.now.churn_model, "value": self.now.value_model},
            "history": self.history,
            "segments": self.segments,
        }

    def facts(self) -> Iterator[tuple[str, str]]:
        """Yield what stands in no table, named."""
        for name, value in self.figures().items():
            if isinstance(value, str | int):
                yield name, str(value)
            elif name in ("rows", "bgnbd", "gamma_gamma", "chosen"):
                yield name, ", ".join(f"{k} {cell(v)}" for k, v in value.items())
        yield from reading_facts(self.log).items()
        yield from history_facts(self.history).items()
        yield "orders that cost nothing", f"{(self.log.amount == 0).sum():,}, used"
        yield "rows like an earlier row", f"{repeated(self.log):,}, used"

    def grids(self) -> dict[str, Grid]:
        """Return tables, and pictures in figures, by title."""
        grids: dict[str, Grid] = {"segment": self.segments}
        if self.record:
            grids |= self.record.scores
            for picture in PICTURES.values():
                grids[picture.title] = picture.grid(self.record)
        return grids

    def page(self) -> str:
        """Return the report; without matplotlib it says what to install."""
        drawn: Mapping[str, bytes] | None = None
        if self.record:
            with suppress(ImportError):
                drawn = pictures_of(self.record)
        return page(report_of(self, drawn))

    def save_pictures(self, folder: Path, force: bool) -> None:
        """Draw the backtest into a folder; BadInput says what is missing for that."""
        if self.record is None:
            raise BadInput(
                "--plots draws a backtest: give --calibration-end or more data"
            )
        try:
            drawn = pictures_of(self.record)
        except ImportError:
            raise BadInput("--plots needs matplotlib: pip install matplotlib") from None
        make_folder(folder)
        for name in drawn:
            check_output(folder / f"{name}.svg", (), force)
        for name, svg in drawn.items():
            save(folder / f"{name}.svg", svg, force)

    def score_table(self) -> dict[str, Any]:
        """Return a row for each customer."""
        codes = self.make.segment_rule(self.now.table)
        names = list(self.segments)
        segments = [names[code] for code in codes.tolist()]
        return score_table(self.now, self.record, segments)

    def print_json(self) -> None:
        """Print one object."""
        text = json.dumps(self.figures(), indent=1)
        print(re.sub(r"-?\b(NaN|Infinity)\b", "null", text))

    def print_text(self) -> None:
        """Print facts, tables and sentences."""
        write(f"backend: numpy in this process, {self.name}; no service needed")
        for name, text in self.facts():
            fact(name, text)
        for title, grid in self.grids().items():
            write()
            if title == "segment":  # more figures than a terminal has room for
                print_grid("figure", turned(grid))
            else:
                print_grid(title, grid)
        for line in self.insights:
            write(f"  - {line}")


def analyse(args: argparse.Namespace, make: Makers) -> int:
    """Study a log as the options say; return the exit code."""
    try:
        return write_study(args, make)
    except MemoryError:
        raise BadInput("this log is too large for the memory that there is") from None


def write_study(args: argparse.Namespace, make: Makers) -> int:
    """Study a log, write what is asked for, and print the rest."""
    source = args.transactions or make.sample
    reports = [path for path in (args.report, args.scores) if path]
    sheet = saved_as(args.scores) if args.scores else None
    drawn = [f"{name}.svg" for name in PICTURES]
    check_outputs(reports, args.plots, drawn, [source], args.force)
    study = Study(args, make)
    if args.plots and study.record is None:
        said = "give --calibration-end or more data"
        raise BadInput(f"--plots draws a backtest: {said}")
    if args.report:
        save(args.report, study.page().encode(), args.force)
    if sheet:
        save(args.scores, sheet(study.score_table()), args.force)
    if args.plots:
        study.save_pictures(args.plots, args.force)
    if args.json:
        study.print_json()
    else:
        study.print_text()
    return 0
