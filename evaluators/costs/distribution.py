"""Distributions over architectures in which the choices are independent.

Computes the probability of architectures and draws from the distribution. Does not know where the
probabilities come from.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from search_spaces.space import Rows, SearchSpace

Probabilities = Sequence[npt.NDArray[np.float64]]
"""`(options,)` for each choice of a space, each summing to 1."""

MIN_PROBABILITY = 1e-9
"""Smaller probabilities are raised to this value, so that logarithms are finite."""


def log_options(probabilities: Probabilities) -> list[npt.NDArray[np.float64]]:
    """Logarithm of each option's probability; always finite."""
    return [np.log(np.maximum(p, MIN_PROBABILITY)) for p in probabilities]


def log_probabilities(
    space: SearchSpace, probabilities: Probabilities, rows: Rows
) -> npt.NDArray[np.float64]:
    """Log-probabilities `(n,)` of canonical rows `(n, choices)`.

    Inactive choices of an architecture contribute nothing.
    """
    exists = space.active(rows)
    terms = [
        np.where(exists[:, c], log[rows[:, c]], 0.0)
        for c, log in enumerate(log_options(probabilities))
    ]
    return np.asarray(np.sum(terms, axis=0))


def draw_rows(
    space: SearchSpace, probabilities: Probabilities, n: int, rng: np.random.Generator
) -> Rows:
    """Draw `n` canonical rows, `(n, choices)`; repetitions are possible."""
    columns = []
    for p in probabilities:
        edges = np.cumsum(p)  # the last edge is 1 only up to rounding
        index = np.searchsorted(edges, rng.random(n) * edges[-1], side="right")
        columns.append(np.minimum(index, len(p) - 1))
    return space.canonical(np.stack(columns, axis=1).astype(np.uint8))
