"""Optuna's samplers as strategies.

The sampler works on a study in memory, over all choices. What it proposes beyond the budget is
thrown back as a failed trial before anything is spent on it, and a row near it within the budget
takes its place; what it proposes a second time is answered from memory. Evaluated architectures
go to the run's own study (`nas.study`), from which the memory is rebuilt on resuming.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import optuna
from optuna.distributions import CategoricalDistribution
from optuna.samplers import (
    BaseGASampler,
    BaseSampler,
    GPSampler,
    NSGAIIISampler,
    NSGAIISampler,
    QMCSampler,
    RandomSampler,
    TPESampler,
)
from optuna.trial import FrozenTrial, TrialState

from nas.frontier import Objective
from nas.strategies.candidates import Candidates, Row
from nas.study import Evaluation
from search_spaces.errors import unknown

POPULATION = 20
STARTUP = 16
ASKS = 16
"""Proposals a sampler may repeat before a random row takes its turn."""

SAMPLERS: dict[str, Callable[[int], BaseSampler]] = {
    "nsga2": lambda seed: NSGAIISampler(population_size=POPULATION, seed=seed),
    "nsga3": lambda seed: NSGAIIISampler(population_size=POPULATION, seed=seed),
    "tpe": lambda seed: TPESampler(n_startup_trials=STARTUP, seed=seed),
    "gp": lambda seed: GPSampler(n_startup_trials=STARTUP, seed=seed),
    "qmc": lambda seed: QMCSampler(seed=seed),
    "random": lambda seed: RandomSampler(seed=seed),
}


def sampler_name(name: str) -> str:
    """The key in `SAMPLERS` of a name, or of one of Optuna's own class names.

    Raises:
        UserError: if there is no such sampler.
    """
    key = name.lower().removesuffix("sampler")
    key = {"nsgaii": "nsga2", "nsgaiii": "nsga3"}.get(key, key)
    if key not in SAMPLERS:
        raise unknown("sampler", name, SAMPLERS)
    return key


class OptunaStrategy:
    """Proposes what an Optuna sampler suggests, within the budget and new.

    The first rows are random ones within the budget, so that a sampler starts from candidates it
    may propose even where the budget admits one in a million.
    """

    def __init__(
        self, candidates: Candidates, objectives: Sequence[Objective], *, sampler: str, seed: int
    ) -> None:
        sampler = sampler_name(sampler)
        self._candidates = candidates
        self._objectives = tuple(objectives)
        space = candidates.space
        self._space = space
        self._distributions: dict[str, optuna.distributions.BaseDistribution] = {
            choice.name: CategoricalDistribution(range(len(choice.options)))
            for choice in space.choices
        }
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            made = SAMPLERS[sampler](seed)
        self._study = optuna.create_study(
            directions=[o.direction for o in objectives], sampler=made
        )
        self._random_first = POPULATION if sampler.startswith("nsga") else STARTUP
        self._waiting: dict[bytes, optuna.Trial] = {}
        self._values: dict[bytes, list[float] | None] = {}

    def propose(self) -> Row | None:
        """The sampler's next row, mended where it is over budget; a random one if all fails."""
        for _ in range(ASKS):
            if self._random_first > 0:
                self._random_first -= 1
                break
            trial = self._study.ask(self._distributions)
            row = self._row(trial)
            if self._candidates.admits(row[None])[0]:
                return self._claim(row, trial)
            self._answer(trial, self._values.get(row.tobytes()))
            mended = self._candidates.budgeted.mend(row, self._candidates.rng)
            if mended is not None and self._candidates.is_new(mended):
                return self._ask_for(mended)
        drawn = self._candidates.draw()
        return None if drawn is None else self._ask_for(drawn)

    def _ask_for(self, row: Row) -> Row:
        """Claim a row that is not the sampler's own, in a trial of the sampler's."""
        self._study.enqueue_trial(self._params(row))
        trial = self._study.ask(self._distributions)
        sampler = self._study.sampler
        if isinstance(sampler, BaseGASampler):
            # Optuna gives no generation to a trial whose values are all given, and would never
            # take it as a parent.
            sampler.get_trial_generation(self._study, self._frozen(trial))
        return self._claim(row, trial)

    def _frozen(self, trial: optuna.Trial) -> FrozenTrial:
        return self._study.get_trials(deepcopy=False)[trial.number]

    def tell(self, row: Row, evaluation: Evaluation) -> None:
        """Give the values to the sampler; a failed evaluation is a failed trial."""
        values = None
        if evaluation.error is None:
            values = [float(evaluation.metrics[o.metric]) for o in self._objectives]
        self._candidates.claim(row)
        self._values[row.tobytes()] = values
        trial = self._waiting.pop(row.tobytes(), None)
        if trial is not None:
            self._answer(trial, values)
            return
        self._random_first -= 1
        self._study.add_trial(
            optuna.create_trial(
                state=TrialState.FAIL if values is None else TrialState.COMPLETE,
                values=values,
                params=self._params(row),
                distributions=self._distributions,
                system_attrs=evaluation.sampler,
            )
        )

    def state_of(self, row: Row) -> dict[str, object]:
        """The sampler's marks on the trial, such as its generation."""
        trial = self._waiting.get(row.tobytes())
        if trial is None:
            return {}
        marks = self._frozen(trial).system_attrs
        return {k: v for k, v in marks.items() if k != "fixed_params"}

    def _claim(self, row: Row, trial: optuna.Trial) -> Row:
        self._candidates.claim(row)
        self._waiting[row.tobytes()] = trial
        return row

    def _answer(self, trial: optuna.Trial, values: list[float] | None) -> None:
        state = TrialState.FAIL if values is None else TrialState.COMPLETE
        self._study.tell(trial, values, state=state)

    def _params(self, row: Row) -> dict[str, Any]:
        names = (choice.name for choice in self._space.choices)
        return dict(zip(names, row.tolist(), strict=True))

    def _row(self, trial: optuna.Trial) -> Row:
        codes = [trial.params[choice.name] for choice in self._space.choices]
        return np.asarray(self._space.canonical(np.array([codes], dtype=np.uint8))[0])
