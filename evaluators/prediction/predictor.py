"""A predictor of a metric, fitted to the architectures evaluated so far.

Several models are fitted, and the one whose predictions of left-out rows rank them best is used;
its quality on them is always available. Knows features and models. Does not know the search.
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

MIN_EVALUATIONS = 8
"""Fewest evaluations to fit a model to."""

GROWTH = 1.2
"""Hyperparameters are tuned again when the number of rows has grown by this factor."""

COMPARISON_GROWTH = 1.5
"""All models are compared again when the number of rows has grown by this factor."""

LOW_QUANTILE = 0.25
"""Quantile below which values are compressed; see `_compressed`."""

MEAN_CHUNK = 4096
"""Rows predicted at a time by `mean`, such that the working set fits in the cache."""


@dataclass(frozen=True)
class Quality:
    """Quality of the predictions of left-out rows.

    `tau` is Kendall's τ, `error` the mean absolute error in the unit of the metric, and `rows` the
    number of rows that the model was fitted to.
    """

    model: str
    rows: int
    tau: float
    error: float


class Predictor:
    """Predicts a metric of rows that were not evaluated, with its uncertainty.

    Args:
        seed: of the forest.
        extra: further columns of features, see `evaluators.prediction.features.Features`.
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
        """Quality of the model in use; None before the first `fit`."""

    def fit(self, rows: Rows, values: npt.ArrayLike) -> None:
        """Fit the models to all evaluations so far.

        Args:
            rows: `(n, choices)`.
            values: `(n,)`; more is better.

        Raises:
            ValueError: for fewer than `MIN_EVALUATIONS` rows.
        """
        y = np.asarray(values, dtype=np.float64)
        if len(y) < MIN_EVALUATIONS:
            raise ValueError(
                f"{len(y)} evaluations are too few: expected {MIN_EVALUATIONS} or more"
            )
        with _one_thread():
            self._fit(rows, y)

    def _fit(self, rows: Rows, y: Vector) -> None:
        positions, totals = self.features(rows)
        compressed = _compressed(y)
        self._mean, self._scale = float(compressed.mean()), float(compressed.std()) or 1.0
        standard = (compressed - self._mean) / self._scale
        compare = len(y) >= COMPARISON_GROWTH * self._compared
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
        """The mean alone, `(n,)`: for millions of rows, on all cores."""
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
                # numpy releases the interpreter lock while it computes.
                with ThreadPoolExecutor(os.cpu_count()) as pool:
                    list(pool.map(fill, starts))
        return self._mean + self._scale * result


@cache
def _libraries() -> ThreadpoolController:
    return ThreadpoolController()


def _one_thread() -> AbstractContextManager[Any]:
    """One thread per matrix product: for small ones synchronisation takes longer than work."""
    context: AbstractContextManager[Any] = _libraries().limit(limits=1, user_api="blas")
    return context


def _compressed(values: Vector) -> Vector:
    """The same values with the long tail of low ones compressed.

    Networks that did not learn carry little information about good ones, and a model fitted to the
    gap between the two does not resolve the differences among good ones.
    """
    low, middle = np.quantile(values, [LOW_QUANTILE, 0.5])
    scale = values[values >= middle].std() + 1e-12
    below = np.maximum(low - values, 0.0)
    return np.where(below > 0, low - scale * np.log1p(below / scale), values)
