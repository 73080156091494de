"""Blocks that were not measured, from those that were: the same kernels at other sizes.

Within one structure (`forms.py`) the logarithm of time over work is smooth in the logarithms of the
sizes: what varies is how well a device is used, not how much there is to do. Work is a roofline
fitted to the structure's own measurements, and what is left is interpolated by a Gaussian process
(Rasmussen and Williams, 2006, chapter 2). Knows forms and times. Does not know runtimes.
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

SCALES = (0.3, 1.0, 3.0)
"""Length scales in natural logarithms of sizes, of which the best in leave-one-out is taken."""

NOISE = 0.03
"""Standard deviation of a measurement's logarithm: about that of the median of 50 runs."""

MOST = 600
"""Measurements that one process keeps: its time grows with their cube."""

MARGIN = 1e-9


@dataclass(frozen=True)
class Structure:
    """What was measured of one structure.

    `sizes` is `(n, sizes)`, `work` `(n, 2)` multiply-accumulates and bytes of one sample, and
    `milliseconds` `(n,)`.
    """

    sizes: Matrix
    work: Matrix
    milliseconds: Matrix

    def covers(self, sizes: Sequence[int]) -> bool:
        """Whether every size lies between the smallest and the largest measured."""
        asked = np.asarray(sizes)
        return bool(((self.sizes.min(axis=0) <= asked) & (asked <= self.sizes.max(axis=0))).all())

    def milliseconds_at(self, sizes: Sequence[int], work: Sequence[float]) -> float:
        """Interpolated time of a block of this structure; extrapolated where it is not covered."""
        at, weights, scale = self._process
        near = _kernel(self._logarithms(np.asarray([sizes], dtype=float)), at, scale)
        return float(self._baseline(np.asarray([work]))[0] * np.exp(near @ weights)[0])

    @cached_property
    def _varying(self) -> npt.NDArray[np.intp]:
        """Sizes that differ among measurements, one of each group that is always equal."""
        varying = np.flatnonzero(np.ptp(self.sizes, axis=0) > 0)
        _, first = np.unique(self.sizes[:, varying], axis=1, return_index=True)
        return varying[np.sort(first)]

    def _logarithms(self, sizes: Matrix) -> Matrix:
        return np.log(np.maximum(sizes[:, self._varying], 1.0))

    @cached_property
    def _rates(self) -> Matrix:
        """Milliseconds of a call, a multiply-accumulate and a byte, none below 0."""
        columns = np.column_stack([np.ones(len(self.work)), self.work])
        size = np.maximum(columns.max(axis=0), 1e-12)
        found = nnls(columns / size / self.milliseconds[:, None], np.ones(len(columns)))[0]
        return np.asarray(found / size)

    def _baseline(self, work: Matrix) -> Matrix:
        columns = np.column_stack([np.ones(len(work)), work])
        return np.maximum(columns @ self._rates, MARGIN)

    @cached_property
    def _process(self) -> tuple[Matrix, Matrix, float]:
        """Where it was measured, the weights of those places, and the length scale."""
        left = np.log(self.milliseconds / self._baseline(self.work))
        at = self._logarithms(self.sizes)
        if len(at) > MOST:
            keep = np.random.default_rng(0).choice(len(at), MOST, replace=False)
            at, left = at[keep], left[keep]
        best: tuple[float, Matrix, float] | None = None
        variance = max(float(np.mean(left**2)), NOISE**2)
        for scale in SCALES:
            covariance = _kernel(at, at, scale) + (NOISE**2 / variance) * np.eye(len(at))
            factor = cho_factor(covariance)
            weights = cho_solve(factor, left)
            inverse = cho_solve(factor, np.eye(len(at)))
            # Rasmussen and Williams, equation 5.12: the error of each when it is left out.
            error = float(np.mean((weights / np.diag(inverse)) ** 2))
            if best is None or error < best[0]:
                best = error, weights, scale
        assert best is not None
        return at, best[1], best[2]


def _kernel(a: Matrix, b: Matrix, scale: float) -> Matrix:
    """Correlation of the logarithms at `(n, d)` and `(m, d)` places, `(n, m)`."""
    if a.shape[1] == 0:
        return np.ones((len(a), len(b)))
    squares = ((a[:, None] - b[None]) ** 2).sum(axis=2)
    return np.asarray(np.exp(-squares / (2 * scale**2)))
