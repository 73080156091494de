"""Accuracy and mean MACs of a network with early exits, on samples not used to fit thresholds.

Thresholds are fitted on one half of the validation samples and scored on the other, for both
halves; the network runs on each sample once. Knows networks with exits, whatever the source of
their weights. Does not know the search.
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
from evaluators.metrics import MEAN_MACS, WHOLE_ACCURACY, exit_rate
from search_spaces.architecture import Architecture, Value
from search_spaces.exits.heads import DEFAULT_EXITS, exits_of
from search_spaces.exits.network import ExitNetwork, confidence
from search_spaces.ops import Shape
from search_spaces.space import SearchSpace

EXIT_METRICS = ("accuracy", MEAN_MACS, WHOLE_ACCURACY)
"""Metrics of every network with exits, beside the rate of each exit."""


def recalibrate_exits(network: ExitNetwork, batches: Iterable[Tensor]) -> None:
    """Recompute the batch-norm statistics of the network and its heads, in place."""
    recalibrate(network, batches, network.all_logits)


@torch.no_grad()
def outcomes(network: ExitNetwork, data: Data, part: Part, shape: Shape) -> Outcomes:
    """Confidence and correctness of every exit and the end, for all samples of a part.

    The network runs in evaluation mode.

    Args:
        shape: of one input sample of the network.

    Raises:
        UserError: for data whose samples have no labels.
    """
    samples, labels = data.labelled(part)
    device = next(network.parameters()).device
    training = network.training
    network.eval()
    confidences, right = [], []
    start = 0
    for inputs in data.inputs(samples, shape, device):
        expected = labels[start : start + len(inputs)].to(device)
        start += len(inputs)
        logits = network.all_logits(inputs)
        empty = torch.zeros(len(expected), 0, device=device)  # the network may have no exit
        columns = [confidence(of_exit)[:, None] for of_exit in logits[:-1]]
        confidences.append(torch.cat([empty, *columns], dim=1).cpu())
        correct = [of_exit.argmax(dim=1) == expected for of_exit in logits]
        right.append(torch.stack(correct, dim=1).cpu())
    network.train(training)
    return Outcomes(torch.cat(confidences).numpy(), torch.cat(right).numpy())


def cross_fitted(
    samples: Outcomes, costs: ExitCosts, loss: float, *, caution: float = CAUTION
) -> Operation:
    """Operation on all samples, each half of them at thresholds fitted on the other half.

    A half is every other sample, since files may be sorted by class.

    Args:
        loss: accuracy that leaving early may cost, as a share.
        caution: see `within_loss`.
    """
    halves = samples[slice(0, None, 2)], samples[slice(1, None, 2)]
    first, second = (
        operate(scored, within_loss(fitted, costs, loss, caution=caution), costs)
        for scored, fitted in (halves, reversed(halves))
    )
    share = len(halves[0]) / len(samples)
    return Operation(
        share * first.accuracy + (1 - share) * second.accuracy,
        share * first.macs + (1 - share) * second.macs,
        tuple(share * a + (1 - share) * b for a, b in zip(first.rates, second.rates, strict=True)),
    )


@dataclass(frozen=True)
class ExitAccuracy(InheritedAccuracy):
    """Evaluator of architectures with early exits, with inherited weights.

    Returns `accuracy` and `avg_flops` with samples leaving early, `whole_accuracy` with no sample
    leaving early, and `exit1_rate`, `exit2_rate`, ..., the share of samples that leave at each
    exit. The networks that the supernet extracts must have exits.
    """

    loss: float = 0.005
    """Accuracy that leaving early may cost, as a share."""
    exits: int = DEFAULT_EXITS
    caution: float = CAUTION

    def __call__(self, arch: Architecture) -> dict[str, float]:
        """Score one architecture; deterministic."""
        network = self.recalibrated(arch)
        assert isinstance(network, ExitNetwork)
        space = self.supernet.space
        samples = outcomes(network, self.data, "validation", space.input_shape(arch))
        costs = exit_costs(space, arch, self.exits)
        operation = cross_fitted(samples, costs, self.loss, caution=self.caution)
        return {**metrics_of(operation), WHOLE_ACCURACY: samples.whole}

    def measure(self, network: nn.Module, batches: Iterable[Tensor]) -> None:
        """Recompute the batch-norm statistics of the network and its exits."""
        assert isinstance(network, ExitNetwork)
        recalibrate_exits(network, batches)


def exit_costs(space: SearchSpace, arch: Mapping[str, Value], exits: int) -> ExitCosts:
    """MACs of an architecture with `exits` exits, by the exit where a sample leaves."""
    blocks = space.ops(arch)
    return ExitCosts.of(blocks, exits_of(blocks, exits))


def metrics_of(operation: Operation) -> dict[str, float]:
    """Metrics of an operation, by name."""
    rates = enumerate(operation.rates[:-1], start=1)
    return {
        "accuracy": operation.accuracy,
        MEAN_MACS: operation.macs,
        **{exit_rate(number): rate for number, rate in rates},
    }
