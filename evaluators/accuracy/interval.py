"""How far a figure may be off because it was measured on these samples and no others.

Percentile bootstrap (Efron and Tibshirani, "An Introduction to the Bootstrap", 1993, chapter 13):
the same figure on samples drawn with replacement, many times. Knows arrays, not what they measure.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

RESAMPLES = 2000
LEVEL = 0.95

Array = npt.NDArray[np.float64]


def of_mean(values: npt.ArrayLike, *, seed: int = 0, level: float = LEVEL) -> tuple[float, float]:
    """The interval of the mean of `(n,)` values."""
    array = np.asarray(values, dtype=np.float64)
    found, counts = np.unique(array, return_counts=True)
    rng = np.random.default_rng(seed)
    if len(found) <= 2:
        # How often the greater value is drawn is binomial: no need to draw each sample.
        drawn = rng.binomial(len(array), counts[-1] / len(array), RESAMPLES) / len(array)
        means = found[0] + (found[-1] - found[0]) * drawn
    else:
        means = np.array(
            [array[rng.integers(0, len(array), len(array))].mean() for _ in range(RESAMPLES)]
        )
    return _quantiles(means, level)


def of_share(share: float, n: int, *, level: float = LEVEL) -> tuple[float, float]:
    """The interval of a share of `n` samples, such as an accuracy."""
    right = round(share * n)
    return of_mean(np.repeat([0.0, 1.0], [n - right, right]), level=level)


def of_statistic(
    statistic: Callable[..., float],
    *columns: npt.ArrayLike,
    seed: int = 0,
    level: float = LEVEL,
) -> tuple[float, float]:
    """The interval of a statistic of columns `(n,)` whose rows belong together.

    Draws on which the statistic is NaN (all rows alike) are left out.
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
