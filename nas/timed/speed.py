"""The price of training: milliseconds of a training step per sample, for every network of a space.

Measured in seconds where the search runs, on a few networks, and kept in the user's folder for the
next search of the same space on the same machine. Knows measuring and its file. Does not know what
the price is used for.
"""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path

import numpy as np
import torch

from hardware_profiles.device import user_folder
from hardware_profiles.fitting.fitted import FittedLatency, load_fitted
from hardware_profiles.machine import describe
from hardware_profiles.measuring.runtimes import TrainingStep
from hardware_profiles.measuring.training_time import measure_training, time_training
from nas.progress import Reporter
from nas.task.task import Task
from nas.timed.regular import regular_within
from nas.training.loop import make_optimizer
from search_spaces.errors import UserError
from search_spaces.files import read_json, write_text
from search_spaces.space import Rows

POOL = 512
"""Networks within the budget among which the informative ones are timed: random ones, and as many
regular ones, from which the race's candidates come (`regular.py`)."""

DRAWS = 16
"""Regular rows drawn for each one that is kept; many exceed the budget."""

MACHINE = ("processor", "cores", "system")
"""What two machines must share to train equally fast; see `hardware_profiles.machine.describe`."""


def training_speed(task: Task, seconds: float, reporter: Reporter) -> FittedLatency:
    """The price of training of the task's space on this machine: as measured before, or now.

    Args:
        seconds: time limit of a measurement.

    Raises:
        UserError: if too few networks could be timed.
    """
    file = speed_file(task)
    known = _read(file, reporter)
    if known is not None:
        return known
    rng = np.random.default_rng((task.specification.seed, 4))
    regular = regular_within(task.budgeted, DRAWS * POOL, rng)
    rows = np.concatenate([task.budgeted.sample(POOL, rng), rng.permutation(regular)[:POOL]])
    with reporter.stage("measuring training steps"):
        found = measure_training(task.space, rows, _step_of(task), seconds=seconds)
    found.save(file)
    write_text(file.with_suffix(".machine.json"), json.dumps(describe(), indent=2) + "\n")
    return found


def timed_rows(task: Task, seconds: float, rows: Rows) -> list[float]:
    """Time training steps of the first of some rows `(n, choices)`: milliseconds per sample.

    Args:
        seconds: time limit.
    """
    return time_training(task.space, rows, _step_of(task), seconds=seconds)


def _step_of(task: Task) -> TrainingStep:
    """The training step of a timed search."""
    recipe = task.schedule.timed_recipe
    return TrainingStep(
        batch=recipe.batch_size,
        threads=torch.get_num_threads(),
        torch_device=task.specification.device,
        make_optimizer=partial(make_optimizer, recipe=recipe),
    )


def speed_file(task: Task) -> Path:
    """Where the price of training of a task's space is kept."""
    recipe = task.schedule.timed_recipe
    optimizer = f"{recipe.optimizer}-muon" if recipe.muon else recipe.optimizer
    device = task.specification.device.replace(":", "")
    name = f"{task.space.name}-{task.space.fingerprint}-{device}"
    step = f"{recipe.batch_size}-{optimizer}"
    return user_folder() / "training" / f"{name}-{step}-{torch.get_num_threads()}.json"


def _read(file: Path, reporter: Reporter) -> FittedLatency | None:
    """The price in a file; None if there is none, or another machine or a broken file wrote it."""
    if not file.exists():
        return None
    try:
        found = load_fitted(file)
        machine = read_json(file.with_suffix(".machine.json"))
    except (UserError, OSError, ValueError):
        reporter.note(f"{file} cannot be read: training steps are measured again")
        return None
    here = describe()
    differing = [name for name in MACHINE if machine.get(name) != here.get(name)]
    if differing:
        reporter.note(
            f"training steps were measured on another machine ({differing[0]} "
            f"{machine.get(differing[0])}): they are measured again"
        )
        return None
    return found
