"""Reports of FLOPs-aware training: what was cut, the MACs reached, and the course of λ.

Knows a network's units before and after the cut. Does not know how the units were selected, or
runs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from evaluators.costs.gated_costs import network_costs
from search_spaces.cutting.cut_ops import Kept, cut_ops, surviving
from search_spaces.cutting.tied_features import TiedFeatures
from search_spaces.serial import Blocks

RESIDUAL_BLOCKS = "residual blocks"


@dataclass(frozen=True)
class Change:
    """A count before and after the cut."""

    before: int
    after: int

    @property
    def removed(self) -> float:
        """Share that was removed, from 0 to 1."""
        return 1 - self.after / self.before if self.before else 0.0

    def to_json(self) -> dict[str, Any]:
        """`before`, `after` and `removed`."""
        return {"before": self.before, "after": self.after, "removed": self.removed}

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> Change:
        """The change that `to_json` wrote."""
        return cls(content["before"], content["after"])


@dataclass(frozen=True)
class AccuracyChange:
    """Test accuracies, from 0 to 1, before and after the cut."""

    before: float
    after: float

    def per_mmac(self, macs: Change) -> tuple[float, float]:
        """Percentage points per million MACs, before and after."""
        return (
            100 * self.before / (macs.before / 1e6),
            100 * self.after / (macs.after / 1e6),
        )


@dataclass(frozen=True)
class MultiplierPoint:
    """λ at one step of the gates' training."""

    step: int
    """Number of completed steps."""
    multiplier: float
    """λ."""
    macs: int
    """Expected MACs under the gates' probabilities."""


@dataclass(frozen=True)
class PruningReport:
    """The result of FLOPs-aware training of one network."""

    macs: Change
    params: Change
    memory: Change
    """Peak activation memory in bytes."""
    units: Mapping[str, Change]
    """By kind: `channels`, `heads`, `neurons`, ..., `residual blocks`."""
    target: int | None
    """Maximum MACs; None with a fixed penalty."""
    penalty: float | None
    """Fixed λ; None with a target."""
    trajectory: Sequence[MultiplierPoint]
    fixed: Mapping[str, str]
    """Places that cannot be cut, with the reason."""
    accuracy: AccuracyChange | None = None
    """None if the networks were not scored."""

    @property
    def share_of_target(self) -> float | None:
        """MACs after the cut divided by the target; None without a target."""
        return self.macs.after / self.target if self.target else None

    @property
    def multiplier(self) -> float | None:
        """λ after the last step; None without a trajectory."""
        return self.trajectory[-1].multiplier if self.trajectory else None

    def to_json(self) -> dict[str, Any]:
        """The report as `config.json` of an exported network and `nas train --json` contain it."""
        content: dict[str, Any] = {
            "macs": self.macs.to_json(),
            "params": self.params.to_json(),
            "memory": self.memory.to_json(),
            "units": {kind: change.to_json() for kind, change in self.units.items()},
            "target": self.target,
            "share_of_target": self.share_of_target,
            "penalty": self.penalty,
            "lambda": self.multiplier,
            "trajectory": [
                {"step": p.step, "lambda": p.multiplier, "macs": p.macs} for p in self.trajectory
            ],
            "fixed": dict(self.fixed),
        }
        if self.accuracy is not None:
            before, after = self.accuracy.per_mmac(self.macs)
            content["accuracy"] = {
                "before": self.accuracy.before,
                "after": self.accuracy.after,
                "per_mmac": {"before": before, "after": after},
            }
        return content

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> PruningReport:
        """The report that `to_json` wrote, possibly among other keys."""
        accuracy = content.get("accuracy")
        return cls(
            macs=Change.from_json(content["macs"]),
            params=Change.from_json(content["params"]),
            memory=Change.from_json(content["memory"]),
            units={kind: Change.from_json(units) for kind, units in content["units"].items()},
            target=content["target"],
            penalty=content["penalty"],
            trajectory=tuple(
                MultiplierPoint(point["step"], point["lambda"], point["macs"])
                for point in content["trajectory"]
            ),
            fixed=content["fixed"],
            accuracy=None
            if accuracy is None
            else AccuracyChange(accuracy["before"], accuracy["after"]),
        )


def summarise(
    features: TiedFeatures,
    blocks: Blocks,
    kept: Kept,
    target: int | None,
    penalty: float | None,
    trajectory: Sequence[MultiplierPoint],
) -> PruningReport:
    """Count a network before and after a cut.

    Args:
        features: its units and branches.
        blocks: its ops before the cut.
        kept: the units and branches that are kept.
        target: see `PruningReport`, also for the other arguments.
    """
    before, after = network_costs(blocks), network_costs(cut_ops(features, kept))
    live = set(surviving(features, kept))
    # A kept unit is removed all the same if its whole branch is.
    alive = np.zeros(features.count + 1, dtype=bool)
    for key in live:
        alive[features.units[key]] = True
    alive[:-1] &= kept.units
    counts: dict[str, list[int]] = {}
    for group in features.groups:
        pair = counts.setdefault(group.kind, [0, 0])
        pair[0] += len(group.units)
        pair[1] += int(alive[group.units].sum())
    if features.branches:
        counts[RESIDUAL_BLOCKS] = [
            len(features.branches),
            sum(branch.total in live for branch in features.branches),
        ]
    return PruningReport(
        macs=Change(before["macs"], after["macs"]),
        params=Change(before["params"], after["params"]),
        memory=Change(before["memory"], after["memory"]),
        units={kind: Change(*pair) for kind, pair in counts.items()},
        target=target,
        penalty=penalty,
        trajectory=tuple(trajectory),
        fixed=dict(features.fixed),
    )
