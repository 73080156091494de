"""Asynchronous successive halving (ASHA) by the distance to the frontier.

A candidate trains to a first rung and continues only if it is among the best third of the
candidates that have reached the rung before it, and so on (Li et al., "A System for Massively
Parallel Hyperparameter Tuning", 2020). Ray Tune's scheduler compares accuracies only, which would
stop all small networks. If a cost is an objective too, this scheduler compares how far each
candidate is below the most accurate one of those that cost no more, all at the same rung. Knows
metrics and costs of trials. Does not know how candidates train.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from ray.tune.experiment import Trial
from ray.tune.schedulers import ASHAScheduler, TrialScheduler

from nas.run.objectives import Objective
from nas.workers.tune.from_scratch import REDUCTION

ACCURACY = Objective("accuracy", maximise=True)


def shortfalls(
    accuracies: npt.NDArray[np.float64], costs: npt.NDArray[np.float64]
) -> npt.NDArray[np.float64]:
    """Distance of each result below the best of those that cost no more; 0 on the frontier.

    Args:
        accuracies: `(n,)`, more is better.
        costs: `(n, metrics)`, less is better; without metrics all cost the same.

    Returns:
        `(n,)` float64, in the unit of the accuracies.
    """
    affordable = (costs[None, :, :] <= costs[:, None, :]).all(axis=2)
    best = np.where(affordable, accuracies[None, :], -np.inf).max(axis=1)
    return np.asarray(best - accuracies)


class FrontierASHA(ASHAScheduler):
    """Ray Tune's ASHA with the distance below the frontier in place of the accuracy.

    A trial reports its metric and `rung`, which is 1, 3, 9, ...

    Args:
        rungs: number of rungs.
        costs_of: the costs of a trial's candidate that are objectives, by trial id; without such
            costs this is plain ASHA.
        score: the metric that trials are compared by, and its direction.
    """

    def __init__(
        self,
        rungs: int,
        costs_of: Callable[[str], Sequence[float]],
        score: Objective = ACCURACY,
    ) -> None:
        last = REDUCTION ** (rungs - 1)
        mode = "max" if score.maximise else "min"
        super().__init__("rung", score.metric, mode, max_t=last, reduction_factor=REDUCTION)
        self._last = last
        self._score = score
        self._costs_of = costs_of
        self._reached: dict[int, dict[str, tuple[float, Sequence[float]]]] = {}

    def on_trial_result(self, tune_controller: Any, trial: Trial, result: Mapping[str, Any]) -> str:
        """Decide whether the trial continues from the rung that it reports."""
        costs = self._costs_of(trial.trial_id)
        if not costs:
            return str(super().on_trial_result(tune_controller, trial, dict(result)))
        rung = int(result.get("rung", 0))
        if rung >= self._last:
            return str(TrialScheduler.STOP)
        reached = self._reached.setdefault(rung, {})
        if rung < 1 or trial.trial_id in reached:
            return str(TrialScheduler.CONTINUE)
        sign = 1 if self._score.maximise else -1
        reached[trial.trial_id] = (sign * float(result[self._score.metric]), costs)
        behind = shortfalls(
            np.array([value for value, _ in reached.values()]),
            np.array([costs for _, costs in reached.values()], dtype=np.float64),
        )
        *others, own = behind
        if not others:
            return str(TrialScheduler.CONTINUE)
        allowed = np.percentile(others, 100 / REDUCTION)
        return str(TrialScheduler.STOP if own > allowed else TrialScheduler.CONTINUE)
