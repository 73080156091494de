"""Timed training steps: which optimiser they have, and when timing ends."""

from __future__ import annotations

from typing import Any

import torch

from hardware_profiles.measuring.runtimes import TrainingStep
from hardware_profiles.measuring.training_time import time_training
from search_spaces.catalogue import load_space


class Counted(torch.optim.SGD):
    """Counts its steps."""

    steps = 0

    def step(self, closure: Any = None) -> Any:
        Counted.steps += 1
        return super().step(closure)


def test_steps_are_those_of_the_given_optimiser() -> None:
    space = load_space("cnn-tiny", image_size=8, channels=1, classes=10)
    Counted.steps = 0
    rows = space.sample(2, 0)
    step = TrainingStep(2, make_optimizer=lambda network: Counted(network.parameters(), lr=0.1))
    timed = time_training(space, rows, step, seconds=600.0)
    assert len(timed) == 2
    assert min(timed) > 0
    assert Counted.steps == 2 * 5  # one that allocates, and four that are timed


def test_timing_ends_with_the_time_but_not_before_the_least() -> None:
    space = load_space("cnn-tiny", image_size=8, channels=1, classes=10)
    rows = space.sample(4, 0)
    assert len(time_training(space, rows, TrainingStep(2), seconds=0.0)) == 1
    assert len(time_training(space, rows, TrainingStep(2), seconds=0.0, least=2)) == 2
