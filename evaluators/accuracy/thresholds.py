"""Thresholds of early exits: how sure an exit must be for a sample to leave there.

Found on samples whose labels are known, over a grid of thresholds of all exits at once: the
cheapest within an accuracy loss, or the most accurate within a mean budget. Huang et al. ("MSDNet",
2018, section 3) spread a batch's budget over exits by one parameter, a share that leaves at each;
here every exit has its own threshold, and the grid is searched whole. Knows what exits say of
samples and what leaving costs. Does not know networks.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from evaluators.costs.exit_costs import ExitCosts, Ints
from search_spaces.errors import UserError

CELLS = 1_000_000
"""Combinations of thresholds looked at, at most."""

LEVELS = 200
"""Thresholds of one exit looked at, at most."""

CAUTION = 1.0
"""Standard errors of the accuracy loss that are held back from what is allowed.

The cheapest of many thresholds that just keep to a loss on these samples would on average exceed
it on others.
"""

NEVER = math.inf
"""The threshold of an exit at which nobody leaves: its head is not even run."""


@dataclass(frozen=True)
class Outcomes:
    """What each exit of a network, and its end, says of samples whose labels are known.

    `confidence` is `(n, exits)` float32 from 0 to 1, `right` `(n, exits + 1)` bool.
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
    """What a network with exits does on samples at given thresholds."""

    accuracy: float
    macs: float
    """Mean over samples."""
    rates: tuple[float, ...]
    """Share of samples that leave at each exit, and at the end: `exits + 1` that sum to 1."""


def operate(outcomes: Outcomes, thresholds: Sequence[float], costs: ExitCosts) -> Operation:
    """Let every sample leave at the first exit that is sure enough of it."""
    sure = outcomes.confidence >= np.asarray(thresholds, dtype=np.float32)
    n = len(outcomes)
    leaves_at = np.concatenate([sure, np.ones((n, 1), dtype=bool)], axis=1).argmax(axis=1)
    left = np.bincount(leaves_at, minlength=sure.shape[1] + 1)
    right = outcomes.right[np.arange(n), leaves_at]
    used = [threshold < NEVER for threshold in thresholds]
    return Operation(
        float(right.mean()), costs.mean(left.tolist(), used), tuple((left / n).tolist())
    )


def within_loss(
    outcomes: Outcomes, costs: ExitCosts, loss: float, *, caution: float = CAUTION
) -> tuple[float, ...]:
    """The thresholds of fewest mean MACs that lose at most so much accuracy.

    Args:
        loss: of accuracy, as a share: 0.005 is half a point.
        caution: standard errors of the loss to keep away from it.

    Raises:
        UserError: for a loss that is negative or not a number.
    """
    if not 0 <= loss < math.inf:
        raise UserError(f"the accuracy loss of early exits is {loss:g}, expected 0 or more")
    grid = _Grid(outcomes, costs)
    n = len(outcomes)
    lost = (outcomes.right[:, -1].sum() - grid.right) / n
    error = np.sqrt(np.maximum(grid.changed / n - lost**2, 0.0) / n)
    allowed = lost + caution * error <= loss + 1e-12
    macs = np.where(allowed, grid.macs, np.iinfo(np.int64).max)
    best = macs == macs.min()
    return grid.thresholds(np.where(best, grid.right, -1))


def within_budget(outcomes: Outcomes, costs: ExitCosts, macs: float) -> tuple[float, ...]:
    """The most accurate thresholds of at most so many mean MACs; of equal ones, the cheapest.

    Raises:
        UserError: for a budget that is below the least possible mean.
    """
    grid = _Grid(outcomes, costs)
    affordable = grid.macs <= macs * len(outcomes)
    if not affordable.any():
        least = grid.macs.min() / len(outcomes)
        raise UserError(
            f"a mean of {macs:,.0f} MACs is below {least:,.0f}, what the network takes where every "
            "sample leaves at the first exit"
        )
    right = np.where(affordable, grid.right, -1)
    best = right == right.max()
    return grid.thresholds(np.where(best, -grid.macs, np.iinfo(np.int64).min))


class _Grid:
    """All combinations of levels: one axis an exit, its last index the threshold `NEVER`.

    `right`, `changed` and `macs` count over all samples: labelled rightly, labelled rightly by
    only one of the exit taken and the end, multiply-accumulates.
    """

    def __init__(self, outcomes: Outcomes, costs: ExitCosts) -> None:
        exits = outcomes.confidence.shape[1]
        most = min(LEVELS, int(CELLS ** (1 / max(1, exits)) + 1e-9) - 1)
        self._levels = [_levels(column, most) for column in outcomes.confidence.T]
        # How many of its levels a sample is sure enough for, at each exit.
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
            left, rightly, otherwise = (c.reshape(c.shape + (1,) * (exits - axes)) for c in counted)
            self.right += rightly
            self.changed += otherwise
            self.macs += left * reached[exit]
            for passed in range(min(exit + 1, exits)):
                heads = np.full(shape[passed], costs.heads[passed], dtype=np.int64)
                heads[-1] = 0
                along = [1] * exits
                along[passed] = -1
                self.macs += left * heads.reshape(along)

    def thresholds(self, score: npt.NDArray[np.int64]) -> tuple[float, ...]:
        """The thresholds of the combination with the highest score, the strictest of equals."""
        flat = score.size - 1 - int(score.ravel()[::-1].argmax())
        place = np.unravel_index(flat, score.shape)
        return tuple(
            float(levels[index]) if index < len(levels) else NEVER
            for levels, index in zip(self._levels, place, strict=True)
        )


def _levels(confidence: npt.NDArray[np.float32], most: int) -> npt.NDArray[np.float32]:
    """At most so many thresholds, ascending, evenly by how many samples lie between them.

    The first lets everybody leave. The others lie halfway between two samples, so that the last
    digit of a confidence decides nothing.
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
    """How many of the chosen samples leave at the last of these exits, for all levels of them.

    A sample leaves at level i where its bin is above i. With `ends`, how many leave at none.
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
