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
from evaluators.prediction.features import Extra, Features, Matrix
from evaluators.prediction.prior import Prior
from evaluators.prediction.surrogates import GaussianProcess, Surrogate, Trees, Vector
from evaluators.prediction.values import compressed
from search_spaces.space import Rows

MIN_EVALUATIONS = 8
"""Fewest evaluations to fit a model to."""

GROWTH = 1.2
"""Hyperparameters are tuned again when the number of rows has grown by this factor."""

COMPARISON_GROWTH = 1.5
"""All models are compared again when the number of rows has grown by this factor."""

PRIOR_SHARES = (0.0, 0.5, 1.0)
"""Shares of the slope of values over a prior that are tried; 0: the prior is not used."""

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
        prior: what earlier searches say; models are fitted to what differs from it. Its weight is
            the one with which left-out rows are predicted best, 0 if that is without it.
    """

    def __init__(
        self,
        tables: CostTables,
        *,
        seed: int = 0,
        extra: Extra | None = None,
        prior: Prior | None = None,
    ) -> None:
        self.features = Features(tables, extra)
        self._prior = prior
        self._weight = 0.0
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
        values = compressed(y)
        self._mean, self._scale = float(values.mean()), float(values.std()) or 1.0
        standard = (values - self._mean) / self._scale
        compare = len(y) >= COMPARISON_GROWTH * self._compared
        tune = compare or len(y) >= GROWTH * self._tuned
        expected = np.zeros(len(y))
        if self._prior is not None:
            prior = self._prior(rows)
            if compare:
                self._weight = self._weigh(positions, totals, standard, prior)
            expected = self._weight * prior
        names = list(self._models) if compare else [self._chosen]
        found = {}
        for name in names:
            model = self._models[name]
            model.fit(positions, totals, standard - expected, tune=tune)
            left_out, predicted = model.left_out()
            predicted = predicted + expected[left_out]
            tau = kendalltau(predicted, y[left_out]).statistic
            error = np.abs(self._mean + self._scale * predicted - y[left_out]).mean()
            found[name] = Quality(name, len(y), float(np.nan_to_num(tau)), float(error))
        if tune:
            self._tuned = len(y)
        if compare:
            self._compared = len(y)
            self._chosen = max(found, key=lambda name: found[name].tau)
        self.quality = found[self._chosen]

    def _weigh(self, positions: Matrix, totals: Matrix, standard: Vector, prior: Vector) -> float:
        """The weight of the prior with which left-out values are predicted best."""
        centred = prior - prior.mean()
        slope = max(0.0, float(centred @ standard / (centred @ centred + 1e-12)))
        errors = {}
        for weight in {share * slope for share in PRIOR_SHARES}:
            model = GaussianProcess()
            model.fit(positions, totals, standard - weight * prior, tune=True)
            left_out, predicted = model.left_out()
            errors[weight] = float(
                np.mean((predicted + weight * prior[left_out] - standard[left_out]) ** 2)
            )
        return min(errors, key=lambda weight: (errors[weight], weight))

    def _expected(self, rows: Rows) -> Vector | float:
        """The prior's part of standardised values, `(n,)`."""
        if self._prior is None or not self._weight:
            return 0.0
        return self._weight * self._prior(rows)

    def predict(self, rows: Rows) -> tuple[Vector, Vector]:
        """Mean and standard deviation of rows `(n, choices)`, `(n,)` each, in the metric's unit."""
        with _one_thread():
            positions, totals = self.features(rows)
            mean, deviation = self._models[self._chosen].predict(positions, totals)
            mean = mean + self._expected(rows)
        return self._mean + self._scale * mean, self._scale * deviation

    def mean(self, rows: Rows) -> Vector:
        """The mean alone, `(n,)`: for millions of rows, on all cores."""
        model = self._models[self._chosen]
        result = np.empty(len(rows))

        def fill(start: int) -> None:
            part = slice(start, start + MEAN_CHUNK)
            result[part] = model.mean(*self.features(rows[part])) + self._expected(rows[part])

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
