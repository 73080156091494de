"""Zero-cost proxies as features of a predictor that scores thousands of rows per round.

A proxy takes a tenth of a second, a row of features a microsecond. Therefore the proxies of some
hundred random rows are computed once, a model of each proxy is fitted to them, and other rows get
the predictions of that model; rows of interest (evaluated ones, a shortlist) can get exact values.
On NAS-Bench-201 (`benchmarks/zero_cost.py`) both raise Kendall's τ of a predictor fitted to 16 to
100 evaluations, exact values by more; a linear model of the proxies hardly does, since its
predictions repeat the other features. Proxies computed on noise instead of images do not help to
tell good networks from better ones. Knows proxies and features. Does not know what is predicted.
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

SAMPLED_ROWS = 400
"""Random rows to fit the models to: with a quarter of them the gain is small."""

MAX_DEVIATIONS = 4.0
"""Columns are clipped at this many deviations from the median: networks whose activations or
gradients vanish are far beyond all others."""


class ProxyFeatures:
    """Further columns for `evaluators.prediction.features.Features`, one for each proxy.

    Columns are standardised with the median and the median absolute deviation over `rows`, whose
    proxies are computed on first use; afterwards a call takes a microsecond per row.

    Args:
        rows: `(n, choices)`, canonical and drawn from the part of the space that is searched; about
            `SAMPLED_ROWS` of them.
    """

    def __init__(self, evaluator: ZeroCost, tables: CostTables, rows: Rows) -> None:
        self._evaluator = evaluator
        self._space = tables.space
        self._features = Features(tables)
        self._rows = rows
        self._known: dict[bytes, Columns] = {}
        self._models: list[GaussianProcess] = []

    def exact(self, rows: Rows) -> Columns:
        """Computed proxies `(n, proxies)` of rows `(n, choices)`; cached by row."""
        new = {r.tobytes(): r for r in rows if r.tobytes() not in self._known}
        if new:
            archs = self._space.decode(np.stack(list(new.values())))
            for key, arch in zip(new, archs, strict=True):
                scores = self._evaluator(arch)
                self._known[key] = np.array([scores[name] for name in self._evaluator.names])
        found = [self._known[row.tobytes()] for row in rows]
        return np.array(found, dtype=np.float64).reshape(len(rows), -1)

    def __call__(self, rows: Rows) -> Columns:
        """Standardised proxies `(n, proxies)`: exact where computed before, predicted elsewhere."""
        if not self._models:
            self._fit()
        positions, totals = self._features(rows)
        columns = np.stack([m.mean(positions, totals) for m in self._models], axis=1)
        columns += self._shift
        known = [i for i, row in enumerate(rows) if row.tobytes() in self._known]
        if known:
            columns[known] = self._standard(self.exact(rows[known]))
        return np.asarray(columns)

    def _fit(self) -> None:
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
        return np.clip((values - self._median) / self._scale, -MAX_DEVIATIONS, MAX_DEVIATIONS)
