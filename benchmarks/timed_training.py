"""Trains a network of a benchmark by the recipe of a timed winner, for so long on one thread."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Any

import torch
from torch import nn

from evaluators.accuracy.recalibration import recalibrate
from evaluators.data.batches import Batches
from nas.task.task import Task
from nas.timed.contest import segment_recipe
from nas.training.network import Teacher, train
from nas.training.pace import TimePace
from search_spaces.networks.modules import Network, channels_last
from search_spaces.ops import Op, Shape

Blocks = list[tuple[str, tuple[Op, ...]]]

SHAPE: Shape = (3, 32, 32)


def train_blocks(
    seconds: float,
    blocks: Blocks,
    batches: Batches,
    task: Task,
    shape: Shape = SHAPE,
    **settings: Any,
) -> tuple[Network, float]:
    """A new network of blocks, trained and ready for inference, and the epochs of its training.

    Args:
        settings: of `train_for`.
    """
    torch.manual_seed(settings.get("seed", 0))
    network = channels_last(Network(blocks)).train()
    epochs = train_for(seconds, network, batches, task, shape, **settings)
    recalibrate(network, task.images.inputs(task.calibration, shape, torch.device("cpu")))
    return network.eval(), epochs


def accuracies(network: Network, task: Task, shape: Shape = SHAPE) -> dict[str, float]:
    """Accuracies of a network on the validation images and on as many training images."""
    data = task.images
    seen = replace(data, validation=data.part("train")[: len(data.part("validation"))])
    return {
        "validation accuracy": data.score(network, "validation", shape)["accuracy"],
        "training accuracy": seen.score(network, "validation", shape)["accuracy"],
    }


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
