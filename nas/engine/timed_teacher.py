"""The teacher of a timed search's winner: a larger network of the same space.

It trains before the winner, which then learns from its predictions as well as from the labels. The
law says which network learns most in its time. Knows tasks and the law. Does not train.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from evaluators.data.images import ImageData
from hardware_profiles.fitting.fitted import FittedLatency
from nas.strategies.candidates import Candidates
from nas.task.schedule import PHOTOGRAPHS
from nas.task.task import Task
from nas.timed.law import LearningLaw
from nas.timed.plan import TEACHER_SHARE
from nas.timed.proposals import RaceProposals, first_rows
from search_spaces.architecture import Architecture
from search_spaces.files import read_json, write_text
from search_spaces.space import Rows

LARGER, LEAST_LARGER = 3.0, 1.5
"""The teacher's budget as a multiple of the winner's, and the multiple that the largest network of
the space has to exceed (`benchmarks/teaching.py`)."""

REGULAR_ROWS = 8192
"""Regular rows drawn to find what the best networks should reach."""

Timing = Callable[[Rows], Sequence[float]]
"""Times training steps of the first of some rows: milliseconds per sample."""


def can_be_taught(task: Task) -> bool:
    """Whether the winner of a task may have a teacher: of photographs, and in a space with room.

    Elsewhere, teachers are not measured.
    """
    if not isinstance(task.data, ImageData) or PHOTOGRAPHS not in task.data.augmentation:
        return False
    largest = task.space.encode([task.space.largest])
    return not task.larger(LEAST_LARGER).budgeted.admits(largest)[0]


def teachers_lead(task: Task, speed: FittedLatency, seconds: float) -> float:
    """How far a teacher's log error should be below the winner's, were that to train all the time.

    Minus infinity if the winner may have none.

    Args:
        speed: milliseconds of a training step per sample.
        seconds: all the time.
    """
    if not can_be_taught(task):
        return -math.inf

    law = LearningLaw(task.space, speed, seconds, len(task.data.batches("train")))

    def best(task: Task, share: float) -> float:
        rng = np.random.default_rng(task.specification.seed)
        rows = first_rows(task.budgeted, REGULAR_ROWS, rng)
        return float(law.after(rows, share * law.epochs(rows)).max())

    return best(task.larger(LARGER), TEACHER_SHARE) - best(task, 1.0)


def teacher_of(
    task: Task, law: LearningLaw, seconds: float, timed: Timing, file: Path
) -> Architecture:
    """The network that teaches the winner: the one in the file, or the best by the law.

    Args:
        seconds: of its training.
        file: keeps it for a search that resumes.
    """
    if file.exists():
        return task.space.architecture(read_json(file))
    larger = task.larger(LARGER)
    candidates = Candidates(larger.budgeted, task.specification.seed)
    law = replace(law, seconds=seconds)
    row = RaceProposals(candidates, task.objectives, law, 1, timed=timed).propose()
    assert row is not None  # the networks within the winner's budget are among them
    (arch,) = task.space.decode(row[None])
    write_text(file, json.dumps(dict(arch)) + "\n")
    return arch
