"""A candidate's own training from scratch, as it runs in a worker process.

Knows one architecture, the data, and at which steps of its training it is looked at. Does not know
who decides whether it goes on.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from evaluators.data.augmentation import Augmentation
from evaluators.data.dataset import Data
from nas.training.loop import Recipe, fit
from nas.training.network import supervised
from nas.workers.object_store import Apart
from nas.workers.pool import OutOfTime
from search_spaces.architecture import Architecture
from search_spaces.networks.modules import build, channels_last
from search_spaces.space import SearchSpace

REDUCTION = 3
"""One candidate in so many goes on from a rung to the next, which is so many times further."""

RUNGS = 4
"""Rungs at most, the last one (trained to the end) among them."""

Report = Callable[[dict[str, Any]], None]
"""Takes `{metric, "epochs", "rung"}` at each rung; does not come back where that is the end."""


def rung_steps(steps: int, epoch: int) -> list[int]:
    """After which of a training's `steps` a candidate is looked at; the last is the end.

    Args:
        epoch: steps of an epoch: no candidate is judged before it has seen every sample once.
    """
    parts = [REDUCTION**k for k in range(RUNGS) if k == 0 or steps / REDUCTION**k >= epoch]
    return sorted(math.ceil(steps / part) for part in parts)


@dataclass(frozen=True)
class FromScratch:
    """Trains an architecture on the training samples and scores it on the validation samples.

    The data are taken apart, so that Ray lets every process of a machine read them in place; the
    test samples are not among them.
    """

    space: SearchSpace
    recipe: Recipe
    augmentation: Augmentation
    data: Apart
    samples: int
    """Of the training part."""
    seed: int
    device: str
    checkpoints: Path
    seconds: float | None
    """What a candidate may take; None: as long as it likes."""

    @property
    def rungs(self) -> list[int]:
        """At which steps candidates are looked at."""
        epoch = replace(self.recipe, epochs=1).steps(self.samples)
        return rung_steps(self.recipe.steps(self.samples), epoch)

    def checkpoint(self, arch: Architecture) -> Path:
        """Where the training of an architecture is kept while it goes on."""
        return self.checkpoints / f"{arch.id}-{self.recipe.epochs:g}-epochs.pt"

    def __call__(self, arch: Architecture, report: Report) -> None:
        """Train, or go on from the checkpoint, and report at each rung that is left.

        Raises:
            OutOfTime: when it has taken longer than it may.
            UserError: when the training diverges.
        """
        started = time.monotonic()
        torch.set_num_threads(1)
        data: Data = self.data.whole()
        shape = self.space.input_shape(arch)
        torch.manual_seed(self.seed)
        network = channels_last(build(self.space, arch)).to(self.device)
        rungs = {step: REDUCTION**k for k, step in enumerate(self.rungs)}
        last = self.rungs[-1]
        reported = 0

        def look(done: int) -> None:
            nonlocal reported
            score = data.score(network, "validation", shape)
            epochs = round(self.recipe.epochs * done / last, 3)
            reported = done
            report({**score, "epochs": epochs, "rung": rungs[done]})

        def on_step(done: int, steps: int, loss: float) -> None:
            if done in rungs:
                look(done)
            if self.seconds is not None and time.monotonic() - started > self.seconds:
                raise OutOfTime(self.seconds)

        fit(
            network,
            data.batches("train", self.augmentation),
            self.recipe,
            supervised(network, self.recipe, shape),
            seed=self.seed,
            checkpoint=self.checkpoint(arch),
            on_step=on_step,
        )
        if reported < last:  # whoever trained it to the end died before saying so
            look(last)
