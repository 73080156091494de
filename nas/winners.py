"""Several architectures of a run trained at once, each on a Ray worker of its own.

Their checkpoints lie where `nas.winner` has them, which does all the rest: what was interrupted
goes on in either way, and one that is trained is only scored and exported. Does not know how a
network trains, nor who places it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from evaluators.data.dataset import Part
from nas.engine.starting_weights import Weights
from nas.engine.task import Task
from nas.engine.winner import fine_tuning, train_winner
from nas.progress import Reporter
from nas.run.folder import Run
from nas.workers.remote import Training, steps_of
from nas.workers.resources import ALONE, Crew
from nas.workers.side_by_side import train_at_once
from search_spaces.architecture import Architecture


def train_winners(
    task: Task,
    run: Run,
    start: Weights,
    folders: Mapping[Architecture, Path],
    reporter: Reporter,
    crew: Crew = ALONE,
) -> dict[Architecture, dict[str, Any]]:
    """Train architectures at once, and export each as `nas.winner.train_winner` does.

    Args:
        folders: where each is exported to.
        crew: its workers train one each at a time, on a processor of its own, and a GPU where the
            device is one; without any they are trained one after the other in this process.

    Returns:
        What the test part says of each; see `train_winner`.

    Raises:
        UserError: if nobody answers at the address or there are fewer processors, and for a
            training that cannot be, when all others have ended.
    """
    train_ahead(task, run, start, list(folders), task.train_epochs, "searched", reporter, crew)
    return {
        arch: train_winner(task, run, start, arch, folder, reporter)
        for arch, folder in folders.items()
    }


def train_ahead(
    task: Task,
    run: Run,
    start: Weights,
    archs: Sequence[Architecture],
    epochs: float,
    part: Part,
    reporter: Reporter,
    crew: Crew,
) -> None:
    """Train architectures at once on a part of the data, as far as there are workers.

    Whoever trains them afterwards finds each training done.
    """
    if not crew.trainers or epochs == 0:
        return
    batches = task.data.only(part).batches(part)
    trainings: dict[str, Training] = {
        arch.id: fine_tuning(task, start, arch, epochs, batches) for arch in archs
    }
    recipe = next(iter(trainings.values())).recipe
    files = {
        arch.id: run.training_checkpoint(arch, task.specification, recipe.epochs) for arch in archs
    }
    steps = sum(map(steps_of, trainings.values()))
    with reporter.training(f"{len(trainings)} networks", steps) as on_step:
        train_at_once(
            trainings,
            files,
            workers=crew.trainers,
            address=crew.address,
            device=task.specification.device,
            on_step=on_step,
            say=reporter.note,
        )
