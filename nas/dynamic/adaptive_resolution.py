"""Resolution-adaptive inference: a cheap pass decides at which resolution an image is run again.

A cheap subnet of a dynamic network looks at every image, at a low resolution; `resolution_rule`
decides from what it says whether its answer stands or which subnet, at a higher resolution, runs
on the image instead. Images of a batch are grouped by that decision, so each costs what was
decided for it and nothing more. Does not know how subnets were trained.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from evaluators.data.images import Split
from evaluators.data.scoring import SCORING_BATCH
from evaluators.sizes import format_size
from nas.dynamic.files import Subnet
from nas.dynamic.network import DynamicNetwork
from nas.dynamic.resolution_rule import Ladder, Rule, crossed, features, ladders, reaching, within
from search_spaces.architecture import Architecture
from search_spaces.errors import UserError
from search_spaces.files import write_text
from search_spaces.space import SearchSpace

FILE = "adaptive.json"
RESOLUTION = "resolution"


@dataclass(frozen=True)
class Adapted:
    """What adaptive inference gives for a batch of `n` images.

    `logits` is `(n, classes)`, `levels` `(n,)` the place in `Rule.levels` of the network that
    answered, `macs` `(n,)` int64 all that each image cost: the cheap pass, the rule, and its own
    pass.
    """

    logits: Tensor
    levels: Tensor
    macs: Tensor


class AdaptiveResolution:
    """A dynamic network whose images each choose their resolution.

    The active subnet of the network plays no part and may change meanwhile. Moved to another
    device, the network needs a new `AdaptiveResolution`.

    Raises:
        UserError: for a rule over subnets that the network does not have.
    """

    def __init__(self, network: DynamicNetwork, rule: Rule) -> None:
        self.dynamic = network
        self.rule = rule
        self.subnets = [network.find(level) for level in rule.levels]
        self._networks = [network.network(subnet) for subnet in self.subnets]

    @classmethod
    def load(cls, folder: Path | str) -> AdaptiveResolution:
        """The dynamic network in a folder with the rule that `save` left there.

        Raises:
            UserError: if there is none, or it is of other subnets.
        """
        path = Path(folder) / FILE
        network = DynamicNetwork.load(folder)
        try:
            rule = Rule.from_json(json.loads(path.read_text(encoding="utf-8")))
        except FileNotFoundError as error:
            raise UserError(f"{folder} has no rule: calibrate one first") from error
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise UserError(f"cannot read {path}: {error!r}") from error
        return cls(network, rule)

    def save(self, folder: Path | str) -> None:
        """Write the rule beside the network."""
        write_text(Path(folder) / FILE, json.dumps(self.rule.to_json(), indent=1) + "\n")

    def __call__(self, images: Tensor) -> Tensor:
        """Logits `(n, classes)` of images as `DynamicNetwork` takes them."""
        return self.run(images).logits

    def run(self, images: Tensor) -> Adapted:
        """The same, with what was decided for each image and what it cost."""
        cheap, *above = zip(self.subnets, self._networks, strict=True)
        logits = cheap[1](self.dynamic.fitted(images, cheap[0]))
        levels = self.rule.choose(logits)
        for level, (subnet, network) in enumerate(above, start=1):
            rows = (levels == level).nonzero().flatten()
            if len(rows):
                again = network(self.dynamic.fitted(images[rows], subnet))
                logits = logits.index_copy(0, rows, again)
        costs = torch.tensor(self.rule.costs, dtype=torch.long, device=levels.device)
        return Adapted(logits, levels, costs[levels])


@dataclass(frozen=True)
class Scored:
    """Adaptive inference on a split: accuracy, mean MACs, share of the images at each level."""

    accuracy: float
    macs: float
    shares: tuple[float, ...]


@torch.no_grad()
def score(adaptive: AdaptiveResolution, split: Split) -> Scored:
    """Run all images of a split."""
    counts = np.zeros(len(adaptive.subnets), dtype=np.int64)
    right, macs = 0, 0
    for start in range(0, len(split), SCORING_BATCH):
        part = split[slice(start, start + SCORING_BATCH)]
        given = adaptive.run(part.images)
        right += int((given.logits.argmax(dim=1) == part.labels).sum())
        macs += int(given.macs.sum())
        counts += np.bincount(given.levels.numpy(), minlength=len(counts))
    n = len(split)
    return Scored(right / n, macs / n, tuple((counts / n).tolist()))


@dataclass(frozen=True)
class Seen:
    """What subnets say of a split: `features` of their logits, and where they are right.

    `features` has `(n, features)` for each subnet; `right` is `(n, subnets)` bool.
    """

    subnets: tuple[Subnet, ...]
    features: tuple[Tensor, ...]
    right: npt.NDArray[np.bool_]

    def ladder(self, indices: Sequence[int]) -> Ladder:
        """Of these subnets, the cheap pass first."""
        chosen = [self.subnets[index] for index in indices]
        return Ladder(
            tuple(subnet.id for subnet in chosen),
            tuple(subnet.macs for subnet in chosen),
            self.features[indices[0]],
            self.right[:, list(indices)],
        )


@torch.no_grad()
def look(network: DynamicNetwork, split: Split, subnets: Sequence[Subnet] | None = None) -> Seen:
    """Run subnets (all by default) on a split, once each."""
    subnets = network.subnets if subnets is None else tuple(subnets)
    seen, right = [], []
    for subnet in subnets:
        alone = network.network(subnet)
        parts = [alone(network.fitted(p, subnet)) for p in split.images.split(SCORING_BATCH)]
        logits = torch.cat(parts)
        seen.append(features(logits))
        right.append((logits.argmax(dim=1) == split.labels).numpy())
    return Seen(subnets, tuple(seen), np.stack(right, axis=1))


def calibrate(seen: Seen, *, max_flops: float | None = None, max_loss: float | None = None) -> Rule:
    """The rule that does best on images: its subnets, weights and price.

    Every subnet is tried as the cheap pass, and alone; they are compared on images that their
    rule was not fitted on, then the best is fitted on all.

    Args:
        seen: validation images.
        max_flops: the most multiply-accumulates an image on average, the cheap pass included.
        max_loss: instead, how much accuracy (0.01: one point) may be lost against the most
            accurate subnet; the least compute wins.

    Raises:
        UserError: if neither or both are given, or the budget is below every subnet.
    """
    if (max_flops is None) == (max_loss is None):
        raise UserError("calibrate to either a mean budget of FLOPs or a loss of accuracy")
    if max_flops is not None:
        pricing = within(max_flops)
    else:
        target = float(seen.right.mean(axis=0).max()) - float(max_loss or 0.0)
        pricing = reaching(target)
    macs = [subnet.macs for subnet in seen.subnets]
    tried = ladders(macs, [subnet.resolution for subnet in seen.subnets], seen.right)
    best: tuple[tuple[Any, ...], Ladder] | None = None
    for indices in tried:
        ladder = seen.ladder(indices)
        if len(indices) > 1:
            result = crossed(ladder, pricing)
        else:
            rule = pricing(ladder, ladder.fitted())
            result = None if rule is None else ladder.score(rule)
        if result is None or (max_loss is not None and result[0] < target):
            continue
        accuracy, cost = result
        order = (accuracy, -cost) if max_flops is not None else (-cost, accuracy)
        if best is None or order > best[0]:
            best = order, ladder
    if best is None:
        least = min(macs)
        raise UserError(
            f"no subnet takes at most {format_size(max_flops or 0)} FLOPs: the cheapest takes "
            f"{format_size(least)}"
        )
    rule = pricing(best[1], best[1].fitted())
    assert rule is not None
    return rule


def at_resolutions(space: SearchSpace, arch: Architecture) -> list[Architecture]:
    """An architecture at every resolution of its space, the lowest first.

    Only itself where the space has no choice of that name.
    """
    if RESOLUTION not in space.column:
        return [arch]
    sizes = space.choices[space.column[RESOLUTION]].options
    return [space.architecture({**arch, RESOLUTION: size}) for size in sizes]
