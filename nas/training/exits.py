"""Training a network together with its early exits.

All heads learn at once, on the labels and on what the end of the network says, which is the best
judge that there is: the loss is a weighted sum of cross-entropies over all exits, as in BranchyNet
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
from evaluators.data.scoring import cross_entropy, fitted
from nas.training.loop import Backward, Recipe, fit
from search_spaces.exits.network import ExitNetwork
from search_spaces.ops import Shape


@dataclass(frozen=True)
class Joint:
    """How the losses of the exits are weighed."""

    weight: float = 0.5
    """Of an early exit; the end has 1."""
    distillation: float = 0.5
    """Share of an early exit's loss that is against the end's own probabilities, not labels."""


def joint_loss(
    said: Sequence[Tensor],
    targets: Tensor,
    joint: Joint,
    *,
    label_smoothing: float = 0.0,
    soft: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """The sum of the losses of all exits, and that of the end alone.

    Args:
        said: logits `(batch, classes)` of every exit, the end last.
        targets: labels `(batch,)` or probabilities `(batch, classes)`.
        soft: probabilities `(batch, classes)` to distil from, without gradient; the end's own by
            default.
    """
    *early, last = said
    end = cross_entropy(last, targets, label_smoothing)
    if soft is None:
        soft = last.detach().softmax(dim=1)
    total = end
    for logits in early:
        hard = cross_entropy(logits, targets, label_smoothing)
        distilled = cross_entropy(logits, soft)
        share = joint.distillation
        total = total + joint.weight * ((1 - share) * hard + share * distilled)
    return total, end


def jointly(
    network: ExitNetwork, recipe: Recipe, shape: Shape, joint: Joint | None = None
) -> Backward:
    """The `backward` of `nas.fit.fit` for a network with exits; its loss is the end's."""
    joint = joint or Joint()

    def backward(batch: Tensor, targets: Tensor, step: int) -> float:
        said = network.all_logits(fitted(batch, shape))
        total, end = joint_loss(said, targets, joint, label_smoothing=recipe.label_smoothing)
        total.backward()
        return end.item()

    return backward


def train_jointly(
    network: ExitNetwork,
    batches: Batches,
    recipe: Recipe,
    shape: Shape,
    *,
    seed: int,
    joint: Joint | None = None,
    checkpoint: Path | None = None,
    on_step: Callable[[int, int, float], None] | None = None,
) -> None:
    """Train a network and its exits in place.

    Args:
        shape: of one sample as the network takes it; batches are fitted to it.
    """
    fit(
        network,
        batches,
        recipe,
        jointly(network, recipe, shape, joint),
        seed=seed,
        checkpoint=checkpoint,
        on_step=on_step,
    )
