"""Which networks to time, so that few of them tell most of what a space's networks take.

Knows the prior of `kernel_prices.py`; needs no measurement. Does not know budgets: it chooses from
the rows that it is given.
"""

from __future__ import annotations

import numpy as np

from hardware_profiles.fitting.kernel_prices import Q, R, design, precision, scales_of
from hardware_profiles.latency.kernel_features import kernel_features
from search_spaces.space import Rows, SearchSpace

SPREAD, NOISE = 1.0, 0.03
"""The prior's, as in the middle of the grid of `kernel_prices.py`."""

SMALLEST = 0.05
"""Networks below this share of the average one's work count like one there."""


def informative(space: SearchSpace, pool: Rows, count: int) -> Rows:
    """Rows `(count, choices)` of a pool `(n, choices)` to time, the most informative first.

    Greedily D-optimal (Fedorov, "Theory of Optimal Experiments", 1972): each is the one whose
    relative error would be the largest after those before it, summed over both ways in which a
    device may run what is dead in a network. With a pool of fewer rows than `count`, all of it.
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
        # About what each takes: an equal share for each of a network's totals.
        level = (view[:, -1 - R - Q : -1] / scales).mean(axis=1)
        designs.append(x / np.maximum(level, SMALLEST)[:, None])
        prior = np.linalg.inv(precision(len(features.kinds), SPREAD))
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
