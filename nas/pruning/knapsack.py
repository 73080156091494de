"""Which units and branches stay: the best scored ones that fit a number of MACs, exactly.

A knapsack whose weights depend on one another (an op costs the product of two widths), so it is
filled greedily in the order of scores, every step counted on the integer MACs of the cut network.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from evaluators.costs.gated_costs import GatedMacs
from search_spaces.cutting.cut_ops import Kept
from search_spaces.errors import UserError

FULL = 0.95
"""Share of the target that counts as reached."""

NEARLY = 0.995
"""Share at which nothing more is looked for."""

Scores = npt.NDArray[np.float64]


def within(costs: GatedMacs, scores: Scores, target: int) -> Kept:
    """The best scored units and branches whose network has at most `target` MACs.

    Of every group at least one unit stays, the best scored one. At least 95 % of the target is
    used wherever the search finds such a set.

    Args:
        scores: `(units + branches,)`, higher for what should rather stay.

    Raises:
        UserError: if even one unit of each group and no branch is more than the target.
    """
    if costs.smallest > target:
        raise UserError(
            f"the target of {target:,} MACs is below {costs.smallest:,}, the least that this "
            "network can be cut to"
        )
    filling = _Filling(costs, scores, target)
    first = filling.prefix()
    assert first is not None  # the forced ones fit, or the target is below the least
    best = filling.filled(first)
    for flags in filling.others(best):
        if filling.macs(best) >= FULL * target:
            break
        if filling.macs(flags) > filling.macs(best):
            best = flags
    return filling.kept(best)


def above(costs: GatedMacs, scores: Scores, threshold: float) -> Kept:
    """The units and branches that score more than `threshold`, and the best of every group."""
    filling = _Filling(costs, scores, costs.whole)
    return filling.kept((scores > threshold) | filling.forced)


Items = npt.NDArray[np.bool_]
"""`(units + branches,)` flags."""


@dataclass
class _Filling:
    costs: GatedMacs
    scores: Scores
    target: int
    order: npt.NDArray[np.int64] = field(init=False)
    forced: Items = field(init=False)

    def __post_init__(self) -> None:
        self.order = np.argsort(-self.scores, kind="stable")
        self.forced = np.zeros(len(self.scores), dtype=bool)
        for group in self.costs.features.groups:
            self.forced[group.units[np.argmax(self.scores[group.units])]] = True

    def kept(self, flags: Items) -> Kept:
        count = self.costs.features.count
        return Kept(flags[:count].copy(), flags[count:].copy())

    def macs(self, flags: Items) -> int:
        return self.costs.count(self.kept(flags))

    def prefix(self, pinned: Sequence[int] = ()) -> Items | None:
        """The forced and pinned ones and as many of the best as fit; None if not even those do."""

        def first(count: int) -> Items:
            flags = self.forced.copy()
            flags[list(pinned)] = True
            flags[self.order[:count]] = True
            return flags

        if self.macs(first(0)) > self.target:
            return None
        low, high = 0, len(self.order)
        while low < high:  # more of them never cost less
            middle = (low + high + 1) // 2
            if self.macs(first(middle)) <= self.target:
                low = middle
            else:
                high = middle - 1
        return first(low)

    def filled(self, flags: Items, without: int = -1) -> Items:
        """With whatever else fits, the best first, until the target is nearly reached."""
        flags = flags.copy()
        macs = self.macs(flags)
        for item in self.order[~flags[self.order]].tolist():
            if macs >= NEARLY * self.target:
                break
            if item == without:
                continue
            flags[item] = True
            more = self.macs(flags)
            # What costs nothing is inside a branch that went.
            if macs < more <= self.target:
                macs = more
            else:
                flags[item] = False
        return flags

    def others(self, flags: Items) -> Iterator[Items]:
        """Other fillings, for where `flags` leaves room into which nothing whole fits."""
        count = self.costs.features.count
        on, out = ([i for i in self.order.tolist() if i >= count and flags[i] == k] for k in (1, 0))
        # A branch or a head comes in at the price of units elsewhere, or of other branches.
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
            if not self.forced[item]:
                fewer = flags.copy()
                fewer[item] = False
                yield self.filled(fewer, without=item)
