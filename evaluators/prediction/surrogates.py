"""Surrogate models of a metric: predictions with uncertainty, from features.

Each model is fitted to standardised values, predicts a mean and a standard deviation, and gives
left-out predictions of the rows it was fitted to, by which models are compared. Knows features and
values. Does not know where features come from nor what a prediction is for.
"""

from __future__ import annotations

from typing import Protocol

import numpy as np
import numpy.typing as npt
from scipy.linalg import cho_solve, cholesky, solve_triangular
from scipy.linalg.lapack import dpotri
from scipy.optimize import minimize
from sklearn.ensemble import ExtraTreesRegressor

from evaluators.prediction.features import Matrix

Vector = npt.NDArray[np.float64]

FITTED_ROWS = 400
"""Most rows to fit a Gaussian process to: its time grows with their cube."""

TUNED_ROWS = 160
"""Most rows to tune its few hyperparameters on."""

TREES = 48
"""Trees of the forest."""


class Surrogate(Protocol):
    """A model of one metric."""

    def fit(self, positions: Matrix, totals: Matrix, values: Vector, *, tune: bool) -> None:
        """Fit to features `(n, p)` and `(n, t)` and values `(n,)` of mean 0 and deviation 1.

        Args:
            tune: choose the hyperparameters again; otherwise keep the last ones.
        """
        ...

    def left_out(self) -> tuple[npt.NDArray[np.intp], Vector]:
        """Indices `(m,)` of the fitted rows, and the prediction `(m,)` for each without it."""
        ...

    def predict(self, positions: Matrix, totals: Matrix) -> tuple[Vector, Vector]:
        """Mean and standard deviation, `(n,)` each."""
        ...

    def mean(self, positions: Matrix, totals: Matrix) -> Vector:
        """The mean alone, `(n,)`: much faster for millions of rows."""
        ...


class GaussianProcess:
    """A sum of kernels, weighted and scaled by the marginal likelihood.

    There are linear kernels on positions and totals, for the additive effect of each option, and
    squared-exponential kernels on both, for interactions. Rasmussen and Williams, "Gaussian
    Processes for Machine Learning", 2006: algorithm 2.1, and section 5.4.2 for the left-out
    predictions.

    Args:
        smooth: False for the linear kernels only, which is Bayesian ridge regression.
    """

    _START = np.log([0.3, 0.3, 0.3, 0.3, 1.0, 1.0, 0.1])
    """Variances of the four kernels, the two length scales, and the variance of the noise."""

    _SPREAD = np.array([1.5, 1.5, 1.5, 1.5, 0.7, 0.7, 1.5])
    """Standard deviation of a normal prior on each of their logarithms."""

    def __init__(self, *, smooth: bool = True) -> None:
        self._free = np.array([0, 1, 2, 3, 4, 5, 6] if smooth else [0, 1, 6])
        self._smooth = smooth
        self._log = self._START.copy()

    def fit(self, positions: Matrix, totals: Matrix, values: Vector, *, tune: bool) -> None:
        """See `Surrogate.fit`."""
        self._rows = _most_informative(values, FITTED_ROWS)
        self._positions, self._totals = positions[self._rows], totals[self._rows]
        y = values[self._rows]
        if tune:
            self._tune(y)
        kernel = self._joined(self._parts(self._positions, self._totals)).astype(np.float64)
        n = len(y)
        self._factor = _factor(kernel, self._noise())
        self._weights = cho_solve((self._factor, True), y)
        self._values = y
        half = solve_triangular(self._factor, np.eye(n), lower=True)
        self._half = half.astype(np.float32)
        self._precision = (half**2).sum(axis=0)
        self._prepare_mean()

    def left_out(self) -> tuple[npt.NDArray[np.intp], Vector]:
        """See `Surrogate.left_out`; in closed form."""
        return self._rows, self._values - self._weights / self._precision

    def predict(self, positions: Matrix, totals: Matrix) -> tuple[Vector, Vector]:
        """See `Surrogate.predict`."""
        means, deviations = [], []
        weights = self._weights.astype(np.float32)
        for start in range(0, max(1, len(positions)), 8192):
            part = slice(start, start + 8192)
            p, t = positions[part], totals[part]
            across = self._joined(self._parts(p, t))
            means.append(across @ weights)
            known = across @ self._half.T
            prior = self._prior(p, t)
            deviations.append(np.sqrt(np.maximum(prior - (known**2).sum(axis=1), 1e-6)))
        return (
            np.concatenate(means).astype(np.float64),
            np.concatenate(deviations).astype(np.float64),
        )

    def mean(self, positions: Matrix, totals: Matrix) -> Vector:
        """See `Surrogate.mean`."""
        result = positions @ self._slopes[0] + totals @ self._slopes[1]
        if not self._smooth:
            return result.astype(np.float64)
        for features, fitted, weights in zip(
            (positions, totals), self._distances, self._heights, strict=True
        ):
            squares = np.einsum("ij,ij->i", features, features)[:, None]
            near = np.concatenate([features, squares, np.ones_like(squares)], axis=1) @ fitted
            result += np.exp(near, out=near) @ weights
        return result.astype(np.float64)

    def _prepare_mean(self) -> None:
        """Precompute `mean`: linear kernels are slopes, and distances one product of matrices.

        With rows `[a, |a|^2, 1]` and columns `[2cb, -c, -c|b|^2]` the product is `-c |a - b|^2`.
        """
        v = np.exp(self._log)
        weights = self._weights
        pairs = (self._positions, v[0], v[2], 10 / v[4]), (self._totals, v[1], v[3], 1 / v[5])
        self._slopes, self._distances, self._heights = [], [], []
        for b, linear, height, rate in pairs:
            width = b.shape[1]
            self._slopes.append((linear / width * (weights @ b)).astype(np.float32))
            if self._smooth:
                c = rate / width
                squares = np.einsum("ij,ij->i", b, b)
                columns = [2 * c * b.T, np.full((1, len(b)), -c), -c * squares[None]]
                self._distances.append(np.concatenate(columns).astype(np.float32))
                self._heights.append((height * weights).astype(np.float32))

    def _noise(self) -> float:
        return float(np.exp(self._log[6])) + 1e-4

    def _parts(
        self, positions: Matrix, totals: Matrix, some: npt.NDArray[np.intp] | None = None
    ) -> list[Matrix]:
        """Products with and squared distances to the fitted rows, or `some` of them."""
        result = []
        fitted = self._positions, self._totals
        if some is not None:
            fitted = self._positions[some], self._totals[some]
        for a, b in zip((positions, totals), fitted, strict=True):
            scale = np.float32(1 / b.shape[1])
            products = (a @ b.T) * scale
            result.append(products)
            if self._smooth:
                squares = np.einsum("ij,ij->i", a, a) * scale, np.einsum("ij,ij->i", b, b) * scale
                result.append(np.maximum(squares[0][:, None] + squares[1] - 2 * products, 0))
        return result

    def _joined(self, parts: list[Matrix]) -> Matrix:
        v = np.exp(self._log).astype(np.float32)
        if not self._smooth:
            return np.asarray(v[0] * parts[0] + v[1] * parts[1])
        near = np.exp(parts[1] * (-10 / v[4])), np.exp(parts[3] * (-1 / v[5]))
        return np.asarray(v[0] * parts[0] + v[2] * near[0] + v[1] * parts[2] + v[3] * near[1])

    def _prior(self, positions: Matrix, totals: Matrix) -> npt.NDArray[np.float32]:
        v = np.exp(self._log)
        linear = v[0] / positions.shape[1] * np.einsum("ij,ij->i", positions, positions)
        linear += v[1] / totals.shape[1] * np.einsum("ij,ij->i", totals, totals)
        return np.asarray(linear + (v[2] + v[3] if self._smooth else 0.0))

    def _tune(self, y: Vector) -> None:
        some = _most_informative(y, TUNED_ROWS)
        y = y[some]
        within = self._parts(self._positions[some], self._totals[some], some)
        parts = [part.astype(np.float64) for part in within]
        n = len(y)
        diagonal = np.diag_indices(n)

        def negative(log: Vector) -> tuple[float, Vector]:
            """Negative log posterior of the hyperparameters and its gradient."""
            whole = self._log.copy()
            whole[self._free] = log
            v = np.exp(whole)
            if self._smooth:
                scaled = parts[1] * (10 / v[4]), parts[3] / v[5]
                near = v[2] * np.exp(-scaled[0]), v[3] * np.exp(-scaled[1])
                pieces = [
                    v[0] * parts[0],
                    v[1] * parts[2],
                    near[0],
                    near[1],
                    near[0] * scaled[0],
                    near[1] * scaled[1],
                ]
                kernel = sum(pieces[:4], np.zeros((n, n)))
            else:
                pieces = [v[0] * parts[0], v[1] * parts[1]]
                kernel = pieces[0] + pieces[1]
            kernel[diagonal] += v[6] + 1e-4
            try:
                factor = cholesky(kernel, lower=True)
            except np.linalg.LinAlgError:
                return 1e10, np.zeros_like(log)
            weights = cho_solve((factor, True), y)
            # LAPACK fills one triangle only. The inverse and all pieces are symmetric, and
            # doubling the triangle counts its diagonal twice.
            inverse, _ = dpotri(factor, lower=True)
            inner = np.outer(weights, weights) - 2 * np.tril(inverse)
            inner[diagonal] += np.diag(inverse)
            gradient = np.array(
                [-0.5 * float((inner * piece).sum()) for piece in pieces]
                + [-0.5 * v[6] * float(np.trace(inner))]
            )
            deviation = (log - self._START[self._free]) / self._SPREAD[self._free]
            value = 0.5 * y @ weights + np.log(np.diag(factor)).sum() + 0.5 * (deviation**2).sum()
            return float(value), gradient + deviation / self._SPREAD[self._free]

        found = minimize(
            negative, self._log[self._free], jac=True, method="L-BFGS-B", options={"maxiter": 25}
        )
        if np.isfinite(found.x).all():
            self._log[self._free] = found.x


class Trees:
    """Extremely randomised trees (Geurts et al., 2006), of scikit-learn.

    The standard deviation over the trees is the uncertainty; out-of-bag rows give the left-out
    predictions.
    """

    def __init__(self, seed: int = 0) -> None:
        self._forest = ExtraTreesRegressor(
            TREES, bootstrap=True, oob_score=True, max_features=0.5, random_state=seed, n_jobs=1
        )

    def fit(self, positions: Matrix, totals: Matrix, values: Vector, *, tune: bool) -> None:
        """See `Surrogate.fit`."""
        self._forest.fit(np.concatenate([positions, totals], axis=1), values)

    def left_out(self) -> tuple[npt.NDArray[np.intp], Vector]:
        """See `Surrogate.left_out`; the mean over the trees that were not fitted to the row."""
        predicted = np.asarray(self._forest.oob_prediction_, dtype=np.float64)
        return np.arange(len(predicted)), predicted

    def predict(self, positions: Matrix, totals: Matrix) -> tuple[Vector, Vector]:
        """See `Surrogate.predict`."""
        x = np.concatenate([positions, totals], axis=1)
        each = np.stack([tree.predict(x, check_input=False) for tree in self._forest.estimators_])
        return each.mean(axis=0), np.sqrt(each.var(axis=0) + 1e-6)

    def mean(self, positions: Matrix, totals: Matrix) -> Vector:
        """See `Surrogate.mean`."""
        return np.asarray(self._forest.predict(np.concatenate([positions, totals], axis=1)))


def _factor(kernel: Vector, noise: float) -> Vector:
    """Lower Cholesky factor of a kernel `(n, n)` of float32 products with noise on the diagonal.

    If rows are nearly alike and the noise is small, rounding can make the matrix indefinite; then
    more noise is added.
    """
    identity = np.eye(len(kernel))
    while True:
        try:
            return np.asarray(cholesky(kernel + noise * identity, lower=True))
        except np.linalg.LinAlgError:
            noise = 4 * noise


def _most_informative(values: Vector, count: int) -> npt.NDArray[np.intp]:
    """Indices of at most `count` rows: half of them the best, half evenly over the other ranks."""
    if len(values) <= count:
        return np.arange(len(values))
    order = np.argsort(-values, kind="stable")
    others = order[count // 2 :]
    spaced = np.linspace(0, len(others) - 1, count - count // 2).round().astype(np.intp)
    return np.sort(np.concatenate([order[: count // 2], others[spaced]]))
