"""Selects the units and branches to keep: those with the highest scores that fit the MACs.

A knapsack whose weights depend on one another (the MACs of an op are the product of two widths), so
it is filled greedily in the order of scores; every candidate is checked with the exact MACs of the
cut network. Knows scores and MACs. Does not know where scores come from, or weights.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from evaluators.costs.gated_costs import GatedMacs
from search_spaces.cutting.cut_ops import Kept
from search_spaces.errors import UserError

REACHED_SHARE = 0.95
"""Share of the target from which the target counts as reached."""

STOP_SHARE = 0.995
"""Share of the target from which no further units are tried."""

Scores = npt.NDArray[np.float64]


def select_within(costs: GatedMacs, scores: Scores, target: int) -> Kept:
    """Select the units and branches with the highest scores within `target` MACs.

    At least one unit of every group is kept, the one with the highest score. At least 95 % of the
    target is used wherever the search finds such a set.

    Args:
        costs: MACs of the cut network.
        scores: `(units + branches,)`; higher scores are kept first.
        target: maximum MACs.

    Raises:
        UserError: if one unit of each group without any branch exceeds the target.
    """
    if costs.smallest > target:
        raise UserError(
            f"the target of {target:,} MACs is below {costs.smallest:,}, the least that this "
            "network can be cut to"
        )
    filling = _Filling(costs, scores, target)
    first = filling.prefix()
    assert first is not None  # the required units fit, or the target is below the smallest
    best = filling.filled(first)
    for flags in filling.others(best):
        if filling.macs(best) >= REACHED_SHARE * target:
            break
        if filling.macs(flags) > filling.macs(best):
            best = flags
    return filling.kept(best)


def select_above(costs: GatedMacs, scores: Scores, threshold: float) -> Kept:
    """Select the units and branches with scores above `threshold`, and the best of every group."""
    filling = _Filling(costs, scores, costs.whole)
    return filling.kept((scores > threshold) | filling.required)


Items = npt.NDArray[np.bool_]
"""Flags of kept units and branches, `(units + branches,)`."""


@dataclass
class _Filling:
    """A search for sets of units and branches within the target."""

    costs: GatedMacs
    scores: Scores
    target: int
    order: npt.NDArray[np.int64] = field(init=False)
    """Units and branches by descending score."""
    required: Items = field(init=False)
    """The best unit of every group."""

    def __post_init__(self) -> None:
        self.order = np.argsort(-self.scores, kind="stable")
        self.required = np.zeros(len(self.scores), dtype=bool)
        for group in self.costs.features.groups:
            self.required[group.units[np.argmax(self.scores[group.units])]] = True

    def kept(self, flags: Items) -> Kept:
        count = self.costs.features.count
        return Kept(flags[:count].copy(), flags[count:].copy())

    def macs(self, flags: Items) -> int:
        return self.costs.count(self.kept(flags))

    def prefix(self, pinned: Sequence[int] = ()) -> Items | None:
        """The required and pinned items and as many of the best as fit.

        None if the required and pinned items do not fit.
        """

        def first(count: int) -> Items:
            flags = self.required.copy()
            flags[list(pinned)] = True
            flags[self.order[:count]] = True
            return flags

        if self.macs(first(0)) > self.target:
            return None
        low, high = 0, len(self.order)
        while low < high:  # the MACs never decrease with the number of items
            middle = (low + high + 1) // 2
            if self.macs(first(middle)) <= self.target:
                low = middle
            else:
                high = middle - 1
        return first(low)

    def filled(self, flags: Items, without: int = -1) -> Items:
        """Add items that fit in the order of scores, until the target is nearly reached."""
        flags = flags.copy()
        macs = self.macs(flags)
        for item in self.order[~flags[self.order]].tolist():
            if macs >= STOP_SHARE * self.target:
                break
            if item == without:
                continue
            flags[item] = True
            added = self.macs(flags)
            # A unit without cost belongs to a branch that is cut out.
            if macs < added <= self.target:
                macs = added
            else:
                flags[item] = False
        return flags

    def others(self, flags: Items) -> Iterator[Items]:
        """Other sets, for where no further item fits beside `flags` although MACs are left."""
        count = self.costs.features.count
        on, out = ([i for i in self.order.tolist() if i >= count and flags[i] == k] for k in (1, 0))
        # A branch or a head is added in exchange for units elsewhere, or for other branches.
        choices = [[*on, *out[:n]] for n in range(1, len(out) + 1)] + [[i] for i in out]
        for group in self.costs.features.groups:
            units = group.units[~flags[group.units]]
            if len(units):
                choices.append([int(units[np.argmax(self.scores[units])])])
        for pinned in choices:
            start = self.prefix(pinned)
            if start is not None:
                yield self.filled(start)
        for item in self.order[::-1][flags[self.order[::-1]]].tolist():
            if not self.required[item]:
                fewer = flags.copy()
                fewer[item] = False
                yield self.filled(fewer, without=item)
