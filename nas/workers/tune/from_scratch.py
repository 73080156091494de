"""Trains one candidate from scratch in a worker process and reports its score at each rung.

Knows one architecture, the data, and the steps of its training at which it is scored (rungs). Does
not know which candidates are stopped early.
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
from nas.training.network import supervised_backward
from nas.workers.object_store import SharedObject
from nas.workers.pool import TimeLimitExceeded
from search_spaces.architecture import Architecture
from search_spaces.networks.modules import build, channels_last
from search_spaces.space import SearchSpace

REDUCTION = 3
"""Reduction factor: 1 in `REDUCTION` candidates continues from a rung to the next, which has
`REDUCTION` times the steps."""

RUNGS = 4
"""Maximum number of rungs, including the last one, the end of the training."""

Report = Callable[[dict[str, Any]], None]
"""Called with `{metric, "epochs", "rung"}` at each rung; does not return if the candidate is
stopped there."""


def rung_steps(steps: int, epoch: int) -> list[int]:
    """Steps of a training after which a candidate is scored, ascending; the last is `steps`.

    Args:
        steps: number of steps of the training.
        epoch: number of steps of an epoch; no candidate is scored before the end of its first,
            unless the training is shorter.
    """
    parts = [REDUCTION**k for k in range(RUNGS) if k == 0 or steps / REDUCTION**k >= epoch]
    return sorted(math.ceil(steps / part) for part in parts)


@dataclass(frozen=True)
class FromScratch:
    """Trains an architecture on the training samples and scores it on the validation samples."""

    space: SearchSpace
    recipe: Recipe
    augmentation: Augmentation
    data: SharedObject
    """The training and validation parts; without test samples."""
    samples: int
    """Number of training samples."""
    seed: int
    device: str
    checkpoints: Path
    """Folder of the checkpoints of running candidates."""
    seconds: float | None
    """Time limit of a candidate; None: no limit."""

    @property
    def rungs(self) -> list[int]:
        """Steps after which candidates are scored."""
        epoch = replace(self.recipe, epochs=1).steps(self.samples)
        return rung_steps(self.recipe.steps(self.samples), epoch)

    def checkpoint(self, arch: Architecture) -> Path:
        """The checkpoint file of an architecture while it trains."""
        return self.checkpoints / f"{arch.id}-{self.recipe.epochs:g}-epochs.pt"

    def __call__(self, arch: Architecture, report: Report) -> None:
        """Train, or resume from the checkpoint, and report at each remaining rung.

        Raises:
            TimeLimitExceeded: if the training exceeds its time limit.
            UserError: if the training diverges.
        """
        started = time.monotonic()
        torch.set_num_threads(1)
        data: Data = self.data.rebuild()
        shape = self.space.input_shape(arch)
        torch.manual_seed(self.seed)
        network = channels_last(build(self.space, arch)).to(self.device)
        rungs = {step: REDUCTION**k for k, step in enumerate(self.rungs)}
        last = self.rungs[-1]
        reported = 0

        def report_score(done: int) -> None:
            nonlocal reported
            score = data.score(network, "validation", shape)
            epochs = round(self.recipe.epochs * done / last, 3)
            reported = done
            report({**score, "epochs": epochs, "rung": rungs[done]})

        def on_step(done: int, steps: int, loss: float) -> None:
            if done in rungs:
                report_score(done)
            if self.seconds is not None and time.monotonic() - started > self.seconds:
                raise TimeLimitExceeded(self.seconds)

        fit(
            network,
            data.batches("train", self.augmentation),
            self.recipe,
            supervised_backward(network, self.recipe, shape),
            seed=self.seed,
            checkpoint=self.checkpoint(arch),
            on_step=on_step,
        )
        if reported < last:  # an earlier worker died after the last step, before its report
            report_score(last)
