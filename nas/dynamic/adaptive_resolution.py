"""Resolution-adaptive inference: a cheap pass selects the resolution of each image.

A cheap subnet of a dynamic network runs on every image at a low resolution. From its logits,
`resolution_rule` decides whether its prediction is final or which subnet, at a higher resolution,
runs on the image instead. Images of a batch are grouped by that decision, so that each image costs
only its own passes. Knows dynamic networks and images. Does not know how subnets were trained.
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
from nas.dynamic.resolution_rule import (
    Ladder,
    Rule,
    cross_validated,
    features,
    ladders,
    reaching,
    within,
)
from search_spaces.architecture import Architecture
from search_spaces.errors import UserError
from search_spaces.files import read_json, write_text
from search_spaces.space import SearchSpace

RULE_FILE = "adaptive.json"
RESOLUTION = "resolution"


@dataclass(frozen=True)
class AdaptiveOutput:
    """Result of adaptive inference for a batch of `n` images."""

    logits: Tensor
    """`(n, classes)`."""
    levels: Tensor
    """`(n,)` int64, index in `Rule.levels` of the network that made the prediction."""
    macs: Tensor
    """`(n,)` int64, MACs of each image: the cheap pass, the rule and its own pass."""


class AdaptiveResolution:
    """A dynamic network that selects a resolution for each image.

    It is independent of the network's active subnet. After the network was moved to another device,
    create a new `AdaptiveResolution`.

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
        """Load the dynamic network of a folder with the rule that `save` wrote there.

        Raises:
            UserError: if there is no rule, or it uses other subnets.
        """
        path = Path(folder) / RULE_FILE
        network = DynamicNetwork.load(folder)
        try:
            rule = Rule.from_json(read_json(path))
        except FileNotFoundError as error:
            raise UserError(
                f"{folder} has no {RULE_FILE}: calibrate a rule first, with nas adapt {folder}"
            ) from error
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise UserError(f"cannot read {path}: {error!r}") from error
        return cls(network, rule)

    def save(self, folder: Path | str) -> None:
        """Write the rule into the folder of the network."""
        write_text(Path(folder) / RULE_FILE, json.dumps(self.rule.to_json(), indent=1) + "\n")

    def __call__(self, images: Tensor) -> Tensor:
        """Logits `(n, classes)` of images in a form that `DynamicNetwork` accepts."""
        return self.run(images).logits

    def run(self, images: Tensor) -> AdaptiveOutput:
        """Logits with the level and the MACs of each image."""
        cheap, *higher = zip(self.subnets, self._networks, strict=True)
        logits = cheap[1](self.dynamic.preprocess(images, cheap[0]))
        levels = self.rule.choose(logits)
        for level, (subnet, network) in enumerate(higher, start=1):
            rows = (levels == level).nonzero().flatten()
            if len(rows):
                own = network(self.dynamic.preprocess(images[rows], subnet))
                logits = logits.index_copy(0, rows, own)
        costs = torch.tensor(self.rule.costs, dtype=torch.long, device=levels.device)
        return AdaptiveOutput(logits, levels, costs[levels])


@dataclass(frozen=True)
class AdaptiveScore:
    """Score of adaptive inference on a split."""

    accuracy: float
    macs: float
    """Mean per image."""
    shares: tuple[float, ...]
    """Share of the images at each level."""


@torch.no_grad()
def score(adaptive: AdaptiveResolution, split: Split) -> AdaptiveScore:
    """Run and score all images of a split."""
    counts = np.zeros(len(adaptive.subnets), dtype=np.int64)
    correct, macs = 0, 0
    for start in range(0, len(split), SCORING_BATCH):
        part = split[slice(start, start + SCORING_BATCH)]
        output = adaptive.run(part.images)
        correct += int((output.logits.argmax(dim=1) == part.labels).sum())
        macs += int(output.macs.sum())
        counts += np.bincount(output.levels.numpy(), minlength=len(counts))
    n = len(split)
    return AdaptiveScore(correct / n, macs / n, tuple((counts / n).tolist()))


@dataclass(frozen=True)
class Predictions:
    """Predictions of subnets on the `n` images of a split."""

    subnets: tuple[Subnet, ...]
    features: tuple[Tensor, ...]
    """`resolution_rule.features` of each subnet's logits, `(n, features)`."""
    correct: npt.NDArray[np.bool_]
    """Whether each subnet classifies an image correctly, `(n, subnets)`."""

    def ladder(self, indices: Sequence[int]) -> Ladder:
        """The ladder of these subnets, the cheap pass first."""
        chosen = [self.subnets[index] for index in indices]
        return Ladder(
            tuple(subnet.id for subnet in chosen),
            tuple(subnet.macs for subnet in chosen),
            self.features[indices[0]],
            self.correct[:, list(indices)],
        )


@torch.no_grad()
def predict(
    network: DynamicNetwork, split: Split, subnets: Sequence[Subnet] | None = None
) -> Predictions:
    """Run subnets (all by default) on a split, once each."""
    subnets = network.subnets if subnets is None else tuple(subnets)
    features_of, correct = [], []
    for subnet in subnets:
        alone = network.network(subnet)
        parts = [alone(network.preprocess(p, subnet)) for p in split.images.split(SCORING_BATCH)]
        logits = torch.cat(parts)
        features_of.append(features(logits))
        correct.append((logits.argmax(dim=1) == split.labels).numpy())
    return Predictions(subnets, tuple(features_of), np.stack(correct, axis=1))


def calibrate(
    predictions: Predictions, *, max_flops: float | None = None, max_loss: float | None = None
) -> Rule:
    """Select the best rule for images: its subnets, weights and price.

    Every subnet is tried as the cheap pass, and without a rule. Candidates are compared by
    cross-validation; the best is fitted on all images.

    Args:
        predictions: predictions on validation images.
        max_flops: upper bound of the mean multiply-accumulates per image, the cheap pass included;
            the rule maximises accuracy.
        max_loss: alternatively, upper bound of the loss of accuracy against the most accurate
            subnet (0.01 is one point); the rule minimises compute.

    Raises:
        UserError: if neither or both bounds are given, or the budget is below every subnet.
    """
    if (max_flops is None) == (max_loss is None):
        raise UserError("calibrate to either a mean budget of FLOPs or a loss of accuracy")
    if max_flops is not None:
        pricing = within(max_flops)
    else:
        target = float(predictions.correct.mean(axis=0).max()) - float(max_loss or 0.0)
        pricing = reaching(target)
    macs = [subnet.macs for subnet in predictions.subnets]
    resolutions = [subnet.resolution for subnet in predictions.subnets]
    best: tuple[tuple[Any, ...], Ladder] | None = None
    for indices in ladders(macs, resolutions, predictions.correct):
        ladder = predictions.ladder(indices)
        if len(indices) > 1:
            result = cross_validated(ladder, pricing)
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
        raise UserError(
            f"no subnet takes at most {format_size(max_flops or 0)} FLOPs: the cheapest takes "
            f"{format_size(min(macs))}"
        )
    rule = pricing(best[1], best[1].fitted())
    assert rule is not None
    return rule


def at_resolutions(space: SearchSpace, arch: Architecture) -> list[Architecture]:
    """The architecture at every resolution of its space, the lowest first.

    If the space has no choice of resolution, the result is the architecture alone.
    """
    if RESOLUTION not in space.column:
        return [arch]
    sizes = space.choices[space.column[RESOLUTION]].options
    return [space.architecture({**arch, RESOLUTION: size}) for size in sizes]
