"""How values of a metric are prepared for a model."""

from __future__ import annotations

import numpy as np

from evaluators.prediction.surrogates import Vector

LOW_QUANTILE = 0.25
"""Quantile below which values are compressed."""


def compressed(values: Vector) -> Vector:
    """The same values with the long tail of low ones compressed.

    Networks that did not learn carry little information about good ones, and a model fitted to the
    gap between the two does not resolve the differences among good ones.
    """
    low, middle = np.quantile(values, [LOW_QUANTILE, 0.5])
    scale = values[values >= middle].std() + 1e-12
    below = np.maximum(low - values, 0.0)
    return np.where(below > 0, low - scale * np.log1p(below / scale), values)
