"""For each claim of lesson 05, a change that makes it fail."""

from lessons import Mutation

MUTATIONS = (
    Mutation(
        "leakage",
        "a feature that saw the future looks perfect",
        "whole = customer_table(log, end), customer_table(log, int(log.day.max()))",
        "whole = customer_table(log, end), customer_table(log, end)",
    ),
    Mutation(
        "leakage",
        "rows after as_of change no feature",
        "    log = log.where(log.day <= as_of)\n    if",
        "    if",
    ),
    Mutation(
        "rules",
        "the logistic in days ranks: AUC above 0.75",
        "np.exp(-(days_since_last - CHURN_MIDPOINT) / CHURN_SLOPE)",
        "np.exp((days_since_last - CHURN_MIDPOINT) / CHURN_SLOPE)",
    ),
    Mutation(
        "rules",
        "its Brier score is worse than a constant's",
        "CHURN_MIDPOINT, CHURN_SLOPE = 30, 20",
        "CHURN_MIDPOINT, CHURN_SLOPE = 30, 150",
    ),
    Mutation(
        "rules",
        "its log-loss is over twice a constant's",
        ".clip(1e-6)",
        ".clip(0.3)",
    ),
    Mutation(
        "rules",
        "those written off as dormant bring over a third of the spend",
        "DORMANT_DAYS = 90",
        "DORMANT_DAYS = 180",
    ),
    Mutation(
        "models",
        "all eight equal the published figures, digit by digit",
        "value += data.weight @ (np.maximum(odds, 0) + np.log1p(small))",
        "value += data.weight @ np.maximum(odds, 0)",
    ),
    Mutation(
        "models",
        "BG/NBD misses by less than a quarter of the rate x / T",
        "c * lead - np.exp(e * log) * total",
        "c * lead",
    ),
    Mutation(
        "dropout",
        "a real dropout is found within three standard errors",
        "leave = rng.beta(TRUTH.a, TRUTH.b, n) * dropout",
        "leave = rng.beta(TRUTH.b, TRUTH.a, n) * dropout",
    ),
    Mutation(
        "dropout",
        "without dropout the naive fit runs off, and says nothing",
        "for guard in (False, True):",
        "for guard in (True, True):",
    ),
    Mutation(
        "dropout",
        "the guarded fit says: not identified",
        "bool(ratio > 3.84 and np.abs(theta[2:]).max() < 12)",
        "True",
    ),
    Mutation(
        "alive",
        "who bought once counts as alive, so 1 - P(alive) ranks backwards",
        "return np.where(x > 0, 1 / (1 + np.exp(np.minimum(odds, 700))), 1.0)",
        "return 1 / (1 + np.exp(np.minimum(odds, 700)))",
    ),
    Mutation(
        "alive",
        "who bought once counts as alive, so 1 - P(alive) ranks backwards",
        "NOT_ALIVE: dead",
        "NOT_ALIVE: self.p_zero",
    ),
    Mutation(
        "alive",
        "P(no order in the horizon) beats the constant",
        "BGNBD: self.p_zero}",
        "BGNBD: dead}",
    ),
    Mutation(
        "backtest",
        "the chosen churn model beats the constant, and the rule by far",
        "self.churn_model = min(",
        "self.churn_model = max(",
    ),
    Mutation(
        "backtest",
        "naive values are over 1.4 times as far off",
        "model = self.orders * self.money.mean(t.x, t.mean_spend)",
        "model = naive * t.x / (t.x + 1)",
    ),
    Mutation(
        "backtest",
        "a scrambled holdout gets the same predictions: none was read",
        "self.gone = self.orders == 0",
        "self.gone = self.orders == 0; self.amount = self.amount + self.spent",
    ),
    Mutation(
        "predict",
        "what the model says holds in over 7 tenths",
        "self.weights = fit_logistic(inputs, gone)",
        "self.weights = np.array([0.0, 0.0, 1.0, 0.0])",
    ),
    Mutation(
        "predict",
        "what the rule says, in under 3",
        "{RULE: rule, NOT",
        "{RULE: self.p_zero, NOT",
    ),
    Mutation(
        "predict",
        "no modelled lifetime value exceeds what anyone ever spent",
        "return self.live * self.by_pair(orders) * mean",
        "return value_rule(self.table, 365) * 10",
    ),
    Mutation(
        "recommend",
        "recall@10 is over 1.3 times popularity's, and not by chance",
        "score = again + near / (near.max() + 1e-9)",
        "score = 0 * (again + near)",
    ),
    Mutation(
        "recommend",
        "recall@10 is over 1.3 times popularity's, and not by chance",
        "score = again + near / (near.max() + 1e-9)",
        "score = 1.0 * self.reach",
    ),
    Mutation(
        "insights",
        "the data say: win the dormant back",
        '"win them back." if share > 0.2',
        '"win them back." if share > 0.9',
    ),
    Mutation(
        "insights",
        "other data, other sentence",
        "abs(seen - said) > 0.1",
        "abs(seen - said) > 9",
    ),
    Mutation(
        "scale",
        "the likelihood visits a row for under a third of them",
        "first = starts(key)\n        self.weight",
        "first = np.arange(len(key))\n        self.weight",
    ),
    Mutation(
        "scale",
        "on known truth BG/NBD's chances come true within 0.01",
        "BGNBD: self.p_zero}",
        "BGNBD: dead}",
    ),
    Mutation(
        "scale",
        "the rule's are off by over 0.1",
        "CHURN_MIDPOINT, CHURN_SLOPE = 30, 20",
        "CHURN_MIDPOINT, CHURN_SLOPE = 60, 150",
    ),
)
