"""Asynchronous successive halving whose rungs do not punish small networks for being small.

A candidate trains to a first rung, where it goes on only if it is among the best third of those
that were there before it, and so on (Li et al., "A System for Massively Parallel Hyperparameter
Tuning", 2020). Ray Tune's scheduler does it by accuracy alone. Where a cost is an objective too,
the frontier is wanted, of which small networks are a part that would never live: compared is then
how far each is below the most accurate one of those that cost no more, all at the same rung. Does
not know how candidates train.
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
    """How far each result is below the best of those that cost no more, `(n,)`; 0 on the frontier.

    Args:
        accuracies: `(n,)`, more is better.
        costs: `(n, metrics)`, less is better; without metrics all cost the same.
    """
    affordable = (costs[None, :, :] <= costs[:, None, :]).all(axis=2)
    best = np.where(affordable, accuracies[None, :], -np.inf).max(axis=1)
    return np.asarray(best - accuracies)


class FrontierASHA(ASHAScheduler):
    """Tune's ASHA, with the distance below the frontier in place of the accuracy.

    A trial reports its metric and `rung`, which is 1, 3, 9, ...

    Args:
        rungs: how many there are.
        costs_of: what a trial's candidate costs in each cost that is an objective, by the trial's
            id; without such costs this is plain ASHA.
        judged: what trials are compared by.
    """

    def __init__(
        self,
        rungs: int,
        costs_of: Callable[[str], Sequence[float]],
        judged: Objective = ACCURACY,
    ) -> None:
        last = REDUCTION ** (rungs - 1)
        mode = "max" if judged.maximise else "min"
        super().__init__("rung", judged.metric, mode, max_t=last, reduction_factor=REDUCTION)
        self._last = last
        self._judged = judged
        self._costs_of = costs_of
        self._seen: dict[int, dict[str, tuple[float, Sequence[float]]]] = {}

    def on_trial_result(self, tune_controller: Any, trial: Trial, result: Mapping[str, Any]) -> str:
        """Whether the trial goes on from the rung that it reports."""
        costs = self._costs_of(trial.trial_id)
        if not costs:
            return str(super().on_trial_result(tune_controller, trial, dict(result)))
        rung = int(result.get("rung", 0))
        if rung >= self._last:
            return str(TrialScheduler.STOP)
        seen = self._seen.setdefault(rung, {})
        if rung < 1 or trial.trial_id in seen:
            return str(TrialScheduler.CONTINUE)
        sign = 1 if self._judged.maximise else -1
        seen[trial.trial_id] = (sign * float(result[self._judged.metric]), costs)
        behind = shortfalls(
            np.array([score for score, _ in seen.values()]),
            np.array([costs for _, costs in seen.values()], dtype=np.float64),
        )
        *others, own = behind
        if not others:
            return str(TrialScheduler.CONTINUE)
        allowed = np.percentile(others, 100 / REDUCTION)
        return str(TrialScheduler.STOP if own > allowed else TrialScheduler.CONTINUE)
