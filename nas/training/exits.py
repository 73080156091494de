"""Trains a network jointly with its early exits.

All exits are trained together, on the labels and on the predictions of the last exit, which are the
most accurate: the loss is a weighted sum of cross-entropies over all exits, as in BranchyNet
(Teerapittayanon et al., 2016, section III) and MSDNet (Huang et al., 2018, section 4), with
distillation from the last exit to the earlier ones (Phuong and Lampert, "Distillation-based
training for multi-exit architectures", 2019). Does not know thresholds, runs or supernets.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from evaluators.data.batches import Batches
from evaluators.data.scoring import cross_entropy, fit_to_shape
from nas.training.loop import Backward, Recipe, fit
from search_spaces.exits.network import ExitNetwork
from search_spaces.ops import Shape


@dataclass(frozen=True)
class JointLossWeights:
    """Weights of the exits' losses."""

    weight: float = 0.5
    """Weight of an early exit; the last exit, the end of the network, has weight 1."""
    distillation: float = 0.5
    """Share of an early exit's loss that is distilled from the last exit; the rest is on labels."""


def joint_loss(
    logits: Sequence[Tensor],
    targets: Tensor,
    weights: JointLossWeights,
    *,
    label_smoothing: float = 0.0,
    soft: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Weighted sum of the losses of all exits, and the loss of the last exit alone.

    Args:
        logits: of every exit in order, `(batch, classes)` each.
        targets: labels `(batch,)` or probabilities `(batch, classes)`.
        weights: of the exits and of distillation.
        label_smoothing: of the losses on the targets.
        soft: probabilities `(batch, classes)` to distil from, without gradient; by default those of
            the last exit.
    """
    *early, last = logits
    end = cross_entropy(last, targets, label_smoothing)
    if soft is None:
        soft = last.detach().softmax(dim=1)
    total, share = end, weights.distillation
    for exit_logits in early:
        hard = cross_entropy(exit_logits, targets, label_smoothing)
        distilled = cross_entropy(exit_logits, soft)
        total = total + weights.weight * ((1 - share) * hard + share * distilled)
    return total, end


def exit_backward(
    network: ExitNetwork, recipe: Recipe, shape: Shape, weights: JointLossWeights | None = None
) -> Backward:
    """The `backward` of `nas.training.loop.fit` for a network with exits.

    The reported loss is that of the last exit.

    Args:
        shape: input shape of one sample; batches are fitted to it.
        weights: of the exits' losses.
    """
    weights = weights or JointLossWeights()

    def backward(batch: Tensor, targets: Tensor, step: int) -> float:
        logits = network.all_logits(fit_to_shape(batch, shape))
        total, end = joint_loss(logits, targets, weights, label_smoothing=recipe.label_smoothing)
        total.backward()
        return end.item()

    return backward


def train_with_exits(
    network: ExitNetwork,
    batches: Batches,
    recipe: Recipe,
    shape: Shape,
    *,
    seed: int,
    weights: JointLossWeights | None = None,
    checkpoint: Path | None = None,
    on_step: Callable[[int, int, float], None] | None = None,
) -> None:
    """Train a network and its exits in place.

    Args:
        shape: input shape of one sample; batches are fitted to it.
        seed: see `nas.training.loop.fit`, also for the other arguments and errors.
        weights: of the exits' losses.
    """
    fit(
        network,
        batches,
        recipe,
        exit_backward(network, recipe, shape, weights),
        seed=seed,
        checkpoint=checkpoint,
        on_step=on_step,
    )
