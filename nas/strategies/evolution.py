"""Evolution with a learned predictor (`evolution`).

Each round, a population of thousands grows out of the best evaluated rows by mutation and
crossover, vectorised and filtered by the budget; a predictor trained on all evaluations so far
says what each is worth and how surely; those from which most improvement is expected are proposed.
Once-for-All (Cai et al., 2020) evolves against a predictor trained beforehand; this one is trained
while the search goes, and uncertain, as in BANANAS (White et al., 2021).
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
from evaluators.prediction.predictor import LEAST, Predictor, Quality
from evaluators.prediction.proxy_features import ProxyFeatures
from nas.run.evaluation import Evaluation
from nas.run.objectives import Objective
from nas.strategies.candidates import Candidates
from nas.strategies.improvement import Stairs, log_improvement
from nas.strategies.population import Population
from search_spaces.space import Row, Rows

STARTUP = 12
"""Random rows before the predictor is asked."""

BATCH_SHARE = 0.08
"""Rows proposed between two fits of the predictor, as a share of all evaluations."""

LARGEST_BATCH = 64

SHORTLIST = 32
"""Rows of a pool whose proxies are computed, where there are proxies."""

TARGETED = 0.35
"""Share of a batch that aims at the whole frontier, where a cost is an objective too."""


NEAR = 0.2
"""Share of a batch that aims at what uses nearly the whole budget."""

NEARNESS = 0.9
"""Share of the budget that counts as nearly the whole."""


@dataclass(frozen=True)
class Aim:
    """What a proposal is to improve on: the best there is, weighted, or the frontier.

    `weights` is `(objectives,)`, of the predicted ones. With `metric`, the hypervolume against that
    cost counts; with bins, the best of what costs less than `share` of its range. With `near`, only
    what uses nearly the whole budget is proposed.
    """

    weights: npt.NDArray[np.float64]
    metric: str | None = None
    share: float = 1.0
    near: bool = False


class EvolutionStrategy:
    """Proposes what a predictor expects most of, at the whole budget and at smaller ones.

    Args:
        objectives: those that the tables price are known beforehand; the others are predicted.
        measured: bounds on what only an evaluation tells; a proposal's improvement counts by the
            probability that it is within them (Gardner et al., 2014, equation 4).
        bins: spread the proposals evenly over so many ranges of MACs below the budget; 0: most of
            them at the whole budget.
        proxies: more features; those of what was evaluated, and of the best of each pool, are
            computed, the others' are modelled.
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
        self.predictors = {
            name: Predictor(self._tables, seed=seed, extra=proxies) for name in names
        }
        self._rows: list[Row] = []
        self._metrics: list[Mapping[str, float] | None] = []
        self._feasible: list[bool] = []
        self._batch: deque[Row] = deque()
        self._population = Population(candidates, self._rng)
        self._waiting = 0

    @property
    def quality(self) -> Quality | None:
        """How good the predictor of the first predicted objective is by now."""
        return next((p.quality for p in self.predictors.values()), None)

    @property
    def status(self) -> str:
        """The predictor's quality in words."""
        quality = self.quality
        if quality is None:
            return ""
        return f"{quality.model}: τ {quality.tau:.2f}, error {quality.error:.2g}"

    def propose(self) -> Row | None:
        """The next of the batch; a new batch where it is spent, random rows to begin with."""
        row = self._next()
        if row is not None:
            self._candidates.claim(row)
            self._waiting += 1
        return row

    def _next(self) -> Row | None:
        told = len(self._rows)
        good = told - self._metrics.count(None)
        if told + self._waiting < STARTUP or good < LEAST or not self._signs:
            return self._candidates.draw()
        for _ in range(2):
            while self._batch:
                row = self._batch.popleft()
                if self._candidates.is_new(row):
                    return row
            self._batch.extend(self._next_batch())
        return self._candidates.draw()

    def tell(self, row: Row, evaluation: Evaluation) -> None:
        """Keep the evaluation for the next fit."""
        self._waiting = max(0, self._waiting - 1)
        self._candidates.claim(row)
        self._rows.append(row)
        self._metrics.append(evaluation.metrics if evaluation.error is None else None)
        self._feasible.append(evaluation.feasible)

    def state_of(self, row: Row) -> dict[str, object]:
        """The predictor's quality when the row was proposed; the rest is fitted anew."""
        return {} if self.quality is None else {"predictor": asdict(self.quality)}

    def _next_batch(self) -> list[Row]:
        rows = np.stack(self._rows)
        good = np.array([m is not None for m in self._metrics])
        told = [m for m in self._metrics if m is not None]
        if self._proxies is not None:
            self._proxies.exact(rows)
        for name, predictor in self.predictors.items():
            sign = self._signs.get(name, 1.0)
            values = sign * np.array([m[name] for m in told])
            if name in self._signs:
                # A failed evaluation is as bad as the worst: the search turns from what fails.
                filled = np.full(len(rows), values.min())
                filled[good] = values
                predictor.fit(rows, filled)
            else:
                predictor.fit(rows[good], values)
        worth = np.array([[sign * m[n] for n, sign in self._signs.items()] for m in told])
        feasible = np.array(self._feasible)[good]
        size = int(np.clip(BATCH_SHARE * len(rows), 1, LARGEST_BATCH))
        aims = [self._aim(worth.shape[1]) for _ in range(size)]
        pool = self._population.grow(rows[good], worth.sum(axis=1), self._worth)
        if self._proxies is not None and len(pool):
            self._proxies.exact(pool[np.argsort(-self._worth(pool))[:SHORTLIST]])
        metrics = dict.fromkeys(("macs", *self._costs, *self._ceilings))
        costs = self._tables.score(np.concatenate([rows[good], pool]), tuple(metrics))
        return self._pick(aims, worth, feasible, pool, costs)

    def _aim(self, count: int) -> Aim:
        """What one proposal is to improve on."""
        weights = self._rng.dirichlet(np.ones(count))
        if self._bins:
            return Aim(weights, "macs", (1 + int(self._rng.integers(self._bins))) / self._bins)
        lot = self._rng.random()
        if self._costs and lot < TARGETED:
            return Aim(weights, str(self._rng.choice(self._costs)))
        return Aim(weights, near=bool(self._ceilings) and lot > 1 - NEAR)

    def _worth(self, rows: Rows) -> npt.NDArray[np.float64]:
        """Expected values of rows, for the population's selection."""
        total = np.zeros(len(rows))
        for name in self._signs:
            mean = self.predictors[name].mean(rows)
            total += mean / (mean.std() + 1e-12)
        return total

    def _pick(
        self,
        aims: list[Aim],
        worth: npt.NDArray[np.float64],
        feasible: npt.NDArray[np.bool_],
        pool: Rows,
        costs: dict[str, npt.NDArray[Any]],
    ) -> list[Row]:
        """For each aim the row of the pool with the largest expected improvement."""
        if len(pool) == 0:
            return []
        told = len(worth)
        predictions = [self.predictors[name].predict(pool) for name in self._signs]
        admitted = self._log_feasible(pool)
        scale = worth.std(axis=0) + 1e-12
        taken = np.zeros(len(pool), dtype=bool)
        chosen = []
        used = self._candidates.budgeted.budget.used(costs)[told:]
        known: dict[tuple[object, ...], npt.NDArray[np.float64]] = {}
        for aim in aims:
            within_pool = ~taken
            if aim.metric is not None and self._bins:
                within_pool &= costs[aim.metric][told:] <= self._ceiling(aim, costs)
            elif aim.near and (used[~taken] >= NEARNESS).any():
                within_pool &= used >= NEARNESS
            if not within_pool.any():
                continue
            weighted = aim.weights / scale
            key = (aim.metric, aim.share, weighted.tobytes())
            if key not in known:
                mean = sum(w * m for w, (m, _) in zip(weighted, predictions, strict=True))
                deviation = np.sqrt(
                    sum((w * d) ** 2 for w, (_, d) in zip(weighted, predictions, strict=True))
                )
                known[key] = admitted + self._log_gain(
                    aim, costs, feasible, worth @ weighted, mean, deviation
                )
            index = int(np.where(within_pool, known[key], -np.inf).argmax())
            taken[index] = True
            chosen.append(np.asarray(pool[index]))
        return chosen

    def _ceiling(self, aim: Aim, costs: dict[str, npt.NDArray[Any]]) -> float:
        """What the aim's share of the range of its metric comes to."""
        cost = costs[str(aim.metric)]
        return float(cost.min() + aim.share * (cost.max() - cost.min()))

    def _log_gain(
        self,
        aim: Aim,
        costs: dict[str, npt.NDArray[Any]],
        feasible: npt.NDArray[np.bool_],
        worth: npt.NDArray[np.float64],
        mean: npt.NDArray[np.float64],
        deviation: npt.NDArray[np.float64],
    ) -> npt.NDArray[np.float64]:
        """Log of what each row of the pool is expected to add to what is feasible so far."""
        told = len(worth)
        if aim.metric is not None and self._bins:
            feasible = feasible & (costs[aim.metric][:told] <= self._ceiling(aim, costs))
        if not feasible.any():
            # Where nothing is known, the likeliest to be within the measured bounds.
            return np.zeros(len(mean)) if self._measured.metrics else mean + deviation
        if aim.metric is None or self._bins:
            return log_improvement(mean, deviation, worth[feasible].max())
        cost = costs[aim.metric].astype(np.float64)
        stairs = Stairs(cost[:told][feasible], worth[feasible], cost.max())
        return stairs.log_gain(cost[told:], mean, deviation)

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
