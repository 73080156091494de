"""Confidence intervals of figures measured on a finite sample.

Percentile bootstrap (Efron and Tibshirani, "An Introduction to the Bootstrap", 1993, chapter 13):
the figure is computed on many samples drawn with replacement. Knows arrays. Does not know what they
measure.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

RESAMPLES = 2000
LEVEL = 0.95
"""Default confidence level."""

Array = npt.NDArray[np.float64]


def mean_interval(
    values: npt.ArrayLike, *, seed: int = 0, level: float = LEVEL
) -> tuple[float, float]:
    """Confidence interval of the mean of values `(n,)`."""
    array = np.asarray(values, dtype=np.float64)
    found, counts = np.unique(array, return_counts=True)
    rng = np.random.default_rng(seed)
    if len(found) <= 2:
        # The number of draws of the larger value is binomial: individual draws are not needed.
        drawn = rng.binomial(len(array), counts[-1] / len(array), RESAMPLES) / len(array)
        means = found[0] + (found[-1] - found[0]) * drawn
    else:
        means = np.array(
            [array[rng.integers(0, len(array), len(array))].mean() for _ in range(RESAMPLES)]
        )
    return _quantiles(means, level)


def share_interval(share: float, n: int, *, level: float = LEVEL) -> tuple[float, float]:
    """Confidence interval of a share of `n` samples, such as an accuracy."""
    right = round(share * n)
    return mean_interval(np.repeat([0.0, 1.0], [n - right, right]), level=level)


def statistic_interval(
    statistic: Callable[..., float],
    *columns: npt.ArrayLike,
    seed: int = 0,
    level: float = LEVEL,
) -> tuple[float, float]:
    """Confidence interval of a statistic of columns `(n,)`, whose rows are drawn together.

    Resamples on which the statistic is NaN (all rows alike) are left out; NaN if none remains.
    """
    arrays = [np.asarray(column) for column in columns]
    n = len(arrays[0])
    rng = np.random.default_rng(seed)
    drawn = (rng.integers(0, n, n) for _ in range(RESAMPLES))
    values = np.array([statistic(*(a[part] for a in arrays)) for part in drawn])
    return _quantiles(values[np.isfinite(values)], level)


def _quantiles(values: Array, level: float) -> tuple[float, float]:
    if not len(values):
        return float("nan"), float("nan")
    low, high = np.quantile(values, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)
