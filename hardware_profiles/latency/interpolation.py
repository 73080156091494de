"""Interpolate times of blocks from measurements of the same kernels at other sizes.

Within one structure (`block_keys.py`) the logarithm of time over work is smooth in the logarithms
of the sizes: it depends on the utilisation of the device, not on the amount of work. Work is a
roofline fitted to the measurements of the structure; the residuals are interpolated by a Gaussian
process (Rasmussen and Williams, 2006, chapter 2). Knows sizes and times. Does not know runtimes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt
from scipy.linalg import cho_factor, cho_solve
from scipy.optimize import nnls

Matrix = npt.NDArray[np.float64]

LENGTH_SCALES = (0.3, 1.0, 3.0)
"""Candidate length scales in natural logarithms of sizes; the leave-one-out error selects one."""

NOISE = 0.03
"""Standard deviation of a measurement's logarithm; about that of the median of 50 runs."""

MAX_POINTS = 600
"""Maximum number of measurements in one Gaussian process, whose time is cubic in it."""

MIN_BASELINE_MS = 1e-9
"""Lower bound of the fitted roofline, so that its logarithm exists."""


@dataclass(frozen=True)
class StructureTimes:
    """Measurements of one structure.

    `sizes` is `(n, sizes)`; `work` is `(n, 2)`, multiply-accumulates and bytes of one sample; and
    `milliseconds` is `(n,)`.
    """

    sizes: Matrix
    work: Matrix
    milliseconds: Matrix

    def covers(self, sizes: Sequence[int]) -> bool:
        """Whether every size is within the range of the measured ones."""
        requested = np.asarray(sizes)
        low, high = self.sizes.min(axis=0), self.sizes.max(axis=0)
        return bool(((low <= requested) & (requested <= high)).all())

    def milliseconds_at(self, sizes: Sequence[int], work: Sequence[float]) -> float:
        """Return the interpolated time of a block; extrapolated if `covers` is False.

        Args:
            sizes: the block's sizes, in the order of its key.
            work: its multiply-accumulates and bytes of one sample.
        """
        at, weights, scale = self._process
        near = _kernel(self._logarithms(np.asarray([sizes], dtype=float)), at, scale)
        return float(self._baseline(np.asarray([work]))[0] * np.exp(near @ weights)[0])

    @cached_property
    def _varying(self) -> npt.NDArray[np.intp]:
        """Columns of sizes that vary among the measurements, one of each group of equal columns."""
        varying = np.flatnonzero(np.ptp(self.sizes, axis=0) > 0)
        _, first = np.unique(self.sizes[:, varying], axis=1, return_index=True)
        return varying[np.sort(first)]

    def _logarithms(self, sizes: Matrix) -> Matrix:
        return np.log(np.maximum(sizes[:, self._varying], 1.0))

    @cached_property
    def _rates(self) -> Matrix:
        """Milliseconds per call, multiply-accumulate and byte, each at least 0."""
        columns = np.column_stack([np.ones(len(self.work)), self.work])
        size = np.maximum(columns.max(axis=0), 1e-12)
        found = nnls(columns / size / self.milliseconds[:, None], np.ones(len(columns)))[0]
        return np.asarray(found / size)

    def _baseline(self, work: Matrix) -> Matrix:
        columns = np.column_stack([np.ones(len(work)), work])
        return np.maximum(columns @ self._rates, MIN_BASELINE_MS)

    @cached_property
    def _process(self) -> tuple[Matrix, Matrix, float]:
        """The measured points `(n, d)`, their weights `(n,)`, and the length scale."""
        left = np.log(self.milliseconds / self._baseline(self.work))
        at = self._logarithms(self.sizes)
        if len(at) > MAX_POINTS:
            keep = np.random.default_rng(0).choice(len(at), MAX_POINTS, replace=False)
            at, left = at[keep], left[keep]
        best: tuple[float, Matrix, float] | None = None
        variance = max(float(np.mean(left**2)), NOISE**2)
        for scale in LENGTH_SCALES:
            covariance = _kernel(at, at, scale) + (NOISE**2 / variance) * np.eye(len(at))
            factor = cho_factor(covariance)
            weights = cho_solve(factor, left)
            inverse = cho_solve(factor, np.eye(len(at)))
            # Rasmussen and Williams, equation 5.12: leave-one-out errors.
            error = float(np.mean((weights / np.diag(inverse)) ** 2))
            if best is None or error < best[0]:
                best = error, weights, scale
        assert best is not None
        return at, best[1], best[2]


def _kernel(a: Matrix, b: Matrix, scale: float) -> Matrix:
    """Return the correlations `(n, m)` between points `(n, d)` and points `(m, d)`."""
    if a.shape[1] == 0:
        return np.ones((len(a), len(b)))
    squares = ((a[:, None] - b[None]) ** 2).sum(axis=2)
    return np.asarray(np.exp(-squares / (2 * scale**2)))
