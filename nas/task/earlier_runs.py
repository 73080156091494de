"""What earlier runs of a task's space say about its objectives: `--learn-from`.

Other budgets, other data and other seeds may have been searched: levels and ranges of values do not
matter, only their order. Knows run folders. Does not know how far a prior is trusted
(`evaluators/prediction/predictor.py`).
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from evaluators.costs.tables import CostTables
from evaluators.prediction.predictor import MIN_EVALUATIONS
from evaluators.prediction.prior import Prior
from evaluators.prediction.surrogates import Vector
from nas.run.folder import Run
from nas.run.objectives import Objective
from search_spaces.architecture import Architecture
from search_spaces.errors import UserError
from search_spaces.space import Rows, SearchSpace


def priors_of(
    folders: Sequence[str], tables: CostTables, objectives: Sequence[Objective]
) -> dict[str, Prior]:
    """By metric, what earlier runs say about the objectives that no table prices.

    Args:
        folders: of the runs.
        tables: of the space that is searched now.
        objectives: of the search.

    Raises:
        UserError: for a folder that is no run, a run of another space, and a run without enough
            evaluations of the metric.
    """
    runs = [Run(Path(folder)) for folder in folders]
    if not runs:
        return {}
    return {
        o.metric: Prior(tables, [_evaluated(run, tables.space, o) for run in runs])
        for o in objectives
        if o.metric not in tables.metrics
    }


def _evaluated(run: Run, space: SearchSpace, objective: Objective) -> tuple[Rows, Vector]:
    """Rows of `space` that a run evaluated, and their values; more is better."""
    found = [e for e in run.evaluations() if e.error is None]
    if found and not any(_is_member(e.arch, space) for e in found):
        raise UserError(
            f"--learn-from {run.folder}: its networks are of {run.specification.space}, expected a "
            f"run of {space.name}"
        )
    members = [e for e in found if _is_member(e.arch, space) and objective.metric in e.metrics]
    if len(members) < MIN_EVALUATIONS:
        raise UserError(
            f"--learn-from {run.folder}: {len(members)} evaluations of {objective.metric} in "
            f"{space.name}, expected {MIN_EVALUATIONS} at least"
        )
    sign = 1.0 if objective.maximise else -1.0
    values = np.array([sign * e.metrics[objective.metric] for e in members])
    return space.encode([e.arch for e in members]), values


def _is_member(arch: Architecture, space: SearchSpace) -> bool:
    """Whether an architecture has exactly the choices of some architecture of a space."""
    try:
        (same,) = space.decode(space.encode([arch]))
    except ValueError:  # an option that the space does not have
        return False
    return dict(same) == dict(arch)
