"""A race whose trainings go on: each network trains in segments, and the winner keeps its weights.

A segment begins with the weights and the optimiser's state of the one before it, at a constant
learning rate after the first warm-up; networks are judged by the moving average of their weights,
as if the rate had been lowered. The last segment lowers it, and may have a teacher, which trained
before. Every training leaves a checkpoint, so a killed race resumes. Knows trainings. Does not know
which networks take part.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import torch
from torch import nn

from evaluators.accuracy.recalibration import recalibrate
from evaluators.data.dataset import Part
from nas.run.folder import Run
from nas.task.starting_weights import FreshWeights
from nas.task.task import Task
from nas.training.checkpoint import steps_done
from nas.training.curve import Curve
from nas.training.logs import log as logs
from nas.training.loop import Recipe
from nas.training.network import Teacher, train
from nas.training.pace import TimePace
from search_spaces.architecture import Architecture
from search_spaces.files import read_json, write_text

AVERAGE = 0.99
"""Decay of the moving average by which networks are judged."""

WARMUP_STEPS = 50
"""Steps of the warm-up, where the length of the training is not known."""

FINAL_DECAY = 0.7
"""Share of the winner's last segment during which the learning rate falls."""

TAUGHT_SHARE, TEMPERATURE = 0.75, 3.0
"""Weight of the teacher's predictions, and their temperature (`benchmarks/teaching.py`)."""


@dataclass(frozen=True)
class SegmentScore:
    """A network after a segment."""

    score: float
    """On the validation part."""
    epochs: float
    """Of all its segments."""
    seconds: float
    """Of all its segments."""


@dataclass(frozen=True)
class Contest:
    """Trains networks of a run in segments."""

    task: Task
    run: Run
    on_step: Callable[[int, int, float], None] | None = None
    on_message: Callable[[str], None] | None = None

    def segment(self, arch: Architecture, number: int, seconds: float) -> SegmentScore:
        """Train a network for one more segment on the training part, and score it.

        Args:
            number: of the segment, from 0.
            seconds: of the segment.

        Raises:
            UserError: if the training diverges or does not fit into memory.
        """
        known = self.score(arch, number)
        if known is not None:
            return known
        file = self.checkpoint(arch, number)
        recipe = segment_recipe(self.task, "constant")
        network = self._trained(arch, file, seconds, recipe, "train", self._before(arch, number))
        data = self.task.data
        score = data.score(network, "validation", self.task.space.input_shape(arch))[data.metric]
        epochs = steps_done(file) * recipe.batch_size / len(data.batches("train"))
        before = self.score(arch, number - 1) if number else None
        spent = seconds if before is None else before.seconds + seconds
        result = SegmentScore(score, round(epochs, 4), round(spent, 3))
        write_text(file.with_suffix(".json"), json.dumps(result.__dict__) + "\n")
        steps = steps_done(file)
        logs.record(file.with_suffix(".jsonl"), {"step": steps, f"validation_{data.metric}": score})
        return result

    def score(self, arch: Architecture, number: int) -> SegmentScore | None:
        """The score of a segment; None if it has not ended."""
        return _known(self.checkpoint(arch, number).with_suffix(".json"))

    def finish(
        self,
        arch: Architecture,
        number: int,
        left: Callable[[], float],
        teacher: Teacher | None = None,
    ) -> nn.Module:
        """Train the winner to the end, on all searched data, ready for inference.

        Args:
            number: of its last segment, which follows `number` earlier ones.
            left: seconds that are left of that segment, as known by now.
            teacher: of that segment.
        """
        recipe, file = segment_recipe(self.task, "linear"), self.checkpoint(arch, number)
        # With a teacher, images were not mixed when the rest of its settings were chosen.
        recipe = recipe if teacher is None else replace(recipe, mixing=0.0)
        before = self._before(arch, number)
        return self._trained(arch, file, left, recipe, "searched", before, teacher)

    def teach(self, arch: Architecture, left: Callable[[], float], least: float) -> Teacher | None:
        """Train a teacher on all searched data; None if too little time is left to begin.

        Args:
            left: seconds that are left of its training, as known by now.
            least: seconds of its training.
        """
        file = self.run.race / f"teacher-{arch.id}.pt"
        if not file.exists() and left() < least:
            return None
        # Labels that are smoothed would hide which classes are alike (Müller et al., "When does
        # label smoothing help?", 2019, section 4).
        recipe = replace(segment_recipe(self.task, "linear"), label_smoothing=0.0, mixing=0.0)
        network = self._trained(arch, file, left, recipe, "searched")
        shape = self.task.space.input_shape(arch)
        return Teacher(network, shape, TAUGHT_SHARE, TEMPERATURE)

    def checkpoint(self, arch: Architecture, number: int) -> Path:
        """The checkpoint of a segment."""
        return self.run.race / f"{arch.id}-{number}.pt"

    def _before(self, arch: Architecture, number: int) -> Path | None:
        """The checkpoint that a segment goes on from; None for the first."""
        return self.checkpoint(arch, number - 1) if number else None

    def _trained(
        self,
        arch: Architecture,
        file: Path,
        seconds: float | Callable[[], float],
        recipe: Recipe,
        part: Part,
        before: Path | None = None,
        teacher: Teacher | None = None,
    ) -> nn.Module:
        task = self.task
        device = torch.device(task.specification.device)
        start = FreshWeights.of(task)
        network = start.recalibrated(arch).to(device)
        shape = task.space.input_shape(arch)
        on_step = self.on_step
        if logs.wanted():  # writing the file would take some of the time
            on_step = Curve(file.with_suffix(".jsonl"), recipe, on_step)
        train(
            network,
            task.data.batches(part, task.schedule.augmentation),
            recipe,
            shape,
            seed=task.specification.seed,
            checkpoint=file,
            on_step=on_step,
            on_message=self.on_message,
            pace=TimePace(seconds, 0 if before is None else steps_done(before)),
            continued=before,
            teacher=teacher,
        )
        recalibrate(network, task.data.inputs(start.calibration, shape, device))
        return network.eval()


def segment_recipe(task: Task, schedule: Literal["constant", "linear"]) -> Recipe:
    """The recipe of a segment: constant, or linear for the last one, which lowers the rate."""
    recipe = task.schedule.timed_recipe
    return replace(
        recipe,
        schedule=schedule,
        warmup_steps=WARMUP_STEPS,
        decay=FINAL_DECAY,
        ema=recipe.ema or AVERAGE,
    )


def _known(file: Path) -> SegmentScore | None:
    """The score of a segment that has ended; None otherwise."""
    try:
        return SegmentScore(**read_json(file))
    except (OSError, ValueError, TypeError):
        return None
