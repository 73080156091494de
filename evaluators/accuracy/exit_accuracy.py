"""Accuracy and mean MACs of a network with early exits, on samples that chose no threshold.

Thresholds are found on a half of the validation images and judged on the other half, each half in
turn: what the network says of an image is computed once. Knows networks with exits, whatever their
weights come from. Does not know the search.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from evaluators.accuracy.inherited import InheritedAccuracy
from evaluators.accuracy.recalibration import recalibrate
from evaluators.accuracy.thresholds import CAUTION, Operation, Outcomes, operate, within_loss
from evaluators.costs.exit_costs import ExitCosts
from evaluators.data.dataset import Data, Part
from search_spaces.architecture import Architecture, Value
from search_spaces.exits.heads import EXITS, exits_of
from search_spaces.exits.network import ExitNetwork, confidence
from search_spaces.ops import Shape
from search_spaces.space import SearchSpace

AVERAGE = "avg_flops"
"""Mean multiply-accumulates of a sample, by where the samples leave."""

METRICS = ("accuracy", AVERAGE, "whole_accuracy")


def recalibrate_exits(network: ExitNetwork, batches: Iterable[Tensor]) -> None:
    """Measure the batch-norm statistics of the network and its heads anew, in place."""
    recalibrate(network, batches, network.all_logits)


@torch.no_grad()
def outcomes(network: ExitNetwork, data: Data, part: Part, shape: Shape) -> Outcomes:
    """What every exit, and the end, says of all samples of a part; in evaluation mode.

    Args:
        shape: of one sample as the network takes it.

    Raises:
        UserError: for data whose samples have no labels.
    """
    samples, labels = data.labelled(part)
    device = next(network.parameters()).device
    training = network.training
    network.eval()
    sure, right = [], []
    start = 0
    for inputs in data.inputs(samples, shape, device):
        expected = labels[start : start + len(inputs)].to(device)
        start += len(inputs)
        said = network.all_logits(inputs)
        none = torch.zeros(len(expected), 0, device=device)  # a network may have no exit
        columns = [confidence(logits)[:, None] for logits in said[:-1]]
        sure.append(torch.cat([none, *columns], dim=1).cpu())
        right.append(torch.stack([s.argmax(dim=1) == expected for s in said], dim=1).cpu())
    network.train(training)
    return Outcomes(torch.cat(sure).numpy(), torch.cat(right).numpy())


def crossed(
    said: Outcomes, costs: ExitCosts, loss: float, *, caution: float = CAUTION
) -> Operation:
    """What all samples do, each half of them at the thresholds that the other half gives.

    The halves are every other sample, since files may be sorted by class.
    """
    halves = said[slice(0, None, 2)], said[slice(1, None, 2)]
    first, second = (
        operate(judged, within_loss(other, costs, loss, caution=caution), costs)
        for judged, other in (halves, reversed(halves))
    )
    share = len(halves[0]) / len(said)
    return Operation(
        share * first.accuracy + (1 - share) * second.accuracy,
        share * first.macs + (1 - share) * second.macs,
        tuple(share * a + (1 - share) * b for a, b in zip(first.rates, second.rates, strict=True)),
    )


@dataclass(frozen=True)
class ExitAccuracy(InheritedAccuracy):
    """Evaluator of architectures with early exits, on inherited weights.

    Gives `accuracy` and `avg_flops` where samples leave early, `whole_accuracy` where they do not,
    and `exit1_rate`, `exit2_rate`, ...: the share of samples that leave at each exit. What the
    supernet extracts must have exits.
    """

    loss: float = 0.005
    """Accuracy that leaving early may cost, as a share."""
    exits: int = EXITS
    caution: float = CAUTION

    def __call__(self, arch: Architecture) -> dict[str, float]:
        """Score one architecture; deterministic."""
        network = self.recalibrated(arch)
        assert isinstance(network, ExitNetwork)
        space = self.supernet.space
        said = outcomes(network, self.data, "validation", space.input_shape(arch))
        costs = exit_costs(space, arch, self.exits)
        operation = crossed(said, costs, self.loss, caution=self.caution)
        return {**metrics_of(operation), "whole_accuracy": said.whole}

    def measure(self, network: nn.Module, batches: Iterable[Tensor]) -> None:
        """Measure those of the exits too."""
        assert isinstance(network, ExitNetwork)
        recalibrate_exits(network, batches)


def exit_costs(space: SearchSpace, arch: Mapping[str, Value], exits: int) -> ExitCosts:
    """What an architecture with so many exits costs, by where a sample leaves."""
    blocks = space.ops(arch)
    return ExitCosts.of(blocks, exits_of(blocks, exits))


def metrics_of(operation: Operation) -> dict[str, float]:
    """An operation as metrics by name."""
    rates = enumerate(operation.rates[:-1], start=1)
    return {
        "accuracy": operation.accuracy,
        AVERAGE: operation.macs,
        **{f"exit{number}_rate": rate for number, rate in rates},
    }
