"""FLOPs-aware training of one network: learns gates on its units, then cuts units out.

Three stages. Weights and gates are trained together on `L = L_task + λ log(E[MACs](gates))`; the
units and branches with the highest gates that fit the target are kept and the others cut out; the
smaller, dense network is trained further. With a target, λ is a dual variable: the loss is an
augmented Lagrangian of `g = log(E[MACs] / goal)`, where the goal decreases from the network's own
MACs to the target, and λ rises while g is above zero (Nocedal and Wright, "Numerical optimization",
2006, section 17.3; for costs of networks Gordon et al., "MorphNet", 2018, whose penalty is fixed).

    from nas.pruning.flops_aware import PruningTarget, prune

    target = PruningTarget(macs=150_000)
    pruned = prune(network, space.ops(arch), data, target, recipe, size=8, seed=0)
    pruned.network, pruned.blocks, pruned.report.macs.after

Knows one network and its data. Does not know runs, nor where the network comes from.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from evaluators.accuracy.recalibration import recalibrate
from evaluators.costs.gated_costs import GatedMacs
from evaluators.data.augmentation import resize
from evaluators.data.images import ImageBatches, ImageData, Split
from nas.progress import Quiet, Reporter
from nas.pruning.gates import GatedNetwork, deterministic_gates, open_probability, sample_gates
from nas.pruning.knapsack import select_above, select_within
from nas.pruning.summary import MultiplierPoint, PruningReport, summarise
from nas.training.loop import Recipe, fit
from nas.training.network import train
from search_spaces.cutting.cut_ops import Kept, cut_ops
from search_spaces.cutting.cut_weights import absorbs, cut
from search_spaces.cutting.tied_features import TiedFeatures, tie_features
from search_spaces.errors import UserError
from search_spaces.networks.modules import Network, channels_last
from search_spaces.ops import Op
from search_spaces.serial import Blocks

GATES_SHARE = 0.4
"""Share of the epochs in which gates are trained; the rest fine-tunes the smaller network."""

GOAL_SHARE = 0.98
"""Share of the target that the expected MACs are trained to, so that few units remain to be
adjusted when the network is cut."""

GOAL_DECAY = 0.7
"""Share of the gates' steps in which the goal decreases to the target."""

CURVATURE = 20.0
"""ρ of the augmented Lagrangian: high enough to reopen gates before many of them are closed.

A closed gate has no gradient of the task loss that would open it again.
"""

DUAL_RATE = 30.0
"""Increase of λ over a training in which `g` is 1 at every step."""

GATE_RANGE = 40.0
"""Maximum change of a gate's log-odds in a training (an Adam step is about its learning rate)."""

MIN_SCALE = 0.05
"""Minimum factor of a kept unit: a unit whose gate is almost closed must still be trainable."""

REPORTED_POINTS = 60
"""Number of points of λ's trajectory in a report, about."""


@dataclass(frozen=True)
class PruningTarget:
    """A number of MACs to reach, or a fixed penalty λ; exactly one of the two.

    Raises:
        UserError: for both or neither, a λ that is negative or not finite, or a target below 1.
    """

    macs: int | None = None
    """Maximum MACs of the result, which will have at least 95 % of it."""
    penalty: float | None = None
    """λ of the loss."""

    def __post_init__(self) -> None:
        if self.macs is not None and self.penalty is not None:
            raise UserError(
                f"a FLOPs target ({self.macs:,}) sets the penalty itself: give it or a penalty "
                f"({self.penalty:g}), not both"
            )
        if self.macs is None and self.penalty is None:
            raise UserError("FLOPs-aware training needs a FLOPs target or a penalty")
        if self.penalty is not None and not 0 <= self.penalty < math.inf:
            raise UserError(f"the FLOPs penalty is {self.penalty:g}, expected 0 or more")
        if self.macs is not None and self.macs < 1:
            raise UserError(f"the FLOPs target is {self.macs:,}, expected 1 or more")

    def check(self, blocks: Blocks) -> None:
        """Check that a network of these ops can be cut to the target.

        Raises:
            UserError: if it cannot.
        """
        if self.macs is None:
            return
        costs = GatedMacs(tie_features(blocks))
        if self.macs > costs.whole:
            raise UserError(
                f"the FLOPs target {self.macs:,} is above the network's own {costs.whole:,}: "
                "expected at most that"
            )
        if self.macs < costs.smallest:
            raise UserError(
                f"the FLOPs target {self.macs:,} cannot be reached: the least that this network "
                f"can be cut to is {costs.smallest:,}"
            )

    def __str__(self) -> str:
        return f"penalty-{self.penalty:g}" if self.macs is None else f"target-{self.macs}"


@dataclass(frozen=True)
class PruningResult:
    """The result of FLOPs-aware training: the smaller network, its ops, and what was cut."""

    network: Network
    blocks: list[tuple[str, tuple[Op, ...]]]
    report: PruningReport


def prune(
    network: Network,
    blocks: Blocks,
    data: ImageData,
    target: PruningTarget,
    recipe: Recipe,
    *,
    size: int,
    seed: int,
    split: Split | None = None,
    calibration: Iterable[Tensor] = (),
    checkpoint: Path | None = None,
    reporter: Reporter | None = None,
) -> PruningResult:
    """Train a network with gates, cut it, and train the smaller network.

    Args:
        network: a trained network of `blocks`; its weights are changed.
        blocks: the network's ops.
        data: the images.
        target: the MACs to reach, or a fixed penalty.
        recipe: of both trainings; 40 % of its epochs are for the gates. Its learning rate should be
            that of a first training rather than of fine-tuning, since a network that loses units
            recovers better at that rate (Renda, Frankle and Carbin, "Comparing rewinding and
            fine-tuning in neural network pruning", 2020).
        size: height and width of the network's input.
        seed: of both trainings.
        split: the images to train on; the data's training part by default.
        calibration: inputs `(batch, channels, size, size)` from which the batch-norm statistics
            of the result are computed; without any, its running statistics are kept.
        checkpoint: prefix of the paths of the checkpoints to resume from.
        reporter: displays the progress.

    Raises:
        UserError: for a target that the network cannot be cut to, or a checkpoint of another
            training.
    """
    target.check(blocks)
    reporter = reporter or Quiet()
    split = split or data.train
    features = tie_features(blocks)
    gated = GatedNetwork(network, features)
    gates_recipe = replace(recipe, epochs=recipe.epochs * GATES_SHARE)
    steps = gates_recipe.steps(len(split))
    trained = _GatedTraining(gated, target, recipe, size=size, seed=seed, steps=steps)
    with reporter.training("gates", steps) as on_step:
        fit(
            trained,
            ImageBatches.of(data, split),
            gates_recipe,
            trained.backward,
            seed=seed,
            checkpoint=_named(checkpoint, "gates"),
            on_step=on_step,
            on_message=reporter.note,
        )
    kept = trained.selected()
    smaller = channels_last(_cut(trained.gated, kept))
    batches = list(calibration)
    if batches:
        # Half-closed gates and removed units change the statistics of every later batch norm.
        recalibrate(smaller, batches)
    tuning = replace(recipe, epochs=recipe.epochs * (1 - GATES_SHARE))
    with reporter.training("fine-tuning", tuning.steps(len(split))) as on_step:
        train(
            smaller,
            ImageBatches.of(data, split),
            tuning,
            (data.channels, size, size),
            seed=seed + 1,
            checkpoint=_named(checkpoint, "tuning"),
            on_step=on_step,
            on_message=reporter.note,
        )
    if batches:
        recalibrate(smaller, batches)
    return PruningResult(
        smaller.eval(),
        cut_ops(features, kept),
        summarise(
            features, blocks, kept, target.macs, target.penalty, _subsampled(trained.history)
        ),
    )


class _GatedTraining(nn.Module):
    """A gated network with the state of its training.

    One `state_dict` contains weights, gates, λ, the gates' optimiser and λ's trajectory, so that
    the checkpoint of `nas.training.loop.fit` is complete.
    """

    multiplier: Tensor

    def __init__(
        self,
        gated: GatedNetwork,
        target: PruningTarget,
        recipe: Recipe,
        *,
        size: int,
        seed: int,
        steps: int,
    ) -> None:
        super().__init__()
        self.gated = gated
        self.costs = GatedMacs(gated.features)
        self.target, self.recipe, self.size, self.seed = target, recipe, size, seed
        self.steps = steps
        self.register_buffer("multiplier", torch.tensor(target.penalty or 0.0, dtype=torch.float64))
        self.optimizer = torch.optim.Adam([gated.log_alpha], betas=(0.9, 0.99))
        self.history: list[tuple[int, float, float]] = []
        """Number of completed steps, λ and expected MACs, for each step."""

    def backward(self, images: Tensor, targets: Tensor, step: int) -> float:
        """Compute the gradients of the weights, and take a step of the gates and of λ."""
        gated, costs = self.gated, self.costs
        generator = torch.Generator().manual_seed((self.seed + 1) * 1_000_003 + step)
        noise = torch.rand(len(gated.log_alpha), generator=generator)
        gates = sample_gates(gated.log_alpha, noise.to(gated.log_alpha))
        logits = gated(resize(images, self.size), gates)
        task = F.cross_entropy(logits, targets, label_smoothing=self.recipe.label_smoothing)
        macs = costs.expected(*gated.split(open_probability(gated.log_alpha)))
        excess = torch.log(macs / self._goal(step))
        loss = task + self.multiplier * excess
        if self.target.macs is not None:
            loss = loss + CURVATURE / 2 * excess.square()
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.param_groups[0]["lr"] = GATE_RANGE / self.steps
        self.optimizer.step()
        self.history.append((step + 1, self.multiplier.item(), macs.item()))
        if self.target.macs is not None:
            rise = DUAL_RATE / self.steps * excess.detach()
            self.multiplier.add_(rise).clamp_(min=0)
        return task.item()

    def _goal(self, step: int) -> float:
        """MACs at which the penalty is zero: it decreases geometrically to the target."""
        whole = float(self.costs.whole)
        if self.target.macs is None:
            return whole
        share = min(1.0, (step + 1) / (GOAL_DECAY * self.steps))
        return whole * (GOAL_SHARE * self.target.macs / whole) ** share

    def selected(self) -> Kept:
        """The units and branches that are kept."""
        scores = self.gated.log_alpha.detach().double().cpu().numpy()
        if self.target.macs is not None:
            return select_within(self.costs, scores, self.target.macs)
        # Without a target, those that are more likely open than closed.
        return select_above(self.costs, open_probability(torch.from_numpy(scores)).numpy(), 0.5)

    def get_extra_state(self) -> dict[str, Any]:
        """The state beside the module's tensors; part of `state_dict`."""
        return {
            "aim": str(self.target),
            "optimizer": self.optimizer.state_dict(),
            "history": self.history,
        }

    def set_extra_state(self, state: dict[str, Any]) -> None:
        """Restore the state that `get_extra_state` returned."""
        if state["aim"] != str(self.target):
            raise UserError(
                f"the checkpoint is of a training with {state['aim']}, not {self.target}"
            )
        self.optimizer.load_state_dict(state["optimizer"])
        self.history = [tuple(point) for point in state["history"]]


def _cut(gated: GatedNetwork, kept: Kept) -> Network:
    """The network without the other units, with the kept gates multiplied into its weights."""
    features: TiedFeatures = gated.features
    gates = deterministic_gates(gated.log_alpha.detach()).clamp(min=MIN_SCALE)
    units, branches = gated.split(gates)
    foldable = torch.tensor([absorbs(features, b) for b in features.branches], dtype=torch.bool)
    branches = torch.where(foldable.to(branches.device), branches, torch.ones_like(branches))
    return cut(gated.network, features, kept, units, branches)


def _named(checkpoint: Path | None, part: str) -> Path | None:
    return checkpoint.with_name(f"{checkpoint.name}-{part}.pt") if checkpoint else None


def _subsampled(history: list[tuple[int, float, float]]) -> list[MultiplierPoint]:
    """About `REPORTED_POINTS` points, the last one included."""
    stride = max(1, len(history) // REPORTED_POINTS)
    points = history[::-stride][::-1]
    return [MultiplierPoint(step, round(value, 6), round(macs)) for step, value, macs in points]
