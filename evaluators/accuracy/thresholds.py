"""Thresholds of early exits: the confidence at which a sample leaves at an exit.

They are fitted on labelled samples over a joint grid of thresholds of all exits: the cheapest
within an accuracy loss, or the most accurate within a budget of mean MACs. Huang et al. ("MSDNet",
2018, section 3) distribute a batch's budget over exits by one parameter, the share that leaves at
each; here every exit has its own threshold, and the search over the grid is exhaustive. Knows
confidences, correctness and costs. Does not know networks.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from evaluators.costs.exit_costs import ExitCosts, Ints
from search_spaces.errors import UserError

MAX_COMBINATIONS = 1_000_000
"""Most combinations of thresholds in the grid."""

MAX_LEVELS = 200
"""Most thresholds of one exit in the grid."""

CAUTION = 1.0
"""Standard errors of the accuracy loss subtracted from the allowed loss.

The cheapest of many combinations that just meet a loss on the fitted samples exceeds it on average
on others.
"""

NEVER = math.inf
"""Threshold of an unused exit: no sample leaves there, and its head is not run."""


@dataclass(frozen=True)
class Outcomes:
    """Confidence and correctness of the exits of a network, on labelled samples.

    `confidence` is `(n, exits)` float32 from 0 to 1; `right` is `(n, exits + 1)` bool, whether the
    prediction at each exit and at the end is the label.
    """

    confidence: npt.NDArray[np.float32]
    right: npt.NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.right)

    def __getitem__(self, part: slice) -> Outcomes:
        return Outcomes(self.confidence[part], self.right[part])

    @property
    def whole(self) -> float:
        """Accuracy of the network without exits."""
        return float(self.right[:, -1].mean())


@dataclass(frozen=True)
class Operation:
    """Accuracy, cost and rates of a network with exits, at given thresholds."""

    accuracy: float
    macs: float
    """Mean MACs over samples."""
    rates: tuple[float, ...]
    """Share of samples that leave at each exit and at the end: `exits + 1` shares of sum 1."""


def operate(outcomes: Outcomes, thresholds: Sequence[float], costs: ExitCosts) -> Operation:
    """Operation where samples leave at the first exit whose threshold their confidence meets."""
    leaves = outcomes.confidence >= np.asarray(thresholds, dtype=np.float32)
    n = len(outcomes)
    leaves_at = np.concatenate([leaves, np.ones((n, 1), dtype=bool)], axis=1).argmax(axis=1)
    left = np.bincount(leaves_at, minlength=leaves.shape[1] + 1)
    right = outcomes.right[np.arange(n), leaves_at]
    used = [threshold < NEVER for threshold in thresholds]
    return Operation(
        float(right.mean()), costs.mean(left.tolist(), used), tuple((left / n).tolist())
    )


def within_loss(
    outcomes: Outcomes, costs: ExitCosts, loss: float, *, caution: float = CAUTION
) -> tuple[float, ...]:
    """The thresholds of fewest mean MACs within an accuracy loss.

    Args:
        loss: largest loss of accuracy, as a share: 0.005 is half a point.
        caution: standard errors of the measured loss to subtract from `loss`.

    Raises:
        UserError: for a loss that is negative or not a number.
    """
    if not 0 <= loss < math.inf:
        raise UserError(f"accuracy loss of early exits {loss:g}: expected 0 or more")
    grid = _Grid(outcomes, costs)
    n = len(outcomes)
    lost = (outcomes.right[:, -1].sum() - grid.right) / n
    error = np.sqrt(np.maximum(grid.changed / n - lost**2, 0.0) / n)
    allowed = lost + caution * error <= loss + 1e-12
    macs = np.where(allowed, grid.macs, np.iinfo(np.int64).max)
    best = macs == macs.min()
    return grid.thresholds(np.where(best, grid.right, -1))


def within_budget(outcomes: Outcomes, costs: ExitCosts, macs: float) -> tuple[float, ...]:
    """The most accurate thresholds of at most `macs` mean MACs; of equal ones, the cheapest.

    Raises:
        UserError: for a budget below the least possible mean.
    """
    grid = _Grid(outcomes, costs)
    affordable = grid.macs <= macs * len(outcomes)
    if not affordable.any():
        least = grid.macs.min() / len(outcomes)
        raise UserError(
            f"a mean of {macs:,.0f} MACs is below {least:,.0f}, the mean with every sample leaving "
            "at the first exit"
        )
    right = np.where(affordable, grid.right, -1)
    best = right == right.max()
    return grid.thresholds(np.where(best, -grid.macs, np.iinfo(np.int64).min))


class _Grid:
    """All combinations of thresholds: one axis per exit; its last index is `NEVER`.

    `right`, `changed` and `macs` are sums over samples: correct predictions, samples for which
    exactly one of the exit taken and the end is correct, and multiply-accumulates.
    """

    def __init__(self, outcomes: Outcomes, costs: ExitCosts) -> None:
        exits = outcomes.confidence.shape[1]
        most = min(MAX_LEVELS, int(MAX_COMBINATIONS ** (1 / max(1, exits)) + 1e-9) - 1)
        self._levels = [_levels(column, most) for column in outcomes.confidence.T]
        # For each exit, the number of its levels that each sample's confidence meets.
        bins = [
            np.searchsorted(levels, column, side="right")
            for levels, column in zip(self._levels, outcomes.confidence.T, strict=True)
        ]
        shape = tuple(len(levels) + 1 for levels in self._levels)
        self.right: Ints = np.zeros(shape, dtype=np.int64)
        self.changed: Ints = np.zeros(shape, dtype=np.int64)
        self.macs: Ints = np.zeros(shape, dtype=np.int64)
        end = outcomes.right[:, -1]
        reached: Ints = np.cumsum(costs.segments)
        for exit in range(exits + 1):
            right = outcomes.right[:, exit]
            axes = min(exit + 1, exits)
            counted = [
                _leaving(bins[:axes], shape[:axes], chosen, ends=exit == exits)
                for chosen in (np.ones(len(right), dtype=bool), right, right != end)
            ]
            left, right_there, changed = (
                c.reshape(c.shape + (1,) * (exits - axes)) for c in counted
            )
            self.right += right_there
            self.changed += changed
            self.macs += left * reached[exit]
            for passed in range(min(exit + 1, exits)):
                heads = np.full(shape[passed], costs.heads[passed], dtype=np.int64)
                heads[-1] = 0
                along = [1] * exits
                along[passed] = -1
                self.macs += left * heads.reshape(along)

    def thresholds(self, score: npt.NDArray[np.int64]) -> tuple[float, ...]:
        """Thresholds of the combination of highest score; of equal ones, the highest thresholds."""
        flat = score.size - 1 - int(score.ravel()[::-1].argmax())
        place = np.unravel_index(flat, score.shape)
        return tuple(
            float(levels[index]) if index < len(levels) else NEVER
            for levels, index in zip(self._levels, place, strict=True)
        )


def _levels(confidence: npt.NDArray[np.float32], most: int) -> npt.NDArray[np.float32]:
    """At most `most` thresholds, ascending, with about equally many samples between them.

    With the first, every sample leaves. The others are halfway between the confidences of two
    samples, so that rounding errors of confidences change nothing.
    """
    values = np.unique(confidence)
    low, high = values[:-1], values[1:]
    middle = low + (high - low) / np.float32(2)
    between = np.where(middle > low, middle, high).astype(np.float32)
    if len(between) >= most:
        ranks = np.linspace(0, len(confidence) - 1, most + 1)[1:-1].round().astype(int)
        places = np.searchsorted(values, np.sort(confidence)[ranks])
        between = between[np.unique(np.minimum(places, len(between) - 1))]
    return np.concatenate([np.zeros(1, dtype=np.float32), between])


def _leaving(
    bins: Sequence[npt.NDArray[np.intp]],
    shape: tuple[int, ...],
    chosen: npt.NDArray[np.bool_],
    *,
    ends: bool,
) -> Ints:
    """Number of chosen samples that leave at the last of these exits, for all levels of them.

    A sample leaves at level i if its bin is above i. With `ends`, the number that leave at none.
    """
    if not bins:
        return np.array(np.count_nonzero(chosen))
    index = np.ravel_multi_index(tuple(b[chosen] for b in bins), shape)
    count = np.bincount(index, minlength=math.prod(shape)).reshape(shape).astype(np.int64)
    for axis in range(len(shape) if ends else len(shape) - 1):
        count = count.cumsum(axis=axis)
    if ends:
        return count
    above = np.flip(np.flip(count, -1).cumsum(axis=-1), -1)
    return np.concatenate([above[..., 1:], np.zeros_like(above[..., :1])], axis=-1)
