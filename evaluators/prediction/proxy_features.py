"""Zero-cost proxies as features of a predictor that scores thousands of rows a round.

A proxy takes a tenth of a second, a row of features a microsecond. So the proxies of some hundred
random rows are computed once, a model of each proxy is fitted on them, and other rows get what the
model says; rows that matter (the evaluated ones, a shortlist) can get their own. On NAS-Bench-201
(`benchmarks/zero_cost.py`) both raise Kendall's tau of a predictor that learnt 16 to 100
evaluations, the rows' own by more; a model of the proxies that is merely linear hardly does, since
it says what the other features say already. On noise in place of images they do not help to tell
good networks from better ones.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from evaluators.accuracy.zero_cost import ZeroCost
from evaluators.costs.tables import CostTables
from evaluators.prediction.features import Features
from evaluators.prediction.surrogates import GaussianProcess
from search_spaces.space import Rows

Columns = npt.NDArray[np.float64]

LEARNT = 400
"""Random rows for the models: with a quarter as many the gain is small."""

FARTHEST = 4.0
"""Columns end so many deviations from the median: dead networks are far beyond all others."""


class ProxyFeatures:
    """More columns for `evaluators.features.Features`, one for each proxy of an evaluator.

    They are medians and median deviations over `rows`, of which the proxies are computed on first
    use; afterwards a call costs a microsecond a row.

    Args:
        rows: `(n, choices)`, canonical, random ones of where the search goes; about `LEARNT`.
    """

    def __init__(self, evaluator: ZeroCost, tables: CostTables, rows: Rows) -> None:
        self._evaluator = evaluator
        self._space = tables.space
        self._features = Features(tables)
        self._rows = rows
        self._known: dict[bytes, Columns] = {}
        self._models: list[GaussianProcess] = []

    def exact(self, rows: Rows) -> Columns:
        """The proxies themselves of rows `(n, choices)`, `(n, proxies)`; each row once only."""
        new = {r.tobytes(): r for r in rows if r.tobytes() not in self._known}
        if new:
            archs = self._space.decode(np.stack(list(new.values())))
            for key, arch in zip(new, archs, strict=True):
                scores = self._evaluator(arch)
                self._known[key] = np.array([scores[name] for name in self._evaluator.names])
        found = [self._known[row.tobytes()] for row in rows]
        return np.array(found, dtype=np.float64).reshape(len(rows), -1)

    def __call__(self, rows: Rows) -> Columns:
        """`(n, proxies)`: those whose proxies are known have their own, others the models'."""
        if not self._models:
            self._learn()
        positions, totals = self._features(rows)
        columns = np.stack([m.mean(positions, totals) for m in self._models], axis=1)
        columns += self._shift
        known = [i for i, row in enumerate(rows) if row.tobytes() in self._known]
        if known:
            columns[known] = self._standard(self.exact(rows[known]))
        return np.asarray(columns)

    def _learn(self) -> None:
        rows = np.unique(self._rows, axis=0)
        values = self.exact(rows)
        self._median = np.median(values, axis=0)
        deviation = np.median(np.abs(values - self._median), axis=0)
        self._scale = np.where(deviation > 0, deviation * 1.4826, 1.0)
        standard = self._standard(values)
        self._shift = standard.mean(axis=0)
        positions, totals = self._features(rows)
        for column in (standard - self._shift).T:
            model = GaussianProcess()
            model.fit(positions, totals, column, tune=True)
            self._models.append(model)

    def _standard(self, values: Columns) -> Columns:
        return np.clip((values - self._median) / self._scale, -FARTHEST, FARTHEST)
