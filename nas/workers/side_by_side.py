"""Trains several networks at once, each on a worker of its own, as trials of Ray Tune.

Ray Tune places the trials, one per worker at a time, and restarts a trial whose worker has died;
the training resumes from its last checkpoint in the mailbox. Knows Ray Tune. Does not know what is
trained.
"""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch

from nas.training.checkpoint import steps_done
from nas.training.job import TrainingJob, steps_of
from nas.training.loop import CHECKPOINT_SECONDS
from nas.workers.cluster import QUIET_TUNE, gpus_for, ray_session
from nas.workers.pool import ATTEMPTS
from nas.workers.remote import RemoteTrainings, UpdateHandler, run_on_workers, train_in_worker
from search_spaces.errors import UserError


def train_side_by_side(
    trainings: Mapping[str, TrainingJob],
    checkpoints: Mapping[str, Path],
    *,
    workers: int,
    address: str | None = None,
    device: str = "cpu",
    on_step: Callable[[int, int, float], None] | None = None,
    on_message: Callable[[str], None] | None = None,
    checkpoint_seconds: float = CHECKPOINT_SECONDS,
) -> None:
    """Train each network on a Ray worker of its own; each checkpoint then is a complete training.

    Args:
        trainings: by name.
        checkpoints: files to resume from and to write, by the names of the trainings.
        workers: number of networks that train at a time, each with one processor, and one GPU if
            the device is one.
        address: address of a Ray cluster; without it, Ray is started on this machine.
        device: name of the device; on a GPU, each worker has its own `cuda`.
        on_step: called with (steps done, all steps, loss): sums over all trainings, and the mean
            of their last losses.
        on_message: called with each message of a training, one line each.
        checkpoint_seconds: see `nas.training.loop.fit`.

    Raises:
        UserError: if no cluster answers at the address or it has too few processors, and, when all
            other trainings have ended, for a training that failed.
    """
    total = _TotalProgress({name: steps_of(job) for name, job in trainings.items()}, on_step)
    handlers = {}
    for name in trainings:
        if steps_done(checkpoints[name]) < total.steps[name]:
            handlers[name] = UpdateHandler(
                checkpoints[name], total.on_step_of(name), _prefixed(name, on_message)
            )
        else:
            total.done[name] = total.steps[name]
    if not handlers:
        return
    workers = min(workers, len(handlers))
    jobs = {name: trainings[name] for name in handlers}
    with ray_session(workers, address, gpus=gpus_for(device, workers)):
        failed: list[str] = run_on_workers(
            _train,
            list(jobs),
            workers,
            jobs=jobs,
            handlers=handlers,
            device=device,
            checkpoint_seconds=checkpoint_seconds,
            env=QUIET_TUNE,
        )
    if failed:
        raise UserError(
            f"workers died {ATTEMPTS} times during the training of {', '.join(failed)}; the last "
            "checkpoints are kept, and the same command resumes from them"
        )


class _TotalProgress:
    """Sums the progress of several trainings."""

    def __init__(
        self, steps: Mapping[str, int], on_step: Callable[[int, int, float], None] | None
    ) -> None:
        self.steps = dict(steps)
        self.done = dict.fromkeys(steps, 0)
        self._losses: dict[str, float] = {}
        self._on_step = on_step

    def on_step_of(self, name: str) -> Callable[[int, int, float], None]:
        """The `on_step` of one training."""

        def on_step(done: int, steps: int, loss: float) -> None:
            self.done[name], self._losses[name] = done, loss
            if self._on_step is not None:
                mean = sum(self._losses.values()) / len(self._losses)
                self._on_step(sum(self.done.values()), sum(self.steps.values()), mean)

        return on_step


def _prefixed(name: str, on_message: Callable[[str], None] | None) -> Callable[[str], None]:
    return lambda text: None if on_message is None else on_message(f"{name}: {text}")


def _train(trainings: RemoteTrainings, names: list[str], workers: int) -> list[str]:
    """Run Ray Tune; return the names of the trainings that are given up."""
    from ray import tune

    logging.getLogger("ray.tune").setLevel(logging.CRITICAL)
    with tempfile.TemporaryDirectory(prefix="tune-") as folder:
        # `Tuner` would write the configuration into files.
        analysis = tune.run(
            _train_one,
            name="networks",
            config={"trainings": trainings, "name": tune.grid_search(names)},
            storage_path=folder,
            resources_per_trial={"cpu": 1, "gpu": float(trainings.device == "cuda")},
            max_concurrent_trials=workers,
            max_failures=ATTEMPTS - 1,
            raise_on_failed_trial=False,
            verbose=0,
        )
    return [trial.config["name"] for trial in analysis.trials if trial.status == "ERROR"]


def _train_one(config: dict[str, Any]) -> None:
    """The function that Ray Tune runs in a worker."""
    from ray import tune

    name, trainings = config["name"], config["trainings"]
    torch.set_num_threads(1)
    attempt = trainings.start_attempt(name, 1)
    if attempt:
        train_in_worker(trainings.job(name), trainings, name, attempt)
    tune.report({"ended": 1})
