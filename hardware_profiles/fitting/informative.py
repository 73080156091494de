"""Select networks to time, by D-optimal design for the latency model.

Knows the prior of `kernel_prices.py`; needs no measurements. Does not know budgets: it selects from
a given pool of rows.
"""

from __future__ import annotations

import numpy as np

from hardware_profiles.fitting.kernel_prices import (
    N_QUANTITIES,
    N_RIDGES,
    design,
    prior_precision,
    scales_of,
)
from hardware_profiles.latency.kernel_features import kernel_features
from search_spaces.space import Rows, SearchSpace

SPREAD, NOISE = 1.0, 0.03
"""Standard deviations of prices and of readings, from the middle of `kernel_prices.py`'s grids."""

MIN_LEVEL = 0.05
"""Lower bound of a network's work, as a share of the average network's."""


def select_informative(space: SearchSpace, pool: Rows, count: int) -> Rows:
    """Select rows to time, the most informative first.

    Greedy D-optimal design (Fedorov, "Theory of Optimal Experiments", 1972): each row is the one
    with the largest predictive variance of the relative error given those before it, its logarithm
    summed over models with and without dead ops.

    Args:
        space: the search space.
        pool: candidate rows `(n, choices)`.
        count: number of rows to select.

    Returns:
        Distinct rows `(count, choices)`; all distinct rows of the pool if there are fewer.
    """
    pool = np.unique(space.canonical(pool), axis=0)
    features = kernel_features(space)
    views = [features.of_rows(space, pool, dead=dead) for dead in (True, False)]
    if np.array_equal(views[0], views[1]):
        views.pop()
    designs, covariances = [], []
    for view in views:
        scales = scales_of(view)
        x = design(view, scales)
        # Approximate time of each network: the mean of its totals, relative to the average network.
        level = (view[:, -1 - N_RIDGES - N_QUANTITIES : -1] / scales).mean(axis=1)
        designs.append(x / np.maximum(level, MIN_LEVEL)[:, None])
        prior = np.linalg.inv(prior_precision(len(features.kinds), SPREAD))
        covariances.append(prior[: x.shape[1], : x.shape[1]])
    variances = np.stack(
        [np.einsum("ij,ij->i", x @ c, x) for x, c in zip(designs, covariances, strict=True)]
    )
    chosen: list[int] = []
    for _ in range(min(count, len(pool))):
        gain = np.log1p(np.maximum(variances, 0) / NOISE**2).sum(axis=0)
        gain[chosen] = -np.inf
        best = int(gain.argmax())
        chosen.append(best)
        for index, x in enumerate(designs):
            known = covariances[index] @ x[best]
            across = x @ known
            total = float(across[best]) + NOISE**2
            variances[index] -= across**2 / total
            covariances[index] = covariances[index] - np.outer(known, known) / total
    return pool[chosen]
