"""What was cut from a network: shares of units and parameters, MACs, and how close to a target."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from evaluators.costs.gated_costs import network_costs
from search_spaces.cutting.cut_ops import Kept, cut_ops, surviving
from search_spaces.cutting.tied_features import Features
from search_spaces.serial import Blocks

BLOCKS = "residual blocks"


def report(
    features: Features,
    blocks: Blocks,
    kept: Kept,
    target: int | None,
    penalty: float | None,
    trajectory: Sequence[dict[str, float]],
) -> dict[str, Any]:
    """What there was, what is left, and how λ went, as JSON.

    `units` has for each kind (`channels`, `heads`, `neurons`, ..., `residual blocks`) how many
    there were before and after and the share that went; `params` and `macs` the same of the whole
    network; `share_of_target` is the MACs after over the target, None without one.
    """
    before, after = network_costs(blocks), network_costs(cut_ops(features, kept))
    # A unit that was to stay is gone all the same where its whole branch is.
    alive = np.zeros(features.count + 1, dtype=bool)
    for key in surviving(features, kept):
        alive[features.units[key]] = True
    alive[:-1] &= kept.units
    counts: dict[str, list[int]] = {}
    for group in features.groups:
        had = counts.setdefault(group.kind, [0, 0])
        had[0] += len(group.units)
        had[1] += int(alive[group.units].sum())
    if features.branches:
        live = set(surviving(features, kept))
        counts[BLOCKS] = [len(features.branches), sum(b.total in live for b in features.branches)]
    return {
        "macs": _change(before["macs"], after["macs"]),
        "params": _change(before["params"], after["params"]),
        "memory": _change(before["memory"], after["memory"]),
        "units": {kind: _change(*pair) for kind, pair in counts.items()},
        "target": target,
        "share_of_target": after["macs"] / target if target else None,
        "penalty": penalty,
        "lambda": trajectory[-1]["lambda"] if trajectory else None,
        "trajectory": list(trajectory),
        "fixed": dict(features.fixed),
    }


def _change(before: int, after: int) -> dict[str, Any]:
    return {"before": before, "after": after, "removed": 1 - after / before if before else 0.0}


def accuracies(before: float, after: float, macs: dict[str, Any]) -> dict[str, Any]:
    """Test accuracies beside the MACs they cost: `per_mmac` is points for a million MACs."""
    return {
        "before": before,
        "after": after,
        "per_mmac": {
            "before": 100 * before / (macs["before"] / 1e6),
            "after": 100 * after / (macs["after"] / 1e6),
        },
    }
