"""Expected improvement over the evaluations so far, from predicted means and deviations.

Computed as logarithms, so that candidates far below the best value still differ. Knows values and
costs. Does not know rows or objectives.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy.stats import norm


def log_improvement(
    mean: npt.NDArray[np.float64], deviation: npt.NDArray[np.float64], best: float
) -> npt.NDArray[np.float64]:
    """Log of the expected improvement over `best`, or of a monotone function of it below -6 sigma.

    Args:
        mean: predicted means, `(n,)`.
        deviation: predicted standard deviations, `(n,)`.
        best: the best value so far.

    Returns:
        `(n,)`.
    """
    z = (mean - best) / deviation
    # Far below the best value z * cdf + pdf cancels numerically: use its asymptote.
    near = np.maximum(z, -6.0)
    plain = np.log(norm.pdf(near) + near * norm.cdf(near))
    return np.log(deviation) + np.where(z > -6, plain, -0.5 * z**2 - 2 * np.log(np.abs(z) + 1))


class ParetoStaircase:
    """The best value at each cost so far, as a step function.

    With one predicted value and one known cost the expected hypervolume improvement is a sum over
    its steps: the length of the step that the row would dominate times the expected improvement
    over its level (Emmerich et al., "Computation of the expected improvement in dominated
    hypervolume", 2008).

    Args:
        costs: of the evaluated rows, `(n,)`.
        values: of the evaluated rows, `(n,)`; higher is better.
        end: the largest cost considered.
    """

    def __init__(
        self, costs: npt.NDArray[np.float64], values: npt.NDArray[np.float64], end: float
    ) -> None:
        order = np.argsort(costs, kind="stable")
        best = np.maximum.accumulate(values[order])
        steps = np.flatnonzero(np.diff(best, prepend=-np.inf) > 0)
        # Costs below all evaluated ones are compared with the lowest value.
        self._levels = np.append(values.min(), best[steps])
        self._starts = np.append(0.0, costs[order][steps])
        self._ends = np.append(self._starts[1:], 1.001 * end)

    def log_gain(
        self,
        costs: npt.NDArray[np.float64],
        mean: npt.NDArray[np.float64],
        deviation: npt.NDArray[np.float64],
    ) -> npt.NDArray[np.float64]:
        """Log of the expected hypervolume improvement.

        Args:
            costs: of the rows, `(n,)`.
            mean: predicted means, `(n,)`.
            deviation: predicted standard deviations, `(n,)`.

        Returns:
            `(n,)`.
        """
        covered = np.maximum(self._ends - np.maximum(self._starts, costs[:, None]), 0.0)
        z = (mean[:, None] - self._levels) / deviation[:, None]
        improvement = deviation[:, None] * (z * norm.cdf(z) + norm.pdf(z))
        return np.log((covered * np.maximum(improvement, 0.0)).sum(axis=1) + 1e-300)
