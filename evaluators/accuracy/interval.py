"""Confidence intervals of figures measured on a finite sample.

Shares have Wilson's interval, other figures the percentile bootstrap (Efron and Tibshirani, "An
Introduction to the Bootstrap", 1993, chapter 13): the figure is computed on many samples drawn with
replacement. Knows arrays. Does not know what they measure.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from statistics import NormalDist

import numpy as np
import numpy.typing as npt

RESAMPLES = 2000
LEVEL = 0.95
"""Default confidence level."""

Array = npt.NDArray[np.float64]


def share_interval(share: float, n: int, *, level: float = LEVEL) -> tuple[float, float]:
    """Confidence interval of a share of `n` samples, such as an accuracy.

    Wilson's score interval, "Probable inference, the law of succession, and statistical inference",
    1927: unlike a bootstrap it has a width where all samples are right. The report's page computes
    the same for its bars.
    """
    z = NormalDist().inv_cdf((1 + level) / 2)
    scale = 1 + z * z / n
    centre = (share + z * z / (2 * n)) / scale
    half = z * math.sqrt(share * (1 - share) / n + (z / (2 * n)) ** 2) / scale
    # Rounding must not put the share itself outside.
    return max(0.0, min(share, centre - half)), min(1.0, max(share, centre + half))


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
