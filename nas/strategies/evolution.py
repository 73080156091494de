"""Evolution with a learned predictor (`evolution`).

Each round, a population of thousands grows out of the best evaluated rows by mutation and
crossover, vectorised and filtered by the budget; a predictor trained on all evaluations so far
says what each is worth and how surely; those from which most improvement is expected are proposed.
Once-for-All (Cai et al., 2020) evolves against a predictor trained beforehand; this one is trained
while the search goes, and uncertain, as in BANANAS (White et al., 2021).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from scipy.stats import norm

from evaluators.predictor import LEAST, Predictor, Quality
from nas.frontier import Objective
from nas.strategies.candidates import Candidates, Row
from nas.strategies.population import Population
from nas.study import Evaluation
from search_spaces.space import Rows

STARTUP = 16
"""Random rows before the predictor is asked."""

BATCH_SHARE = 0.08
"""Rows proposed between two fits of the predictor, as a share of all evaluations."""

LARGEST_BATCH = 64

TARGETED = 0.25
"""Share of a batch that aims at smaller budgets, where costs are an objective too."""


class EvolutionStrategy:
    """Proposes what a predictor expects most of, at the whole budget and at smaller ones.

    Args:
        objectives: those that the tables price are known beforehand; the others are predicted.
        bins: spread the proposals evenly over so many ranges of MACs below the budget; 0: half
            of them at the whole budget.
    """

    def __init__(
        self,
        candidates: Candidates,
        objectives: Sequence[Objective],
        *,
        seed: int,
        bins: int = 0,
    ) -> None:
        self._candidates = candidates
        self._space = candidates.space
        self._tables = candidates.budgeted.tables
        self._rng = np.random.default_rng((seed, 1))
        self._bins = bins
        known = self._tables.metrics
        self._predicted = [o for o in objectives if o.metric not in known]
        self._costs = [o.metric for o in objectives if o.metric in known]
        if bins and not self._costs:
            self._costs = ["macs"]
        self._predictors = [Predictor(self._tables, seed=seed) for _ in self._predicted]
        self._rows: list[Row] = []
        self._values: list[list[float] | None] = []
        self._batch: deque[Row] = deque()
        self._population = Population(candidates, self._rng)
        self._started = 0

    @property
    def quality(self) -> Quality | None:
        """How good the predictor of the first predicted objective is by now."""
        return self._predictors[0].quality if self._predictors else None

    def propose(self) -> Row | None:
        """The next of the batch; a new batch where it is spent, random rows to begin with."""
        good = sum(v is not None for v in self._values)
        if self._started < STARTUP or good < LEAST or not self._predicted:
            self._started += 1
            return self._claim(self._candidates.draw())
        while self._batch:
            row = self._batch.popleft()
            if self._candidates.is_new(row):
                return self._claim(row)
        self._batch.extend(self._next_batch())
        return self._claim(self._batch.popleft() if self._batch else self._candidates.draw())

    def _claim(self, row: Row | None) -> Row | None:
        if row is not None:
            self._candidates.claim(row)
        return row

    def tell(self, row: Row, evaluation: Evaluation) -> None:
        """Keep the evaluation for the next fit."""
        self._candidates.claim(row)
        values = None
        if evaluation.error is None:
            values = [
                evaluation.metrics[o.metric] * (1 if o.maximise else -1) for o in self._predicted
            ]
        self._rows.append(row)
        self._values.append(values)

    def state_of(self, row: Row) -> dict[str, object]:
        """Nothing to keep: the predictor is fitted anew."""
        return {}

    def _next_batch(self) -> list[Row]:
        rows = np.stack(self._rows)
        good = np.array([v is not None for v in self._values])
        told = np.array([v for v in self._values if v is not None])
        # A failed evaluation is as bad as the worst: the search turns away from what fails.
        values = np.repeat(told.min(axis=0)[None], len(rows), axis=0)
        values[good] = told
        for predictor, column in zip(self._predictors, values.T, strict=True):
            predictor.fit(rows, column)
        size = int(np.clip(BATCH_SHARE * len(rows), 1, LARGEST_BATCH))
        aims = [self._aim(values) for _ in range(size)]
        pool = self._population.grow(rows[good], told.sum(axis=1), self._worth)
        costs = self._tables.score(np.concatenate([rows, pool]), ("macs", *self._costs))
        return self._pick(aims, values, pool, costs)

    def _aim(self, values: npt.NDArray[np.float64]) -> tuple[npt.NDArray[np.float64], float]:
        """Weights of the predicted objectives and a share of the range of costs to stay below."""
        weights = self._rng.dirichlet(np.ones(values.shape[1]))
        if self._bins:
            share = (1 + self._rng.integers(self._bins)) / self._bins
        elif self._costs and self._rng.random() < TARGETED:
            share = self._rng.random()
        else:
            share = 1.0
        return weights, float(share)

    def _worth(self, rows: Rows) -> npt.NDArray[np.float64]:
        """Optimistic values of rows, for the population's selection."""
        total = np.zeros(len(rows))
        for predictor in self._predictors:
            mean, deviation = predictor.predict(rows)
            total += (mean + deviation) / (mean.std() + 1e-12)
        return total

    def _pick(
        self,
        aims: list[tuple[npt.NDArray[np.float64], float]],
        values: npt.NDArray[np.float64],
        pool: Rows,
        costs: dict[str, npt.NDArray[np.float64]],
    ) -> list[Row]:
        """For each aim the row of the pool with the largest expected improvement."""
        if len(pool) == 0:
            return []
        told = len(values)
        predictions = [predictor.predict(pool) for predictor in self._predictors]
        scale = values.std(axis=0) + 1e-12
        taken = np.zeros(len(pool), dtype=bool)
        chosen = []
        for weights, share in aims:
            weighted = weights / scale
            mean = sum(w * m for w, (m, _) in zip(weighted, predictions, strict=True))
            deviation = np.sqrt(
                sum((w * d) ** 2 for w, (_, d) in zip(weighted, predictions, strict=True))
            )
            within_told, within_pool = np.ones(told, bool), ~taken
            if share < 1 and self._costs:
                metric = self._costs[int(self._rng.integers(len(self._costs)))]
                cost = costs[metric]
                ceiling = cost.min() + share * (cost.max() - cost.min())
                within_told &= cost[:told] <= ceiling
                within_pool &= cost[told:] <= ceiling
            if not within_pool.any():
                continue
            past = values[within_told] @ weighted
            best = past.max() if len(past) else -np.inf
            gain = _log_improvement(mean, deviation, best)
            index = int(np.where(within_pool, gain, -np.inf).argmax())
            taken[index] = True
            chosen.append(np.asarray(pool[index]))
        return chosen


def _log_improvement(
    mean: npt.NDArray[np.float64], deviation: npt.NDArray[np.float64], best: float
) -> npt.NDArray[np.float64]:
    """A monotone function of the expected improvement over `best`, far below it too."""
    if best == -np.inf:
        return mean + deviation
    z = (mean - best) / deviation
    # Far below the best, z * cdf + pdf is a difference of nearly equal numbers: its asymptote.
    near = np.maximum(z, -6.0)
    plain = np.log(norm.pdf(near) + near * norm.cdf(near))
    return np.log(deviation) + np.where(z > -6, plain, -0.5 * z**2 - 2 * np.log(np.abs(z) + 1))
