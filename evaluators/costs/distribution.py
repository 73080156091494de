"""Architectures of which each choice is drawn alone, from probabilities of its own.

Knows how likely an architecture is and how to draw some. Does not know where the probabilities
come from.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from search_spaces.space import Rows, SearchSpace

Probabilities = Sequence[npt.NDArray[np.float64]]
"""`(options,)` for each choice of a space, each summing to 1."""

LEAST = 1e-9
"""Probabilities below this count as this."""


def log_options(probabilities: Probabilities) -> list[npt.NDArray[np.float64]]:
    """The logarithm of each option's probability, never infinite."""
    return [np.log(np.maximum(p, LEAST)) for p in probabilities]


def log_probabilities(
    space: SearchSpace, probabilities: Probabilities, rows: Rows
) -> npt.NDArray[np.float64]:
    """Of canonical rows `(n, choices)`, each choice drawn alone: `(n,)`.

    Choices that do not exist in an architecture do not count.
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
        edges = np.cumsum(p)  # ends at 1 only nearly
        index = np.searchsorted(edges, rng.random(n) * edges[-1], side="right")
        columns.append(np.minimum(index, len(p) - 1))
    return space.canonical(np.stack(columns, axis=1).astype(np.uint8))
