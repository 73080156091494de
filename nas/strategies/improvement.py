"""What a row is expected to add to what is known already, from a mean and a standard deviation.

Logarithms, so that candidates far below the best still differ. Knows numbers; does not know rows.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy.stats import norm


def log_improvement(
    mean: npt.NDArray[np.float64], deviation: npt.NDArray[np.float64], best: float
) -> npt.NDArray[np.float64]:
    """Log of the expected improvement over `best`, a monotone function of it far below it too."""
    z = (mean - best) / deviation
    # Far below the best, z * cdf + pdf is a difference of nearly equal numbers: its asymptote.
    near = np.maximum(z, -6.0)
    plain = np.log(norm.pdf(near) + near * norm.cdf(near))
    return np.log(deviation) + np.where(z > -6, plain, -0.5 * z**2 - 2 * np.log(np.abs(z) + 1))


class Stairs:
    """The best value at every cost so far, `(n,)` each; what a new row is expected to add below it.

    With one predicted value and one known cost the expected hypervolume improvement is a sum over
    the steps: the length of each that the row would cover times its expected improvement there
    (Emmerich et al., "Computation of the expected improvement in dominated hypervolume", 2008).
    """

    def __init__(
        self, costs: npt.NDArray[np.float64], values: npt.NDArray[np.float64], end: float
    ) -> None:
        order = np.argsort(costs, kind="stable")
        best = np.maximum.accumulate(values[order])
        steps = np.flatnonzero(np.diff(best, prepend=-np.inf) > 0)
        # What costs less than anything so far is compared with the worst so far.
        self._levels = np.append(values.min(), best[steps])
        self._starts = np.append(0.0, costs[order][steps])
        self._ends = np.append(self._starts[1:], 1.001 * end)

    def log_gain(
        self,
        costs: npt.NDArray[np.float64],
        mean: npt.NDArray[np.float64],
        deviation: npt.NDArray[np.float64],
    ) -> npt.NDArray[np.float64]:
        """Log of the expected improvement of rows of `(n,)` costs and predicted values."""
        covered = np.maximum(self._ends - np.maximum(self._starts, costs[:, None]), 0.0)
        z = (mean[:, None] - self._levels) / deviation[:, None]
        improvement = deviation[:, None] * (z * norm.cdf(z) + norm.pdf(z))
        return np.log((covered * np.maximum(improvement, 0.0)).sum(axis=1) + 1e-300)
