"""FLOPs-aware training of one network: gates learn what can go, and what remains is dense.

Three parts. Weights and gates train together on `L = L_task + λ log(E[MACs](gates))`; the units
and branches with the best gates that fit the target are kept and the others cut out; the smaller
network trains on. With a target, λ is a dual variable: the loss is an augmented Lagrangian of
`g = log(E[MACs] / goal)`, where the goal falls from the network's own MACs to the target, and λ
rises while g is above zero (Nocedal and Wright, "Numerical optimization", 2006, section 17.3; for
costs of networks Gordon et al., "MorphNet", 2018, whose penalty is fixed).

    from nas.flops_aware import Aim, shrink

    shrunk = shrink(network, space.ops(arch), data, Aim(target=150_000), recipe, size=8, seed=0)
    shrunk.network, shrunk.blocks, shrunk.report["macs"]["after"]

Does not know runs, nor where the network comes from.
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
from nas.pruning.gates import GatedNetwork, drawn, open_probability, typical
from nas.pruning.knapsack import above, within
from nas.pruning.summary import report
from nas.training.loop import Recipe, fit
from nas.training.network import train
from search_spaces.cutting.cut_ops import Kept, cut_ops
from search_spaces.cutting.cut_weights import absorbs, cut
from search_spaces.cutting.tied_features import Features, analyse
from search_spaces.errors import UserError
from search_spaces.networks.modules import Network, channels_last
from search_spaces.ops import Op
from search_spaces.serial import Blocks

GATES_SHARE = 0.4
"""Share of the epochs in which gates are learnt; the rest fine-tunes what is left."""

GOAL = 0.98
"""Share of the target that the gates are led to: the cut then has little to mend either way."""

FALLING = 0.7
"""Share of the gates' steps in which the goal falls to the target."""

CURVATURE = 20.0
"""ρ of the augmented Lagrangian: high enough that gates are led back before many have shut.

A shut gate has no gradient of the task that would open it again.
"""

DUAL_RISE = 30.0
"""How far λ would rise in a training throughout which `g` is 1."""

GATE_TRAVEL = 40.0
"""How far the log-odds of a gate can move in a training (Adam's steps are of about its rate)."""

FAINTEST = 0.05
"""Least factor of a unit that stays: one that fits after all must still be able to learn."""

HISTORY = 60
"""Points of λ's trajectory in a report."""


@dataclass(frozen=True)
class Aim:
    """Where to: a number of MACs, or a fixed λ. One of the two.

    Raises:
        UserError: for both or neither, a λ that is negative or not a number, or a target below 1.
    """

    target: int | None = None
    """Most MACs of the result, which will have at least 95 % of it."""
    penalty: float | None = None
    """λ of the loss."""

    def __post_init__(self) -> None:
        if self.target is not None and self.penalty is not None:
            raise UserError(
                f"a FLOPs target ({self.target:,}) sets the penalty itself: give it or a penalty "
                f"({self.penalty:g}), not both"
            )
        if self.target is None and self.penalty is None:
            raise UserError("FLOPs-aware training needs a FLOPs target or a penalty")
        if self.penalty is not None and not 0 <= self.penalty < math.inf:
            raise UserError(f"the FLOPs penalty is {self.penalty:g}, expected 0 or more")
        if self.target is not None and self.target < 1:
            raise UserError(f"the FLOPs target is {self.target:,}, expected 1 or more")

    def check(self, blocks: Blocks) -> None:
        """Raise a `UserError` if a network of these ops cannot be cut to the target."""
        if self.target is None:
            return
        costs = GatedMacs(analyse(blocks))
        if self.target > costs.whole:
            raise UserError(
                f"the FLOPs target {self.target:,} is above the network's own {costs.whole:,}: "
                "expected at most that"
            )
        if self.target < costs.smallest:
            raise UserError(
                f"the FLOPs target {self.target:,} cannot be reached: the least that this network "
                f"can be cut to is {costs.smallest:,}"
            )

    def __str__(self) -> str:
        return f"penalty-{self.penalty:g}" if self.target is None else f"target-{self.target}"


@dataclass(frozen=True)
class Shrunk:
    """What FLOPs-aware training leaves.

    `report` has what `nas.sparsity.report` says, as JSON.
    """

    network: Network
    blocks: list[tuple[str, tuple[Op, ...]]]
    report: dict[str, Any]


def shrink(
    network: Network,
    blocks: Blocks,
    data: ImageData,
    aim: Aim,
    recipe: Recipe,
    *,
    size: int,
    seed: int,
    split: Split | None = None,
    calibration: Iterable[Tensor] = (),
    checkpoint: Path | None = None,
    reporter: Reporter | None = None,
) -> Shrunk:
    """Train a network and gates on it, cut it, and train what is left.

    Args:
        network: of `blocks`, trained already; its weights change.
        recipe: of both parts; 40 % of its epochs are for the gates. Its learning rate is best that
            of a first training, not of a fine-tuning: a network that loses parts recovers at that
            (Renda, Frankle and Carbin, "Comparing rewinding and fine-tuning in neural network
            pruning", 2020).
        size: height and width that the network takes.
        split: the images to train on; the data's training part by default.
        calibration: inputs `(batch, channels, size, size)` from which the batch-norm statistics
            of the result are measured; its own running ones are kept without any.
        checkpoint: a path whose name begins the files to resume from.

    Raises:
        UserError: for a target that the network cannot be cut to, or a checkpoint of another
            training.
    """
    aim.check(blocks)
    reporter = reporter or Quiet()
    split = split or data.train
    features = analyse(blocks)
    trained = _Training(GatedNetwork(network, features), aim, recipe, size=size, seed=seed)
    gates_recipe = replace(recipe, epochs=recipe.epochs * GATES_SHARE)
    trained.steps = gates_recipe.steps(len(split))
    with reporter.training("gates", trained.steps) as on_step:
        fit(
            trained,
            ImageBatches.of(data, split),
            gates_recipe,
            trained.backward,
            seed=seed,
            checkpoint=_named(checkpoint, "gates"),
            on_step=on_step,
            say=reporter.note,
        )
    kept = trained.chosen()
    smaller = channels_last(_cut(trained.gated, kept))
    batches = list(calibration)
    if batches:
        # Gates that half closed and units that left change what every later batch norm sees.
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
            say=reporter.note,
        )
    if batches:
        recalibrate(smaller, batches)
    return Shrunk(
        smaller.eval(),
        cut_ops(features, kept),
        report(features, blocks, kept, aim.target, aim.penalty, _thinned(trained.history)),
    )


class _Training(nn.Module):
    """The gated network with all that its training keeps between steps.

    One state holds weights, gates, λ, the gates' optimiser and λ's trajectory, so that the
    checkpoint of `nas.fit.fit` is whole.
    """

    multiplier: Tensor

    def __init__(
        self, gated: GatedNetwork, aim: Aim, recipe: Recipe, *, size: int, seed: int
    ) -> None:
        super().__init__()
        self.gated = gated
        self.costs = GatedMacs(gated.features)
        self.aim, self.recipe, self.size, self.seed = aim, recipe, size, seed
        self.steps = 1
        self.register_buffer("multiplier", torch.tensor(aim.penalty or 0.0, dtype=torch.float64))
        self.optimizer = torch.optim.Adam([gated.log_alpha], betas=(0.9, 0.99))
        self.history: list[tuple[int, float, float]] = []
        """Step, λ and expected MACs."""

    def backward(self, images: Tensor, targets: Tensor, step: int) -> float:
        """The gradients of a batch for the weights; the gates and λ take their own step."""
        gated, costs = self.gated, self.costs
        generator = torch.Generator().manual_seed((self.seed + 1) * 1_000_003 + step)
        noise = torch.rand(len(gated.log_alpha), generator=generator)
        gates = drawn(gated.log_alpha, noise.to(gated.log_alpha))
        logits = gated(resize(images, self.size), gates)
        task = F.cross_entropy(logits, targets, label_smoothing=self.recipe.label_smoothing)
        macs = costs.expected(*gated.split(open_probability(gated.log_alpha)))
        above = torch.log(macs / self._goal(step))
        loss = task + self.multiplier * above
        if self.aim.target is not None:
            loss = loss + CURVATURE / 2 * above.square()
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.param_groups[0]["lr"] = GATE_TRAVEL / self.steps
        self.optimizer.step()
        self.history.append((step + 1, self.multiplier.item(), macs.item()))
        if self.aim.target is not None:
            rise = DUAL_RISE / self.steps * above.detach()
            self.multiplier.add_(rise).clamp_(min=0)
        return task.item()

    def _goal(self, step: int) -> float:
        """MACs at which the penalty is nothing: falling to the target, geometrically."""
        whole = float(self.costs.whole)
        if self.aim.target is None:
            return whole
        share = min(1.0, (step + 1) / (FALLING * self.steps))
        return whole * (GOAL * self.aim.target / whole) ** share

    def chosen(self) -> Kept:
        """What stays."""
        scores = self.gated.log_alpha.detach().double().cpu().numpy()
        if self.aim.target is not None:
            return within(self.costs, scores, self.aim.target)
        # Open rather than shut in a draw.
        return above(self.costs, open_probability(torch.from_numpy(scores)).numpy(), 0.5)

    def get_extra_state(self) -> dict[str, Any]:
        """What is no tensor of the module: `state_dict` asks for it."""
        return {
            "aim": str(self.aim),
            "optimizer": self.optimizer.state_dict(),
            "history": self.history,
        }

    def set_extra_state(self, state: dict[str, Any]) -> None:
        """Take what `get_extra_state` gave."""
        if state["aim"] != str(self.aim):
            raise UserError(f"the checkpoint is of a training with {state['aim']}, not {self.aim}")
        self.optimizer.load_state_dict(state["optimizer"])
        self.history = [tuple(point) for point in state["history"]]


def _cut(gated: GatedNetwork, kept: Kept) -> Network:
    features: Features = gated.features
    units, branches = gated.split(typical(gated.log_alpha.detach()).clamp(min=FAINTEST))
    foldable = torch.tensor([absorbs(features, b) for b in features.branches], dtype=torch.bool)
    branches = torch.where(foldable.to(branches.device), branches, torch.ones_like(branches))
    return cut(gated.network, features, kept, units, branches)


def _named(checkpoint: Path | None, part: str) -> Path | None:
    return checkpoint.with_name(f"{checkpoint.name}-{part}.pt") if checkpoint else None


def _thinned(history: list[tuple[int, float, float]]) -> list[dict[str, float]]:
    """At most about `HISTORY` points, the last one among them."""
    stride = max(1, len(history) // HISTORY)
    points = history[::-stride][::-1]
    return [{"step": s, "lambda": round(m, 6), "macs": round(c)} for s, m, c in points]
