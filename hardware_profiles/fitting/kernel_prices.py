"""Fit prices of kernels to a few timed networks: a non-negative linear model with a physical prior.

The time of a network is `sum over kinds of (price . quantities) + rooflines + a constant`, and all
prices are non-negative. The prior mean of a kind's prices is the average kind's (MACs and launches
cost about the same in every kind). The spread about it and the noise of readings are unknown.
Therefore every pair of both on a grid is fitted, and the fits are averaged with weights from their
errors on left-out samples (pseudo-BMA: Yao et al., "Using stacking to average Bayesian predictive
distributions", 2018). Errors are relative, as is the noise of readings. Knows features and
milliseconds. Does not know ops or spaces.
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
"""Standard deviations of a kind's prices about the average kind's, in units of the price at which
one quantity alone accounts for the average network's time."""

NOISES = (0.003, 0.01, 0.03, 0.1)
"""Relative standard deviations of a reading."""

FOLDS = 10
"""Number of folds of cross-validation."""

WEIGHT_FLOOR = 0.3
"""Readings below this share of the median are weighted as if at it: not all noise is relative."""

OUTLIER = 0.5
"""Readings with a relative error above this and above six robust standard deviations are outliers,
at most one in ten."""

REQUIRED_STANDARD_ERRORS = 1.0
"""Standard errors by which the model without dead ops must be better to be chosen."""

ERROR_RESOLUTION = 0.01
"""Relative errors below this are treated as equal: readings are not more accurate."""

N_QUANTITIES, N_RIDGES = len(QUANTITIES), len(RIDGES)


@dataclass(frozen=True, eq=False)
class Prices:
    """Fitted prices with cross-validated predictions.

    `coefficients` is `(width,)`, milliseconds per unit of each feature. `left_out` is `(n,)`, the
    milliseconds of each sample predicted without its fold; `summed` is the same with dead ops
    counted.
    """

    coefficients: Vector
    left_out: Vector
    summed: Vector


def fit_prices(features: Matrix, milliseconds: Vector, written: Matrix | None = None) -> Prices:
    """Fit prices to features and times of networks.

    Args:
        features: `(n, width)`.
        milliseconds: `(n,)`.
        written: features `(n, width)` with dead ops counted, if they differ.
    """
    n = len(milliseconds)
    median = float(np.median(milliseconds))
    y = milliseconds / median
    scales = scales_of(features)
    x = design(features, scales)
    x_summed = x if written is None else design(written, scales)
    weights = 1 / np.maximum(y, WEIGHT_FLOOR)
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
        shares = _averaging_weights(losses[:, ~own])
        left_out[own], left_out_summed[own] = shares @ predicted[:, own], shares @ summed[:, own]
    gram, moment = x_weighted.T @ x_weighted, x_weighted.T @ y_weighted
    solution = np.zeros(x.shape[1])
    for share, (spread, noise) in zip(_averaging_weights(losses), grid, strict=True):
        if share > 1e-3:
            solution += share * _solve(gram, moment, spread, noise)
    coefficients = _unscaled(solution, scales) * median
    return Prices(coefficients, left_out * median, left_out_summed * median)


@dataclass(frozen=True, eq=False)
class FittedViews:
    """Prices fitted with dead ops, and without them (None if the features are equal)."""

    measured: Vector
    written: Prices
    compiled: Prices | None

    def is_compiled(self, among: npt.NDArray[np.bool_] | None = None) -> bool:
        """Whether the samples indicate that the device eliminates dead ops.

        True if the cross-validated errors without dead ops are smaller by more than
        `REQUIRED_STANDARD_ERRORS`. Logarithms of errors are compared, to be robust against failed
        readings.

        Args:
            among: mask `(n,)` of the samples to use; by default all.
        """
        if self.compiled is None:
            return False
        gain = self._log_errors(self.written) - self._log_errors(self.compiled)
        gain = gain if among is None else gain[among]
        return bool(gain.mean() > REQUIRED_STANDARD_ERRORS * gain.std(ddof=1) / len(gain) ** 0.5)

    @property
    def chosen(self) -> Prices:
        """The prices selected by all samples."""
        if self.compiled is not None and self.is_compiled():
            return self.compiled
        return self.written

    def left_out(self) -> Vector:
        """Return the predictions `(n,)` of samples by the prices that the other folds select."""
        result = self.written.left_out.copy()
        if self.compiled is not None:
            folds = folds_of(len(result))
            for fold in range(folds.max() + 1):
                if self.is_compiled(folds != fold):
                    result[folds == fold] = self.compiled.left_out[folds == fold]
        return result

    def inliers(self) -> npt.NDArray[np.bool_]:
        """Return a mask `(n,)` that is False for outliers."""
        errors = self._errors(self.left_out())
        limit = max(OUTLIER, 6 * 1.4826 * float(np.median(errors)))
        worst = np.argsort(-errors)[: len(errors) // 10]
        result = np.ones(len(errors), dtype=bool)
        result[worst] = errors[worst] <= limit
        return result

    def _log_errors(self, prices: Prices) -> Vector:
        return np.log(self._errors(prices.left_out) + ERROR_RESOLUTION)

    def _errors(self, predicted: Vector) -> Vector:
        floor = WEIGHT_FLOOR * np.median(self.measured)
        return np.asarray(np.abs(predicted - self.measured) / np.maximum(self.measured, floor))


def fit_views(
    written: Matrix, compiled: Matrix, running: Vector, milliseconds: Vector
) -> FittedViews:
    """Fit prices with and without dead ops.

    Args:
        written: features `(n, width)` with dead ops.
        compiled: features `(n, width)` without them.
        running: `(width,)`, 0 for features of kinds that a compiler always eliminates, else 1.
        milliseconds: `(n,)`.
    """
    summed = written * running
    return FittedViews(
        milliseconds,
        fit_prices(written, milliseconds),
        None if np.array_equal(written, compiled) else fit_prices(compiled, milliseconds, summed),
    )


def folds_of(n: int) -> npt.NDArray[np.intp]:
    """Return the fold of each of `n` samples; random, since files are often sorted."""
    return np.random.default_rng(0).permutation(n) % min(n, FOLDS)


def capped(errors: Vector) -> Vector:
    """Return squared errors, clipped at nine times their median against failed readings."""
    squares = errors**2
    return np.minimum(squares, 9 * np.median(squares))


def scales_of(features: Matrix) -> Vector:
    """Return the mean totals of networks, `(quantities + rooflines,)`."""
    means = features[:, -1 - N_RIDGES - N_QUANTITIES : -1].mean(axis=0)
    return np.where(means > 0, means, 1.0)


def design(features: Matrix, scales: Vector) -> Matrix:
    """Return features in units of the average network: of kinds, rooflines and the constant."""
    kinds = (features.shape[1] - N_QUANTITIES - N_RIDGES - 1) // N_QUANTITIES
    return np.concatenate(
        [
            features[:, : kinds * N_QUANTITIES] / np.tile(scales[:N_QUANTITIES], kinds),
            features[:, -1 - N_RIDGES : -1] / scales[N_QUANTITIES:],
            features[:, -1:],
        ],
        axis=1,
    )


def _unscaled(solution: Vector, scales: Vector) -> Vector:
    kinds = (len(solution) - N_RIDGES - 1) // N_QUANTITIES
    return np.concatenate(
        [
            solution[: kinds * N_QUANTITIES] / np.tile(scales[:N_QUANTITIES], kinds),
            np.zeros(N_QUANTITIES),
            solution[kinds * N_QUANTITIES : -1] / scales[N_QUANTITIES:],
            solution[-1:],
        ]
    )


@lru_cache(maxsize=64)
def prior_precision(kinds: int, spread: float) -> Matrix:
    """Return the inverse covariance of the prior on the prices of `design` and of the average kind.

    Prices of the average kind, of rooflines and of the constant have a standard deviation of
    one median network's time.
    """
    size = kinds * N_QUANTITIES + N_RIDGES + 1 + N_QUANTITIES
    result = np.eye(size)
    for kind, quantity in product(range(kinds), range(N_QUANTITIES)):
        own, shared = kind * N_QUANTITIES + quantity, size - N_QUANTITIES + quantity
        result[own, own] = 1 / spread**2
        result[shared, shared] += 1 / spread**2
        result[own, shared] = result[shared, own] = -1 / spread**2
    return result


def _solve(gram: Matrix, moment: Vector, spread: float, noise: float) -> Vector:
    """Return the maximum a posteriori prices of `design`, all non-negative."""
    size = len(moment)
    whole = prior_precision((size - N_RIDGES - 1) // N_QUANTITIES, spread).copy()
    whole[:size, :size] += gram / noise**2
    whole[np.diag_indices_from(whole)] += 1e-9
    target = np.zeros(len(whole))
    target[:size] = moment / noise**2
    factor = cholesky(whole, lower=True)
    found, _ = nnls(factor.T, solve_triangular(factor, target, lower=True), maxiter=20 * len(whole))
    return np.asarray(found[:size])


def _averaging_weights(losses: Matrix) -> Vector:
    """Return the weight of each fit of the grid from its losses `(grid, n)` on left-out samples."""
    logs = -losses.shape[1] / 2 * np.log(losses.mean(axis=1) + 1e-12)
    shares = np.exp(logs - logs.max())
    return shares / shares.sum()
