"""Several trainings at once, each on a worker of its own, as trials of Ray Tune.

Tune places them, as many at a time as there are workers, and starts one anew whose worker has
died; it goes on from the checkpoint that came home. Does not know what is trained.
"""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch

from nas.training.job import Training, steps_of
from nas.training.loop import CHECKPOINT_SECONDS
from nas.workers.cluster import QUIET_TUNE, gpus_for, pickle_by_value, ray_session
from nas.workers.mailbox import hosted, open_courier
from nas.workers.pool import ATTEMPTS
from nas.workers.remote import Home, fit_away, follow, steps_done
from search_spaces.errors import UserError


def train_at_once(
    trainings: Mapping[str, Training],
    checkpoints: Mapping[str, Path],
    *,
    workers: int,
    address: str | None = None,
    device: str = "cpu",
    on_step: Callable[[int, int, float], None] | None = None,
    say: Callable[[str], None] | None = None,
    checkpoint_seconds: float = CHECKPOINT_SECONDS,
) -> None:
    """Train each on a Ray worker of its own; afterwards each checkpoint is a whole training.

    Args:
        checkpoints: the files, by the trainings' names; they are gone on from.
        on_step: called with the steps done and to be done by all together, and the mean loss.
        say: told in one line what is to be known.

    Raises:
        UserError: if nobody answers at the address or there are fewer processors, and, when all
            others have ended, for a training that cannot be.
    """
    total = _Total({name: steps_of(training) for name, training in trainings.items()}, on_step)
    homes = {}
    for name in trainings:
        if steps_done(checkpoints[name]) < total.steps[name]:
            homes[name] = Home(checkpoints[name], total.of(name), _prefixed(name, say))
        else:
            total.done[name] = total.steps[name]
    if not homes:
        return
    workers = min(workers, len(homes))
    with ray_session(workers, address, gpus=gpus_for(device, workers)):
        _train_away({n: trainings[n] for n in homes}, homes, workers, device, checkpoint_seconds)


class _Total:
    """Adds the progress of several trainings up."""

    def __init__(
        self, steps: Mapping[str, int], on_step: Callable[[int, int, float], None] | None
    ) -> None:
        self.steps = dict(steps)
        self.done = dict.fromkeys(steps, 0)
        self._losses: dict[str, float] = {}
        self._on_step = on_step

    def of(self, name: str) -> Callable[[int, int, float], None]:
        """The `on_step` of one of them."""

        def on_step(done: int, steps: int, loss: float) -> None:
            self.done[name], self._losses[name] = done, loss
            if self._on_step is not None:
                mean = sum(self._losses.values()) / len(self._losses)
                self._on_step(sum(self.done.values()), sum(self.steps.values()), mean)

        return on_step


def _prefixed(name: str, say: Callable[[str], None] | None) -> Callable[[str], None]:
    return lambda text: None if say is None else say(f"{name}: {text}")


def _train_away(
    trainings: Mapping[str, Training],
    homes: Mapping[str, Home],
    workers: int,
    device: str,
    checkpoint_seconds: float,
) -> None:
    import ray

    from nas.workers.object_store import Apart

    pickle_by_value(next(iter(trainings.values())))
    starts = {n: h.checkpoint.read_bytes() for n, h in homes.items() if h.checkpoint.exists()}
    with open_courier(starts) as courier:
        config = {
            # Together, since they are on the same samples.
            "trainings": ray.put(Apart.of(dict(trainings))),
            "courier": courier,
            "device": "cuda" if gpus_for(device, 1) else device,
            "checkpoint_seconds": checkpoint_seconds,
        }
        with hosted(_train, config, list(trainings), workers, env=QUIET_TUNE) as ended:
            lost = follow(courier, ended, homes)
    if lost:
        raise UserError(
            f"workers died {ATTEMPTS} times while they trained {', '.join(lost)}; what was trained "
            "is kept, and the same command goes on from there"
        )


def _train(config: dict[str, Any], names: list[str], workers: int) -> list[str]:
    """Run Ray Tune; the names of those that it has given up."""
    from ray import tune

    logging.getLogger("ray.tune").setLevel(logging.CRITICAL)
    with tempfile.TemporaryDirectory(prefix="tune-") as folder:
        # Not `Tuner`, which writes what it was given into files.
        analysis = tune.run(
            _train_one,
            name="networks",
            config={**config, "name": tune.grid_search(names)},
            storage_path=folder,
            resources_per_trial={"cpu": 1, "gpu": float(config["device"] == "cuda")},
            max_concurrent_trials=workers,
            max_failures=ATTEMPTS - 1,
            raise_on_failed_trial=False,
            verbose=0,
        )
    return [trial.config["name"] for trial in analysis.trials if trial.status == "ERROR"]


def _train_one(config: dict[str, Any]) -> None:
    """What Tune runs in a worker."""
    import ray
    from ray import tune

    name, courier = config["name"], config["courier"]
    torch.set_num_threads(1)
    attempt = ray.get(courier.begin.remote(name, 1))
    if attempt:
        fit_away(
            ray.get(config["trainings"]).whole()[name],
            courier,
            name,
            attempt,
            device=torch.device(config["device"]),
            checkpoint_seconds=config["checkpoint_seconds"],
        )
    tune.report({"ended": 1})
