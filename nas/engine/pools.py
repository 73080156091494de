"""Opens the pool that evaluates the candidates of a search.

Knows which of the three pools a specification needs: this process, Ray actors, or Ray Tune where
candidates train from scratch. Does not know what is proposed.
"""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterator
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING

from nas.run.folder import Run
from nas.run.objectives import objective
from nas.task.task import Task
from nas.workers.cluster import gpus_for, ray_session
from nas.workers.opening import open_workers
from nas.workers.pool import Evaluator, Workers
from nas.workers.resources import Resources
from search_spaces.architecture import Architecture

if TYPE_CHECKING:
    from nas.workers.tune.from_scratch import FromScratch
    from nas.workers.tune.tune_workers import TuneWorkers

DEFAULT_WORKERS = 2
"""Candidates that train at a time where `--workers` is not given."""


def open_pool(
    task: Task, run: Run, evaluator: Evaluator | None, resources: Resources
) -> AbstractContextManager[Workers]:
    """The pool of a search; without an evaluator, candidates train from scratch in Ray Tune."""
    seconds = task.specification.time_limit
    if evaluator is None:
        count = resources.workers or DEFAULT_WORKERS
        return open_tuning(task, run, count, resources.address, seconds=seconds)
    return open_workers(evaluator, resources.workers, resources.address, seconds)


@contextlib.contextmanager
def open_tuning(
    task: Task,
    run: Run,
    count: int = DEFAULT_WORKERS,
    address: str | None = None,
    *,
    seconds: float | None = None,
) -> Iterator[TuneWorkers]:
    """Workers that train the candidates of a run from scratch.

    Args:
        count: candidates at a time, each on one processor; on this machine at most the number of
            its processors, since trainings that share one slow each other down.
        address: address of a Ray cluster; without it, Ray is started on this machine.
        seconds: time limit of one candidate, after which it counts as failed.

    Raises:
        UserError: if no cluster answers at the address, or it has too few processors.
    """
    import ray

    from nas.workers.tune.tune_workers import TuneWorkers  # importing Ray Tune takes seconds

    if address is None and not ray.is_initialized():
        count = min(count, os.cpu_count() or 1)
    train = candidate_training(task, run, seconds)
    tables = task.tables
    metrics = [o.metric for o in run.objectives if o.metric in tables.metrics]

    def costs_of(arch: Architecture) -> list[float]:
        costs = tables.cost(arch)
        return [costs[metric] for metric in metrics]

    gpus = gpus_for(task.specification.device, 1)
    with ray_session(count, address, gpus=gpus * count):
        workers = TuneWorkers(
            train,
            count,
            rungs=len(train.rungs),
            costs_of=costs_of,
            score=objective(task.data.metric),
            seconds=seconds,
            gpus=float(gpus),
            on_end=lambda arch: train.checkpoint(arch).unlink(missing_ok=True),
        )
        with workers:
            yield workers
        # An interrupted search resumes from them; a finished one no longer needs them.
        shutil.rmtree(train.checkpoints, ignore_errors=True)


def candidate_training(task: Task, run: Run, seconds: float | None = None) -> FromScratch:
    """Training of one candidate as the specification has it, with checkpoints in the run folder.

    Args:
        seconds: time limit of one candidate; None: no limit.
    """
    from nas.workers.object_store import SharedObject  # imports Ray
    from nas.workers.tune.from_scratch import FromScratch

    specification = task.specification
    return FromScratch(
        task.space,
        task.schedule.recipe(task.schedule.train_epochs),
        task.schedule.augmentation,
        SharedObject.of(task.data.only("train", "validation")),
        len(task.data.batches("train")),
        specification.seed,
        specification.device,
        run.folder.resolve() / "candidates",
        seconds,
    )
