"""Customer analytics that tell the truth about themselves, on a real purchase log.

You will see, in order: a purchase log cut at a date, so that no feature knows the
future; the rules that everybody copies, scored; the BG/NBD and Gamma-Gamma models equal
to their published fit; data on which dropout cannot be learnt; why 1 - P(alive) is
not churn; a backtest with everything in it; predictions that carry their record;
recommendations; a report whose sentences are computed; and a million customers.

Run:     python 05_realworld_data_science.py [--list] [--only NAME ...]
         python 05_realworld_data_science.py --transactions orders.csv --report r.html
         python 05_realworld_data_science.py --simulate 1000000 --json
         python 05_realworld_data_science.py --integrated [--chaos] [--workers N]
Service: none. The sample in data/ is read: CDNOW, 2,357 customers, 1997-98. Only
         --integrated uses all four, as lessons 01 to 04 find them beside this file.
Without: data/cdnow_sample.csv, give your own orders by --transactions.
Runtime: about 3 s; --integrated 10 s on stand-ins.
Guide:   COMPREHENSIVE_GUIDE.md, chapter 5.
"""

# /// script
# requires-python = ">=3.11"
# dependencies = ["numpy>=1.26,<3", "python-dotenv>=1.2.2,<2", "rich>=13.7,<16"]
# ///

from __future__ import annotations

import argparse
import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from enum import Enum
from functools import cached_property, partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

import course.start  # noqa: F401  (first: it says in one line what is missing)
from course.analytics.arrays import Bools, Floats, Grid, Ints, iso, order_days, starts
from course.analytics.grids import (
    alive_grid,
    cell,
    print_grid,
    reliability,
)
from course.analytics.likelihoods import (
    Collapsed,
    bgnbd_terms,
    gamma_gamma_terms,
    nbd_terms,
    weak_prior,
)
from course.analytics.newton import Terms, by_logs, fit_logistic, logistic, maximum
from course.analytics.options import add_options, check_options, studies
from course.analytics.read import purchase_columns, sample_file
from course.analytics.scores import (
    CONSTANT,
    SEED,
    SURVEYED,
    Rate,
    auc,
    churn_score,
    compared,
    interval_of_mean,
    log_losses,
    rate_of,
    tenths,
    value_score,
)
from course.analytics.simulate import SPAN, START, simulated_orders, simulated_shop
from course.analytics.study import Makers, analyse
from course.console import Lesson, check, fact, write
from course.errors import BadInput

# Knobs
SAMPLE = sample_file()
DORMANT_DAYS = 90  # the backtest shows whom this rule writes off
CHURN_MIDPOINT, CHURN_SLOPE = 30, 20  # days; the logistic that everybody copies
VIP_SHARE = 0.10  # of customers, by what they have spent
ENGAGEMENT = (0.5, 0.3, 0.2)  # weights of recency, frequency, spend
CENTURY = 36_525  # days; an order that is expected later is not expected
DISCOUNT, LTV_MONTHS = 0.10, 12  # a year's discount rate; how far a lifetime reaches
MIN_REPEATERS = 10  # under this, four parameters have nothing to hold on to
DRAWS = 400  # possible futures of a customer
FEWEST = 30  # customers of a segment in the backtest; of fewer nothing is concluded
RULE, NOT_ALIVE = "heuristic", "1 - P(alive)"
BGNBD, STACK = "BG/NBD", "stack"
NAIVE, PER_DAY, GG = "naive (x+1)/T", "naive x/T", "BG/NBD x GG"


class UserSegment(Enum):
    """Who a customer is to the business; the first rule that fits decides."""

    DORMANT = "dormant"
    ACTIVE = "active"
    VIP = "vip"
    AT_RISK = "at_risk"


class PredictionType(Enum):
    """What `MLModelManager.predict` can be asked."""

    CHURN = "churn"
    LIFETIME_VALUE = "lifetime_value"
    NEXT_PURCHASE = "next_purchase"
    RECOMMENDATION = "recommendation"


SEGMENTS = list(UserSegment)


@dataclass(frozen=True)
class TransactionLog:
    """Purchases as columns of one length: code into `ids`, ordinal day, amount."""

    customer: Ints
    day: Ints
    amount: Floats
    ids: Sequence[str] | range
    item: Ints | None = None  # code into `items`
    items: Sequence[str] = ()
    refused: Mapping[str, Sequence[int]] = field(default_factory=dict)  # reason: lines
    read: Mapping[str, str] = field(default_factory=dict)  # role: column of the file

    @cached_property
    def codes(self) -> dict[str, int]:
        """The code of each id."""
        return {str(name): code for code, name in enumerate(self.ids)}

    def where(self, keep: Bools) -> TransactionLog:
        """Return the log of those rows; itself, if those are all."""
        if keep.all():
            return self
        columns = ("customer", "day", "amount") + ("item",) * (self.item is not None)
        return replace(self, **{name: getattr(self, name)[keep] for name in columns})


@dataclass
class AnalyticsEnv:
    """What every demo receives: the log, and its backtest, made once when asked."""

    backend: str
    live: bool
    log: TransactionLog

    @cached_property
    def record(self) -> Backtest:
        """The later half of the log, predicted from the earlier half."""
        return Backtest(self.log, *halves(self.log))


@contextmanager
def open_env(args: argparse.Namespace) -> Iterator[AnalyticsEnv]:
    """Open the sample; this lesson asks no service."""
    log = read_log(SAMPLE)
    name = f"CDNOW sample ({len(log.ids):,} customers, {len(log.day):,} orders)"
    yield AnalyticsEnv(f"numpy in this process, {name}; no service needed", False, log)


lesson = Lesson(
    "Customer analytics that tell the truth about themselves, on a real purchase log",
    open_env,
)


# %% [markdown]
# ## 1. The log: what was known, and when

# %%


def read_log(path: Path, columns: str | None = None) -> TransactionLog:
    """Read a CSV of purchases; BadInput if it is unusable."""
    return TransactionLog(*purchase_columns(path, columns))


# region table
@dataclass(frozen=True)
class CustomerTable:
    """What was known of each customer at the end of `as_of`: arrays of one length.

    Two recencies, two names: `t_last` runs from the first order to the last (t_x in
    the papers), `days_since_last` from the last order to `as_of`. Times are in days.
    """

    as_of: int
    customer: Ints
    x: Ints  # repeat orders: days with orders, without the first
    t_last: Ints
    age: Ints  # from the first order to as_of, T in the papers
    days_since_last: Ints
    spend: Floats
    mean_spend: Floats  # of a repeat order; 0 without one


def customer_table(log: TransactionLog, as_of: int) -> CustomerTable:
    """Return the customers as they stood at `as_of`; later rows are not read."""
    # Trap: recency from the whole log, joined to a label from its last months. The
    # feature holds the answer, and the model shines until it meets a new month.
    log = log.where(log.day <= as_of)
    if not len(log.day):
        raise BadInput(f"no order on or before {iso(as_of)}")
    who, when = order_days(log)
    first = starts(who)
    last = np.append(first[1:], len(who)) - 1
    known, x, begun, latest = who[first], last - first, when[first], when[last]
    day_one = np.zeros(len(log.ids), np.int64)
    day_one[known] = begun
    at_first = log.day == day_one[log.customer]
    spend = np.bincount(log.customer, log.amount)[known]
    opening = np.bincount(log.customer, log.amount * at_first)[known]
    mean = (spend - opening).clip(0) * (x > 0) / np.maximum(x, 1)
    times = latest - begun, as_of - begun, as_of - latest
    return CustomerTable(as_of, known, x, *times, spend, mean)


# endregion table


def outcome(
    log: TransactionLog, table: CustomerTable, days: int
) -> tuple[Ints, Floats]:
    """Return orders and spend of each customer in the days after `as_of`."""
    later = log.where((log.day > table.as_of) & (log.day <= table.as_of + days))
    count = np.bincount(order_days(later)[0], minlength=len(log.ids))
    spend = np.bincount(later.customer, later.amount, len(log.ids))
    return count[table.customer].astype(np.int64), spend[table.customer]


def row_of(log: TransactionLog, table: CustomerTable, user: str) -> int:
    """Return the row of a user; raises BadInput for who had not bought by then."""
    code = log.codes.get(user, -1)
    row = int(np.searchsorted(table.customer, code))
    if row == len(table.customer) or table.customer[row] != code:
        raise BadInput(f"no customer {user!r} by {iso(table.as_of)}")
    return row


def halves(log: TransactionLog) -> tuple[int, int]:
    """Return the day that halves the log, and the days after it."""
    last, span = int(log.day.max()), int(np.ptp(log.day))
    return last - (span + 1) // 2, (span + 1) // 2


@lesson.demo
def leakage(env: AnalyticsEnv) -> None:
    """The log: features are cut at a date, and know nothing later"""
    log, (end, days) = env.log, halves(env.log)
    cut, whole = customer_table(log, end), customer_table(log, int(log.day.max()))
    gone = outcome(log, cut, days)[0] == 0
    fact("cut at, then predict", f"{iso(end)}, {days} days")
    fact("customers who then buy nothing", cell(float(gone.mean())))
    leaks = auc(gone, whole.days_since_last[np.isin(whole.customer, cut.customer)])
    fact("AUC of recency from the whole log", cell(leaks))
    fact("AUC of recency cut at as_of", cell(auc(gone, cut.days_since_last)))
    check("a feature that saw the future looks perfect", leaks > 0.999, True)
    alone = vars(customer_table(log.where(log.day <= end), end))
    same = [np.array_equal(alone[name], column) for name, column in vars(cut).items()]
    check("rows after as_of change no feature", all(same), True)


# %% [markdown]
# ## 2. The rules that everybody copies

# %%
# Trap: 1 / (1 + exp(-x)) lies between 0 and 1, and is no probability for that. Nobody
# has fitted its midpoint and slope: it is a rank in disguise.


# region rules
def churn_rule(days_since_last: Ints) -> Floats:
    """Return the copied "probability" of churn, a logistic in days."""
    return 1 / (1 + np.exp(-(days_since_last - CHURN_MIDPOINT) / CHURN_SLOPE))


def value_rule(t: CustomerTable, days: float) -> Floats:
    """Return orders a day so far x mean order x days; for a newcomer it explodes."""
    return t.spend / np.maximum(t.age, 1) * days


def engagement_rule(t: CustomerTable) -> Floats:
    """Return a weighted score from 0 to 100; recency halves every 30 days."""
    recency, often = 0.5 ** (t.days_since_last / 30), np.minimum(t.x + 1, 10) / 10
    much = np.minimum(t.spend / max(vip_threshold(t), 1e-9), 1)
    parts = zip(ENGAGEMENT, (recency, often, much), strict=True)
    return np.asarray(100 * sum(weight * part for weight, part in parts))


def segment_rule(t: CustomerTable) -> Ints:
    """Return positions in SEGMENTS: dormant before VIP before at risk before active."""
    dormant, rich = t.days_since_last >= DORMANT_DAYS, t.spend > vip_threshold(t)
    risky = churn_rule(t.days_since_last) > 0.5
    order = UserSegment.DORMANT, UserSegment.VIP, UserSegment.AT_RISK
    codes = [SEGMENTS.index(segment) for segment in order]
    active = SEGMENTS.index(UserSegment.ACTIVE)
    return np.select([dormant, rich, risky], codes, active)


# endregion rules


def vip_threshold(t: CustomerTable) -> float:
    """Return the spend that the top share of customers exceeds."""
    place = int((1 - VIP_SHARE) * (len(t.spend) - 1))
    return float(np.partition(t.spend, place)[place])


@dataclass(frozen=True)
class UserProfile:
    """One customer by the rules, at the end of a day."""

    user_id: str
    segment: UserSegment
    orders: int
    total_spend: float
    average_order: float
    days_since_purchase: int
    tenure_days: int
    churn_risk: float
    predicted_ltv: float
    engagement_score: float


class AnalyticsEngine:
    """The customers of a log by the rules, in `columns`; `as_of` has no default."""

    def __init__(self, log: TransactionLog, as_of: int) -> None:
        self.log, self.table = log, (t := customer_table(log, as_of))
        self.segments = segment_rule(t)
        names = list(UserProfile.__dataclass_fields__)[2:]
        each, idle = t.spend / (t.x + 1), t.days_since_last
        known = [t.x + 1, t.spend, each, idle, t.age]
        ruled = [churn_rule(idle), value_rule(t, 365), engagement_rule(t)]
        self.columns = dict(zip(names, known + ruled, strict=True))

    def calculate_user_profile(self, user: str) -> UserProfile:
        """Return one customer's row of the columns; BadInput if there is none."""
        i = row_of(self.log, self.table, user)
        row = {name: column[i].item() for name, column in self.columns.items()}
        return UserProfile(user, SEGMENTS[self.segments[i]], **row)


@lesson.demo
def rules(env: AnalyticsEnv) -> None:
    """The rules: they rank, and as probabilities they are worse than a constant"""
    end, days = halves(env.log)
    engine = AnalyticsEngine(env.log, end)
    orders, spent = outcome(env.log, engine.table, days)
    scores = compared(gone := orders == 0, {RULE: engine.columns["churn_risk"]})
    print_grid("churn", scores)
    check(
        "the logistic in days ranks: AUC above 0.75", scores[RULE]["auc"] > 0.75, True
    )
    gap, surprise = scores[RULE]["loss - constant"], scores[RULE]["log_loss"]
    check("its Brier score is worse than a constant's", gap[0] > 0, True)
    worse = surprise > 2 * scores[CONSTANT]["log_loss"]
    check("its log-loss is over twice a constant's", worse, True)
    dormant = engine.segments == SEGMENTS.index(UserSegment.DORMANT)
    back = 1 - gone[dormant].mean()
    fact("dormant for 90 days; come back", f"{dormant.mean():.0%}; {back:.0%}")
    share = spent[dormant].sum() / spent.sum()
    check(
        "those written off as dormant bring over a third of the spend",
        share > 1 / 3,
        True,
    )
    naive = value_rule(engine.table, days).sum() / spent.sum()
    fact("LTV rule: forecast / spent", cell(float(naive)))
    engaged = auc(~gone, engine.columns["engagement_score"])
    fact("AUC of engagement for coming back", cell(engaged))


# %% [markdown]
# ## 3. BG/NBD and Gamma-Gamma, equal to their published fit

# %%


@dataclass(frozen=True)
class BgNbd:
    """Buying at a gamma rate until a beta chance of dropout; times in weeks.

    Where `identified` is False, the data tell the model from one without dropout by a
    likelihood ratio under 3.84: a and b rest on a prior and are not knowledge.
    """

    r: float
    alpha: float
    a: float
    b: float
    log_likelihood: float = math.nan
    identified: bool = True
    covariance: Floats = field(default_factory=lambda: np.eye(4), repr=False)  # of logs

    def p_alive(self, x: Ints, t_last: Floats, age: Floats) -> Floats:
        """Return the chance of not having dropped out; 1 for every one-time buyer."""
        odds = math.log(self.a) - np.log((self.b + x - 1).clip(1e-9))
        odds += (self.r + x) * np.log((self.alpha + age) / (self.alpha + t_last))
        return np.where(x > 0, 1 / (1 + np.exp(np.minimum(odds, 700))), 1.0)

    def p_none(self, x: Ints, age: Floats, weeks: float) -> Floats:
        """Return the chance that someone alive buys nothing in the next weeks."""
        return np.exp(-(self.r + x) * np.log1p(weeks / (self.alpha + age)))

    # region expected
    def expected(self, x: Ints, age: Floats, weeks: Floats | float) -> Floats:
        """Return the orders expected of someone alive in the next weeks.

        Equation 10 after an Euler transform of its hypergeometric function: terms
        shrink like z^n with z < 1, nothing overflows, and a = 1 is no pole. Six digits
        hold while `weeks` are under 1,000 times alpha + age; beyond, terms are missing.
        """
        z, e = weeks / (self.alpha + age + weeks), self.a - 1
        c, slack = self.a + self.b + x - 1, self.a + self.b - 1 - self.r
        term, n = slack * z + 0 * c, 1
        total = term
        while n < 20_000 and (np.abs(term) > 1e-12 * np.abs(total)).any():
            term = term * z * ((slack + n) * (e + n) / (n + 1)) / (c + n)
            total, n = total + term, n + 1
        log = np.log1p(-z)
        lead = -log if abs(e) < 1e-8 else -np.expm1(e * log) / e
        return (c * lead - np.exp(e * log) * total).clip(0)

    # endregion expected

    def next_order(self, x: Ints, t_last: Floats, age: Floats, q: float) -> Floats:
        """Return weeks until an order has come with chance q; inf if it is less."""
        live, weeks = self.p_alive(x, t_last, age), np.full(len(x), np.inf)
        can = live > q
        log = -np.log1p(-q / live[can]) / (self.r + x[can])
        weeks[can] = (self.alpha + age[can]) * np.expm1(log.clip(0, 700))
        return weeks


def fit_bgnbd(
    x: Ints, t_last: Ints, age: Ints, per_week: float = 7, guard: bool = True
) -> BgNbd:
    """Fit by maximum likelihood; times are whole units, `per_week` of them a week.

    Raises BadInput under MIN_REPEATERS customers with a repeat order.
    """
    # Trap: without dropout in the data, the likelihood has a ridge to a = 0, b =
    # infinity. An optimiser stops on it somewhere, and reports that as a finding.
    if (n := int((x > 0).sum())) < MIN_REPEATERS:
        said = f"{n} of {len(x)} customers bought on more than one day"
        raise BadInput(f"{said}; the models need {MIN_REPEATERS} who did")
    data = Collapsed(x, t_last, age, per_week)
    start = np.log([1, max(float(np.median(age)) / per_week, 0.1), 1, 1])
    free, plain = (by_logs(partial(f, data)) for f in (bgnbd_terms, nbd_terms))

    def held(theta: Floats) -> Terms:
        (value, slope, curve), prior = free(theta), weak_prior(theta)
        return value + prior[0], slope + prior[1], curve + prior[2]

    (theta, value, curve), identified = maximum(free, start), True
    if guard:
        ratio = 2 * (value - maximum(plain, start[:2])[1])
        identified = bool(ratio > 3.84 and np.abs(theta[2:]).max() < 12)
    if not identified:
        theta, _, curve = maximum(held, start)
    r, alpha, a, b = np.exp(theta).tolist()
    return BgNbd(r, alpha, a, b, free(theta)[0], identified, np.linalg.pinv(-curve))


@dataclass(frozen=True)
class GammaGamma:
    """Spend of an order: gamma around a customer's mean, and means gamma, too.

    Fader, Hardie and Lee 2005 (Journal of Marketing Research 42). How often and how
    much are taken to be independent.
    """

    p: float
    q: float
    gamma: float
    log_likelihood: float = math.nan  # of the means of repeat orders

    def mean(self, x: Ints, mean_spend: Floats) -> Floats:
        """Return a customer's expected order: the own mean, shrunk towards all's."""
        return self.p * (self.gamma + x * mean_spend) / (self.p * x + self.q - 1)


def fit_gamma_gamma(x: Ints, mean_spend: Floats) -> GammaGamma:
    """Fit to the customers who paid for a repeat order; BadInput if they are too few.

    q stays above 1.1, else the mean of everybody's orders would be infinite.
    """
    paid = (x > 0) & (mean_spend > 0)
    x, z = x[paid], mean_spend[paid]
    if len(x) < MIN_REPEATERS:
        said = f"{len(x)} customers paid for repeat orders"
        raise BadInput(f"{said}, {MIN_REPEATERS} needed")
    unit = float(z.mean())  # else the bounds of `maximum` depend on the currency
    z = z / unit
    terms = by_logs(lambda p, q, gamma: gamma_gamma_terms(x, z, p, 1.1 + q, gamma))
    theta, value, _ = maximum(terms, np.zeros(3))
    p, q, gamma = np.exp(theta).tolist()
    return GammaGamma(p, 1.1 + q, gamma * unit, value - len(z) * math.log(unit))


PUBLISHED = {"r": ".243", "alpha": "4.414", "a": ".793", "b": "2.426"}
PUBLISHED |= {"log_likelihood": "-9582.4", "p": "6.25", "q": "3.74", "gamma": "15.44"}


@lesson.demo
def models(env: AnalyticsEnv) -> None:
    """The models: two fits in numpy, equal to the published ones"""
    f, later, equal = env.record.forecast, env.record.orders, []
    ours = vars(f.money) | vars(f.bgnbd)
    for name, text in PUBLISHED.items():
        digits = len(text.partition(".")[2])
        equal.append(round(ours[name], digits) == float(text))
        fact(name, f"{ours[name]:.{digits}f}".replace("0.", "."))
    check("all eight equal the published figures, digit by digit", all(equal), True)
    rate = f.table.x / f.table.age * f.days
    guesses = {"then": later, BGNBD: f.orders, "x / T": rate}
    classes = {"0": (0, 0), "1": (1, 1), "2": (2, 2), "3": (3, 3), "over 3": (4, 99)}
    means: dict[str, dict[str, float]] = {}
    for name, (low, high) in classes.items():
        rows = (f.table.x >= low) & (f.table.x <= high)
        means[name] = {k: float(v[rows].mean()) for k, v in guesses.items()}
    print_grid("repeat orders", means)
    off = [sum(abs(m[k] - m["then"]) for m in means.values()) for k in (BGNBD, "x / T")]
    check(
        "BG/NBD misses by less than a quarter of the rate x / T",
        off[0] < off[1] / 4,
        True,
    )


# %% [markdown]
# ## 4. Known truth: simulated customers, and a dropout that nobody can see

# %%
TRUTH, MONEY = BgNbd(0.243, 4.414, 0.793, 2.426), GammaGamma(6.25, 3.74, 15.44)


def simulate(
    n: int, seed: int, days: int = SPAN, dropout: bool = True
) -> TransactionLog:
    """Return the orders of n customers drawn from TRUTH and MONEY, by the day."""
    orders = simulated_orders(n, seed, days, dropout, truth=TRUTH, money=MONEY)
    return TransactionLog(*orders, range(n))


@lesson.demo
def dropout(env: AnalyticsEnv) -> None:
    """Known truth: a dropout that is not there is reported, not invented"""
    fits, grid = list[BgNbd](), dict[str, dict[str, Any]]()
    names = ("r", "alpha", "a", "b", "identified")
    for case, real in (("leave", True), ("stay", False)):
        t = customer_table(simulate(4_000, SEED, dropout=real), START + SPAN - 1)
        for guard in (False, True):
            fits.append(fit := fit_bgnbd(t.x, t.t_last, t.age, guard=guard))
            way = f"customers who {case}, {'guarded' if guard else 'naive'} fit"
            grid[way] = {name: getattr(fit, name) for name in names}
            grid[way]["b"] = min(fit.b, 100.0)  # where on the ridge, is chance
    print_grid("b at most 100", grid)
    _, found, wild, guarded = fits
    off = [math.log(getattr(found, k) / getattr(TRUTH, k)) for k in names[:4]]
    near = (np.abs(off) < 3 * np.sqrt(np.diag(found.covariance))).all()
    check("a real dropout is found within three standard errors", bool(near), True)
    check(
        "without dropout the naive fit runs off, and says nothing", wild.b > 100, True
    )
    check("the guarded fit says: not identified", not guarded.identified, True)


# %% [markdown]
# ## 5. P(alive) is not churn

# %%
# Trap: 1 - P(alive) sold as churn. In this model who bought once cannot have left, and
# most of them never come back.


@lesson.demo
def alive(env: AnalyticsEnv) -> None:
    """P(alive): its complement must not be sold as churn"""
    churn, record = env.record.forecast.churn, env.record
    scores = compared(record.gone, {k: churn[k] for k in (NOT_ALIVE, BGNBD)})
    print_grid("churn", scores)
    print_grid("x", alive_grid(record))
    once = churn[NOT_ALIVE][record.forecast.table.x == 0]
    backwards = not once.any() and scores[NOT_ALIVE]["auc"] < 0.5
    check(
        "who bought once counts as alive, so 1 - P(alive) ranks backwards",
        backwards,
        True,
    )
    gap = scores[BGNBD]["loss - constant"]
    check("P(no order in the horizon) beats the constant", gap[1] < 0, True)


# %% [markdown]
# ## 6. The backtest: chosen before the holdout is read

# %%
# Trap: the best of four models on the holdout. Its lead is partly luck, and the holdout
# has become training data: choose inside, score once.


# region forecast
class Forecast:
    """All that can be said at `as_of` about the days after it, which are not read.

    What must be learnt, the stack and which model to trust, is learnt from an earlier
    forecast inside: of `inner_days` up to `as_of`, whose outcome is known.
    """

    def __init__(
        self, log: TransactionLog, as_of: int, days: int, learn: bool = True
    ) -> None:
        self.log, self.days, self.table = log, days, (t := customer_table(log, as_of))
        self.weeks = t.x, t.t_last / 7, t.age / 7
        self.bgnbd = fit_bgnbd(t.x, t.t_last, t.age)
        self.money = fit_gamma_gamma(t.x, t.mean_spend)
        self.live = self.bgnbd.p_alive(*self.weeks)
        self.inner_loss, self.inner_rmse = dict[str, float](), dict[str, float]()
        self.weights, self.churn_model, self.value_model = np.zeros(0), BGNBD, GG
        inner_days = min(days, int(t.age.max()) // 2)
        if learn and inner_days:
            with suppress(BadInput):  # too few repeat buyers half-way: the defaults
                self._learn(Forecast(log, as_of - inner_days, inner_days, learn=False))

    def _learn(self, past: Forecast) -> None:
        orders, spent = outcome(self.log, past.table, past.days)
        gone, inputs, scores = orders == 0, past.inputs, dict(past.churn)
        self.weights = fit_logistic(inputs, gone)
        # Out of fold: in-sample, whatever was fitted would win the choice.
        fold, scores[STACK] = np.arange(len(gone)) % 5, np.zeros(len(gone))
        for mine in (fold == k for k in range(5)):
            weights = fit_logistic(inputs[~mine], gone[~mine])
            scores[STACK][mine] = logistic(inputs[mine], weights)
        for name, chance in scores.items():
            self.inner_loss[name] = float(log_losses(gone, chance).mean())
        for name, value in past.value.items():
            self.inner_rmse[name] = value_score(spent, value)["rmse"]
        self.churn_model = min(self.inner_loss, key=self.inner_loss.__getitem__)
        self.value_model = min(self.inner_rmse, key=self.inner_rmse.__getitem__)

    def by_pair(self, f: Callable[[Ints, Floats], Floats]) -> Floats:
        """Return f(x, T in weeks) of each row, evaluated once per different pair."""
        wide = int(self.table.age.max()) + 1
        key = self.table.x * wide + self.table.age
        if (int(self.table.x.max()) + 1) * wide > 4 * len(key) + 1000:
            pairs, key = np.unique(key, return_inverse=True)
        else:
            pairs = np.flatnonzero(seen := np.bincount(key) > 0)
            key = (np.cumsum(seen) - 1)[key]
        return f(pairs // wide, pairs % wide / 7)[key]

    @cached_property
    def p_zero(self) -> Floats:
        """The BG/NBD chance that a customer buys nothing in the next days."""
        none = self.by_pair(lambda x, age: self.bgnbd.p_none(x, age, self.days / 7))
        zero: Floats = 1 - self.live * (1 - none)
        return zero

    @cached_property
    def inputs(self) -> Floats:
        """Of the stack: 1, log odds of no order, and two features free of scale."""
        chance, t = self.p_zero.clip(1e-9, 1 - 1e-9), self.table
        odds, idle = np.log(chance / (1 - chance)), t.days_since_last / self.days
        return np.column_stack((np.ones(len(t.x)), odds, np.log1p(idle), np.log1p(t.x)))

    @cached_property
    def churn(self) -> dict[str, Floats]:
        """Each model's chance that a customer buys nothing in the next days."""
        rule, dead = churn_rule(self.table.days_since_last), 1 - self.live
        scores = {RULE: rule, NOT_ALIVE: dead, BGNBD: self.p_zero}
        if len(self.weights):
            scores[STACK] = logistic(self.inputs, self.weights)
        return scores

    @cached_property
    def orders(self) -> Floats:
        """The BG/NBD number of orders expected in the next days."""
        weeks = self.days / 7
        return self.live * self.by_pair(lambda x, t: self.bgnbd.expected(x, t, weeks))

    @cached_property
    def value(self) -> dict[str, Floats]:
        """Each model's forecast of what a customer spends in the next days."""
        t, naive = self.table, value_rule(self.table, self.days)
        model = self.orders * self.money.mean(t.x, t.mean_spend)
        return {NAIVE: naive, PER_DAY: naive * t.x / (t.x + 1), GG: model}

    @cached_property
    def ltv(self) -> Floats:
        """Spend of the next LTV_MONTHS, each month's discounted; at least 0."""
        month = np.arange(1, LTV_MONTHS + 1)[:, None]
        worth = (1 + DISCOUNT) ** (-month / 12)

        def orders(x: Ints, age: Floats) -> Floats:
            by_then = self.bgnbd.expected(x, age, month * 365.25 / 84)
            return np.asarray((np.diff(by_then, axis=0, prepend=0) * worth).sum(0))

        mean = self.money.mean(self.table.x, self.table.mean_spend)
        return self.live * self.by_pair(orders) * mean

    def draws(self, rows: Ints, days: float, seed: Sequence[int]) -> Floats:
        """Return DRAWS possible spends of each row in the next days, (rows, DRAWS).

        Given the data, who is alive has a rate of gamma(r + x, alpha + T), a dropout of
        beta(a, b + x) and a gamma mean order; the parameters are taken as known.
        """
        rng, shape = np.random.default_rng(seed), (len(rows), DRAWS)
        fit, money, x = self.bgnbd, self.money, self.table.x[rows, None]
        rate = rng.gamma(fit.r + x, 1 / (fit.alpha + self.weeks[2][rows, None]), shape)
        leave = rng.beta(fit.a, fit.b + x, shape).clip(1e-9, 1)
        orders = np.minimum(rng.poisson(rate * days / 7), rng.geometric(leave))
        orders *= rng.random(shape) < self.live[rows, None]
        shared = rng.gamma(money.p * x + money.q, 1, shape)
        scale = (money.gamma + x * self.table.mean_spend[rows, None]) / shared
        return rng.gamma(money.p * orders) * scale


# endregion forecast


class Backtest:
    """A forecast made at `end`, and what happened in the days after it."""

    def __init__(self, log: TransactionLog, end: int, days: int) -> None:
        self.log, self.forecast = log, (f := Forecast(log, end, days))
        self.chance, self.amount = f.churn[f.churn_model], f.value[f.value_model]
        self.orders, self.spent = outcome(log, f.table, days)
        self.gone = self.orders == 0
        self._edges = dict[str, Floats]()  # of tenths, by model

    @cached_property
    def scores(self) -> dict[str, dict[str, Any]]:
        """Tables of churn and value scores, each with the constant first."""
        f = self.forecast
        churn, value = compared(self.gone, f.churn), compared(self.spent, f.value)
        return {"churn": churn, "value": value}

    def alike(self, model: str, scores: Floats, score: float) -> Bools:
        """Return whose score was in the tenth of a model's that this one falls into."""
        if model not in self._edges:
            edges = np.unique([scores[rows].max() for rows in tenths(scores)])
            self._edges[model] = edges[:-1]  # the last tenth is open above
        tenth = partial(np.searchsorted, self._edges[model])
        return np.asarray(tenth(scores) == tenth(score))

    def seen(self, chance: float, model: str) -> Rate | None:
        """Return how many did churn of whom a model said the like; None of another."""
        if (said := self.forecast.churn.get(model)) is None:
            return None
        return rate_of(self.gone[self.alike(model, said, chance)])

    @cached_property
    def survey(self) -> tuple[Ints, Bools, list[float]]:
        """SURVEYED rows at most, whose 80 % interval held, and the total's 95 %.

        The draws, and with them both intervals, take the fitted parameters for known.
        """
        rows = np.arange(0, len(self.gone), -(-len(self.gone) // SURVEYED))
        draws = self.forecast.draws(rows, self.forecast.days, [SEED])
        (low, high), spent = np.quantile(draws, (0.1, 0.9), axis=1), self.spent[rows]
        total = np.quantile(draws.sum(0), (0.025, 0.975)).tolist()
        return rows, (low <= spent) & (spent <= high), total

    def held(self, value: float) -> Rate | None:
        """Return how many intervals held of whom GG said the like; None of nobody."""
        rows, held, _ = self.survey
        alike = self.alike(GG, self.forecast.value[GG], value)[rows]
        return rate_of(held[alike]) if alike.any() else None


@lesson.demo
def backtest(env: AnalyticsEnv) -> None:
    """The backtest: chosen before the holdout is read, scored beside a constant"""
    record, f = env.record, env.record.forecast
    for name, loss in f.inner_loss.items():
        fact(f"inner log-loss, {name}", cell(loss))
    fact("chosen by it", f"{f.churn_model}; {f.value_model}")
    scores = record.scores
    for name, grid in scores.items():
        print_grid(name, grid)
    print_grid("tenth", reliability(record))
    ours, rule = scores["churn"][f.churn_model], scores["churn"][RULE]
    better = ours["loss - constant"][1] < 0 and ours["brier"] < rule["brier"] - 0.05
    check(
        "the chosen churn model beats the constant, and the rule by far", better, True
    )
    off = {name: row["mae"] for name, row in scores["value"].items()}
    near = 1.4 * off[GG] < min(off[NAIVE], off[PER_DAY])
    check("naive values are over 1.4 times as far off", near, True)
    surveyed, held, total = record.survey
    spent = float(record.spent[surveyed].sum())
    fact("spends in their 80 % interval", f"{held.mean():.0%} of {len(held):,}")
    fact("total's 95 %, were the fit exact", f"{cell(total)}; spent {cell(spent)}")
    who, later = env.log.customer.copy(), env.log.day > f.table.as_of
    who[later] = np.random.default_rng(SEED).permutation(who[later])
    other = Backtest(replace(env.log, customer=who), f.table.as_of, f.days)
    changed = f"{(other.spent != record.spent).mean():.0%} of customers"
    fact("spends that a scramble changes", changed)
    same = (other.chance == record.chance) & (other.amount == record.amount)
    check(
        "a scrambled holdout gets the same predictions: none was read", same.all(), True
    )


# %% [markdown]
# ## 7. Predictions that carry their record

# %%
# Trap: a "confidence" that the model made up for itself. What counts is how often the
# like of it came true, in a backtest, out of how many.


@dataclass(frozen=True)
class Prediction:
    """An answer, and how far to trust it; None where there is nothing to say.

    `probability`: of churn or an order in the forecast's days, of any spend in
    LTV_MONTHS. `skill`: share of the constant's error saved in the backtest.
    `observed`: how often it came true there, in the model's same tenth; of a lifetime
    value, how often the interval of the spend in the backtest's days held.
    """

    kind: PredictionType
    user: str
    value: float | tuple[str, ...] | None
    model: str
    probability: float | None = None
    low: float | None = None
    high: float | None = None
    skill: float | None = None
    observed: Rate | None = None


class MLModelManager:
    """Answers by the chosen models; a backtest, if there is one, says how good."""

    def __init__(
        self, forecast: Forecast, record: Backtest | None, *more: RecommendationEngine
    ) -> None:
        self.forecast, self.record, self.recommenders = forecast, record, more

    def predict(self, kind: PredictionType, users: str | Sequence[str]) -> Any:
        """Return the Prediction of a user, or a list for a sequence of users.

        Raises BadInput for a user who had not bought by then.
        """
        if not isinstance(users, str):
            return [self.predict(kind, user) for user in users]
        ask = {
            PredictionType.CHURN: self._predict_churn,
            PredictionType.LIFETIME_VALUE: self._predict_ltv,
            PredictionType.NEXT_PURCHASE: self._predict_next_purchase,
            PredictionType.RECOMMENDATION: self._predict_recommendation,
        }
        return ask[kind](users, row_of(self.forecast.log, self.forecast.table, users))

    def _skill(self, kind: str, error: str, model: str) -> float | None:
        scores = self.record and self.record.scores[kind]
        base = scores[CONSTANT][error] if scores and model in scores else 0
        return 1 - scores[model][error] / base if scores and base else None

    def _predict_churn(self, user: str, row: int) -> Prediction:
        model = self.forecast.churn_model
        chance = float(self.forecast.churn[model][row])
        seen = self.record.seen(chance, model) if self.record else None
        low, high = seen[1:3] if seen else (None, None)
        kind, skill = PredictionType.CHURN, self._skill("churn", "brier", model)
        return Prediction(kind, user, chance, model, chance, low, high, skill, seen)

    def _predict_ltv(self, user: str, row: int) -> Prediction:
        f, t, kind = self.forecast, self.forecast.table, PredictionType.LIFETIME_VALUE
        seed = [SEED, int(t.customer[row])]  # a user's own: alone or among many
        draws = f.draws(np.array([row]), 30.4375 * LTV_MONTHS, seed)
        x, mean, age = t.x[[row]], t.mean_spend[[row]], f.weeks[2][[row]]
        spend = f.bgnbd.expected(x, age, LTV_MONTHS * 365.25 / 84) * f.live[row]
        value, whole = float(f.ltv[row]), float((spend * f.money.mean(x, mean))[0])
        share = value / whole if whole else 1.0  # what the discount leaves
        low, high = (share * np.quantile(draws, (0.1, 0.9))).tolist()
        some, skill = float((draws > 0).mean()), self._skill("value", "rmse", GG)
        held = self.record.held(float(f.value[GG][row])) if self.record else None
        by = f"{GG}, {LTV_MONTHS} months"
        return Prediction(kind, user, value, by, some, low, high, skill, held)

    def _predict_next_purchase(self, user: str, row: int) -> Prediction:
        churn, days = self._predict_churn(user, row), list[float | None]()
        x, t_last, age = (column[[row]] for column in self.forecast.weeks)
        for q in (0.5, 0.1, 0.9):
            weeks = float(self.forecast.bgnbd.next_order(x, t_last, age, q)[0])
            days.append(7 * weeks if 7 * weeks < CENTURY else None)
        seen, back = churn.observed, 1 - (churn.probability or 0)
        seen = seen and Rate(1 - seen.rate, 1 - seen.high, 1 - seen.low, seen.n)
        kind, model = PredictionType.NEXT_PURCHASE, f"{BGNBD}, chance by {churn.model}"
        middle, low, high = days
        return Prediction(kind, user, middle, model, back, low, high, churn.skill, seen)

    def _predict_recommendation(self, user: str, row: int) -> Prediction:
        if not self.recommenders:
            raise BadInput("a recommendation needs a RecommendationEngine")
        offers = self.recommenders[0].get_recommendations(user)
        named = tuple(offer.item or offer.strategy for offer in offers)
        return Prediction(PredictionType.RECOMMENDATION, user, named, offers[0].reason)


@lesson.demo
def predict(env: AnalyticsEnv) -> None:
    """Predictions: each says who made it, and how often that came true"""
    log, record, (_, days) = env.log, env.record, halves(env.log)
    manager = MLModelManager(f := Forecast(log, int(log.day.max()), days), record)
    best, idle = int(np.argmax(f.table.x)), f.table.days_since_last
    for row in (best, int(np.argmax(idle)), int(np.argmin(idle))):
        user = str(log.ids[f.table.customer[row]])
        fact("customer, days with orders", f"{user}, {f.table.x[row] + 1}")
        for kind in list(PredictionType)[:3]:
            p = manager.predict(kind, user)
            text = f"{cell(p.value)} ({cell((p.low, p.high))}) by {p.model}; came true"
            fact(f"  {kind.value}", f"{text} {p.observed.rate:.2f} of {p.observed.n:,}")
    held = []
    for chance in (record.forecast.churn[RULE], record.chance):
        pairs = [(rate_of(record.gone[b]), chance[b].mean()) for b in tenths(chance)]
        held.append(sum(seen.low <= said <= seen.high for seen, said in pairs))
    fact("tenths that held: rule, model", f"{held[0]}, {held[1]} of 10")
    check("what the model says holds in over 7 tenths", held[1] > 7, True)
    check("what the rule says, in under 3", held[0] < 3, True)
    young = customer_table(log, int(log.day.min()) + 7)
    most = np.bincount(log.customer, log.amount).max()
    ruled = value_rule(young, 365).max()
    fact("most spent; newcomer's LTV by the rule", f"{most:,.0f}; {ruled:,.0f}")
    sane = f.ltv.max() < most < ruled
    check("no modelled lifetime value exceeds what anyone ever spent", sane, True)


# %% [markdown]
# ## 8. Recommendations: the segment's strategy, filled with items

# %%
# Trap: a list per segment, which is popularity by another name. What a customer bought
# says more than the company they are put in.


STRATEGY = {
    UserSegment.DORMANT: "re-engagement campaign",
    UserSegment.ACTIVE: "personalised products",
    UserSegment.VIP: "premium and exclusive items",
    UserSegment.AT_RISK: "retention offer",
}


class Recommendation(NamedTuple):
    """One thing to offer; `item` is None where the log knows no items."""

    strategy: str
    item: str | None
    reason: str


def of_items(log: TransactionLog) -> tuple[TransactionLog, Ints]:
    """Return the rows that name an item, and their items; BadInput if none can."""
    if log.item is None:
        raise BadInput("the log names no items")
    named = np.array([name != "" for name in log.items])[log.item]
    return log.where(named), log.item[named]


def grouped(by: Ints, n: int, codes: Ints) -> list[Ints]:
    """Return the different codes that stand beside each of 0 to n - 1."""
    wide = int(codes.max(initial=0)) + 1
    pairs = np.unique(by * wide + codes)
    return np.split(pairs % wide, np.searchsorted(pairs, np.arange(1, n) * wide))


class RecommendationEngine:
    """Segment strategies; with items: buy again, item-item, then what is popular."""

    def __init__(self, engine: AnalyticsEngine) -> None:
        self.engine, log = engine, engine.log
        self.items, self.popular = log.items, list[int]()
        if log.item is None:
            return
        log, item = of_items(log.where(log.day <= engine.table.as_of))
        order = np.argsort(log.customer, kind="stable")
        cuts = np.searchsorted(log.customer[order], np.arange(1, len(log.ids)))
        self.bought = np.split(item[order], cuts)  # of each customer
        self.baskets = grouped(log.customer, len(log.ids), item)  # each item once
        self.buyers = grouped(item, len(log.items), log.customer)
        sold = np.array([len(buyers) for buyers in self.buyers])
        self.reach, best = np.maximum(sold, 1), np.argsort(-sold, kind="stable")
        self.popular = best[: np.count_nonzero(sold)].tolist()
        times = np.bincount(item, minlength=len(sold))
        self.price = np.bincount(item, log.amount, len(sold)) / np.maximum(times, 1)

    # region similar
    def similar(self, items: Ints) -> Floats:
        """Return every item's cosine similarity to these, summed.

        Of two items: buyers of both / sqrt(buyers of one x buyers of the other).
        """
        score = np.zeros(len(self.reach))
        for item in np.unique(items):
            baskets = [self.baskets[c] for c in self.buyers[item]]
            both = np.bincount(np.concatenate(baskets), minlength=len(score))
            score += both / np.sqrt(self.reach * self.reach[item])
        return score

    # endregion similar

    def ranked(self, customer: int, count: int = 10) -> dict[int, str]:
        """Return the best items and why; the popular fill what is left."""
        mine = self.bought[customer]
        again, near = np.bincount(mine, minlength=len(self.reach)), self.similar(mine)
        score = again + near / (near.max() + 1e-9)  # items bought before come first
        best = np.argsort(-score, kind="stable")[:count].tolist()
        why = {i: "bought before" if again[i] else "bought together" for i in best}
        found = {i: why[i] for i in best if score[i]}
        fill = [i for i in self.popular if i not in found][: count - len(found)]
        return found | dict.fromkeys(fill, "popular")

    def get_recommendations(self, user: str, count: int = 10) -> list[Recommendation]:
        """Return what to offer, for a VIP the dearest first; BadInput if unknown."""
        row = row_of(self.engine.log, self.engine.table, user)
        segment = SEGMENTS[self.engine.segments[row]]
        if not self.popular:
            return [Recommendation(STRATEGY[segment], None, "the log names no items")]
        best = list(self.ranked(int(self.engine.table.customer[row]), count).items())
        if segment is UserSegment.VIP:
            best.sort(key=lambda pair: -self.price[pair[0]])
        offer = partial(Recommendation, STRATEGY[segment])
        return [offer(self.items[i], why) for i, why in best]


def recalls(
    log: TransactionLog, end: int, rank: Callable[[int], Iterable[int]]
) -> Floats:
    """Return what share of up to ten later items was ranked, per known customer."""
    log, item = of_items(log)
    known, bought = np.unique(log.customer[log.day <= end]), defaultdict(set)
    later = (log.day > end) & np.isin(log.customer, known)
    for customer, one in zip(log.customer[later], item[later], strict=True):
        bought[int(customer)].add(int(one))
    hits = [len(mine & {*rank(c)}) / min(len(mine), 10) for c, mine in bought.items()]
    return np.array(hits)


def simulate_shop(customers: int, items: int, seed: int) -> TransactionLog:
    """Return a year's orders of customers with favourites and one of eight tastes."""
    buyer, when, item = simulated_shop(customers, items, seed)
    names = [f"item-{i:03}" for i in range(items)]
    ids = [f"customer-{c}" for c in range(customers)]
    return TransactionLog(buyer, when, 5.0 + item % 7, ids, item, names)


@lesson.demo
def recommend(env: AnalyticsEnv) -> None:
    """Recommendations: what they bought, and its neighbours, beat what is popular"""
    engine = RecommendationEngine(AnalyticsEngine(env.log, int(env.log.day.max())))
    offer = engine.get_recommendations(str(env.log.ids[0]))[0]
    fact("CDNOW's first customer", f"{offer.strategy}; {offer.reason}")
    shop, end = simulate_shop(400, 160, SEED), START + 270
    shown = RecommendationEngine(AnalyticsEngine(shop, end))
    found = {"popularity": recalls(shop, end, lambda c: shown.popular[:10])}
    found["again + item-item"] = recalls(shop, end, shown.ranked)
    print_grid("a simulated shop, 160 items", {
        name: {"recall@10": float(hits.mean()), "95 %": interval_of_mean(hits)}
        for name, hits in found.items()
    })  # fmt: skip
    base, ours = found.values()
    more = ours.mean() > 1.3 * base.mean() and interval_of_mean(ours - base)[0] > 0
    check("recall@10 is over 1.3 times popularity's, and not by chance", more, True)


# %% [markdown]
# ## 9. Insights: sentences computed from figures

# %%
# Trap: advice written into the template. It reads the same when the data turn round.


def average(column: Floats | Bools, rows: Bools) -> float | None:
    """Return the mean of these rows; None if there are none."""
    return float(column[rows].mean()) if rows.any() else None


class InsightsGenerator:
    """Segments in figures and sentences; no sentence without its figures."""

    def __init__(self, forecast: Forecast, record: Backtest | None = None) -> None:
        self.forecast, self.record = forecast, record

    def generate_segment_report(self) -> dict[str, dict[str, Any]]:
        """Return figures by segment, now and, with a backtest, what it saw then."""
        f, report = self.forecast, dict[str, dict[str, Any]]()
        for code, segment in enumerate(SEGMENTS):
            mine = segment_rule(f.table) == code
            row: dict[str, Any] = {
                "customers": int(mine.sum()),
                "share": float(mine.mean()),
                "spend": float(f.table.spend[mine].sum()),
                "predicted_churn": average(f.churn[f.churn_model], mine),
                "predicted_ltv": float(f.ltv[mine].sum()),
            }
            report[segment.value] = row
            if b := self.record:
                then = segment_rule(b.forecast.table) == code
                row["backtest_churn"] = average(b.chance, then)
                row["observed_churn"] = average(b.gone, then)
                row["observed_95"] = rate_of(b.gone[then])[1:3] if then.any() else None
                row["observed_of"] = int(then.sum())
                share = b.spent[then].sum() / (b.spent.sum() or 1)
                row["observed_spend_share"] = float(share)
        return report

    def _generate_insights(self, report: Grid) -> list[str]:
        """Return a sentence per segment that has customers, and one on the rule."""
        said = [self._sentence(k, row) for k, row in report.items() if row["customers"]]
        if self.record:
            names = RULE, CONSTANT, self.record.forecast.churn_model
            churn = self.record.scores["churn"]
            brier = {name: churn[name]["brier"] for name in names}
            best = sorted(brier, key=brier.__getitem__)
            order = [f"{name} {brier[name]:.3f}" for name in best]
            said.append(f"churn by Brier score, best first: {', '.join(order)}.")
        return said

    def _sentence(self, name: str, row: Mapping[str, Any]) -> str:
        head = f"{name}: {row['customers']:,} customers ({row['share']:.0%}), worth "
        head += f"{row['predicted_ltv']:,.0f} in {LTV_MONTHS} months; "
        seen, said = row.get("observed_churn"), row.get("backtest_churn")
        if seen is None or said is None:
            churn = f"{row['predicted_churn']:.0%} are expected to churn"
            return f"{head}{churn} (untested)."
        share = row["observed_spend_share"]
        (low, high), n = row["observed_95"], row["observed_of"]
        head += f"in the backtest {1 - seen:.0%} came back (said: {1 - said:.0%}) "
        head += f"with {share:.0%} of all spend: "
        if n < FEWEST:
            return f"{head}{n} are too few to tell."
        if abs(seen - said) > 0.1 and not low <= said <= high:
            return head + "do not act on the model's figure here."
        if seen > 0.5:
            return head + ("win them back." if share > 0.2 else "a reminder is enough.")
        return head + ("keep them." if share > 0.2 else "they return unasked.")


@lesson.demo
def insights(env: AnalyticsEnv) -> None:
    """Insights: sentences that change when the data do"""
    log, record, then = env.log, env.record, env.record.forecast
    now = Forecast(log, int(log.day.max()), then.days)
    report = InsightsGenerator(now, record)
    said = report._generate_insights(grid := report.generate_segment_report())
    print_grid("segment", grid)
    for line in said:
        write(f"  - {line}")
    dormant = segment_rule(then.table) == SEGMENTS.index(UserSegment.DORMANT)
    lost = np.isin(log.customer, then.table.customer[dormant])
    kept = log.where(~lost | (log.day <= then.table.as_of))
    quiet = InsightsGenerator(now, Backtest(kept, then.table.as_of, then.days))
    changed = quiet._generate_insights(quiet.generate_segment_report())[0]
    write(f"  had none of the dormant come back: {changed.partition('; ')[2]}")
    check(
        "the data say: win the dormant back", said[0].endswith("win them back."), True
    )
    check("other data, other sentence", changed.endswith("figure here."), True)


# %% [markdown]
# ## 10. Pictures, reports and a million customers

# %%
# Trap: months that have not happened yet, drawn as zero: every cohort seems to die.


@lesson.demo
def scale(env: AnalyticsEnv) -> None:
    """Scale: 100,000 customers of known truth, on the few rows that differ"""
    record = Backtest(simulate(100_000, SEED, days=2 * SPAN), START + SPAN - 1, SPAN)
    f, t = record.forecast, record.forecast.table
    data = Collapsed(t.x, t.t_last, t.age, 7)
    fact("customers, rows the likelihood visits", f"{len(t.x):,}, {len(data.x):,}")
    few = 3 * len(data.x) < len(t.x)
    check("the likelihood visits a row for under a third of them", few, True)
    off = {k: churn_score(record.gone, f.churn[k])["ece"] for k in (RULE, BGNBD)}
    fact("said and seen differ by: rule, BG/NBD", f"{off[RULE]:.2f}, {off[BGNBD]:.2f}")
    check(
        "on known truth BG/NBD's chances come true within 0.01", off[BGNBD] < 0.01, True
    )
    check("the rule's are off by over 0.1", off[RULE] > 0.1, True)


def run(args: argparse.Namespace) -> int:
    """Do what the options ask for; return the exit code."""
    check_options(args)
    if args.list:
        return lesson.teach(args)
    if args.as_worker or args.integrated:
        try:
            from course.integrated.run import integrated  # noqa: PLC0415
            from course.integrated.worker import work  # noqa: PLC0415
        except ModuleNotFoundError as missing:
            if not (missing.name or "").startswith("course"):
                raise
            said = "needs the other lessons: run it in the course's repository"
            raise BadInput(f"--integrated {said}") from None
        return work() if args.as_worker else integrated(args)
    if studies(args):
        makers = Makers(
            SAMPLE, read_log, simulate, Forecast, Backtest, InsightsGenerator
        )
        return analyse(args, makers)
    return lesson.teach(args)


def main(argv: list[str] | None = None) -> int:
    """Teach, or study a log if an option asks for that; return the exit code."""
    parser = lesson.parser()
    add_options(parser)
    return lesson.main(argv, parser, run)


lesson.finish(__name__, main)
