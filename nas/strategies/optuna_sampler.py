"""Optuna's samplers as strategies.

The sampler uses a study in memory. A proposal over the budget is rejected as a failed trial before
it is evaluated, and replaced by a row near it within the budget; a repeated proposal gets the value
of its first evaluation. Evaluated architectures are recorded in the run's study
(`nas/run/study.py`), from which the study in memory is restored on resuming. Knows Optuna. Does not
know how architectures are evaluated.
"""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import optuna
from optuna import samplers as o
from optuna.distributions import BaseDistribution, CategoricalDistribution, IntDistribution
from optuna.samplers import BaseGASampler, BaseSampler
from optuna.trial import FrozenTrial, TrialState

from nas.run.evaluation import Evaluation
from nas.run.objectives import Objective
from nas.strategies.candidates import Candidates
from search_spaces.errors import UserError, unknown
from search_spaces.space import Choice, Row, SearchSpace

POPULATION = 20
STARTUP = 16
MAX_ASKS = 16
"""Number of rejected proposals of a sampler after which a random row is proposed."""

GRID_LIMIT = 1_000_000
"""Maximum number of combinations of options in a grid: Optuna lists all of them."""

SAMPLERS: dict[str, type[BaseSampler]] = {
    "nsga2": o.NSGAIISampler,
    "nsga3": o.NSGAIIISampler,
    "tpe": o.TPESampler,
    "gp": o.GPSampler,
    "cmaes": o.CmaEsSampler,
    "qmc": o.QMCSampler,
    "grid": o.GridSampler,
    "bruteforce": o.BruteForceSampler,
    "partialfixed": o.PartialFixedSampler,
    "random": o.RandomSampler,
}

DEFAULTS: dict[str, dict[str, Any]] = {
    "nsga2": {"population_size": POPULATION},
    "nsga3": {"population_size": POPULATION},
    "tpe": {"n_startup_trials": STARTUP},
    "gp": {"n_startup_trials": STARTUP},
    "partialfixed": {"base_sampler": "tpe"},
}
"""Arguments whose defaults in Optuna suit longer searches; `--sampler-option` overrides them."""

CONDITIONAL = ("tpe", "bruteforce", "random")
"""Samplers that suggest active choices only, in order. All others learn only from choices that all
trials have, and would sample conditional ones at random: they suggest all choices."""

SINGLE_OBJECTIVE = ("cmaes",)
"""Samplers that Optuna supports with one objective only; they optimise the first."""

NOT_RESTORED = ("fixed_params", "constraints")
"""System attributes of an enqueued trial that a restored trial must not have."""

REJECTED_VIOLATION = 1e6
"""Constraint violation of a rejected candidate, in budgets, for samplers that use constraints."""


def sampler_name(name: str) -> str:
    """Return the key in `SAMPLERS` of a name; Optuna's class names are accepted too.

    Raises:
        UserError: for an unknown sampler.
    """
    key = name.lower().removesuffix("sampler").replace("-", "").replace("_", "")
    key = {"nsgaii": "nsga2", "nsgaiii": "nsga3", "cma": "cmaes"}.get(key, key)
    if key not in SAMPLERS:
        raise unknown("sampler", name, SAMPLERS)
    return key


def make_sampler(
    name: str, options: Mapping[str, Any], space: SearchSpace, seed: int
) -> BaseSampler:
    """Create a sampler by name.

    Args:
        name: as in `sampler_name`.
        options: arguments of Optuna's class by name. For `partialfixed`, `fixed_params` maps
            choices to options and `base_sampler` is a name.
        space: the space of the search.
        seed: of the sampler, unless `options` has one.

    Raises:
        UserError: for an unknown sampler, or an option that it does not have or accept.
    """
    name = sampler_name(name)
    made: type[BaseSampler] = SAMPLERS[name]
    arguments = inspect.signature(made).parameters
    for option in options:
        if option not in arguments:
            raise unknown(f"option of sampler {name}", option, arguments)
    given = {**DEFAULTS.get(name, {}), **options}
    if "seed" in arguments:
        given.setdefault("seed", seed)
    if name == "grid":
        size = float(np.prod(space.option_counts.astype(np.float64)))
        if size > GRID_LIMIT:
            raise UserError(
                f"sampler grid lists every architecture, and {space.name} has {size:.3g}: "
                f"it is for spaces of up to {GRID_LIMIT:,}"
            )
        given.setdefault("search_space", {c.name: range(len(c.options)) for c in space.choices})
    if name == "partialfixed":
        fixed = given.get("fixed_params")
        if not isinstance(fixed, Mapping):
            raise UserError(
                "sampler partialfixed needs the option fixed_params: "
                "--sampler-option 'fixed_params={\"CHOICE\": VALUE}'"
            )
        given["fixed_params"] = {key: _code(space, key, value) for key, value in fixed.items()}
        given["base_sampler"] = make_sampler(str(given["base_sampler"]), {}, space, seed)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return made(**given)
    except (TypeError, ValueError, ImportError) as error:
        raise UserError(f"sampler {name}: {str(error).splitlines()[0]}") from error


REHEARSED = {"n_startup_trials": 2, "population_size": 4}
"""Sizes of a rehearsal: beyond these numbers of trials, a sampler learns from them."""


def rehearse(
    sampler: str, options: Mapping[str, Any], space: SearchSpace, objectives: Sequence[Objective]
) -> None:
    """Let a sampler propose a few architectures with invented values.

    Optuna uses most options when it learns from its first trials, and checks them only then.

    Raises:
        UserError: if it fails.
    """
    smaller = {
        name: min(most, options[name])
        for name, most in REHEARSED.items()
        if isinstance(options.get(name), int)
    }
    arguments = inspect.signature(SAMPLERS[sampler_name(sampler)]).parameters
    sizes = {name: most for name, most in REHEARSED.items() if name in arguments}
    name = sampler_name(sampler)
    kept = objectives[:1] if name in SINGLE_OBJECTIVE else objectives
    study = optuna.create_study(
        directions=[o.direction for o in kept],
        sampler=make_sampler(name, {**sizes, **options, **smaller}, space, 0),
    )
    distributions = {choice.name: distribution(choice) for choice in space.choices}
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            for number in range(2 * REHEARSED["population_size"] + 1):
                trial = study.ask(distributions)
                study.tell(trial, [float(number + place) for place in range(len(kept))])
    except Exception as error:  # whatever an option leads to
        given = ", ".join(f"{key}={value}" for key, value in options.items())
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise UserError(f"sampler {name} fails with {given}: {reason}") from error


def _code(space: SearchSpace, name: str, value: Any) -> int:
    """The index of an option of a choice."""
    if name not in space.column:
        raise unknown(f"choice of space {space.name}", name, space.column)
    options = space.choices[space.column[name]].options
    if value not in options:
        raise UserError(f"{name} cannot be {value}: expected one of {', '.join(map(str, options))}")
    return options.index(value)


def distribution(choice: Choice) -> BaseDistribution:
    """The distribution of a choice's option indices: ordered if its options are numbers."""
    numbers = all(isinstance(o, (int, float)) and not isinstance(o, bool) for o in choice.options)
    if numbers and len(choice.options) > 1:
        return IntDistribution(0, len(choice.options) - 1)
    return CategoricalDistribution(range(len(choice.options)))


class OptunaStrategy:
    """Proposes the suggestions of an Optuna sampler, within the budget and new.

    The first rows are random rows within the budget, so that the sampler starts from admissible
    candidates even if the budget admits one in a million.

    Args:
        candidates: the rows that may be proposed.
        objectives: of the search.
        sampler: name of the sampler.
        seed: of the sampler.
        options: arguments of the sampler.
        constrained: whether there are bounds on metrics that are known only after an evaluation;
            they are constraints of the trials.

    Raises:
        UserError: for an unknown sampler, or wrong options.
    """

    def __init__(
        self,
        candidates: Candidates,
        objectives: Sequence[Objective],
        *,
        sampler: str,
        seed: int,
        options: Mapping[str, Any] | None = None,
        constrained: bool = False,
    ) -> None:
        sampler = sampler_name(sampler)
        self.status = ""
        self._constrained = constrained
        self._candidates = candidates
        space = candidates.space
        self._space = space
        self._objectives = tuple(objectives[:1] if sampler in SINGLE_OBJECTIVE else objectives)
        self._distributions = {choice.name: distribution(choice) for choice in space.choices}
        self._conditional = sampler in CONDITIONAL
        self._study = optuna.create_study(
            directions=[o.direction for o in self._objectives],
            sampler=make_sampler(sampler, options or {}, space, seed),
        )
        self._random_first = POPULATION if sampler.startswith("nsga") else STARTUP
        if sampler in ("grid", "bruteforce"):
            self._random_first = 0
        self._waiting: dict[bytes, optuna.Trial] = {}
        self._evaluated: dict[bytes, Evaluation] = {}

    def propose(self) -> Row | None:
        """Return the sampler's next row, repaired if over budget; a random row if that fails."""
        for _ in range(MAX_ASKS):
            if self._random_first > 0:
                self._random_first -= 1
                break
            trial = self._ask()
            row = self._row(trial)
            if self._candidates.admits(row[None])[0]:
                return self._claim(row, trial)
            self._answer(trial, self._evaluated.get(row.tobytes()))
            repaired = self._candidates.budgeted.repair(row, self._candidates.rng)
            if repaired is not None and self._candidates.is_new(repaired):
                return self._enqueue(repaired)
        drawn = self._candidates.draw()
        return None if drawn is None else self._enqueue(drawn)

    def _ask(self) -> optuna.Trial:
        """A trial with a value for every choice, or for the active choices only."""
        with warnings.catch_warnings():
            # Optuna warns at every trial for every choice that a sampler cannot learn from.
            warnings.simplefilter("ignore")
            if not self._conditional:
                return self._study.ask(self._distributions)
            trial = self._study.ask()
            values: dict[str, Any] = {}
            for choice in self._space.choices:
                if choice.parent is not None and values.get(choice.parent) not in choice.active_for:
                    continue
                distribution = self._distributions[choice.name]
                if isinstance(distribution, IntDistribution):
                    code = trial.suggest_int(choice.name, distribution.low, distribution.high)
                else:
                    code = trial.suggest_categorical(choice.name, range(len(choice.options)))
                values[choice.name] = choice.options[code]
            return trial

    def _enqueue(self, row: Row) -> Row:
        """Claim a row that the sampler did not suggest, in one of its trials."""
        self._study.enqueue_trial(self._params(row))
        trial = self._ask()
        sampler = self._study.sampler
        if isinstance(sampler, BaseGASampler):
            # Optuna assigns no generation to a trial whose values are all fixed, and would never
            # use it as a parent.
            sampler.get_trial_generation(self._study, self._frozen(trial))
        return self._claim(row, trial)

    def _frozen(self, trial: optuna.Trial) -> FrozenTrial:
        return self._study.get_trials(deepcopy=False)[trial.number]

    def tell(self, row: Row, evaluation: Evaluation) -> None:
        """Pass the values to the sampler; a failed evaluation is a failed trial."""
        self._candidates.claim(row)
        self._evaluated[row.tobytes()] = evaluation
        trial = self._waiting.pop(row.tobytes(), None)
        if trial is not None:
            self._answer(trial, evaluation)
            return
        self._random_first -= 1
        values = self._values(evaluation)
        params = self._params(row)
        self._study.add_trial(
            optuna.create_trial(
                state=TrialState.FAIL if values is None else TrialState.COMPLETE,
                values=values,
                params=params,
                distributions={name: self._distributions[name] for name in params},
                system_attrs=evaluation.sampler,
                constraints={"budget": evaluation.violation} if self._constrained else None,
            )
        )

    def _values(self, evaluation: Evaluation | None) -> list[float] | None:
        if evaluation is None or evaluation.error is not None:
            return None
        return [float(evaluation.metrics[o.metric]) for o in self._objectives]

    def state_of(self, row: Row) -> dict[str, object]:
        """System attributes that the sampler has set on the trial, such as its generation."""
        trial = self._waiting.get(row.tobytes())
        if trial is None:
            return {}
        attributes = self._frozen(trial).system_attrs
        return {k: v for k, v in attributes.items() if k.split(":")[0] not in NOT_RESTORED}

    def _claim(self, row: Row, trial: optuna.Trial) -> Row:
        self._candidates.claim(row)
        self._waiting[row.tobytes()] = trial
        return row

    def _answer(self, trial: optuna.Trial, evaluation: Evaluation | None) -> None:
        """End a trial; None for a row that was rejected without an evaluation."""
        values = self._values(evaluation)
        if self._constrained:
            violation = REJECTED_VIOLATION if evaluation is None else evaluation.violation
            trial.set_constraint("budget", violation)
        state = TrialState.FAIL if values is None else TrialState.COMPLETE
        self._study.tell(trial, values, state=state)

    def _params(self, row: Row) -> dict[str, Any]:
        active = self._space.active(row[None])[0] | (not self._conditional)
        return {
            choice.name: int(code)
            for choice, code, on in zip(self._space.choices, row, active, strict=True)
            if on
        }

    def _row(self, trial: optuna.Trial) -> Row:
        params = trial.params  # a copy at each access
        codes = [params.get(choice.name, 0) for choice in self._space.choices]
        return np.asarray(self._space.canonical(np.array([codes], dtype=np.uint8))[0])
