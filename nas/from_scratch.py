"""A candidate's own training from scratch, as it runs in a worker process.

Knows one architecture, the images, and at which steps of its training it is looked at. Does not
know Ray, nor who decides whether it goes on.
"""

from __future__ import annotations

import math
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from evaluators.accuracy import accuracy
from evaluators.augmentation import Augmentation
from evaluators.batches import ImageBatches
from evaluators.data import ImageData, Split
from nas.fit import Recipe, fit, recipe_for
from nas.training import supervised
from nas.workers import OutOfTime
from search_spaces.architecture import Architecture
from search_spaces.modules import build, channels_last
from search_spaces.space import SearchSpace

if TYPE_CHECKING:
    # They bring what only the search's own process needs, and every worker would load it.
    from nas.run import Run
    from nas.task import Task

REDUCTION = 3
"""One candidate in so many goes on from a rung to the next, which is so many times further."""

RUNGS = 4
"""Rungs at most, the last one (trained to the end) among them."""

Report = Callable[[dict[str, Any]], None]
"""Takes `{"accuracy", "epochs", "rung"}` at each rung; does not come back where that is the end."""


def rung_steps(steps: int, epoch: int) -> list[int]:
    """After which of a training's `steps` a candidate is looked at; the last is the end.

    Args:
        epoch: steps of an epoch: no candidate is judged before it has seen every image once.
    """
    parts = [REDUCTION**k for k in range(RUNGS) if k == 0 or steps / REDUCTION**k >= epoch]
    return sorted(math.ceil(steps / part) for part in parts)


@dataclass(frozen=True)
class FromScratch:
    """Trains an architecture on the training images and scores it on the validation images.

    Images are numpy arrays, which Ray lets every process of a machine read in place. The test
    images are not among them.
    """

    space: SearchSpace
    recipe: Recipe
    augmentation: Augmentation
    data: ImageData
    """Without its images."""
    arrays: dict[str, Any]
    seed: int
    device: str
    checkpoints: Path
    seconds: float | None
    """What a candidate may take; None: as long as it likes."""

    @classmethod
    def of(cls, task: Task, run: Run, seconds: float | None) -> FromScratch:
        """What the task's specification asks for, with checkpoints below the run's folder."""
        specification = task.specification
        data = task.data
        parts = {"train": data.train, "validation": data.validation}
        arrays = {
            f"{name}.{kind}": getattr(split, kind).numpy()
            for name, split in parts.items()
            for kind in ("images", "labels")
        }
        none = data.test[:0]
        bare = ImageData(
            data.name, none, none, none, data.classes, data.mean, data.std, data.augmentation
        )
        return cls(
            task.space,
            recipe_for(task.space, task.train_epochs, batch_size=specification.batch_size),
            task.augmentation,
            bare,
            arrays,
            specification.seed,
            specification.device,
            run.folder.resolve() / "candidates",
            seconds,
        )

    @property
    def rungs(self) -> list[int]:
        """At which steps candidates are looked at."""
        images = len(self.arrays["train.labels"])
        return rung_steps(self.recipe.steps(images), replace(self.recipe, epochs=1).steps(images))

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
        train, validation = self._split("train"), self._split("validation")
        data = self.data
        size = self.space.input_shape(arch)[-1]
        torch.manual_seed(self.seed)
        network = channels_last(build(self.space, arch)).to(self.device)
        rungs = {step: REDUCTION**k for k, step in enumerate(self.rungs)}
        last = self.rungs[-1]
        reported = 0

        def look(done: int) -> None:
            nonlocal reported
            score = accuracy(network, validation, data.normalisation, size)
            epochs = round(self.recipe.epochs * done / last, 3)
            reported = done
            report({"accuracy": score, "epochs": epochs, "rung": rungs[done]})

        def on_step(done: int, steps: int, loss: float) -> None:
            if done in rungs:
                look(done)
            if self.seconds is not None and time.monotonic() - started > self.seconds:
                raise OutOfTime(self.seconds)

        fit(
            network,
            ImageBatches.of(data, train, self.augmentation),
            self.recipe,
            supervised(network, self.recipe, size),
            seed=self.seed,
            checkpoint=self.checkpoint(arch),
            on_step=on_step,
        )
        if reported < last:  # whoever trained it to the end died before saying so
            look(last)

    def _split(self, name: str) -> Split:
        with warnings.catch_warnings():
            # The store's arrays are read-only, and nothing writes to them.
            warnings.simplefilter("ignore", UserWarning)
            images, labels = (
                torch.from_numpy(self.arrays[f"{name}.{kind}"]) for kind in ("images", "labels")
            )
        return Split(images, labels)
