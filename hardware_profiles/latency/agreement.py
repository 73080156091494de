"""How predicted latencies agree with measured ones, in the figures that this field reports."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.stats import kendalltau, spearmanr

Vector = npt.NDArray[np.float64]


WITHIN = 0.1
"""The relative error that this field counts as a hit."""


@dataclass(frozen=True)
class Quality:
    """How predictions compare with measurements: `n` networks, ranks, and relative errors.

    `within_10` is the share predicted within 10 %, `mean_error` the mean of
    `|predicted / measured - 1|`. Rank correlations are 0 where either side is constant.
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


def quality(predicted: Vector, measured: Vector) -> Quality:
    """Compare `(n,)` predictions with `(n,)` measurements above zero."""
    errors = np.abs(predicted / measured - 1)
    constant = np.ptp(predicted) == 0 or np.ptp(measured) == 0
    return Quality(
        n=len(measured),
        spearman=0.0 if constant else round(float(spearmanr(predicted, measured).statistic), 4),
        kendall=0.0 if constant else round(float(kendalltau(predicted, measured).statistic), 4),
        within_10=round(float((errors <= WITHIN).mean()), 4),
        mean_error=round(float(errors.mean()), 4),
    )
