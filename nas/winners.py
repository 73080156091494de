"""Several architectures of a run trained at once, each on a Ray worker of its own.

Their checkpoints lie where `nas.winner` has them, which does all the rest: what was interrupted
goes on in either way, and one that is trained is only scored and exported. Does not know how a
network trains, nor who places it.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from nas.fresh import Weights
from nas.progress import Reporter
from nas.remote_training import steps_of
from nas.run import Run
from nas.task import Task
from nas.trials import train_at_once
from nas.winner import fine_tuning, train_winner
from search_spaces.architecture import Architecture


def train_winners(
    task: Task,
    run: Run,
    start: Weights,
    folders: Mapping[Architecture, Path],
    reporter: Reporter,
    *,
    workers: int,
    address: str | None = None,
) -> dict[Architecture, dict[str, Any]]:
    """Train architectures at once, and export each as `nas.winner.train_winner` does.

    Args:
        folders: where each is exported to.
        workers: how many train at a time, each on a processor of its own, and a GPU where the
            device is one; 0 trains one after the other in this process.
        address: a Ray cluster's address; without it a Ray of this machine is started.

    Returns:
        What the test part says of each; see `train_winner`.

    Raises:
        UserError: if nobody answers at the address or there are fewer processors, and for a
            training that cannot be, when all others have ended.
    """
    if workers and task.train_epochs > 0:
        batches = task.data.only("searched").batches("searched")
        trainings = {
            arch.id: fine_tuning(task, start, arch, task.train_epochs, batches) for arch in folders
        }
        recipe = next(iter(trainings.values())).recipe
        files = {arch.id: run.training_checkpoint(arch, recipe.epochs) for arch in folders}
        name = f"{len(trainings)} networks"
        with reporter.training(name, sum(map(steps_of, trainings.values()))) as on_step:
            train_at_once(
                trainings,
                files,
                workers=workers,
                address=address,
                device=task.specification.device,
                on_step=on_step,
                say=reporter.note,
            )
    return {
        arch: train_winner(task, run, start, arch, folder, reporter)
        for arch, folder in folders.items()
    }
