"""Describes a search before it starts: size of the space, costs, expected duration."""

from __future__ import annotations

import time
from dataclasses import dataclass

import numpy as np
import torch

from nas.supernet.sandwich import RANDOM_SUBNETS
from nas.task.task import Task
from search_spaces.architecture import Architecture
from search_spaces.networks.modules import build, channels_last
from search_spaces.ops import BatchNorm2d

SURVEY = 100_000
"""Random architectures that are priced to describe a space."""

TIMED_BATCH = 32


@dataclass(frozen=True)
class Plan:
    """Size and costs of the space, share within the budget, and expected duration.

    Costs are MACs. `share` is the fraction of architectures within the budget when every choice is
    drawn uniformly. Durations are seconds on this machine, extrapolated from a few measured steps;
    that of a user's function or a zero-cost proxy is unknown and counts as 0.
    """

    space: str
    architectures: int
    smallest: float
    median: int
    largest: float
    share: float
    surveyed: int
    supernet_seconds: float
    search_seconds: float
    winner_seconds: float

    @property
    def seconds(self) -> float:
        """Total duration."""
        return self.supernet_seconds + self.search_seconds + self.winner_seconds


def plan(task: Task, *, workers: int = 0) -> Plan:
    """Describe a search and estimate how long it takes.

    Raises:
        UserError: if no architecture meets the budget; the message has the nearest reachable
            values.
    """
    specification = task.specification
    budgeted = task.budgeted
    rng = np.random.default_rng(specification.seed)
    costs, share = budgeted.survey(SURVEY, rng)
    supernet_seconds, search_seconds, winner_seconds = _durations(task, rng, workers)
    tables = task.tables
    return Plan(
        space=task.space.name,
        architectures=task.space.size,
        smallest=tables.cost(task.space.smallest)["macs"],
        median=int(np.median(costs["macs"])),
        largest=tables.cost(task.space.largest)["macs"],
        share=share,
        surveyed=SURVEY,
        supernet_seconds=supernet_seconds,
        search_seconds=search_seconds,
        winner_seconds=winner_seconds,
    )


def _durations(task: Task, rng: np.random.Generator, workers: int) -> tuple[float, float, float]:
    """Seconds of supernet training, evaluations, and race with winner."""
    if not task.trains:
        return 0.0, 0.0, 0.0
    specification, data = task.specification, task.data
    samples, both = (len(data.batches(part)) for part in ("train", "searched"))
    feasible = task.budgeted.sample(64, rng)
    middle = np.argsort(task.tables.score(feasible, ("macs",))["macs"])[[32]]
    typical = task.space.decode(feasible[middle])[0]
    forward, step = _seconds_per_sample(task, typical)
    trained = specification.trials * task.schedule.train_epochs * samples * step
    ops = [op for _, block in task.space.ops(task.space.largest) for op in block]
    normed = any(isinstance(op, BatchNorm2d) for op in ops)
    scored = both - samples + 2 * normed * min(specification.calibration_images, samples)
    race = specification.finalists * task.schedule.race_epochs if specification.finalists > 1 else 0
    winner = (task.schedule.train_epochs * both + race * samples) * step
    if task.kind == "train":  # an upper bound: most candidates stop early
        return 0.0, trained / max(1, workers), winner
    if task.kind != "supernet":
        return 0.0, 0.0, winner
    _, largest_step = _seconds_per_sample(task, task.largest)
    recipe = task.schedule.supernet_recipe
    trained_on = recipe.steps(samples) * recipe.batch_size
    sandwich = largest_step + (RANDOM_SUBNETS + 0.5) * step
    search = specification.trials * scored * forward / max(1, workers)
    return trained_on * sandwich, search, winner


def _seconds_per_sample(task: Task, arch: Architecture) -> tuple[float, float]:
    """Measured seconds per sample of a forward pass and of a backward pass with forward."""
    space, data = task.space, task.data
    device = torch.device(task.specification.device)
    network = channels_last(build(space, arch).to(device))
    some = data.calibration(TIMED_BATCH, seed=0)
    x = next(iter(data.inputs(some, space.input_shape(arch), device)))
    forward, step = [], []
    for _ in range(4):
        start = time.perf_counter()
        with torch.no_grad():
            network(x)
        middle = time.perf_counter()
        network(x).sum().backward()
        step.append(time.perf_counter() - middle)
        forward.append(middle - start)
    return float(np.median(forward[1:])) / len(x), float(np.median(step[1:])) / len(x)
