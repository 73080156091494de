"""Trains a network of a benchmark by the recipe of a timed winner, for so long on one thread."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Any

from torch import nn

from evaluators.data.batches import Batches
from nas.task.task import Task
from nas.timed.contest import segment_recipe
from nas.training.network import Teacher, train
from nas.training.pace import TimePace
from search_spaces.ops import Shape


def train_for(
    seconds: float,
    network: nn.Module,
    batches: Batches,
    task: Task,
    shape: Shape,
    *,
    seed: int = 0,
    teacher: Teacher | None = None,
    **changed: Any,
) -> float:
    """Train a network in place for seconds of processor time.

    Args:
        teacher: from whose predictions it learns too.
        changed: settings of the recipe that differ from those of a timed winner.

    Returns:
        Epochs of the training.
    """
    recipe = replace(segment_recipe(task, "linear"), **changed)
    pace = TimePace(seconds, clock=time.process_time)
    steps = train(network, batches, recipe, shape, seed=seed, pace=pace, teacher=teacher)
    return round(steps * recipe.batch_size / len(batches), 1)
