"""Prices of kernels from a few timed networks: a non-negative linear model with a physical prior.

A network takes `sum over kinds of (price . quantities) + rooflines + a constant`. No price is
below zero. The prices of one kind are expected to be those of the average kind (a MAC is a MAC, a
kernel's start is a start) until samples say otherwise; how far they may differ, and how noisy
readings are, is not known beforehand. So every pair of both on a grid is fitted, and the fits are
averaged, each weighted by how well it predicts samples that were left out (pseudo-BMA: Yao et al.,
"Using stacking to average Bayesian predictive distributions", 2018). Errors are relative, as a
reading's noise is. Knows features and milliseconds; does not know ops or spaces.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from itertools import product

import numpy as np
import numpy.typing as npt
from scipy.linalg import cholesky, solve_triangular
from scipy.optimize import nnls

from hardware_profiles.latency.kernel_features import QUANTITIES, RIDGES, Matrix

Vector = npt.NDArray[np.float64]

SPREADS = (0.1, 0.3, 1.0, 3.0)
"""Standard deviations of a kind's price about the average kind's, in units of what the average
network would cost if nothing else did."""

NOISES = (0.003, 0.01, 0.03, 0.1)
"""Standard deviations of a reading, as shares of it."""

FOLDS = 10

FLOOR = 0.3
"""Readings below this share of the median weigh like one there: not all noise is relative."""

OUTLIER = 0.5
"""Readings this far (relatively) from what all others say, and six times as far as is usual, are
left out; at most one in ten."""

CLEARLY = 1.0
"""Standard errors by which leaving dead ops out must be better than running them."""

SMALL_ERROR = 0.01
"""Relative errors below this one are alike: no reading is better."""

Q, R = len(QUANTITIES), len(RIDGES)


@dataclass(frozen=True, eq=False)
class Prices:
    """Milliseconds a unit of each feature, `(width,)`, and what left-out samples say of them.

    `left_out` is `(n,)`: each sample's milliseconds as predicted without it and those of its fold;
    `summed` the same where every op counts, dead or not.
    """

    coefficients: Vector
    left_out: Vector
    summed: Vector


def fit_prices(features: Matrix, milliseconds: Vector, written: Matrix | None = None) -> Prices:
    """Fit prices to `(n, width)` features of networks and the `(n,)` times that they took.

    Args:
        written: features in which every op counts, where they are others.
    """
    n = len(milliseconds)
    median = float(np.median(milliseconds))
    y = milliseconds / median
    scales = scales_of(features)
    x = design(features, scales)
    x_summed = x if written is None else design(written, scales)
    weights = 1 / np.maximum(y, FLOOR)
    x_weighted, y_weighted = x * weights[:, None], y * weights
    grid = list(product(SPREADS, NOISES))
    folds = folds_of(n)
    predicted, summed = np.zeros((2, len(grid), n))
    for fold in range(folds.max() + 1):
        own = folds == fold
        gram = x_weighted[~own].T @ x_weighted[~own]
        moment = x_weighted[~own].T @ y_weighted[~own]
        for index, (spread, noise) in enumerate(grid):
            solution = _solve(gram, moment, spread, noise)
            predicted[index, own], summed[index, own] = x[own] @ solution, x_summed[own] @ solution
    losses = np.stack([capped((p - y) * weights) for p in predicted])
    left_out, left_out_summed = np.zeros((2, n))
    for fold in range(folds.max() + 1):
        own = folds == fold
        shares = _shares(losses[:, ~own])
        left_out[own], left_out_summed[own] = shares @ predicted[:, own], shares @ summed[:, own]
    gram, moment = x_weighted.T @ x_weighted, x_weighted.T @ y_weighted
    solution = np.zeros(x.shape[1])
    for share, (spread, noise) in zip(_shares(losses), grid, strict=True):
        if share > 1e-3:
            solution += share * _solve(gram, moment, spread, noise)
    coefficients = _unscaled(solution, scales) * median
    return Prices(coefficients, left_out * median, left_out_summed * median)


@dataclass(frozen=True, eq=False)
class TwoViews:
    """Prices by what is written, and by what a compiler leaves (None where that is the same)."""

    measured: Vector
    written: Prices
    compiled: Prices | None

    def is_compiled(self, among: npt.NDArray[np.bool_] | None = None) -> bool:
        """Whether the device leaves dead ops out, as far as some of the samples tell.

        What is written holds unless the other's errors on left-out samples are smaller by more
        than the standard error: their logarithms, so that no failed reading decides.
        """
        if self.compiled is None:
            return False
        gain = self._log_errors(self.written) - self._log_errors(self.compiled)
        gain = gain if among is None else gain[among]
        return bool(gain.mean() > CLEARLY * gain.std(ddof=1) / len(gain) ** 0.5)

    @property
    def chosen(self) -> Prices:
        """Those of the view that all samples choose."""
        if self.compiled is not None and self.is_compiled():
            return self.compiled
        return self.written

    def left_out(self) -> Vector:
        """`(n,)` predictions of samples by the view that those of other folds choose."""
        result = self.written.left_out.copy()
        if self.compiled is not None:
            folds = folds_of(len(result))
            for fold in range(folds.max() + 1):
                if self.is_compiled(folds != fold):
                    result[folds == fold] = self.compiled.left_out[folds == fold]
        return result

    def usual(self) -> npt.NDArray[np.bool_]:
        """`(n,)`: False for the few readings that are far off what all others say."""
        errors = self._errors(self.left_out())
        limit = max(OUTLIER, 6 * 1.4826 * float(np.median(errors)))
        worst = np.argsort(-errors)[: len(errors) // 10]
        result = np.ones(len(errors), dtype=bool)
        result[worst] = errors[worst] <= limit
        return result

    def _log_errors(self, prices: Prices) -> Vector:
        return np.log(self._errors(prices.left_out) + SMALL_ERROR)

    def _errors(self, predicted: Vector) -> Vector:
        floor = FLOOR * np.median(self.measured)
        return np.asarray(np.abs(predicted - self.measured) / np.maximum(self.measured, floor))


def fit_views(written: Matrix, compiled: Matrix, running: Vector, milliseconds: Vector) -> TwoViews:
    """Fit prices to `(n, width)` features with and without dead ops and `(n,)` times.

    Args:
        running: `(width,)` 0 for features of kinds that a compiler never leaves, else 1.
    """
    summed = written * running
    return TwoViews(
        milliseconds,
        fit_prices(written, milliseconds),
        None if np.array_equal(written, compiled) else fit_prices(compiled, milliseconds, summed),
    )


def folds_of(n: int) -> npt.NDArray[np.intp]:
    """The fold of each of `n` samples: at random, since files come sorted."""
    return np.random.default_rng(0).permutation(n) % min(n, FOLDS)


def capped(errors: Vector) -> Vector:
    """Squared errors, none above nine times their median: one failed reading decides nothing."""
    squares = errors**2
    return np.minimum(squares, 9 * np.median(squares))


def scales_of(features: Matrix) -> Vector:
    """`(quantities + rooflines,)`: what an average network has of each."""
    means = features[:, -1 - R - Q : -1].mean(axis=0)
    return np.where(means > 0, means, 1.0)


def design(features: Matrix, scales: Vector) -> Matrix:
    """Features in units of the average network: those of kinds, rooflines, the network itself."""
    kinds = (features.shape[1] - Q - R - 1) // Q
    return np.concatenate(
        [
            features[:, : kinds * Q] / np.tile(scales[:Q], kinds),
            features[:, -1 - R : -1] / scales[Q:],
            features[:, -1:],
        ],
        axis=1,
    )


def _unscaled(solution: Vector, scales: Vector) -> Vector:
    kinds = (len(solution) - R - 1) // Q
    return np.concatenate(
        [
            solution[: kinds * Q] / np.tile(scales[:Q], kinds),
            np.zeros(Q),
            solution[kinds * Q : -1] / scales[Q:],
            solution[-1:],
        ]
    )


@lru_cache(maxsize=64)
def precision(kinds: int, spread: float) -> Matrix:
    """Inverse covariance of the prior on the prices of `design` and then the average kind's.

    Prices of the average kind, of rooflines and of the network itself are of the order of one
    network's whole time.
    """
    size = kinds * Q + R + 1 + Q
    result = np.eye(size)
    for kind, quantity in product(range(kinds), range(Q)):
        own, shared = kind * Q + quantity, size - Q + quantity
        result[own, own] = 1 / spread**2
        result[shared, shared] += 1 / spread**2
        result[own, shared] = result[shared, own] = -1 / spread**2
    return result


def _solve(gram: Matrix, moment: Vector, spread: float, noise: float) -> Vector:
    """The most probable prices of `design`, none below zero."""
    size = len(moment)
    whole = precision((size - R - 1) // Q, spread).copy()
    whole[:size, :size] += gram / noise**2
    whole[np.diag_indices_from(whole)] += 1e-9
    target = np.zeros(len(whole))
    target[:size] = moment / noise**2
    factor = cholesky(whole, lower=True)
    found, _ = nnls(factor.T, solve_triangular(factor, target, lower=True), maxiter=20 * len(whole))
    return np.asarray(found[:size])


def _shares(losses: Matrix) -> Vector:
    """The weight of each fit of the grid by its `(grid, n)` losses on left-out samples."""
    logs = -losses.shape[1] / 2 * np.log(losses.mean(axis=1) + 1e-12)
    shares = np.exp(logs - logs.max())
    return shares / shares.sum()
