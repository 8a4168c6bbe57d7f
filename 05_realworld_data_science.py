"""Customer analytics that tell the truth about themselves, on a real purchase log.

You will see, in order: a purchase log cut at a date, so that no feature knows the
future; the rules that everybody copies, scored; the BG/NBD and Gamma-Gamma models equal
to their published fit; why 1 - P(alive) is not churn, and a dropout that no data can
show; a backtest with everything in it; predictions that carry their record;
recommendations; a report whose sentences are computed; whom an offer pays for; and
100,000 customers.

Run:     python 05_realworld_data_science.py [--list] [--only NAME ...]
         python 05_realworld_data_science.py --transactions orders.csv --report r.html
         python 05_realworld_data_science.py --simulate 1000000 --json
         python 05_realworld_data_science.py --integrated [--chaos] [--workers N]
Service: none. It reads the sample in data/: CDNOW, 2,357 customers, 1997-98. Only
         --integrated uses services: all four, as lessons 01 to 04 find them.
Without: the sample, give your own orders with --transactions.
Runtime: about 3 s; --integrated 10 s on stand-ins.
Guide:   COMPREHENSIVE_GUIDE.md, chapter 5.
"""

# /// script
# requires-python = ">=3.11"
# dependencies = ["numpy>=1.26,<3", "python-dotenv>=1.2.2,<2", "rich>=13.7,<16"]
# ///

from __future__ import annotations

import course.start  # noqa: F401  (first: it says in one line what is missing)

# isort: split

import argparse
import math
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from datetime import date
from enum import Enum
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np

from course.analytics.arrays import (
    Bools,
    Floats,
    Grid,
    Ints,
    by_distinct_pair,
    iso,
    order_days,
    ordinal,
    starts,
    whole_days,
)
from course.analytics.baskets import Baskets, has_name, recalls
from course.analytics.bgnbd import expected_orders, fitted_bgnbd
from course.analytics.futures import (
    missed_by,
    possible_spends,
    surveyed,
    total_interval,
    widened,
)
from course.analytics.gammagamma import fitted_gamma_gamma, log_gamma
from course.analytics.grids import (
    alive_grid,
    by_repeats,
    cell,
    miss,
    print_grid,
    reliability,
    turned,
)
from course.analytics.log import TransactionLog, read_log
from course.analytics.nearest import Like, Mean, Told, bracket, like, mean_of
from course.analytics.offers import (
    Offers,
    campaign,
    chance_of_order,
    customers_needed,
    share_that_find_it,
    simulated_offers,
)
from course.analytics.options import add_options, check_options, studies
from course.analytics.quantiles import spend_quantiles
from course.analytics.rates import (
    SEED,
    Rate,
    interval_of_mean,
    rate_of,
    share_of,
    tenths_that_held,
)
from course.analytics.read import sample_file
from course.analytics.scores import (
    auc,
    churn_score,
    log_losses,
    squared_error,
    squared_errors,
    value_score,
)
from course.analytics.simulate import SPAN, START, simulated_orders, simulated_shop
from course.analytics.stacking import Stack, fitted_stack, out_of_fold
from course.analytics.study import Makers, analyse, require_outcome
from course.analytics.summary import Fits, study_summary
from course.analytics.wording import how_many, spoken
from course.claims import less_than, more_than, near
from course.console import Lesson, check, fact, write
from course.errors import BadInput

SAMPLE = sample_file()


@dataclass
class AnalyticsEnv:
    """What every demo receives: the log, and its backtest, made at the first use."""

    backend: str
    live: bool
    log: TransactionLog

    @cached_property
    def record(self) -> Backtest:
        """The last third of the log, predicted from the two before it: section 5."""
        end, days = thirds(self.log)
        return Backtest(self.log, end, days)


@contextmanager
def open_env(args: argparse.Namespace) -> Iterator[AnalyticsEnv]:
    """Open the sample; this lesson asks no service."""
    log = read_log(SAMPLE)
    name = f"CDNOW sample ({len(log.ids):,} customers, {len(log.day):,} orders)"
    backend = f"numpy in this process, {name}; no service needed"
    yield AnalyticsEnv(backend, live=False, log=log)


lesson = Lesson(
    "Customer analytics that tell the truth about themselves, on a real purchase log",
    open_env,
)


# %% [markdown]
# ## 1. As of a date: what was known, and when
#
# A churn model learns from customers at some date, with what they did afterwards as
# the label. If a single feature was computed later, the model has learnt the answer.


# %%
# region table
@dataclass(frozen=True)
class CustomerTable:
    """What was known of each customer at the end of `as_of`: arrays of one length.

    Two recencies, two names: `t_last` runs from the first order to the last (t_x
    in the papers), `days_since_last` from the last order to `as_of`. Times are in
    days.
    """

    as_of: int
    customer: Ints
    x: Ints  # repeat orders: days with orders, without the first
    t_last: Ints
    age: Ints  # from the first order to as_of, T in the papers
    days_since_last: Ints
    spend: Floats
    mean_spend: Floats  # of a repeat order; 0 without one

    @property
    def weeks(self) -> tuple[Ints, Floats, Floats]:
        """x, t_x and T as the models take them, times in weeks."""
        return self.x, self.t_last / 7, self.age / 7


# endregion table


# region cut
def leaky_recency(log: TransactionLog, as_of: int) -> Ints:
    """Return the days since the last order, taken from the whole log."""
    # Trap: recency from the whole log, joined to a label from its last months. The
    # feature holds the answer, and the model shines until it meets a new month.
    today = customer_table(log, log.last_day)
    buyers = log.customer[log.day <= as_of]
    known = np.isin(today.customer, buyers)
    return today.days_since_last[known]


def customer_table(log: TransactionLog, as_of: int | date) -> CustomerTable:
    """Return the customers as they stood at `as_of`; later rows are not read."""
    as_of = ordinal(as_of)
    log = log.where(log.day <= as_of)
    if not len(log.day):
        raise BadInput(f"no order on or before {iso(as_of)}")
    # endregion cut
    who, when = order_days(log.customer, log.day)
    # Sorted by customer, then day: one row for each of a customer's days.
    first = starts(who)
    last = np.append(first[1:], len(who)) - 1
    customer = who[first]
    x = last - first
    # The first order is not a repeat order: it says nothing about what those cost.
    first_day = np.zeros(len(log.ids), np.int64)
    first_day[customer] = when[first]
    on_first_day = log.day == first_day[log.customer]
    first_amount = np.where(on_first_day, log.amount, 0)
    spend = np.bincount(log.customer, log.amount)[customer]  # summed by customer
    first_spend = np.bincount(log.customer, first_amount)[customer]
    repeat_spend = (spend - first_spend).clip(0)  # rounding could leave -1e-15
    repeat_spend[x == 0] = 0
    return CustomerTable(
        as_of=as_of,
        customer=customer,
        x=x,
        t_last=when[last] - when[first],
        age=as_of - when[first],
        days_since_last=as_of - when[last],
        spend=spend,
        mean_spend=repeat_spend / np.maximum(x, 1),
    )


def outcome(
    log: TransactionLog, known: CustomerTable, days: int
) -> tuple[Ints, Floats]:
    """Return orders and spend of each customer in the days after `as_of`."""
    everybody = len(log.ids)
    after = log.day > known.as_of
    in_time = log.day <= known.as_of + days
    later = log.where(after & in_time)
    buyer, _ = order_days(later.customer, later.day)
    orders = np.bincount(buyer, minlength=everybody)
    spend = np.bincount(later.customer, later.amount, everybody)
    return orders[known.customer], spend[known.customer]


def halves(log: TransactionLog) -> tuple[int, int]:
    """Return the day that halves the log, and the days after it."""
    whole = log.last_day - int(log.day.min()) + 1
    days = whole // 2
    return log.last_day - days, days


@lesson.demo
def leakage(env: AnalyticsEnv) -> None:
    """The log: features are cut at a date, and know nothing later"""
    end, days = halves(env.log)
    cut = customer_table(env.log, end)
    orders, _ = outcome(env.log, cut, days)
    gone = orders == 0
    leaks = auc(gone, leaky_recency(env.log, end))
    fact("cut at, then predict", f"{iso(end)}, {days} days")
    fact("customers who then buy nothing", cell(float(gone.mean())))
    fact("AUC of recency from the whole log", cell(leaks))
    fact("AUC of recency cut at as_of", cell(auc(gone, cut.days_since_last)))
    check("a feature that saw the future looks perfect", leaks, more_than(0.999))
    # The same table from a log in which the later rows never were.
    early = env.log.where(env.log.day <= end)
    without_later = vars(customer_table(early, end))
    same = {}
    for name, column in vars(cut).items():
        same[name] = np.array_equal(column, without_later[name])
    check("rows after as_of change no feature", same, dict.fromkeys(same, True))


# %% [markdown]
# ## 2. The rules that everybody copies, beside a constant
#
# Segments, a logistic curve over the days since the last order, spend per day so far
# carried on for a year: quick to write and easy to explain. Are they true?

# %%
DORMANT_DAYS = 90  # the demo shows whom this rule writes off
CHURN_MIDPOINT = 30  # days since the last order
CHURN_SLOPE = 20  # days
VIP_SHARE = 0.10  # of customers, by what they have spent
ENGAGEMENT = {"recency": 0.5, "frequency": 0.3, "spend": 0.2}  # weights

# Names of models in tables.
CONSTANT = "constant"
RULE = "heuristic"


class UserSegment(Enum):
    """Who a customer is to the business; the first rule that fits decides."""

    DORMANT = "dormant"
    ACTIVE = "active"
    VIP = "vip"
    AT_RISK = "at_risk"


SEGMENTS = list(UserSegment)  # arrays hold a segment as its place in this list


# region rules
def churn_rule(days_since_last: Ints) -> Floats:
    """Return the "probability" of churn that everybody copies."""
    # Trap: 1 / (1 + exp(-x)) lies between 0 and 1, but that alone does not make it
    # a probability. Nobody fitted midpoint and slope: it is a ranking in disguise.
    score = (days_since_last - CHURN_MIDPOINT) / CHURN_SLOPE
    return 1 / (1 + np.exp(-score))


def value_rule(t: CustomerTable, days: float) -> Floats:
    """Return the spend per day so far, times the days that come."""
    # It explodes for newcomers: they have spent a lot per day of a very short age.
    per_day = t.spend / np.maximum(t.age, 1)
    return per_day * days


# endregion rules


def engagement_rule(t: CustomerTable) -> Floats:
    """Return a weighted score from 0 to 100; recency halves every 30 days."""
    recency = 0.5 ** (t.days_since_last / 30)
    frequency = np.minimum(t.x + 1, 10) / 10
    # Ten orders, or the spend of a VIP, are as good as it gets.
    enough = max(vip_threshold(t), 1e-9)
    spend = np.minimum(t.spend / enough, 1)
    score = ENGAGEMENT["recency"] * recency
    score = score + ENGAGEMENT["frequency"] * frequency
    score = score + ENGAGEMENT["spend"] * spend
    return np.asarray(100 * score)


def segment_rule(t: CustomerTable) -> Ints:
    """Return each customer's place in SEGMENTS."""
    # The first rule that fits decides: a VIP who is silent for 90 days is dormant, too.
    rules = {
        UserSegment.DORMANT: t.days_since_last >= DORMANT_DAYS,
        UserSegment.VIP: t.spend > vip_threshold(t),
        UserSegment.AT_RISK: churn_rule(t.days_since_last) > 0.5,
    }
    conditions = list(rules.values())
    codes = [SEGMENTS.index(segment) for segment in rules]
    active = SEGMENTS.index(UserSegment.ACTIVE)
    return np.select(conditions, codes, default=active)


def vip_threshold(t: CustomerTable) -> float:
    """Return the spend that the top share of customers exceeds."""
    last = len(t.spend) - 1
    place = int((1 - VIP_SHARE) * last)
    # What would stand at this place if all were sorted; a partition is cheaper.
    return float(np.partition(t.spend, place)[place])


@dataclass(frozen=True)
class UserProfile:
    """One customer by the rules, at the end of a day."""

    user_id: str
    segment: UserSegment
    orders: int = 1
    total_spend: float = 0.0
    average_order: float = 0.0
    days_since_purchase: int = 0
    tenure_days: int = 0
    churn_risk: float = math.nan
    predicted_ltv: float = math.nan
    engagement_score: float = math.nan


def row_of(log: TransactionLog, known: CustomerTable, user: str | int) -> int:
    """Return the row of a user; BadInput for one who had not bought by then."""
    # The table is sorted by code, and lacks those who came after its day.
    code = log.codes.get(str(user), -1)
    row = int(np.searchsorted(known.customer, code))
    if row == len(known.customer) or known.customer[row] != code:
        raise BadInput(f"no customer {user!r} by {iso(known.as_of)}")
    return row


class AnalyticsEngine:
    """The customers of a log by the rules, one array per figure in `columns`."""

    def __init__(self, log: TransactionLog, as_of: int | date) -> None:
        self.log = log
        self.table = customer_table(log, as_of)
        t = self.table
        self.segments = segment_rule(t)
        # By the names of UserProfile's fields.
        self.columns = {
            "orders": t.x + 1,
            "total_spend": t.spend,
            "average_order": t.spend / (t.x + 1),
            "days_since_purchase": t.days_since_last,
            "tenure_days": t.age,
            "churn_risk": churn_rule(t.days_since_last),
            "predicted_ltv": value_rule(t, 365),
            "engagement_score": engagement_rule(t),
        }

    def calculate_user_profile(self, user: str | int) -> UserProfile:
        """Return one customer's row of the columns; BadInput if there is none."""
        row = row_of(self.log, self.table, user)
        figures = {}
        for name, column in self.columns.items():
            figures[name] = column[row].item()
        return UserProfile(str(user), SEGMENTS[self.segments[row]], **figures)


# region constant
def beside_constant(
    actual: Bools | Floats,
    forecasts: Mapping[str, Floats],
    score: Callable[[Any, Floats], dict[str, Any]],
    loss: Callable[[Any, Floats], Floats],
) -> dict[str, dict[str, Any]]:
    """Return each forecast's scores, with an interval: its loss minus a constant's.

    The constant is the mean of what then happened to these very customers. No
    forecast could have known it: a model that beats it can tell customers apart.
    """
    constant = np.full(len(actual), actual.mean())
    scores = {CONSTANT: score(actual, constant)}
    for name, forecast in forecasts.items():
        # Both losses of the same customer: what is hard for both drops out.
        gap = loss(actual, forecast) - loss(actual, constant)
        scores[name] = score(actual, forecast)
        scores[name]["loss - constant"] = interval_of_mean(gap)
    return scores


# endregion constant


@lesson.demo
def rules(env: AnalyticsEnv) -> None:
    """The rules: they rank, and as probabilities they are worse than a constant"""
    end, days = halves(env.log)
    engine = AnalyticsEngine(env.log, end)
    orders, spent = outcome(env.log, engine.table, days)
    gone = orders == 0
    # AUC asks who is ranked above whom; Brier and log-loss, whether 99 % is 99 in 100.
    forecasts = {RULE: engine.columns["churn_risk"]}
    scores = beside_constant(gone, forecasts, churn_score, squared_errors)
    print_grid("churn", scores)
    rule = scores[RULE]
    check("the logistic in days ranks: AUC above 0.75", rule["auc"], more_than(0.75))
    low, _ = rule["loss - constant"]
    check("its Brier score is worse than a constant's", low, more_than(0))
    log_loss = rule["log_loss"]
    twice = 2 * scores[CONSTANT]["log_loss"]
    check("its log-loss is over twice a constant's", log_loss, more_than(twice))
    # Whom the segments write off: how many came back all the same, and what they spent.
    dormant = engine.segments == SEGMENTS.index(UserSegment.DORMANT)
    back = 1 - gone[dormant].mean()
    fact("dormant for 90 days; come back", f"{dormant.mean():.0%}; {back:.0%}")
    share = spent[dormant].sum() / spent.sum()
    check(
        "those written off as dormant bring over a third of the spend",
        observed=float(share),
        expected=more_than(1 / 3),
    )
    forecast = value_rule(engine.table, days).sum()
    times = float(forecast / spent.sum())
    fact("LTV rule: forecast / spent", cell(times))
    engaged = auc(~gone, engine.columns["engagement_score"])
    fact("AUC of engagement for coming back", cell(engaged))


# %% [markdown]
# ## 3. Two models with a story, equal to their published fit
#
# BG/NBD: each customer buys at a rate of their own, and after each order may silently
# leave, with a chance of their own. The rates vary like a gamma distribution, the
# chances like a beta. Gamma-Gamma: what an order costs varies around each one's mean.

# %%
BGNBD = "BG/NBD"


def orders_by_rate(t: CustomerTable, days: int) -> Floats:
    """Return the orders that each customer's own rate so far promises: x / T x days."""
    # Trap: each customer's rate, taken at face value. Nothing is expected of those who
    # came once, and too much of the others, some of whom have left.
    per_day = t.x / t.age
    return per_day * days


@dataclass(frozen=True)
class BgNbd:
    """Customers buy at a gamma rate, and drop out by a beta chance; times in weeks.

    `identified` is False where a model without dropout fits about as well (likelihood
    ratio under 3.84). Then a and b come from a weak prior and not from the data.
    """

    r: float
    alpha: float
    a: float
    b: float
    log_likelihood: float = math.nan
    identified: bool = True
    covariance: Floats = field(default_factory=lambda: np.eye(4), repr=False)  # of logs

    def log_odds_gone(self, x: Ints, t_last: Floats, age: Floats) -> Floats:
        """Return the log odds of having left after the last of x > 0 repeat orders.

        The odds: a / (b + x - 1) x ((alpha + T) / (alpha + t_x))^(r + x).
        """
        # The longer the silence, and the faster the rhythm before it (r + x), the
        # likelier it is that the customer has left. The floor is for x = 0 only.
        stayed = (self.b + x - 1).clip(1e-9)
        silence = (self.alpha + age) / (self.alpha + t_last)
        log_odds = math.log(self.a) - np.log(stayed)
        log_odds = log_odds + (self.r + x) * np.log(silence)
        return np.asarray(log_odds)

    def p_alive(self, x: Ints, t_last: Floats, age: Floats) -> Floats:
        """Return the chance of not having dropped out; 1 for every one-time buyer."""
        # The model lets customers leave after a repeat order only: none, no leaving.
        log_odds = self.log_odds_gone(x, t_last, age)
        odds = np.exp(np.minimum(log_odds, 700))  # e^710 is more than a float holds
        return np.where(x > 0, 1 / (1 + odds), 1.0)

    def p_none(self, x: Ints, age: Floats, weeks: float) -> Floats:
        """Return the chance that someone alive buys nothing in the next weeks."""
        # ((alpha + T) / (alpha + T + weeks))^(r + x), by logarithms.
        log_ratio = np.log1p(weeks / (self.alpha + age))
        return np.exp(-(self.r + x) * log_ratio)

    def expected(self, x: Ints, age: Floats, weeks: Floats | float) -> Floats:
        """Return the orders expected of someone alive in the next weeks."""
        return expected_orders(self.r, self.alpha, self.a, self.b, x, age, weeks)

    def next_order(
        self, x: Ints, t_last: Floats, age: Floats, q: Floats | float
    ) -> Floats:
        """Return the weeks until an order has come with chance q; inf if never."""
        live = self.p_alive(x, t_last, age)
        # A customer who is alive with chance .3 never orders again with chance .5.
        can = live > q
        # live x (1 - p_none) = q, solved for the weeks.
        bought = np.where(can, q / live.clip(1e-300), 0.5)
        log_ratio = -np.log1p(-bought) / (self.r + x)
        growth = np.expm1(log_ratio.clip(0, 700))
        return np.where(can, (self.alpha + age) * growth, np.inf)


# region likelihood
def log_likelihoods(fit: BgNbd, x: Ints, t_last: Floats, age: Floats) -> Floats:
    """Return the log-likelihood of each customer's orders, times in weeks.

    Fader, Hardie and Lee 2005 (Marketing Science 24), equation 6. `fit_bgnbd`
    climbs the same function, with its derivatives, on the rows that differ.
    """
    r = fit.r
    alpha = fit.alpha
    a = fit.a
    b = fit.b
    # x repeat orders within the age, at a rate that is gamma(r, alpha) ...
    orders = log_gamma(r + x) - log_gamma(r)
    orders = orders + r * np.log(alpha)
    orders = orders - (r + x) * np.log(alpha + age)
    # ... and the customer stayed after each, with a chance of beta(b, a) ...
    stayed = log_gamma(b + x) - log_gamma(b)
    stayed = stayed - log_gamma(a + b + x) + log_gamma(a + b)
    # ... or left after the last one, and was silent because of that: ln(1 + odds).
    log_odds = fit.log_odds_gone(x, t_last, age)
    left = np.logaddexp(0, log_odds)
    left = np.where(x > 0, left, 0)  # nobody leaves before a repeat order
    return np.asarray(orders + stayed + left)


# endregion likelihood


def fit_bgnbd(  # noqa: PLR0917 (data, then choices)
    x: Ints,
    t_last: Ints,
    age: Ints,
    per_week: float = 7,
    guard: bool = True,
    count: Ints | None = None,
) -> BgNbd:
    """Fit by maximum likelihood; times are whole units, `per_week` of them a week.

    The guard looks for dropout in the data: without any, see section 4. `count` says
    how many customers each row stands for. Raises BadInput if too few customers have a
    repeat order.
    """
    found = fitted_bgnbd(x, t_last, age, per_week, guard, count)
    return BgNbd(**found._asdict())


@dataclass(frozen=True)
class GammaGamma:
    """What an order costs: gamma with shape p, at a scale of the customer's own.

    The inverse scales vary like a gamma(q, gamma). How often and how much customers
    buy is taken to be independent. Fader, Hardie and Lee 2005 (Journal of Marketing
    Research 42).
    """

    p: float
    q: float
    gamma: float
    log_likelihood: float = math.nan  # of the means of repeat orders

    def mean(self, x: Ints, mean_spend: Floats) -> Floats:
        """Return what a customer's next order will cost on average.

        It is the customer's mean so far, pulled towards the shop's.
        """
        # The more repeat orders, the less it is pulled; at x = 0 it is the shop's mean.
        spent = self.gamma + x * mean_spend
        return self.p * spent / (self.p * x + self.q - 1)


def fit_gamma_gamma(
    x: Ints, mean_spend: Floats, count: Ints | None = None
) -> GammaGamma:
    """Fit to those who paid for a repeat order; BadInput if they are too few."""
    found = fitted_gamma_gamma(x, mean_spend, count)
    return GammaGamma(**found._asdict())


def orders_by_model(t: CustomerTable, days: int) -> Floats:
    """Return the orders that BG/NBD expects: P(alive) x orders of someone alive."""
    fit = fit_bgnbd(t.x, t.t_last, t.age)
    x, t_last, age = t.weeks
    alive = fit.p_alive(x, t_last, age)
    orders_if_alive = fit.expected(x, age, days / 7)
    return alive * orders_if_alive


# A fit that converges to something proves nothing. These figures are in the papers,
# with the digits that they print.
PUBLISHED = {
    "r": ".243",
    "alpha": "4.414",
    "a": ".793",
    "b": "2.426",
    "log_likelihood": "-9582.4",
    "p": "6.25",
    "q": "3.74",
    "gamma": "15.44",
}


@lesson.demo
def models(env: AnalyticsEnv) -> None:
    """The models: two fits in numpy, equal to the published ones"""
    end, days = halves(env.log)
    t = customer_table(env.log, end)
    fit = fit_bgnbd(t.x, t.t_last, t.age)
    money = fit_gamma_gamma(t.x, t.mean_spend)
    found = vars(money) | vars(fit)
    # By the formula above, which the fit itself does not use.
    each = log_likelihoods(fit, *t.weeks)
    found["log_likelihood"] = each.sum()
    printed = {}
    for name, text in PUBLISHED.items():
        # As many decimals as the paper prints, and no 0 before the point.
        digits = len(text.partition(".")[2])
        printed[name] = f"{found[name]:.{digits}f}".lstrip("0")
        fact(name, printed[name])
    claim = "all eight equal the published figures, digit by digit"
    check(claim, observed=printed, expected=PUBLISHED)
    later, _ = outcome(env.log, t, days)
    orders = {
        "then": later,
        BGNBD: orders_by_model(t, days),
        "x / T": orders_by_rate(t, days),
    }
    means = by_repeats(t.x, orders)
    print_grid("repeat orders", means)
    check(
        "BG/NBD misses by less than a quarter of the rate x / T",
        observed=miss(means, BGNBD),
        expected=less_than(miss(means, "x / T") / 4),
    )


# %% [markdown]
# ## 4. P(alive) is not churn, and a dropout that nobody can see
#
# P(alive) is the chance that a customer has not left for good. Its complement is often
# sold as churn. And where nobody leaves, what does a fit say about leaving?

# %%
NOT_ALIVE = "1 - P(alive)"
# Simulated customers have the published habits.
TRUTH = BgNbd(r=0.243, alpha=4.414, a=0.793, b=2.426)
MONEY = GammaGamma(p=6.25, q=3.74, gamma=15.44)


def simulate(
    n: int, seed: int, days: int = SPAN, dropout: bool = True
) -> TransactionLog:
    """Return the orders of n customers drawn from TRUTH and MONEY, by the day."""
    orders = simulated_orders(n, seed, days, dropout, truth=TRUTH, money=MONEY)
    return TransactionLog(**orders._asdict(), ids=range(n))


# region churn
def not_alive(fit: BgNbd, t: CustomerTable, days: int) -> Floats:
    """Return 1 - P(alive), which has no horizon: it does not use `days`."""
    # Trap: 1 - P(alive) sold as churn. In this model customers leave only after a
    # repeat order. Those who bought once count as alive, and most never come back.
    return 1 - fit.p_alive(*t.weeks)


def no_order(fit: BgNbd, t: CustomerTable, days: int) -> Floats:
    """Return the chance of no order within days: gone, or alive and not buying."""
    x, t_last, age = t.weeks
    live = fit.p_alive(x, t_last, age)
    buys = 1 - fit.p_none(x, age, days / 7)
    return np.asarray(1 - live * buys)


# endregion churn


def fits_without_dropout() -> tuple[BgNbd, BgNbd]:
    """Return the naive and the guarded fit to customers who never leave.

    Their likelihood has a ridge to a = 0, b = infinity. An optimiser stops on it
    somewhere, and reports that as a finding.
    """
    # Nobody leaves, so whatever a fit says about leaving is made up.
    log = simulate(4_000, SEED, dropout=False)
    t = customer_table(log, START + SPAN - 1)
    naive = fit_bgnbd(t.x, t.t_last, t.age, guard=False)
    guarded = fit_bgnbd(t.x, t.t_last, t.age)
    return naive, guarded


def fit_row(fit: BgNbd) -> dict[str, Any]:
    """Return the parameters for a table."""
    return {
        "r": fit.r,
        "alpha": fit.alpha,
        "a": fit.a,
        "b, at most 100": min(fit.b, 100.0),  # where on the ridge it stops is chance
        "identified": fit.identified,
    }


@lesson.demo
def alive(env: AnalyticsEnv) -> None:
    """P(alive): its complement must not be sold as churn"""
    end, days = halves(env.log)
    t = customer_table(env.log, end)
    fit = fit_bgnbd(t.x, t.t_last, t.age)
    orders, _ = outcome(env.log, t, days)
    chances = {
        NOT_ALIVE: not_alive(fit, t, days),
        BGNBD: no_order(fit, t, days),
    }
    scores = beside_constant(orders == 0, chances, churn_score, squared_errors)
    print_grid("churn", scores)
    print_grid("x", alive_grid(fit, days))
    # The row x = 0 of the table: alive for certain, and most of the customers.
    once = chances[NOT_ALIVE][t.x == 0]
    ranking = scores[NOT_ALIVE]["auc"]
    check(
        "who bought once counts as alive, so 1 - P(alive) ranks backwards",
        observed={"who bought once": once.max(), "AUC": ranking},
        expected={"who bought once": 0, "AUC": less_than(0.5)},
    )
    _, high = scores[BGNBD]["loss - constant"]
    check("P(no order in the horizon) beats the constant", high, less_than(0))
    naive, guarded = fits_without_dropout()
    grid = {"naive fit": fit_row(naive), "guarded fit": fit_row(guarded)}
    print_grid("nobody leaves", grid)
    check(
        "without dropout the naive fit runs off, and says nothing",
        observed={"b": naive.b, "identified": naive.identified},
        expected={"b": more_than(100), "identified": True},
    )
    check("the guarded fit says: not identified", guarded.identified, False)


# %% [markdown]
# ## 5. The backtest: chosen before the holdout is read
#
# Several models, one holdout. Choosing by the holdout turns it into training data. So
# the choice, too, has to be learnt before it: from an earlier forecast inside the past,
# over as many days. Hence thirds: one to fit, one to choose on, one to be judged by.

# %%
STACK = "stack"  # a logistic regression on what BG/NBD says and two plain features
PAST = "past mean"  # of everybody, in the days before: a constant that can be known
MEDIAN = "median"  # of what was then spent: the best constant for absolute errors
# Three forecasts of spend: by all orders so far, by repeat orders, by both models.
NAIVE = "naive (x+1)/T"
PER_DAY = "naive x/T"
GG = "BG/NBD x GG"
DISCOUNT = 0.10  # a year's rate
LTV_MONTHS = 12  # how far a lifetime reaches
MONTH = 365.25 / 12  # days


def thirds(log: TransactionLog) -> tuple[int, int]:
    """Return the day after two thirds of the log, and the days after it."""
    whole = log.last_day - int(log.day.min()) + 1
    days = whole // 3
    return log.last_day - days, days


class Forecast:
    """All that can be said at `as_of` about the days after it, which are not read.

    The stack and the choice of a model must be learnt. They are learnt from an earlier
    forecast of the `inner_days` up to `as_of`, whose outcome is known.
    """

    def __init__(
        self,
        log: TransactionLog,
        as_of: int | date,
        days: int,
        learn: bool = True,
    ) -> None:
        self.log = log
        self.days = whole_days(days)
        self.table = customer_table(log, as_of)
        t = self.table
        self.weeks = t.weeks
        self.bgnbd = fit_bgnbd(t.x, t.t_last, t.age)
        self.money = fit_gamma_gamma(t.x, t.mean_spend)
        self.live = self.bgnbd.p_alive(*self.weeks)
        self.inner_loss: dict[str, float] = {}
        self.inner_rmse: dict[str, float] = {}
        # Without a past to learn from: no stack, and the models of section 3.
        self.stack: Stack | None = None
        self.past_spend = math.nan  # of a customer, a day
        self.missed = 0.0  # by the inner forecast's total, as a logarithm
        self.churn_model = BGNBD
        self.value_model = GG
        self._lifetime: dict[tuple[str, float], Floats] = {}
        # As long as the outer horizon, if that leaves half of the past to fit on.
        oldest = int(t.age.max())
        inner_days = min(days, oldest // 2)
        if learn and inner_days:
            with suppress(BadInput):  # too few repeat buyers half-way: the defaults
                past = Forecast(log, t.as_of - inner_days, inner_days, learn=False)
                self._learn(past)

    # region learn
    def _learn(self, past: Forecast) -> None:
        orders, spent = outcome(self.log, past.table, past.days)
        gone = orders == 0
        everybody = np.ones(len(gone))
        self.stack = fitted_stack(past.inputs, gone)
        # Scored on customers it was not fitted to, or the stack would always win.
        chances = {
            PAST: everybody * gone.mean(),
            RULE: past.churn[RULE],
            BGNBD: past.churn[BGNBD],
            STACK: out_of_fold(past.inputs, gone),
        }
        for name, chance in chances.items():
            losses = log_losses(gone, chance)
            self.inner_loss[name] = float(losses.mean())
        # endregion learn
        # The naive forecasts are no candidates: a lucky past must not choose them.
        values = {PAST: everybody * spent.mean(), GG: past.value[GG]}
        for name, value in values.items():
            self.inner_rmse[name] = value_score(spent, value)["rmse"]
        self.past_spend = float(spent.mean()) / past.days
        self.missed = missed_by(spent.sum(), past.value[GG].sum())
        self.churn_model = least(self.inner_loss)
        self.value_model = least(self.inner_rmse)

    def follow(self, tested: Forecast) -> None:
        """Use the models that a backtest has tested, as far as they are at hand."""
        if tested.churn_model in self.churn:
            self.churn_model = tested.churn_model
        if tested.value_model in self.value:
            self.value_model = tested.value_model

    @cached_property
    def p_zero(self) -> Floats:
        """The BG/NBD chance that a customer buys nothing in the next days."""

        def none(x: Ints, age: Floats) -> Floats:
            return self.bgnbd.p_none(x, age, self.days / 7)

        # Computed once for each (x, T): many customers have both in common.
        none_if_alive = by_distinct_pair(none, self.table.x, self.table.age)
        zero: Floats = 1 - self.live * (1 - none_if_alive)
        return zero

    @cached_property
    def inputs(self) -> Floats:
        """Of the stack: 1, log odds of no order, silence, and pace."""
        t = self.table
        # BG/NBD may be surer than any data; the stack is told 0.25 % at the least.
        chance = self.p_zero.clip(0.0025, 0.9975)
        log_odds = np.log(chance / (1 - chance))
        # Both count in horizons: they must mean the same at any age of a customer.
        idle = np.log1p(t.days_since_last / self.days)
        pace = np.log1p(t.x * self.days / np.maximum(t.age, 1))
        ones = np.ones(len(t.x))
        return np.column_stack([ones, log_odds, idle, pace])

    @cached_property
    def churn(self) -> dict[str, Floats]:
        """Each model's chance that a customer buys nothing in the next days."""
        # The rule and 1 - P(alive) are here to be beaten: sections 2 and 4.
        chances = {
            RULE: churn_rule(self.table.days_since_last),
            NOT_ALIVE: 1 - self.live,
            BGNBD: self.p_zero,
        }
        if self.stack:  # none in the inner forecast, or without one
            chances[STACK] = self.stack.chance(self.inputs)
            chances[PAST] = np.full(len(self.live), self.stack.constant)
        return chances

    @cached_property
    def orders(self) -> Floats:
        """The BG/NBD number of orders expected in the next days."""

        def expected(x: Ints, age: Floats) -> Floats:
            return self.bgnbd.expected(x, age, self.days / 7)

        if_alive = by_distinct_pair(expected, self.table.x, self.table.age)
        return np.asarray(self.live * if_alive)

    @cached_property
    def value(self) -> dict[str, Floats]:
        """Each model's forecast of what a customer spends in the next days."""
        t = self.table
        naive = value_rule(t, self.days)
        # Of x + 1 orders x were repeats: only those can say how often one comes back.
        per_day = naive * t.x / (t.x + 1)
        mean = self.money.mean(t.x, t.mean_spend)
        values = {
            NAIVE: naive,
            PER_DAY: per_day,
            GG: self.orders * mean,
        }
        if self.stack:
            values[PAST] = np.full(len(naive), self.past_spend * self.days)
        return values

    def lifetime_spend(self, discount: float) -> Floats:
        """Return the spend of the next LTV_MONTHS, each month's discounted."""
        # Months go down, customers across.
        month = np.arange(1, LTV_MONTHS + 1)[:, None]
        worth = (1 + discount) ** (-month / 12)
        if self.value_model != GG:
            per_month = self.value[self.value_model] / self.days * MONTH
            return np.asarray(per_month * worth.sum())
        month_ends = month * MONTH / 7  # in weeks

        def orders(x: Ints, age: Floats) -> Floats:
            # The model expects orders up to a date: a month's own are the difference.
            by_then = self.bgnbd.expected(x, age, month_ends)
            each_month = np.diff(by_then, axis=0, prepend=0)
            return np.asarray((each_month * worth).sum(0))

        t = self.table
        mean = self.money.mean(t.x, t.mean_spend)
        if_alive = by_distinct_pair(orders, t.x, t.age)
        return np.asarray(self.live * if_alive * mean)

    def lifetime(self, discount: float) -> Floats:
        """Return the same, kept for the next who asks."""
        key = (self.value_model, discount)
        if key not in self._lifetime:
            self._lifetime[key] = self.lifetime_spend(discount)
        return self._lifetime[key]

    @property
    def ltv(self) -> Floats:
        """Each customer's lifetime value by the chosen model, discounted."""
        return self.lifetime(DISCOUNT)

    def days_until(self, rows: Ints, q: float) -> Floats:
        """Return in how many days an order has come with chance q; inf beyond `days`.

        BG/NBD knows when, if one comes at all; whether, the chosen churn model knows.
        """
        comes = 1 - self.churn[self.churn_model][rows]
        # The chance that BG/NBD gives to orders up to the day on which it is q.
        scaled = q / comes.clip(1e-12) * (1 - self.p_zero[rows])
        x, t_last, age = (column[rows] for column in self.weeks)
        days = 7 * self.bgnbd.next_order(x, t_last, age, scaled)
        return np.where(comes > q, days, np.inf)


def least(losses: Mapping[str, float]) -> str:
    """Return the name of the smallest loss."""
    return min(losses, key=lambda name: losses[name])


class Survey(NamedTuple):
    """What was drawn for some customers, compared with what they spent."""

    rows: Ints
    held: Bools  # whether the spend lay within its 80 % interval
    total: tuple[float, float]  # the 95 % interval of their total, by the model alone


# region holdout
class Backtest:
    """A forecast made at `end`, and what happened in the days after it."""

    def __init__(self, log: TransactionLog, end: int | date, days: int) -> None:
        self.log = log
        self.forecast = Forecast(log, end, days)
        # Of the models that the forecast has chosen, without a look at the outcome.
        self.chance = self.forecast.churn[self.forecast.churn_model]
        self.amount = self.forecast.value[self.forecast.value_model]
        # Trap: the best of four models on the holdout. Its lead is partly luck, and
        # the holdout has become training data. Choose inside, and score once, here.
        self.orders, self.spent = outcome(log, self.forecast.table, days)
        self.gone = self.orders == 0
        # endregion holdout
        require_outcome(end, days, log.last_day)
        self._told: dict[str, Told] = {}  # by model

    @cached_property
    def scores(self) -> dict[str, dict[str, Any]]:
        """Tables of churn and value scores, each with the constant first."""
        churn = self.forecast.churn
        # A mean is judged by squared errors: those are least at the mean. Absolute
        # errors are least at the median, and where most buy nothing, that is zero.
        middle = np.full(len(self.spent), np.median(self.spent))
        value = {MEDIAN: middle} | self.forecast.value
        return {
            "churn": beside_constant(self.gone, churn, churn_score, squared_errors),
            "value": beside_constant(self.spent, value, value_score, squared_errors),
        }

    @property
    def missed(self) -> float:
        """How far off the total was, or that of the forecast inside: a logarithm."""
        mine = missed_by(float(self.spent.sum()), float(self.amount.sum()))
        # One total may be right by luck: of two, the larger miss counts.
        return max(mine, self.forecast.missed)

    @property
    def chances_shown(self) -> dict[str, Floats]:
        """What the rule and the chosen model said."""
        chosen = self.forecast.churn_model
        return {RULE: self.forecast.churn[RULE], chosen: self.chance}

    def nearest(self, kind: str, model: str, score: float) -> Like | None:
        """Return who was told nearly this; None if the backtest lacks the model."""
        told: dict[str, Floats] = getattr(self.forecast, kind)
        if model not in told:
            return None
        if model not in self._told:
            self._told[model] = Told(told[model])
        rows = self._told[model].nearest(score)
        happened = {"churn": self.gone, "value": self.spent}[kind]
        return like(told[model][rows], happened[rows])

    @cached_property
    def survey(self) -> Survey:
        """The intervals that the forecast gave, and whether they held.

        The draws take the fitted parameters for known, and know no season.
        """
        f = self.forecast
        rows = surveyed(len(self.gone))
        draws = possible_spends(f, rows, f.days, [SEED])
        low, high = np.quantile(draws, (0.1, 0.9), axis=1)
        spent = self.spent[rows]
        held = (low <= spent) & (spent <= high)
        # In each future, what they spend together: only its spread is an interval.
        totals = draws.sum(axis=0)
        low, high = np.quantile(totals, (0.025, 0.975)).tolist()
        return Survey(rows, held, (low, high))


def scramble_facts(record: Backtest) -> dict[str, Any]:
    """Return what changes if the later orders are dealt out to other customers."""
    end = record.forecast.table.as_of
    days = record.forecast.days
    later = record.log.day > end
    who = record.log.customer.copy()
    rng = np.random.default_rng(SEED)
    who[later] = rng.permutation(who[later])
    # If anything was read from the holdout, it would now be somebody else's.
    scrambled = replace(record.log, customer=who)
    other = Backtest(scrambled, end, days)
    changed = other.spent != record.spent
    return {
        "spends changed": float(changed.mean()),
        "same chances": np.array_equal(other.chance, record.chance),
        "same values": np.array_equal(other.amount, record.amount),
    }


def check_scramble(record: Backtest) -> None:
    """Check that other holdouts get the same predictions."""
    found = scramble_facts(record)
    changed = f"{found['spends changed']:.0%} of customers"
    fact("spends that a scramble changes", changed)
    check(
        "a scrambled holdout gets the same predictions: none was read",
        observed=found,
        expected={
            "spends changed": more_than(0.2),
            "same chances": True,
            "same values": True,
        },
    )


def print_choice(forecast: Forecast) -> None:
    """Print what the choice of the models rests on."""
    for name, loss in forecast.inner_loss.items():
        fact(f"inner log-loss, {name}", cell(loss))
    fact("chosen by it", f"{forecast.churn_model}; {forecast.value_model}")


def print_survey(record: Backtest) -> None:
    """Print how often intervals held, however bad that looks."""
    survey = record.survey
    share = f"{survey.held.mean():.0%} of {len(survey.held):,}"
    fact("spends in their 80 % interval", share)
    fact("spent in all", cell(float(record.spent[survey.rows].sum())))
    fact("total's 95 %, by the model alone", cell(survey.total))
    wide = widened(*survey.total, record.forecast.missed)
    fact("widened by the inner total's miss", cell(wide))


@lesson.demo
def backtest(env: AnalyticsEnv) -> None:
    """The backtest: chosen before the holdout is read, scored beside a constant"""
    record = env.record
    f = record.forecast
    print_choice(f)
    for name, scores in record.scores.items():
        print_grid(name, scores)
    print_grid("tenth", reliability(record.chances_shown, record.gone))
    ours = record.scores["churn"][f.churn_model]
    rule = record.scores["churn"][RULE]
    _, high = ours["loss - constant"]
    check(
        "the chosen churn model beats the constant, and the rule by far",
        observed={"loss - constant": high, "Brier score": ours["brier"]},
        expected={
            "loss - constant": less_than(0),
            "Brier score": less_than(rule["brier"] - 0.03),
        },
    )
    values = record.scores["value"]
    _, high = values[GG]["loss - constant"]
    naive = min(values[NAIVE]["rmse"], values[PER_DAY]["rmse"])
    check(
        "BG/NBD x GG beats the mean by squared error, the naive values by far",
        observed={"loss - constant": high, "naive RMSE": naive},
        expected={
            "loss - constant": less_than(0),
            "naive RMSE": more_than(1.5 * values[GG]["rmse"]),
        },
    )
    # Nobody may be told zero, and yet by the absolute error it is hard to beat.
    claim = "by absolute error the median, 0 for everybody, beats the mean by far"
    mean_error = values[CONSTANT]["mae"]
    check(claim, values[MEDIAN]["mae"], less_than(0.75 * mean_error))
    print_survey(record)
    check_scramble(record)


# %% [markdown]
# ## 6. Predictions that carry their record
#
# "Confidence: 0.85" cannot be checked. When this model said nearly the same in a
# backtest, how often did it come true, and out of how many?


# %%
class PredictionType(Enum):
    """What `MLModelManager.predict` can be asked."""

    CHURN = "churn"
    LIFETIME_VALUE = "lifetime_value"
    NEXT_PURCHASE = "next_purchase"
    RECOMMENDATION = "recommendation"


# region prediction
@dataclass(frozen=True)
class Prediction:
    """An answer, and the record of those who were told nearly the same.

    None stands where there is nothing to say. The record is not an interval: it
    says how it went for the nearest of a backtest, and what they were told.
    """

    kind: PredictionType
    user: str
    # A chance; a mean; days, within the horizon.
    value: float | tuple[str, ...] | None = None
    model: str = ""
    # Of churn or an order in the forecast's days; of any spend in LTV_MONTHS.
    probability: float | None = None
    # Of a lifetime value, a mean: how it would be if the nearest of the backtest
    # are right. Of the next order: the days of chance .1 and .9, as `value` has .5.
    low: float | None = None
    high: float | None = None
    # Of a lifetime value: a tenth, a half, nine tenths of all futures lie below.
    futures: tuple[float, float, float] | None = None
    # The share of the constant's squared error that the model saved in a backtest.
    skill: float | None = None
    told: tuple[float, float] | None = None  # the least and the most of the nearest
    observed: Rate | Mean | None = None  # what happened to them in those days


# endregion prediction


class MLModelManager:
    """Answers with the chosen models; a backtest, if there is one, tests them."""

    def __init__(
        self,
        forecast: Forecast,
        record: Backtest | None = None,
        recommender: RecommendationEngine | None = None,
    ) -> None:
        self.forecast = forecast
        self.record = record
        self.recommender = recommender

    def predict(self, kind: PredictionType, users: Any = None) -> Any:
        """Return the Prediction of a user, or a list: of several, or of all by default.

        Raises BadInput for a user who had not bought by then.
        """
        f = self.forecast
        alone = users is not None and np.ndim(users) == 0
        if users is None:
            rows = np.arange(len(f.table.x))
        else:
            asked = [users] if alone else users
            rows = np.array([row_of(f.log, f.table, user) for user in asked], int)
        answer = {
            PredictionType.CHURN: self._predict_churn,
            PredictionType.LIFETIME_VALUE: self._predict_ltv,
            PredictionType.NEXT_PURCHASE: self._predict_next_purchase,
            PredictionType.RECOMMENDATION: self._predict_recommendation,
        }
        found = answer[kind](rows)
        return found[0] if alone else found

    def _names(self, rows: Ints) -> list[str]:
        codes = self.forecast.table.customer[rows]
        return [str(self.forecast.log.ids[code]) for code in codes.tolist()]

    def _skill(self, kind: str, model: str) -> float | None:
        # Trap: a "confidence" that the model made up for itself. Skill is what it saved
        # of a constant's error, on customers whose future it had not seen.
        scores = self.record.scores[kind] if self.record else {}
        if model not in scores:
            return None
        error = squared_error(scores[model])
        constant_error = squared_error(scores[CONSTANT])
        return 1 - error / constant_error if constant_error else None

    def _nearest(self, kind: str, model: str, score: float) -> Like | None:
        return self.record.nearest(kind, model, score) if self.record else None

    def _predict_churn(self, rows: Ints) -> list[Prediction]:
        model = self.forecast.churn_model
        chances = self.forecast.churn[model][rows].tolist()
        skill = self._skill("churn", model)
        found = []
        for user, chance in zip(self._names(rows), chances, strict=True):
            near_by = self._nearest("churn", model, chance)
            prediction = Prediction(
                kind=PredictionType.CHURN,
                user=user,
                value=chance,
                model=model,
                probability=chance,
                skill=skill,
                told=near_by.told if near_by else None,
                observed=rate_of(near_by.happened) if near_by else None,
            )
            found.append(prediction)
        return found

    def _predict_ltv(self, rows: Ints) -> list[Prediction]:
        f = self.forecast
        model = f.value_model
        values = f.ltv[rows]
        # What is forecast for the backtest's days: there, it was compared.
        compared = f.value[model][rows].tolist()
        # The futures are not discounted: the same share of them is left.
        whole = f.lifetime(0.0)[rows]
        share = np.where(whole > 0, values / np.maximum(whole, 1e-12), 1)
        futures = spend_quantiles(f, rows, MONTH * LTV_MONTHS, (0.1, 0.5, 0.9))
        quantiles = (share[:, None] * futures.quantiles).tolist()
        skill = self._skill("value", model)
        found = []
        for place, user in enumerate(self._names(rows)):
            value = float(values[place])
            near_by = self._nearest("value", model, compared[place])
            seen = mean_of(near_by.happened) if near_by else None
            low, high = bracket(value, seen, near_by.mean) if near_by else (None, None)
            prediction = Prediction(
                kind=PredictionType.LIFETIME_VALUE,
                user=user,
                value=value,
                model=f"{model}, {LTV_MONTHS} months",
                probability=float(futures.chance[place]),
                low=low,
                high=high,
                futures=tuple(quantiles[place]),
                skill=skill,
                told=near_by.told if near_by else None,
                observed=seen,
            )
            found.append(prediction)
        return found

    def _predict_next_purchase(self, rows: Ints) -> list[Prediction]:
        days = {q: self._days_until(rows, q) for q in (0.1, 0.5, 0.9)}
        found = []
        for place, churn in enumerate(self._predict_churn(rows)):
            gone = churn.observed
            told = churn.told
            prediction = replace(
                churn,
                kind=PredictionType.NEXT_PURCHASE,
                value=days[0.5][place],
                model=f"{BGNBD}, chance by {churn.model}",
                probability=1 - (churn.probability or 0),
                low=days[0.1][place],
                high=days[0.9][place],
                told=(1 - told[1], 1 - told[0]) if told else None,
                observed=gone.of_the_rest if isinstance(gone, Rate) else None,
            )
            found.append(prediction)
        return found

    def _days_until(self, rows: Ints, q: float) -> list[float | None]:
        # Beyond the horizon nothing was tested.
        days = self.forecast.days_until(rows, q).tolist()
        return [each if math.isfinite(each) else None for each in days]

    def _predict_recommendation(self, rows: Ints) -> list[Prediction]:
        if self.recommender is None:
            raise BadInput("a recommendation needs a RecommendationEngine")
        found = []
        for user in self._names(rows):
            offers = self.recommender.get_recommendations(user)
            named = tuple(offer.item or offer.strategy for offer in offers)
            kind = PredictionType.RECOMMENDATION
            found.append(Prediction(kind, user, named, model=offers[0].reason))
        return found


@lesson.demo
def predict(env: AnalyticsEnv) -> None:
    """Predictions: each says who made it, and how often that came true"""
    log = env.log
    record = env.record
    days = record.forecast.days
    f = Forecast(log, log.last_day, days)
    f.follow(record.forecast)
    manager = MLModelManager(f, record)
    t = f.table
    kinds = [
        PredictionType.CHURN,
        PredictionType.LIFETIME_VALUE,
        PredictionType.NEXT_PURCHASE,
    ]
    most_orders = t.x.argmax()
    longest_silent = t.days_since_last.argmax()
    seen_last = t.days_since_last.argmin()
    for row in (most_orders, longest_silent, seen_last):
        user = str(log.ids[t.customer[row]])
        fact("customer, days with orders", f"{user}, {t.x[row] + 1}")
        for kind in kinds:
            for line in spoken(manager.predict(kind, user), days):
                write(f"  {line}")
    # For each tenth: is the mean of what was said within the interval of what was seen?
    rule = tenths_that_held(record.gone, record.forecast.churn[RULE])
    model = tenths_that_held(record.gone, record.chance)
    fact("tenths that held: rule, model", f"{rule}, {model} of 10")
    check("what the model says holds in over 6 tenths", model, more_than(6))
    check("what the rule says, in under 3", rule, less_than(3))
    # After a week, two orders are extrapolated to a hundred a year.
    newcomers = customer_table(log, int(log.day.min()) + 7)
    most = float(np.bincount(log.customer, log.amount).max())
    by_rule = float(value_rule(newcomers, 365).max())
    by_model = float(f.ltv.max())
    fact("most spent; newcomer's LTV, by rule", f"{most:,.0f}; {by_rule:,.0f}")
    check(
        "no modelled lifetime value exceeds what anyone ever spent",
        observed={"by the model": by_model, "by the rule": by_rule},
        expected={"by the model": less_than(most), "by the rule": more_than(most)},
    )


# %% [markdown]
# ## 7. Recommendations: the segment's strategy, filled with items
#
# A segment says how to talk to a customer. What to offer follows from their own
# baskets, and from the baskets of those who bought the same.

# %%
STRATEGY = {
    UserSegment.DORMANT: "re-engagement campaign",
    UserSegment.ACTIVE: "personalised products",
    UserSegment.VIP: "premium and exclusive items",
    UserSegment.AT_RISK: "retention offer",
}


class Recommendation(NamedTuple):
    """One thing to offer; `item` is None where the log knows no items."""

    strategy: str
    item: str | None = None
    reason: str = ""


class RecommendationEngine:
    """Segment strategies; with items: buy again, item-item, then what is popular."""

    def __init__(self, engine: AnalyticsEngine) -> None:
        self.engine = engine
        self.items = engine.log.items
        self.baskets: Baskets | None = None
        # An engine as of a date must not recommend what was first bought later.
        bought_by_now = engine.log.day <= engine.table.as_of
        log = engine.log.where(bought_by_now)
        if log.item is not None:
            named = has_name(log.item, log.items)
            self.baskets = Baskets(
                log.customer[named],
                log.item[named],
                log.amount[named],
                customers=len(log.ids),
                items=len(log.items),
            )

    @property
    def known(self) -> Baskets:
        """Who bought what; BadInput if the log does not say."""
        if self.baskets is None:
            raise BadInput("the log names no items")
        return self.baskets

    def popular(self, customer: int, count: int = 10) -> dict[int, str]:
        """Return what most customers bought, the same for everybody."""
        # Trap: one list for all, or one per segment, which is popularity by another
        # name. What customers bought says more than the group they were put into.
        return dict.fromkeys(self.known.popular[:count], "popular")

    # region similar
    def similar(self, items: Ints) -> Floats:
        """Return every item's cosine similarity to these, summed.

        Of two items: buyers of both / sqrt(buyers of one x buyers of the other).
        """
        reach = self.known.reach
        score = np.zeros(len(reach))
        for item in np.unique(items):
            # Everything that its buyers have bought, once per buyer: how often an
            # item stands there is how many bought both.
            buyers = self.known.buyers[item]
            baskets = [self.known.of_customer[buyer] for buyer in buyers]
            in_all_of_them = np.concatenate(baskets)
            both = np.bincount(in_all_of_them, minlength=len(score))
            score += both / np.sqrt(reach * reach[item])
        return score

    # endregion similar

    def ranked(self, customer: int, count: int = 10) -> dict[int, str]:
        """Return the best items and why; the popular fill what is left."""
        mine = self.known.bought[customer]
        again = np.bincount(mine, minlength=len(self.known.reach))
        similarity = self.similar(mine)
        # Scaled to stay below 1, so that items bought before come first.
        score = again + similarity / (similarity.max() + 1e-9)
        # Stable: of equals, the item with the lower code, on every machine.
        order = np.argsort(-score, kind="stable")
        found: dict[int, str] = {}
        for item in order[:count].tolist():
            if score[item]:
                found[item] = "bought before" if again[item] else "bought together"
        # A customer with few orders has few neighbours: what is popular fills the list.
        for item in self.known.popular:
            if len(found) == count:
                break
            found.setdefault(item, "popular")
        return found

    def get_recommendations(self, user: str, count: int = 10) -> list[Recommendation]:
        """Return what to offer, for a VIP the dearest first; BadInput if unknown."""
        row = row_of(self.engine.log, self.engine.table, user)
        segment = SEGMENTS[self.engine.segments[row]]
        strategy = STRATEGY[segment]
        if self.baskets is None or not self.baskets.popular:
            return [Recommendation(strategy, None, "the log names no items")]
        customer = int(self.engine.table.customer[row])
        reason = self.ranked(customer, count)
        items = list(reason)
        if segment is UserSegment.VIP:
            price = self.baskets.price
            items.sort(key=lambda item: price[item], reverse=True)
        offers = []
        for item in items:
            name = self.items[item]
            offers.append(Recommendation(strategy, name, reason[item]))
        return offers


@lesson.demo
def recommend(env: AnalyticsEnv) -> None:
    """Recommendations: what they bought, and its neighbours, beat what is popular"""
    log = env.log
    engine = RecommendationEngine(AnalyticsEngine(log, log.last_day))
    first_customer = str(log.ids[0])
    offer = engine.get_recommendations(first_customer)[0]
    fact("CDNOW's first customer", f"{offer.strategy}; {offer.reason}")
    # CDNOW names no items. A simulated shop has them, and customers with favourites.
    orders = simulated_shop(customers=400, items=160, seed=SEED)
    shop = TransactionLog(**orders._asdict())
    end = START + 270
    later = shop.day > end
    advice = RecommendationEngine(AnalyticsEngine(shop, end))
    popular = recalls(shop, later, advice.popular)
    ours = recalls(shop, later, advice.ranked)
    recall = {"popularity": popular, "again + item-item": ours}
    grid = {}
    for name, shares in recall.items():
        grid[name] = {
            "recall@10": float(shares.mean()),
            "95 %": interval_of_mean(shares),
        }
    print_grid("a simulated shop, 160 items", grid)
    # Both recalls of the same customer, in pairs: is the difference more than chance?
    low, _ = interval_of_mean(ours - popular)
    check(
        "recall@10 is over 1.3 times popularity's, and not by chance",
        observed={"recall": float(ours.mean()), "difference": low},
        expected={
            "recall": more_than(1.3 * float(popular.mean())),
            "difference": more_than(0),
        },
    )


# %% [markdown]
# ## 8. Sentences from figures
#
# A report that always says "win back the dormant" is a template. Which sentence would
# change if the data were different?

# %%
FEWEST = 30  # customers of a segment in the backtest; fewer prove nothing
WRONG = 0.1  # by which the model's churn may miss what was seen, beyond chance


# region verdict
def sentence_by_template(name: str, row: Mapping[str, Any]) -> str:
    """Return what is written into the report of every shop."""
    # Trap: advice written into the template. Whatever the data say, it reads the
    # same, and no log of orders knows what a mail would change: that is section 9.
    template = {"dormant": "win them back.", "vip": "keep them."}
    return template.get(name, "a reminder is enough.")


def sentence_by_figures(name: str, row: Mapping[str, Any]) -> str:
    """Return what a backtest saw of a segment, and whether that was said before."""
    if row["observed_of"] < FEWEST:
        few = how_many(row["observed_of"], "customer")
        return f"{few} then in it: too few to tell."
    back = 1 - row["observed_churn"]
    said = 1 - row["backtest_churn"]
    high, low = (1 - end for end in row["observed_95"])
    of = f"of {row['observed_of']:,} then in it, {back:.0%} came back"
    days = how_many(row["observed_days"], "day")
    when = f"within {days} ({low:.0%} to {high:.0%}"
    first, last = row["observed_share_95"]
    money = f"with {row['observed_spend_share']:.0%} of all spend"
    seen = f"{of} {when}; said: {said:.0%}) {money} ({first:.0%} to {last:.0%})"
    if low <= said <= high:
        return f"{seen}: as said."
    if abs(back - said) < WRONG:
        return f"{seen}: nearly as said."
    return f"{seen}: do not act on the model's figure here."


# endregion verdict


def average(column: Floats | Bools, rows: Bools) -> float | None:
    """Return the mean of these rows; None if there are none."""
    if not rows.any():
        return None
    return float(column[rows].mean())


class InsightsGenerator:
    """Segments in figures and sentences; no sentence without its figures."""

    def __init__(self, forecast: Forecast, record: Backtest | None = None) -> None:
        self.forecast = forecast
        self.record = record

    def generate_segment_report(self) -> dict[str, dict[str, Any]]:
        """Return figures by segment, now and, with a backtest, what it saw then."""
        f = self.forecast
        segments = segment_rule(f.table)
        report: dict[str, dict[str, Any]] = {}
        for code, segment in enumerate(SEGMENTS):
            mine = segments == code
            report[segment.value] = {
                "customers": int(mine.sum()),
                "share": float(mine.mean()),
                "spend": float(f.table.spend[mine].sum()),
                "predicted_churn": average(f.churn[f.churn_model], mine),
                "predicted_ltv": float(f.ltv[mine].sum()),
                "ltv_95": self._total(mine),
            }
            if self.record:
                report[segment.value] |= self._observed(self.record, code)
        return report

    def _total(self, mine: Bools) -> tuple[float, float]:
        # As wide as the model says, and wider by what it missed in the backtest.
        missed = self.record.missed if self.record else 0.0
        return total_interval(self.forecast, mine, MONTH * LTV_MONTHS, missed)

    def _observed(self, record: Backtest, code: int) -> dict[str, Any]:
        # Of those who were in the segment when the backtest began.
        then = segment_rule(record.forecast.table) == code
        seen = rate_of(record.gone[then]) if then.any() else None
        share, low, high = share_of(record.spent, then)
        return {
            "backtest_churn": average(record.chance, then),
            "observed_churn": seen.rate if seen else None,
            "observed_95": (seen.low, seen.high) if seen else None,
            "observed_of": int(then.sum()),
            "observed_days": record.forecast.days,
            "observed_spend_share": share,
            "observed_share_95": (low, high),
        }

    def _generate_insights(self, report: Grid) -> list[str]:
        """Return a sentence per segment that has customers, on all, and on the rule."""
        sentences = []
        for name, row in report.items():
            if row["customers"]:
                sentences.append(self._sentence(name, row))
        if self.record:
            sentences.append(self._of_all(self.record))
            churn = self.record.scores["churn"]
            # The constant stands among them: a model behind it is not worth its name.
            # A set, as the chosen model may be the rule.
            names = {RULE, CONSTANT, self.record.forecast.churn_model}
            brier = {name: churn[name]["brier"] for name in names}
            ranked = sorted(brier, key=lambda name: (brier[name], name))
            best = ", ".join(f"{name} {brier[name]:.3f}" for name in ranked)
            sentences.append(f"churn by Brier score, best first: {best}.")
        return sentences

    def _sentence(self, name: str, row: Mapping[str, Any]) -> str:
        count = f"{how_many(row['customers'], 'customer')} ({row['share']:.0%})"
        low, high = row["ltv_95"]
        worth = f"worth {row['predicted_ltv']:,.0f} in {LTV_MONTHS} months"
        said = f"{name}: {count}, {worth} ({low:,.0f} to {high:,.0f})"
        # Without a backtest, or with nobody of the segment in it, nothing was tested.
        if row.get("observed_churn") is None:
            churn = f"{row['predicted_churn']:.0%} are expected to churn"
            return f"{said}; {churn} (untested)."
        return f"{said}; {sentence_by_figures(name, row)}"

    def _of_all(self, record: Backtest) -> str:
        # The miss is part of the interval: the model knows neither season nor growth.
        everybody = np.ones(len(self.forecast.ltv), bool)
        low, high = self._total(everybody)
        total = self.forecast.ltv.sum()
        worth = f"all: worth {total:,.0f} in {LTV_MONTHS} months"
        days = how_many(record.forecast.days, "day")
        said = f"{record.amount.sum():,.0f} was said for {days}"
        spent = f"{record.spent.sum():,.0f} was spent"
        return f"{worth} ({low:,.0f} to {high:,.0f}); in the backtest {said}, {spent}."


def quiet_backtest(record: Backtest, segment: UserSegment) -> Backtest:
    """Return the backtest as it would be if nobody of a segment had come back."""
    f = record.forecast
    end = f.table.as_of
    mine = segment_rule(f.table) == SEGMENTS.index(segment)
    members = f.table.customer[mine]
    theirs = np.isin(record.log.customer, members)
    later = record.log.day > end
    without = record.log.where(~(theirs & later))
    return Backtest(without, end, f.days)


@lesson.demo
def insights(env: AnalyticsEnv) -> None:
    """Insights: sentences that change when the data do"""
    record = env.record
    days = record.forecast.days
    now = Forecast(env.log, env.log.last_day, days)
    now.follow(record.forecast)
    report = InsightsGenerator(now, record)
    rows = report.generate_segment_report()
    sentences = report._generate_insights(rows)
    # Turned, as there are more figures than a terminal has room for.
    print_grid("figure", turned(rows))
    for line in sentences:
        write(f"  - {line}")
    quiet = InsightsGenerator(now, quiet_backtest(record, UserSegment.DORMANT))
    dormant = rows["dormant"]
    lost = quiet.generate_segment_report()["dormant"]
    changed = sentence_by_figures("dormant", lost)
    write(f"  had none of the dormant come back: {changed}")
    # What is written has to turn with the data; the template's cannot.
    verdict = sentence_by_figures("dormant", dormant).rpartition(": ")[2]
    check("the dormant came back nearly as said", verdict, "nearly as said.")
    check(
        "other data, other sentence",
        observed={
            "template": sentence_by_template("dormant", lost),
            "now": changed.rpartition(": ")[2],
        },
        expected={
            "template": sentence_by_template("dormant", dormant),
            "now": "do not act on the model's figure here.",
        },
    )


# %% [markdown]
# ## 9. What a score is for
#
# A score is made to decide who is sent an offer. That needs what an offer changes, and
# no log of orders shows it: only an experiment does, with offers sent at random.

# %%
TARGETED = 0.3  # of the customers get an offer
AT_RANDOM = "at random"
HIGHEST_CHURN = "highest churn"
HIGHEST_UPLIFT = "highest uplift"


# region targets
def random_score(past: Offers, customers: Offers) -> Floats:
    """Return a number that knows nothing."""
    return np.random.default_rng(SEED).random(len(customers.inputs))


def churn_of(past: Offers, customers: Offers) -> Floats:
    """Return the chance of no order of those who are sent nothing."""
    # Trap: offers to those most likely to leave. Most of them are lost either way,
    # and of those who would have stayed some are woken: sleeping dogs.
    return 1 - chance_of_order(past, ~past.offered, customers.inputs)


def uplift_of(past: Offers, customers: Offers) -> Floats:
    """Return by how much an offer raises the chance of an order."""
    with_offer = chance_of_order(past, past.offered, customers.inputs)
    without = chance_of_order(past, ~past.offered, customers.inputs)
    return with_offer - without


# endregion targets


@lesson.demo
def offers(env: AnalyticsEnv) -> None:
    """Offers: to the highest churn they lose money, to the highest uplift they earn"""
    # Four kinds of customers, whose answer to an offer is known because they are made
    # up. The models are learnt from one experiment, and judged by another.
    past = simulated_offers(20_000, SEED)
    now = simulated_offers(20_000, SEED + 1)
    scores = {
        AT_RANDOM: random_score(past, now),
        HIGHEST_CHURN: churn_of(past, now),
        HIGHEST_UPLIFT: uplift_of(past, now),
    }
    grid = {}
    for name, score in scores.items():
        grid[name] = campaign(now, score, TARGETED)
    print_grid(f"offers to {TARGETED:.0%}", grid)
    _, high = grid[HIGHEST_CHURN]["95 %"]
    low, _ = grid[HIGHEST_UPLIFT]["95 %"]
    check("offers to the highest churn lose money", high, less_than(0))
    check("offers to the highest uplift earn it", low, more_than(0))
    uplift = grid[HIGHEST_UPLIFT]
    claim = "the experiment's Qini is within a tenth of the truth's"
    truth = uplift["of the truth"]
    check(claim, uplift["Qini"], near(truth, truth / 10))
    # Before all that: how many customers does an experiment need to see anything?
    without = float(past.bought[~past.offered].mean())
    with_offer = float(past.bought[past.offered].mean())
    each = customers_needed(without, with_offer)
    fact("order without, with an offer", f"{without:.1%}, {with_offer:.1%}")
    fact("customers in each half", f"{each:,}")
    found = share_that_find_it(without, with_offer, each, SEED)
    by_few = share_that_find_it(without, with_offer, each // 10, SEED)
    fact("experiments that see it; of a tenth", f"{found:.0%}; {by_few:.0%}")
    check(
        "so many see it four times in five, a tenth of them do not",
        observed={"so many": found, "a tenth": by_few},
        expected={"so many": near(0.8, 0.03), "a tenth": less_than(0.3)},
    )


# %% [markdown]
# ## 10. A million customers: the rows that differ
#
# All that the likelihood knows about a customer is x, t_x and T. Customers who have the
# same three add the same term, so it is enough to compute it once for all of them.


# %%
# region distinct
def likelihood_of_all(fit: BgNbd, t: CustomerTable) -> tuple[int, float]:
    """Return how many rows are visited, and the sum over customers with x > 0."""
    # Trap: a term for every customer in every step of the fit. Ten times the
    # customers take ten times as long, though most new ones are like an old one.
    again = t.x > 0
    x, t_last, age = (column[again] for column in t.weeks)
    each = log_likelihoods(fit, x, t_last, age)
    return len(each), float(each.sum())


def likelihood_of_distinct(fit: BgNbd, t: CustomerTable) -> tuple[int, float]:
    """Return the same sum, from each different (x, t_x, T) times its customers."""
    again = t.x > 0
    columns = (t.x, t.t_last, t.age)
    times = np.column_stack(columns)[again]
    rows, customers = np.unique(times, axis=0, return_counts=True)
    x, t_last, age = rows.T
    each = log_likelihoods(fit, x, t_last / 7, age / 7)
    return len(each), float(customers @ each)


# endregion distinct


@lesson.demo
def scale(env: AnalyticsEnv) -> None:
    """Scale: 100,000 customers of known truth, on the few rows that differ"""
    # Customers drawn from the model itself: here what it says has to come true. If it
    # does, what it misses on CDNOW is due to the world and not to the arithmetic.
    log = simulate(100_000, SEED, days=2 * SPAN)
    record = Backtest(log, START + SPAN - 1, SPAN)
    f = record.forecast
    customers = len(f.table.x)
    _, whole = likelihood_of_all(f.bgnbd, f.table)
    visited, same = likelihood_of_distinct(f.bgnbd, f.table)
    fact("customers, rows to be visited", f"{customers:,}, {visited:,}")
    check(
        "the likelihood visits a row for under a third of them",
        observed={"rows": visited, "log-likelihood": same},
        expected={
            "rows": less_than(customers / 3),
            "log-likelihood": near(whole, 1e-3),
        },
    )
    # The calibration error: how far said and seen are apart, on average over tenths.
    rule = churn_score(record.gone, f.churn[RULE])["ece"]
    model = churn_score(record.gone, f.churn[BGNBD])["ece"]
    fact("said and seen differ, rule; BG/NBD", f"{rule:.2f}; {model:.2f}")
    claim = "on known truth BG/NBD's chances come true within 0.01"
    check(claim, model, less_than(0.01))
    check("the rule's are off by over 0.1", rule, more_than(0.1))


# %% [markdown]
# Your own orders, pictures, a page, and all five lessons as one system: `--help`.


# %%
def run_together(args: argparse.Namespace) -> int:
    """Run all five lessons as one system, or be one of its workers."""
    # Imported only here: a lesson made one file comes without course/integrated.
    try:
        from course.integrated.run import integrated  # noqa: PLC0415
        from course.integrated.worker import work  # noqa: PLC0415
    except ModuleNotFoundError as missing:
        if not (missing.name or "").startswith("course"):
            raise
        said = "it runs all five lessons, and needs the course's repository"
        raise BadInput(f"--integrated: {said}") from None
    code: int = work() if args.as_worker else integrated(args)
    return code


def run(args: argparse.Namespace) -> int:
    """Do what the options ask for; return the exit code."""
    check_options(args)
    if args.list:
        return lesson.teach(args)
    if args.as_worker or args.integrated or args.sweep:
        return run_together(args)
    if args.summary or args.summary_sql:
        return study_summary(args, Fits(fit_bgnbd, fit_gamma_gamma))
    # Exit code 3, as in all lessons: the service that was asked for is not used.
    if args.require_live:
        said = "this lesson needs no service; the option goes with --integrated"
        print(f"--require-live: {said}", file=sys.stderr)
        return 3
    if studies(args):
        make = Makers(
            sample=SAMPLE,
            read_log=read_log,
            simulate=simulate,
            forecast=Forecast,
            backtest=Backtest,
            insights=InsightsGenerator,
            segment_rule=segment_rule,
        )
        return analyse(args, make)
    return lesson.teach(args)


def main(argv: list[str] | None = None) -> int:
    """Teach, or study a log if an option asks for that; return the exit code."""
    parser = lesson.parser()
    add_options(parser)
    return lesson.main(argv, parser, run)


lesson.finish(__name__, main)
