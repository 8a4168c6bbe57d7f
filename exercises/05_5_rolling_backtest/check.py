"""Judges rolling_backtest by panels on which each leak gives another number."""

from __future__ import annotations

import math
import random
import statistics
from collections.abc import Callable, Sequence
from functools import partial
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np

from course.claims import is_a, near
from course.errors import BadInput
from course.practice.checking import Refused, Words, expect, expect_error

Numbers = list[float]
Measure = Callable[[Numbers], float]
GAP = math.nan
ENOUGH = 150  # panels, of which one has what is sought
CLEAR = 1.001  # by so much the second strength is worse, or rounding might decide


class Line(NamedTuple):
    """A row of the panel."""

    day: int
    inputs: Numbers
    spent: float


class Plan(NamedTuple):
    """How often is forecast, how far, and with what."""

    cuts: list[int]
    horizon: int
    strengths: Numbers


class Known(NamedTuple):
    """What has to come out at a cut, and what the choice of a strength goes by."""

    rows: list[int]
    constant: float
    forecasts: list[Numbers]  # of each strength
    off: list[Numbers]  # of each strength, each row's miss
    chosen: int  # place in `strengths`


def check(answer: ModuleType, rng: random.Random) -> None:
    """Try one cut, then what is known at it, the inputs, and the choice."""
    try_one_cut(answer, rng)
    try_blindness(answer, rng)
    try_last_day(answer, rng)
    try_gaps(answer, rng)
    try_equal_columns(answer, rng)
    try_one_learnt_row(answer, rng)
    try_choices(answer, rng)
    try_equal_errors(answer, rng)
    try_nothing_known(answer, rng)


def scaled(learnt: Numbers, asked: Numbers) -> tuple[Numbers, Numbers]:
    """Return one column's values of the learnt rows and of the forecast ones."""
    there = [value for value in learnt if not math.isnan(value)]
    if len(set(there)) < 2:
        return [0.0] * len(learnt), [0.0] * len(asked)
    mean = statistics.fmean(there)
    filled = [mean if math.isnan(value) else value for value in learnt]
    deviation = statistics.pstdev(filled)
    other = [mean if math.isnan(value) else value for value in asked]
    return (
        [(value - mean) / deviation for value in filled],
        [(value - mean) / deviation for value in other],
    )


def forecast(
    learnt: list[Line], asked: list[Line], strengths: Sequence[float]
) -> list[Numbers]:
    """Return the forecasts by each strength."""
    constant = statistics.fmean(line.spent for line in learnt)
    columns = [
        scaled(
            [line.inputs[place] for line in learnt], [x.inputs[place] for x in asked]
        )
        for place in range(len(learnt[0].inputs))
    ]
    left = np.array([column for column, _ in columns]).T
    right = np.array([column for _, column in columns]).T
    off = [line.spent - constant for line in learnt] + [0.0] * len(columns)
    found = []
    for strength in strengths:
        # The same weights as ridge has: a strength is as many more rows.
        more = math.sqrt(strength) * np.eye(len(columns))
        weights = np.linalg.lstsq(np.vstack([left, more]), np.array(off), rcond=None)[0]
        found.append([constant + float(value) for value in right @ weights])
    return found


def known_of(panel: list[Line], plan: Plan) -> list[Known]:
    """Return what has to come out at each cut."""
    made: list[Known] = []
    for cut in plan.cuts:
        learnt = learnt_at(panel, plan, cut)
        rows = [row for row, line in enumerate(panel) if line.day == cut]
        asked = [panel[row] for row in rows]
        forecasts = forecast(learnt, asked, plan.strengths)
        constant = statistics.fmean(line.spent for line in learnt)
        off = misses(forecasts, asked)
        chosen = place_of_least(total(over_at(plan, made, cut), squares))
        made.append(Known(rows, constant, forecasts, off, chosen))
    return made


def learnt_at(panel: list[Line], plan: Plan, cut: int) -> list[Line]:
    """Return the lines whose outcome is known at the end of a day."""
    return [line for line in panel if line.day + plan.horizon <= cut]


def misses(forecasts: list[Numbers], asked: list[Line]) -> list[Numbers]:
    """Return how far each strength's forecasts are off."""
    return [
        [said - line.spent for said, line in zip(each, asked, strict=True)]
        for each in forecasts
    ]


def over_at(plan: Plan, made: list[Known], cut: int) -> list[list[Numbers]]:
    """Return the misses of the earlier cuts whose forecast days are over."""
    pairs = zip(plan.cuts, made, strict=False)
    return [known.off for earlier, known in pairs if earlier + plan.horizon <= cut]


def total(over: list[list[Numbers]], measure: Measure) -> Numbers:
    """Return a measure of each strength's misses, summed over some cuts."""
    return [math.fsum(map(measure, each)) for each in zip(*over, strict=True)]


def squares(off: Numbers) -> float:
    """Return the sum of the squared misses of a cut."""
    return math.fsum(miss**2 for miss in off)


def mean_square(off: Numbers) -> float:
    """Return the same for each row of the cut."""
    return squares(off) / len(off)


def distance(off: Numbers) -> float:
    """Return the sum of the misses, whatever their side."""
    return math.fsum(map(abs, off))


def place_of_least(errors: Numbers) -> int:
    """Return the place of the least error, the first of equal ones; 0 without any."""
    return errors.index(min(errors)) if errors else 0


def chosen_otherwise(
    panel: list[Line], plan: Plan, made: list[Known], place: int
) -> dict[str, int]:
    """Return which strength is chosen at a cut as if something else held."""
    cut = plan.cuts[place]
    earlier = made[:place]
    over = over_at(plan, earlier, cut)
    not_last = over_at(plan, earlier, cut - 1)
    learnt = learnt_at(panel, plan, cut)
    again = []
    for known in earlier[: len(over)]:
        asked = [panel[row] for row in known.rows]
        again.append(misses(forecast(learnt, asked, plan.strengths), asked))
    all_earlier = [known.off for known in earlier]
    with_own = [*over, made[place].off]
    errors = {
        "each cut counted once": total(over, mean_square),
        "errors were not squared": total(over, distance),
        "all earlier cuts were over": total(all_earlier, squares),
        "a cut whose days end now were not over": total(not_last, squares),
        "the latest cut alone counted": total(over[-1:], squares),
        "earlier cuts were forecast anew": total(again, squares),
        "its own spend were known": total(with_own, squares),
    }
    return {words: place_of_least(each) for words, each in errors.items()}


def is_clear(plan: Plan, made: list[Known]) -> bool:
    """Tell whether no choice hangs on rounding."""
    for place, cut in enumerate(plan.cuts):
        errors = sorted(total(over_at(plan, made[:place], cut), squares))
        if errors and errors[1] < errors[0] * CLEAR:
            return False
    return True


def panel_of(rng: random.Random, days: Sequence[int], most: int) -> list[Line]:
    """Return a shuffled panel: some rows a day, spends that the inputs hint at."""
    weights = [rng.gauss(0, 6) for _ in range(3)]
    lines = []
    for day in days:
        shift = rng.gauss(0, 4)
        for _ in range(rng.randrange(2, most)):
            inputs = [rng.gauss(5, 2), rng.gauss(0, 30), rng.gauss(day / 40, 1)]
            hint = sum(x * y / 6 for x, y in zip(weights, inputs, strict=True))
            spent = round(max(0.0, 20 + hint + shift + rng.gauss(0, 8)), 2)
            lines.append(Line(day, [round(value, 2) for value in inputs], spent))
    rng.shuffle(lines)
    return lines


def with_gaps(rng: random.Random, lines: list[Line], share: float) -> list[Line]:
    """Return the same lines with some inputs missing."""
    return [
        line._replace(inputs=[GAP if rng.random() < share else x for x in line.inputs])
        for line in lines
    ]


def rounds_of(answer: ModuleType, panel: list[Line], plan: Plan) -> Any:
    """Return what comes out."""
    width = len(panel[0].inputs) if panel else 2
    inputs = np.array([line.inputs for line in panel], np.float64)
    given = answer.Panel(
        day=np.array([line.day for line in panel], np.int64),
        inputs=inputs.reshape(len(panel), width),
        spent=np.array([line.spent for line in panel], np.float64),
    )
    cuts, horizon, strengths = plan
    return answer.rolling_backtest(given, list(cuts), horizon, list(strengths))


def plain_rounds(
    answer: ModuleType, tried: str, panel: list[Line], plan: Plan
) -> list[dict[str, Any]]:
    """Return the rounds as plain numbers; refuse a result that has none."""
    found = rounds_of(answer, panel, plan)
    expect(f"{tried}: the result", type(found).__name__, "list", 1)
    expect(f"{tried}: number of rounds", len(found), len(plan.cuts), 1)
    return [plain_round(tried, made) for made in found]


def plain_round(tried: str, made: Any) -> dict[str, Any]:
    """Return a round as plain numbers."""
    expect(f"{tried}: a round", type(made).__name__, "Round", 1)
    expect(f"{tried}: `cut`", made.cut, is_a(int, np.integer), 1)
    for name in ("constant", "strength"):
        number = is_a(float, int, np.number)
        expect(f"{tried}: `{name}`", getattr(made, name), number, 1)
    rows = numbers_in(f"{tried}: `rows`", made.rows)
    forecasts = numbers_in(f"{tried}: `forecast`", made.forecast)
    expect(f"{tried}: number of forecasts", len(forecasts), len(rows), 1)
    return {
        "cut": int(made.cut),
        "rows": rows,
        "constant": round(float(made.constant), 6),
        "strength": float(made.strength),
        "forecast": forecasts,
    }


def numbers_in(tried: str, column: Any) -> Numbers:
    """Return an array as a list; refuse anything else."""
    shape = Words(type(column).__name__)
    if isinstance(column, np.ndarray):
        if column.ndim == 1 and column.dtype.kind in "iuf":
            return [round(value, 6) for value in column.tolist()]
        shape = Words(f"array of {column.dtype}, shape {column.shape}")
    raise Refused(tried, shape, Words("an array with a number for each row"), 1)


def try_panel(
    answer: ModuleType, tried: str, panel: list[Line], plan: Plan, hint: int
) -> None:
    """Compare every round of a backtest."""
    known = known_of(panel, plan)
    found = plain_rounds(answer, tried, panel, plan)
    for cut, made, should in zip(plan.cuts, found, known, strict=True):
        where = f"{tried}: cut {cut}"
        expect(f"{where}: `cut`", made["cut"], cut, 1)
        expect(f"{where}: `rows`", made["rows"], should.rows, 1)
        constant = near(round(should.constant, 6), 1e-5)
        expect(f"{where}: `constant`", made["constant"], constant, 1)
        strength = plan.strengths[should.chosen]
        if made["strength"] != strength:
            where += reasons(panel, plan, known, made)
        expect(f"{where}: `strength`", made["strength"], strength, 3)
        forecasts = should.forecasts[should.chosen]
        for row, came, said in zip(
            should.rows, made["forecast"], forecasts, strict=True
        ):
            expect(
                f"{where}: forecast of row {row}",
                came,
                near(round(said, 6), 1e-5),
                hint,
            )


def reasons(
    panel: list[Line], plan: Plan, known: list[Known], made: dict[str, Any]
) -> str:
    """Return by which mistakes a strength may have been chosen."""
    place = plan.cuts.index(made["cut"])
    if not over_at(plan, known[:place], made["cut"]):
        return ", no earlier cut is over"
    otherwise = chosen_otherwise(panel, plan, known, place)
    found = [
        words
        for words, place in otherwise.items()
        if plan.strengths[place] == made["strength"]
    ]
    return ", as if " + ", or ".join(found) if found else ""


def try_one_cut(answer: ModuleType, rng: random.Random) -> None:
    """Try one cut and one strength, nothing missing."""
    plan = Plan([60], 20, [2.0])
    panel = panel_of(rng, range(9, 40, 10), 9)
    panel += panel_of(rng, [60], 9)
    tried = "one cut, one strength, nothing missing"
    try_panel(answer, tried, panel, plan, 2)
    rng.shuffle(panel)
    try_panel(answer, f"{tried}, rows shuffled", panel, plan, 2)


def try_blindness(answer: ModuleType, rng: random.Random) -> None:
    """Change what becomes known after a cut: its round stays the same."""
    plan = Plan([40, 50, 60, 70], 20, [30.0, 1.0, 300.0])
    panel = with_gaps(rng, panel_of(rng, range(0, 91, 5), 7), 0.1)
    before = plain_rounds(answer, "four cuts", panel, plan)
    for place, cut in enumerate(plan.cuts):
        later = [after(rng, line, plan, cut) for line in panel]
        tried = f"spends that end after day {cut} and later inputs drawn anew"
        made = plain_rounds(answer, tried, later, plan)[place]
        was = before[place]
        for name, hint in (("rows", 1), ("constant", 1), ("strength", 3)):
            expect(f"{tried}: `{name}` of cut {cut}", made[name], was[name], hint)
        for came, earlier in zip(made["forecast"], was["forecast"], strict=True):
            expect(f"{tried}: a forecast of cut {cut}", came, near(earlier, 1e-5), 1)


def after(rng: random.Random, line: Line, plan: Plan, cut: int) -> Line:
    """Return a line with everything drawn anew that is not known at a cut."""
    if line.day > cut:
        line = line._replace(inputs=[rng.gauss(50, 90) for _ in line.inputs])
    if line.day + plan.horizon > cut:
        line = line._replace(spent=float(rng.randrange(500)))
    return line


def try_last_day(answer: ModuleType, rng: random.Random) -> None:
    """Try rows whose spend ends on the cut, a day before it, and a day after."""
    horizon = rng.randrange(7, 30)
    cut = 60
    plan = Plan([cut], horizon, [2.0])
    late = [cut - horizon + 1, cut - 1, cut]
    for days, words in (
        ([cut - horizon - 9, cut - horizon], "long before the cut, on it"),
        ([cut - horizon - 1], "a day before the cut"),
    ):
        panel = panel_of(rng, [*days, *late], 7)
        tried = f"rows whose spend ends {words}, a day after it, and later"
        try_panel(answer, tried, panel, plan, 1)


def try_gaps(answer: ModuleType, rng: random.Random) -> None:
    """Try missing inputs in the rows that are learnt and in those that are forecast."""
    plan = Plan([60], 20, [2.0])
    learnt = panel_of(rng, range(10, 41, 10), 9)
    asked = panel_of(rng, [60], 9)
    beside = panel_of(rng, [50, 70], 9)
    some_asked = [asked[0]._replace(inputs=[GAP, 1.0, GAP]), *asked[1:]]
    tried = "an input missing in a forecast row"
    try_panel(answer, tried, [*learnt, *beside, *some_asked], plan, 2)
    some_learnt = with_gaps(rng, learnt, 0.3)
    tried = "inputs missing in learnt rows"
    try_panel(answer, tried, [*some_learnt, *beside, *asked], plan, 2)
    both = [*some_learnt, *with_gaps(rng, [*beside, *some_asked], 0.3)]
    rng.shuffle(both)
    try_panel(answer, "inputs missing everywhere", both, plan, 2)


def try_equal_columns(answer: ModuleType, rng: random.Random) -> None:
    """Try columns that do not differ in the learnt rows, but in the forecast ones."""
    plan = Plan([60], 20, [2.0])
    for count in (4, 3, 6, 7, 10, 14):
        spends = [float(rng.randrange(90)) for _ in range(count)]
        first = [float(rng.randrange(90)) for _ in range(count)]
        asked = [Line(60, [30.0, value], 5.0) for value in (0.7, 0.1, GAP)]
        columns = {
            f"0.1 in all {count} learnt rows": [0.1] * count,
            f"0.1 in {count - 1} learnt rows, missing in one": [
                GAP,
                *[0.1] * (count - 1),
            ],
            f"missing in all {count} learnt rows": [GAP] * count,
            f"missing in all of {count} learnt rows but one": [
                0.3,
                *[GAP] * (count - 1),
            ],
        }
        for words, column in columns.items():
            inputs = zip(first, column, spends, strict=True)
            panel = [Line(30, [one, other], spent) for one, other, spent in inputs]
            panel += asked
            rng.shuffle(panel)
            try_panel(answer, f"a column that is {words}", panel, plan, 2)


def try_one_learnt_row(answer: ModuleType, rng: random.Random) -> None:
    """Try the least that can be learnt from."""
    panel = [Line(40, [3.0, 5.0], float(rng.randrange(9, 90)))]
    panel += [Line(60, [4.0, 1.0], 3.0), Line(60, [GAP, 5.0], 7.0)]
    tried = "one learnt row, so that all columns are equal"
    try_panel(answer, tried, panel, Plan([60], 20, [2.0]), 2)


def try_choices(answer: ModuleType, rng: random.Random) -> None:
    """For each mistake, try a panel on which it chooses another strength."""
    plan = Plan([40, 50, 60, 70, 80], 20, [30.0, 0.1, 300.0])
    tried: set[str] = set()
    for _ in range(ENOUGH):
        panel = panel_of(rng, range(0, 81, 10), 9)
        known = known_of(panel, plan)
        if not is_clear(plan, known):
            continue
        otherwise = chosen_otherwise(panel, plan, known, 4)
        differ = {each for each in otherwise if otherwise[each] != known[4].chosen}
        if not differ <= tried:
            tried |= differ
            try_panel(answer, "five cuts", panel, plan, 3)
        if len(tried) == len(otherwise):
            return


def try_equal_errors(answer: ModuleType, rng: random.Random) -> None:
    """Try inputs that tell nothing: all strengths forecast the same."""
    plan = Plan([40, 60, 80], 20, [10.0, 0.5, 200.0])
    days = [day for day in range(0, 81, 10) for _ in range(3)]
    panel = [Line(day, [4.0, 0.5], float(rng.randrange(90))) for day in days]
    try_panel(answer, "three strengths whose errors are equal", panel, plan, 3)


def try_nothing_known(answer: ModuleType, rng: random.Random) -> None:
    """Try cuts at whose end no outcome was known."""
    late = panel_of(rng, [41, 50, 60, 70, 90], 5)
    cases = {
        "the earliest spend ends a day after the cut": (late, [60]),
        "of two cuts the first one is too early": (late, [60, 90]),
        "a panel without rows": ([], [60]),
    }
    for tried, (panel, cuts) in cases.items():
        plan = Plan(cuts, 20, [2.0, 1.0])
        expect_error(tried, BadInput, partial(kind_of_result, answer, panel, plan), 1)


def kind_of_result(answer: ModuleType, panel: list[Line], plan: Plan) -> Words:
    """Return what comes out in a word: its numbers would be too many."""
    return Words(f"a {type(rounds_of(answer, panel, plan)).__name__}")
