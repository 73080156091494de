"""A predictor of a metric, trained on the architectures that were evaluated so far.

Several models are fitted; the one whose predictions of left-out rows order them best is used, and
how well it does is known at any time. Knows features and models; does not know the search.
"""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.stats import kendalltau
from threadpoolctl import ThreadpoolController

from evaluators.costs.tables import CostTables
from evaluators.prediction.features import Extra, Features
from evaluators.prediction.surrogates import GaussianProcess, Surrogate, Trees, Vector
from search_spaces.space import Rows

LEAST = 8
"""Evaluations below which a prediction would mean nothing."""

GROWTH = 1.2
"""Hyperparameters are chosen anew when there are this many times more rows than last time."""

CONTEST_GROWTH = 1.5
"""All models are compared anew when there are this many times more rows than last time."""

LOW_QUANTILE = 0.25

MEAN_CHUNK = 4096
"""Rows that the mean is predicted of at a time, so that the working set stays in the cache."""


@dataclass(frozen=True)
class Quality:
    """How good the predictions of left-out rows are.

    `tau` is Kendall's, `error` the mean absolute error in the metric's own unit.
    """

    model: str
    rows: int
    tau: float
    error: float


class Predictor:
    """Predicts a metric of rows that nobody evaluated, with its uncertainty.

    Args:
        extra: more columns of features, see `evaluators.features.Features`.
    """

    def __init__(self, tables: CostTables, *, seed: int = 0, extra: Extra | None = None) -> None:
        self.features = Features(tables, extra)
        self._models: dict[str, Surrogate] = {
            "gaussian process": GaussianProcess(),
            "linear": GaussianProcess(smooth=False),
            "trees": Trees(seed),
        }
        self._chosen = "gaussian process"
        self._tuned = self._compared = 0
        self._mean, self._scale = 0.0, 1.0
        self.quality: Quality | None = None
        """Of the model in use; None before the first `fit`."""

    def fit(self, rows: Rows, values: npt.ArrayLike) -> None:
        """Learn all evaluations so far.

        Args:
            rows: `(n, choices)`.
            values: `(n,)`, of which more is better.

        Raises:
            ValueError: for fewer than `LEAST` rows.
        """
        y = np.asarray(values, dtype=np.float64)
        if len(y) < LEAST:
            raise ValueError(f"{len(y)} evaluations are too few to learn from")
        with _one_thread():
            self._fit(rows, y)

    def _fit(self, rows: Rows, y: Vector) -> None:
        positions, totals = self.features(rows)
        squeezed = _squeezed(y)
        self._mean, self._scale = float(squeezed.mean()), float(squeezed.std()) or 1.0
        standard = (squeezed - self._mean) / self._scale
        compare = len(y) >= CONTEST_GROWTH * self._compared
        tune = compare or len(y) >= GROWTH * self._tuned
        names = list(self._models) if compare else [self._chosen]
        found = {}
        for name in names:
            model = self._models[name]
            model.fit(positions, totals, standard, tune=tune)
            left_out, predicted = model.left_out()
            tau = kendalltau(predicted, y[left_out]).statistic
            error = np.abs(self._mean + self._scale * predicted - y[left_out]).mean()
            found[name] = Quality(name, len(y), float(np.nan_to_num(tau)), float(error))
        if tune:
            self._tuned = len(y)
        if compare:
            self._compared = len(y)
            self._chosen = max(found, key=lambda name: found[name].tau)
        self.quality = found[self._chosen]

    def predict(self, rows: Rows) -> tuple[Vector, Vector]:
        """Mean and standard deviation of rows `(n, choices)`, `(n,)` each, in the metric's unit."""
        with _one_thread():
            positions, totals = self.features(rows)
            mean, deviation = self._models[self._chosen].predict(positions, totals)
        return self._mean + self._scale * mean, self._scale * deviation

    def mean(self, rows: Rows) -> Vector:
        """The mean alone, `(n,)`: for millions of rows, on all processors."""
        model = self._models[self._chosen]
        result = np.empty(len(rows))

        def fill(start: int) -> None:
            part = slice(start, start + MEAN_CHUNK)
            result[part] = model.mean(*self.features(rows[part]))

        starts = range(0, len(rows), MEAN_CHUNK)
        with _one_thread():
            if len(starts) < 2:
                for start in starts:
                    fill(start)
            else:
                # numpy lets other threads run while it computes.
                with ThreadPoolExecutor(os.cpu_count()) as pool:
                    list(pool.map(fill, starts))
        return self._mean + self._scale * result


@cache
def _libraries() -> ThreadpoolController:
    return ThreadpoolController()


def _one_thread() -> AbstractContextManager[Any]:
    """One thread a matrix product: those here are small, and meeting costs more than working."""
    context: AbstractContextManager[Any] = _libraries().limit(limits=1, user_api="blas")
    return context


def _squeezed(values: Vector) -> Vector:
    """The same values with the long tail of failures drawn in.

    Networks that did not learn at all say little about the good ones, and a model that spends
    itself on the gap between the two does not see the differences among the good ones.
    """
    low, middle = np.quantile(values, [LOW_QUANTILE, 0.5])
    scale = values[values >= middle].std() + 1e-12
    below = np.maximum(low - values, 0.0)
    return np.where(below > 0, low - scale * np.log1p(below / scale), values)
