"""Evolution with a learned predictor (`evolution`).

In each round a population of thousands of rows is evolved from the best evaluated rows by mutation
and crossover, vectorised and filtered by the budget; a predictor fitted to all evaluations so far
estimates the value of each row with its uncertainty; the rows with the largest expected improvement
are proposed. Once-for-All (Cai et al., 2020) evolves against a predictor trained beforehand; this
one is trained during the search and has uncertainties, as in BANANAS (White et al., 2021). Knows
evaluations and predictors. Does not know how rows are evolved (`population.py`).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.stats import norm

from evaluators.costs.budget import Budget
from evaluators.prediction.predictor import MIN_EVALUATIONS, Predictor, Quality
from evaluators.prediction.prior import Prior
from evaluators.prediction.proxy_features import ProxyFeatures
from nas.run.evaluation import Evaluation
from nas.run.objectives import Objective
from nas.strategies.candidates import Candidates
from nas.strategies.improvement import ParetoStaircase, log_improvement
from nas.strategies.population import Population
from nas.strategies.remembered import Remembered
from search_spaces.space import Row, Rows

STARTUP = 12
"""Number of random rows before the predictor is used."""

BATCH_SHARE = 0.08
"""Number of rows proposed between two fits of the predictor, as a share of all evaluations."""

LARGEST_BATCH = 64

WAITING_SHARES = 1 / 8, 1 / 2
"""Smallest and largest batch where many evaluations are waited for, as shares of their number.
Their workers would stand idle during more fits, and little is known of what they compute."""

PRIOR_POOL = 1024
"""Random rows from which the best by a prior is proposed."""

SHORTLIST = 32
"""Number of rows of a pool whose proxies are computed, if there are proxies."""

FRONTIER_SHARE = 0.35
"""Share of a batch that improves the whole frontier, if a cost is an objective too."""

NEAR_BUDGET_SHARE = 0.2
"""Share of a batch that is chosen among rows near the budget."""

NEAR_BUDGET = 0.9
"""Share of the budget from which a row is near the budget."""


@dataclass(frozen=True)
class ImprovementTarget:
    """What one proposal should improve: the best weighted value, or the frontier.

    Attributes:
        weights: of the predicted objectives, `(objectives,)`.
        metric: cost against which the hypervolume is improved; None: the best value is improved.
            With bins, the best value below `share` of this cost's range is improved.
        share: see `metric`.
        near: whether only rows near the budget are proposed.
    """

    weights: npt.NDArray[np.float64]
    metric: str | None = None
    share: float = 1.0
    near: bool = False


class EvolutionStrategy:
    """Proposes the rows with the largest expected improvement, near the budget and below it.

    Args:
        candidates: the rows that may be proposed.
        objectives: those that the tables price are known; all others are predicted.
        seed: of evolution and predictors.
        measured: bounds on metrics that are known only after an evaluation; a proposal's expected
            improvement is multiplied by the probability that it is within them (Gardner et al.,
            2014, equation 4).
        bins: number of ranges of MACs below the budget over which the proposals are distributed
            evenly; 0: most proposals are near the budget.
        proxies: additional features; they are computed for evaluated rows and for the best of each
            pool, and modelled for all others.
        priors: by predicted metric, what earlier searches say; more is better. Half of the first
            rows are then the best by the prior of the first objective.
    """

    def __init__(
        self,
        candidates: Candidates,
        objectives: Sequence[Objective],
        *,
        seed: int,
        measured: Budget | None = None,
        bins: int = 0,
        proxies: ProxyFeatures | None = None,
        priors: Mapping[str, Prior] | None = None,
    ) -> None:
        self._candidates = candidates
        self._tables = candidates.budgeted.tables
        self._rng = np.random.default_rng((seed, 1))
        self._bins = bins
        self._measured = measured or Budget({}, {})
        self._ceilings = candidates.budgeted.budget.high
        known = self._tables.metrics
        predicted = [o for o in objectives if o.metric not in known]
        self._signs = {o.metric: 1.0 if o.maximise else -1.0 for o in predicted}
        self._costs = [o.metric for o in objectives if o.metric in known]
        if bins and "macs" not in self._costs:
            self._costs.append("macs")
        names = dict.fromkeys((*self._signs, *self._measured.metrics))
        self._proxies = proxies
        priors = priors or {}
        self.predictors = {
            name: Predictor(self._tables, seed=seed, extra=proxies, prior=priors.get(name))
            for name in names
        }
        self._prior = next((priors[name] for name in self._signs if name in priors), None)
        self._known = Remembered(self._tables, objectives)
        self._batch: deque[Row] = deque()
        self._population = Population(candidates, self._rng)
        self._told = self._waiting = 0

    @property
    def quality(self) -> Quality | None:
        """Quality of the predictor of the first predicted objective; None before its first fit."""
        return next((p.quality for p in self.predictors.values()), None)

    @property
    def status(self) -> str:
        """The predictor's quality in words; empty before its first fit."""
        quality = self.quality
        if quality is None:
            return ""
        return f"{quality.model}: τ {quality.tau:.2f}, error {quality.error:.2g}"

    def propose(self) -> Row | None:
        """Return the next row of the batch; random rows before the predictor is used."""
        row = self._next()
        if row is not None:
            self._candidates.claim(row)
            self._waiting += 1
        return row

    def _next(self) -> Row | None:
        evaluated = len(self._known)
        good = evaluated - self._known.failed
        if evaluated + self._waiting < STARTUP or good < MIN_EVALUATIONS or not self._signs:
            by_prior = self._prior is not None and (evaluated + self._waiting) % 2 == 0
            return self._best_by_prior() if by_prior else self._candidates.draw()
        for _ in range(2):
            while self._batch:
                row = self._batch.popleft()
                if self._candidates.is_new(row):
                    return row
            self._batch.extend(self._next_batch())
        return self._candidates.draw()

    def _best_by_prior(self) -> Row | None:
        """The best new row of a random pool by what earlier searches say."""
        assert self._prior is not None
        pool = self._candidates.budgeted.sample(PRIOR_POOL, self._rng)
        for row in pool[np.argsort(-self._prior(pool), kind="stable")]:
            if self._candidates.is_new(row):
                return np.asarray(row)
        return self._candidates.draw()

    def tell(self, row: Row, evaluation: Evaluation) -> None:
        """Record the evaluation for the next fit."""
        self._waiting = max(0, self._waiting - 1)
        self._candidates.claim(row)
        self._told += 1
        self._known.add(row, evaluation)

    def state_of(self, row: Row) -> dict[str, object]:
        """The predictor's quality when the row was proposed; predictors are fitted again."""
        return {} if self.quality is None else {"predictor": asdict(self.quality)}

    def _next_batch(self) -> list[Row]:
        """Fit the predictors, evolve a pool and select the next rows to propose."""
        rows, good, metrics = self._known.rows, self._known.good, self._known.metrics
        if self._proxies is not None:
            self._proxies.exact(rows)
        for name, predictor in self.predictors.items():
            sign = self._signs.get(name, 1.0)
            values = sign * np.array([m[name] for m in metrics])
            if name in self._signs:
                # A failed evaluation has the lowest value, so that similar rows are avoided.
                filled = np.full(len(rows), values.min())
                filled[good] = values
                predictor.fit(rows, filled)
            else:
                predictor.fit(rows[good], values)
        evaluated = np.array([[sign * m[n] for n, sign in self._signs.items()] for m in metrics])
        feasible = self._known.feasible
        least, most = (share * self._waiting for share in WAITING_SHARES)
        size = int(np.clip(BATCH_SHARE * self._told, max(1, least), max(LARGEST_BATCH, most)))
        targets = [self._target(evaluated.shape[1]) for _ in range(size)]
        pool = self._population.grow(rows[good], evaluated.sum(axis=1), self._score)
        if self._proxies is not None and len(pool):
            self._proxies.exact(pool[np.argsort(-self._score(pool))[:SHORTLIST]])
        priced = dict.fromkeys(("macs", *self._costs, *self._ceilings))
        costs = self._tables.score(np.concatenate([rows[good], pool]), tuple(priced))
        return self._select(targets, evaluated, feasible, pool, costs)

    def _target(self, count: int) -> ImprovementTarget:
        """Draw the target of one proposal; `count` is the number of predicted objectives."""
        weights = self._rng.dirichlet(np.ones(count))
        if self._bins:
            share = (1 + int(self._rng.integers(self._bins))) / self._bins
            return ImprovementTarget(weights, "macs", share)
        kind = self._rng.random()
        if self._costs and kind < FRONTIER_SHARE:
            return ImprovementTarget(weights, str(self._rng.choice(self._costs)))
        near = bool(self._ceilings) and kind > 1 - NEAR_BUDGET_SHARE
        return ImprovementTarget(weights, near=near)

    def _score(self, rows: Rows) -> npt.NDArray[np.float64]:
        """Sum of the predicted objectives of rows, each divided by its deviation, `(n,)`."""
        total = np.zeros(len(rows))
        for name in self._signs:
            mean = self.predictors[name].mean(rows)
            total += mean / (mean.std() + 1e-12)
        return total

    def _select(
        self,
        targets: list[ImprovementTarget],
        evaluated: npt.NDArray[np.float64],
        feasible: npt.NDArray[np.bool_],
        pool: Rows,
        costs: dict[str, npt.NDArray[Any]],
    ) -> list[Row]:
        """For each target the row of the pool with the largest expected improvement.

        Args:
            targets: one for each proposal.
            evaluated: predicted objectives' values of the evaluated rows, `(n, objectives)`.
            feasible: which of these rows are feasible, `(n,)`.
            pool: the candidates, `(m, choices)`.
            costs: by metric those of the evaluated rows, then of the pool, `(n + m,)`.
        """
        if len(pool) == 0:
            return []
        count = len(evaluated)
        predictions = [self.predictors[name].predict(pool) for name in self._signs]
        log_feasible = self._log_feasible(pool)
        scale = evaluated.std(axis=0) + 1e-12
        taken = np.zeros(len(pool), dtype=bool)
        chosen = []
        used = self._candidates.budgeted.budget.used(costs)[count:]
        gains: dict[tuple[object, ...], npt.NDArray[np.float64]] = {}
        for target in targets:
            eligible = ~taken
            if target.metric is not None and self._bins:
                eligible &= costs[target.metric][count:] <= self._ceiling(target, costs)
            elif target.near and (used[~taken] >= NEAR_BUDGET).any():
                eligible &= used >= NEAR_BUDGET
            if not eligible.any():
                continue
            weighted = target.weights / scale
            key = (target.metric, target.share, weighted.tobytes())
            if key not in gains:
                mean = sum(w * m for w, (m, _) in zip(weighted, predictions, strict=True))
                deviation = np.sqrt(
                    sum((w * d) ** 2 for w, (_, d) in zip(weighted, predictions, strict=True))
                )
                gains[key] = log_feasible + self._log_gain(
                    target, costs, feasible, evaluated @ weighted, mean, deviation
                )
            index = int(np.where(eligible, gains[key], -np.inf).argmax())
            taken[index] = True
            chosen.append(np.asarray(pool[index]))
        return chosen

    def _ceiling(self, target: ImprovementTarget, costs: dict[str, npt.NDArray[Any]]) -> float:
        """The value of the target's metric at the target's share of its range."""
        cost = costs[str(target.metric)]
        return float(cost.min() + target.share * (cost.max() - cost.min()))

    def _log_gain(
        self,
        target: ImprovementTarget,
        costs: dict[str, npt.NDArray[Any]],
        feasible: npt.NDArray[np.bool_],
        values: npt.NDArray[np.float64],
        mean: npt.NDArray[np.float64],
        deviation: npt.NDArray[np.float64],
    ) -> npt.NDArray[np.float64]:
        """Log of the expected improvement of each row of the pool over the feasible rows, `(m,)`.

        Args:
            target: what is improved.
            costs: see `_select`.
            feasible: see `_select`.
            values: weighted values of the evaluated rows, `(n,)`.
            mean: predicted means of the pool, `(m,)`.
            deviation: predicted standard deviations of the pool, `(m,)`.
        """
        count = len(values)
        if target.metric is not None and self._bins:
            feasible = feasible & (costs[target.metric][:count] <= self._ceiling(target, costs))
        if not feasible.any():
            # Without a feasible row only the probability of meeting the measured bounds counts.
            return np.zeros(len(mean)) if self._measured.metrics else mean + deviation
        if target.metric is None or self._bins:
            return log_improvement(mean, deviation, values[feasible].max())
        cost = costs[target.metric].astype(np.float64)
        staircase = ParetoStaircase(cost[:count][feasible], values[feasible], cost.max())
        return staircase.log_gain(cost[count:], mean, deviation)

    def _log_feasible(self, pool: Rows) -> npt.NDArray[np.float64]:
        """Log of the probability that each row `(n, choices)` is within the measured bounds."""
        total = np.zeros(len(pool))
        for bounds, side in ((self._measured.high, 1.0), (self._measured.low, -1.0)):
            for name, bound in bounds.items():
                mean, deviation = self.predictors[name].predict(pool)
                if name in self._signs:
                    mean = self._signs[name] * mean
                total += norm.logcdf(side * (bound - mean) / deviation)
        return total
