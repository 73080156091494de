"""What earlier searches of a space say about a metric, as a prior of its predictor.

Values of different searches have different levels and ranges (other data, other lengths of
training), so each search's are standardised before one model is fitted to all. Knows rows and
values. Does not know runs, nor how far the prior is trusted (`predictor.py`).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from evaluators.costs.tables import CostTables
from evaluators.prediction.features import Features
from evaluators.prediction.surrogates import GaussianProcess, Vector
from evaluators.prediction.values import compressed
from search_spaces.space import Rows


class Prior:
    """The mean of a model of earlier searches.

    Args:
        tables: of the space that is searched now.
        searches: rows `(n, choices)` and values `(n,)` of each earlier search; more is better.
    """

    def __init__(self, tables: CostTables, searches: Sequence[tuple[Rows, Vector]]) -> None:
        self._features = Features(tables)
        rows = np.concatenate([rows for rows, _ in searches])
        values = np.concatenate([_standard(values) for _, values in searches])
        self._model = GaussianProcess()
        self._model.fit(*self._features(rows), values, tune=True)

    def __call__(self, rows: Rows) -> Vector:
        """Expected value of rows `(n, choices)`, `(n,)`, in deviations of an earlier search."""
        return self._model.mean(*self._features(rows))


def _standard(values: Vector) -> Vector:
    """Values with mean 0 and deviation 1, the long tail of low ones compressed."""
    found = compressed(values)
    return np.asarray((found - found.mean()) / (found.std() or 1.0))
