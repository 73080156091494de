"""Agreement of predicted with measured latencies: rank correlations and relative errors.

Knows predictions and measurements. Does not know how either was obtained.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.stats import kendalltau, spearmanr

Vector = npt.NDArray[np.float64]

HIT_TOLERANCE = 0.1
"""Largest relative error of a prediction that counts as accurate."""


@dataclass(frozen=True)
class Agreement:
    """Agreement of predictions with measurements of `n` networks.

    `spearman` and `kendall` are rank correlations, 0 if either side is constant; `within_10` is the
    share of networks predicted within 10 %, and `mean_error` the mean of
    `|predicted / measured - 1|`.
    """

    n: int
    spearman: float
    kendall: float
    within_10: float
    mean_error: float

    def __str__(self) -> str:
        return (
            f"Spearman {self.spearman:.3f}, mean error {self.mean_error:.1%}, "
            f"{self.within_10:.0%} within ±10 %"
        )


def agreement(predicted: Vector, measured: Vector) -> Agreement:
    """Compare `(n,)` predictions with `(n,)` measurements, which must be positive."""
    errors = np.abs(predicted / measured - 1)
    constant = np.ptp(predicted) == 0 or np.ptp(measured) == 0
    return Agreement(
        n=len(measured),
        spearman=0.0 if constant else round(float(spearmanr(predicted, measured).statistic), 4),
        kendall=0.0 if constant else round(float(kendalltau(predicted, measured).statistic), 4),
        within_10=round(float((errors <= HIT_TOLERANCE).mean()), 4),
        mean_error=round(float(errors.mean()), 4),
    )
