"""Compares search spaces by the errors of random networks that train equally long.

A space is as good as the networks that it makes likely: those of a better one have lower errors
throughout (Radosavovic et al., "Designing Network Design Spaces", 2020). Every training is recorded
in `DIR/trainings.jsonl` when it ends, so an interrupted comparison goes on. The statistics are in
`error_distribution.py`. Does not print.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from evaluators.accuracy.recalibration import recalibrate
from evaluators.data.dataset import Data
from nas.studies.error_distribution import Trained
from nas.task.starting_weights import FreshWeights
from nas.task.task import Task
from nas.timed.contest import segment_recipe
from nas.training.loop import Recipe
from nas.training.network import train
from nas.training.pace import TimePace
from nas.workers.opening import open_workers
from nas.workers.pool import keep_busy
from nas.workers.resources import THIS_PROCESS, Resources
from search_spaces.architecture import Architecture
from search_spaces.errors import UserError
from search_spaces.files import write_text

TRAININGS_FILE = "trainings.jsonl"

OnTrained = Callable[[int, int, float], None]
"""`(networks done, all networks, score of the last one)`."""


@dataclass(frozen=True)
class Length:
    """How long each network trains: epochs, or seconds where that is what the networks share."""

    epochs: float | None = None
    seconds: float | None = None

    def __str__(self) -> str:
        return f"{self.epochs:g} epochs" if self.epochs else f"{self.seconds:g} s"


@dataclass(frozen=True)
class EqualTraining:
    """Evaluator that trains a new network for a given length and scores it on validation data."""

    start: FreshWeights
    data: Data
    recipe: Recipe
    length: Length
    device: str

    def __call__(self, arch: Architecture) -> dict[str, float]:
        """Train one network; returns its score by metric, and the epochs and seconds it took."""
        seed, device = self.start.seed, torch.device(self.device)
        network = self.start.recalibrated(arch).to(device).train()
        shape = self.start.space.input_shape(arch)
        batches = self.data.batches("train")
        pace = None if self.length.seconds is None else TimePace(self.length.seconds)
        began = time.monotonic()
        steps = train(network, batches, self.recipe, shape, seed=seed, pace=pace)
        seconds = time.monotonic() - began
        recalibrate(network, self.data.inputs(self.start.calibration, shape, device))
        score = self.data.score(network.eval(), "validation", shape)[self.data.metric]
        epochs = steps * self.recipe.batch_size / len(batches)
        return {self.data.metric: score, "epochs": epochs, "seconds": seconds}


def compare_spaces(
    tasks: Sequence[Task],
    length: Length,
    folder: Path,
    *,
    count: int,
    resources: Resources = THIS_PROCESS,
    on_trained: OnTrained | None = None,
) -> list[Trained]:
    """Train random networks of several spaces equally long.

    Args:
        tasks: one for each space, with equal budgets and data.
        length: of each training.
        folder: where trainings are recorded, and read if they have ended before.
        count: networks of each space.

    Raises:
        UserError: if a training fails.
    """
    file = folder / TRAININGS_FILE
    done = _read(file)
    total = count * len(tasks)
    rows: list[Trained] = []
    folder.mkdir(parents=True, exist_ok=True)
    for task in tasks:
        key = {"space": task.space.name, "length": str(length), "budget": str(task.budgeted.budget)}
        key |= {"data": task.data.name}
        archs = random_networks(task, count)
        known = {row["id"]: row for row in done if key.items() <= row.items()}
        waiting = [arch for arch in archs if arch.id not in known]
        evaluator = _evaluator(task, length)
        with open_workers(evaluator, resources.workers, resources.address) as pool:
            for ended in keep_busy(pool, iter(waiting)):
                if ended.error is not None:
                    raise UserError(f"training {ended.arch.id} failed: {ended.error}")
                row = key | _row(task, ended.arch, ended.metrics)
                known[ended.arch.id] = row
                done.append(row)
                write_text(file, "".join(json.dumps(each) + "\n" for each in done))
                if on_trained is not None:
                    on_trained(len(rows) + len(known), total, ended.metrics[task.data.metric])
        rows += [Trained.of(known[arch.id], task.data.metric) for arch in archs]
    return rows


def random_networks(task: Task, count: int) -> list[Architecture]:
    """Different random networks within the budget of a task; a larger `count` begins alike.

    Raises:
        UserError: if there are fewer.
    """
    rng = np.random.default_rng((task.specification.seed, 11))
    rows = task.budgeted.sample(4 * count, rng)
    _, first = np.unique(rows, axis=0, return_index=True)
    if len(first) < count:
        raise UserError(
            f"{task.space.name} has about {len(first)} network(s) with {task.budgeted.budget}: "
            f"expected --networks of at most that, or a wider budget"
        )
    return task.space.decode(rows[np.sort(first)[:count]])


def _evaluator(task: Task, length: Length) -> EqualTraining:
    recipe = segment_recipe(task, "linear")
    if length.epochs is not None:
        recipe = replace(recipe, epochs=length.epochs)
    data = task.data.only("train", "validation")
    return EqualTraining(FreshWeights.of(task), data, recipe, length, task.specification.device)


def _row(task: Task, arch: Architecture, metrics: dict[str, float]) -> dict[str, Any]:
    costs = task.tables.cost(arch)
    return {
        "id": arch.id,
        "choices": dict(arch),
        "macs": int(costs["macs"]),
        "params": int(costs["params"]),
        **{name: round(value, 4) for name, value in metrics.items()},
    }


def _read(file: Path) -> list[dict[str, Any]]:
    """Trainings that ended before."""
    if not file.exists():
        return []
    return [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
