"""Measures a supernet's fidelity: inherited scores beside those of networks trained alone.

Architectures of every size within the budget are scored with inherited weights on the validation
part, as the search scores them; each also trains from scratch and is scored on the test part, which
the supernet never saw. The comparison is in `fidelity_result.py`.

Every training is recorded in `RUN/fidelity.jsonl` when it ends, so an interrupted measurement
resumes. Does not print.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from evaluators.accuracy.inherited import InheritedAccuracy
from evaluators.data.dataset import Data
from nas.progress import Reporter
from nas.run.folder import Run
from nas.studies.fidelity_result import (
    FEWEST,
    RESULT_FILE,
    TRAININGS_FILE,
    Fidelity,
    ScoredTwice,
    compare,
)
from nas.task.task import Task
from nas.training.loop import Recipe
from nas.training.network import train
from nas.workers.opening import open_workers
from nas.workers.pool import keep_busy
from nas.workers.resources import THIS_PROCESS, Resources
from search_spaces.architecture import Architecture
from search_spaces.errors import UserError
from search_spaces.files import write_text
from search_spaces.networks.modules import build, channels_last
from search_spaces.space import SearchSpace

POOL = 8192
"""Random architectures that the measured ones are chosen from."""

EPOCHS_SHARE = 0.25
"""Default epochs of a network trained alone, as a fraction of the supernet's."""


@dataclass(frozen=True)
class StandAlone:
    """Evaluator that trains a network from scratch and scores it on the test part."""

    space: SearchSpace
    data: Data
    recipe: Recipe
    seed: int
    device: str

    def __call__(self, arch: Architecture) -> dict[str, float]:
        """Train one network and return its score by metric; deterministic."""
        torch.manual_seed(self.seed)
        network = channels_last(build(self.space, arch)).to(self.device)
        shape = self.space.input_shape(arch)
        train(network, self.data.batches("train"), self.recipe, shape, seed=self.seed)
        return self.data.score(network, "test", shape)


def representatives(task: Task, count: int) -> list[Architecture]:
    """Architectures within the budget, spread evenly over its range of log MACs.

    Uniform draws would crowd in the middle of the range, where a search does not end.
    """
    rng = np.random.default_rng(task.specification.seed)
    rows = np.unique(task.budgeted.sample(POOL, rng), axis=0)
    macs = task.tables.score(rows)["macs"]
    chosen: list[int] = []
    for wanted in np.geomspace(macs.min(), macs.max(), count):
        distance = np.abs(macs - wanted).astype(float)
        distance[chosen] = np.inf
        chosen.append(int(distance.argmin()))
    return task.space.decode(rows[chosen[: len(rows)]])


def measure(
    task: Task,
    run: Run,
    evaluator: InheritedAccuracy,
    reporter: Reporter,
    *,
    count: int,
    epochs: float | None = None,
    resources: Resources = THIS_PROCESS,
) -> Fidelity:
    """Score architectures both ways and compare; the result is written to `RUN/fidelity.json`.

    Args:
        count: number of architectures; see `check_count`.
        epochs: length of each training from scratch; a fraction of the supernet's by default.

    Raises:
        UserError: for a number that is refused, or if a training fails.
    """
    check_count(count)
    specification = task.specification
    epochs = epochs or max(2.0, EPOCHS_SHARE * task.schedule.supernet_epochs)
    recipe = task.schedule.recipe(epochs)
    data = task.data
    alone = StandAlone(
        task.space, data.only("train", "test"), recipe, specification.seed, specification.device
    )
    archs = representatives(task, count)
    path = run.folder / TRAININGS_FILE
    done = _read(path)
    waiting = [arch for arch in archs if (arch.id, epochs) not in done]
    with (
        open_workers(alone, resources.workers, resources.address) as pool,
        reporter.training("alone", len(archs)) as on_step,
    ):
        before = len(archs) - len(waiting)
        # The largest first: a long training that starts last would leave workers idle.
        for number, ended in enumerate(keep_busy(pool, reversed(waiting)), start=before + 1):
            if ended.error is not None:
                raise UserError(f"training {ended.arch.id} alone failed: {ended.error}")
            done[ended.arch.id, epochs] = {
                "id": ended.arch.id,
                "macs": int(task.tables.cost(ended.arch)["macs"]),
                "alone": ended.metrics[data.metric],
                "epochs": epochs,
                "seconds": round(ended.seconds, 1),
            }
            write_text(path, "".join(json.dumps(row) + "\n" for row in done.values()))
            on_step(number, len(archs), ended.metrics[data.metric])
    rows = [
        ScoredTwice(**done[arch.id, epochs], inherited=evaluator(arch)[data.metric])
        for arch in sorted(archs, key=lambda a: task.tables.cost(a)["macs"])
    ]
    result = compare(rows, data.metric)
    write_text(run.folder / RESULT_FILE, json.dumps(result.to_json(), indent=2) + "\n")
    return result


def check_count(count: int) -> None:
    """Check the number of architectures.

    Raises:
        UserError: for too few, or more than are drawn.
    """
    if count < FEWEST:
        raise UserError(
            f"{count} architectures have no order to speak of: expected {FEWEST} at least"
        )
    if count > POOL:
        raise UserError(f"{count:,} architectures are too many: expected {POOL:,} at most")


def _read(path: Path) -> dict[tuple[str, float], dict[str, Any]]:
    """Trainings finished before, by architecture id and epochs."""
    if not path.exists():
        return {}
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    return {(row["id"], row["epochs"]): row for row in rows}
