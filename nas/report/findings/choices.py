"""Computes the importance of each choice and the options that a frontier prefers.

Importance is Optuna's PED-ANOVA (Watanabe et al., 2023): how much a choice determines whether an
evaluation is among the best 10 %. Its conditional form is used for choices that not every
architecture has. Knows choices as columns. Does not know networks.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

from nas.run.evaluation import Evaluation
from nas.run.objectives import Objective
from search_spaces.architecture import Value
from search_spaces.space import Choice, Rows, SearchSpace

ABSENT = 255
"""Code for a choice that an architecture does not have."""

SAMPLE_SIZE = 1000
"""Largest number of evaluations for importances; more change them by less than their noise."""

MIN_EVALUATIONS = 20
"""Least number of evaluations for importances; of fewer, the best 10 % are too few."""

Codes = npt.NDArray[np.uint8]
"""`(n, choices)` option indices, `ABSENT` where an architecture does not have the choice."""


@dataclass(frozen=True)
class ChosenOptions:
    """The options of several architectures."""

    choices: tuple[Choice, ...]
    codes: Codes
    """`(n, choices)`."""

    @property
    def rows(self) -> Rows:
        """The options as canonical rows of the space, `(n, choices)`."""
        return np.where(self.codes == ABSENT, 0, self.codes).astype(np.uint8)

    @classmethod
    def of(cls, evaluations: Sequence[Evaluation], space: SearchSpace | None) -> ChosenOptions:
        """The options of evaluations; without a space, choices are read from the evaluations."""
        if space is not None:
            rows = space.encode([e.arch for e in evaluations])
            active = space.active(rows)
            return cls(space.choices, np.where(active, rows, ABSENT).astype(np.uint8))
        found: dict[str, dict[Value, None]] = {}
        for evaluation in evaluations:
            for name, value in evaluation.arch.items():
                found.setdefault(name, {})[value] = None
        choices = tuple(Choice(name, tuple(_ordered(options))) for name, options in found.items())
        codes = np.full((len(evaluations), len(choices)), ABSENT, dtype=np.uint8)
        for column, choice in enumerate(choices):
            number = {option: index for index, option in enumerate(choice.options)}
            for row, evaluation in enumerate(evaluations):
                if choice.name in evaluation.arch:
                    codes[row, column] = number[evaluation.arch[choice.name]]
        return cls(choices, codes)


def _ordered(options: dict[Value, None]) -> list[Value]:
    return sorted(options, key=lambda value: (isinstance(value, str), value))


def importance(
    chosen: ChosenOptions,
    values: npt.NDArray[np.float64],
    objectives: Sequence[Objective],
    seed: int,
) -> dict[str, dict[str, float]]:
    """Importance of each choice by objective, in descending order; the shares add up to 1.

    Args:
        values: `(n, objectives)`, objective values of the same architectures.
        seed: selects the sample if there are more than `SAMPLE_SIZE` architectures.

    Returns:
        `{metric: {choice: share}}`; empty for fewer than `MIN_EVALUATIONS` architectures.
    """
    if len(values) < MIN_EVALUATIONS:
        return {}
    import optuna
    from optuna.importance import PedAnovaImportanceEvaluator, get_param_importances

    from nas.run.storage.trials import distribution

    rows = np.arange(len(values))
    if len(rows) > SAMPLE_SIZE:
        rows = np.sort(np.random.default_rng(seed).choice(rows, SAMPLE_SIZE, replace=False))
    distributions = {c.name: distribution(c) for c in chosen.choices}
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(directions=[o.direction for o in objectives])
    study.add_trials(
        [
            optuna.create_trial(values=list(values[row]), params=params, distributions=has)
            for row in rows.tolist()
            for params, has in [_trial(chosen, row, distributions)]
        ]
    )
    result = {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # experimental features, and ties between trials
        for index, objective in enumerate(objectives):
            result[objective.metric] = get_param_importances(
                study,
                evaluator=PedAnovaImportanceEvaluator(),
                target=partial(_target, index, -1.0 if objective.maximise else 1.0),
            )
    return result


def _target(index: int, sign: float, trial: Any) -> float:
    """Value of an objective, negated if it is maximised: PED-ANOVA minimises."""
    return float(sign * trial.values[index])


def _trial(
    chosen: ChosenOptions, row: int, distributions: dict[str, Any]
) -> tuple[dict[str, Value], dict[str, Any]]:
    params = {
        choice.name: choice.options[code]
        for choice, code in zip(chosen.choices, chosen.codes[row].tolist(), strict=True)
        if code != ABSENT
    }
    return params, {name: distributions[name] for name in params}


@dataclass(frozen=True)
class OptionShares:
    """Frequencies of a choice's options, among the architectures that have the choice."""

    evaluated: tuple[float, ...]
    """Share of each option among all evaluated architectures."""
    frontier: tuple[float, ...]
    """Share of each option on the frontier."""
    counts: tuple[int, int]
    """Number of architectures that have the choice: all evaluated, and on the frontier."""


def frequencies(chosen: ChosenOptions, front: npt.NDArray[np.bool_]) -> list[OptionShares]:
    """Frequencies of the options of each choice.

    Args:
        front: `(n,)`, whether each architecture is on the frontier.
    """
    result = []
    for column, choice in enumerate(chosen.choices):
        codes = chosen.codes[:, column]
        counts = [
            np.bincount(part[part != ABSENT], minlength=len(choice.options))
            for part in (codes, codes[front])
        ]
        shares = [
            tuple(round(float(share), 4) for share in count / max(1, count.sum()))
            for count in counts
        ]
        totals = (int(counts[0].sum()), int(counts[1].sum()))
        result.append(OptionShares(shares[0], shares[1], totals))
    return result


def axes(chosen: ChosenOptions, most: int = 10) -> list[dict[str, Any]]:
    """Axes of the parallel-coordinates plot: the choices, or means of groups if there are many.

    Choices are grouped by the last word of their names (`stage2_layer1_kernel`). Only choices whose
    options are all numbers have a mean.

    Args:
        most: largest number of axes.

    Returns:
        For each axis `label`, `columns` (indices of choices) and `numeric`.
    """
    numbers = [all(not isinstance(o, str) for o in choice.options) for choice in chosen.choices]
    if len(chosen.choices) <= most:
        return [
            {"label": c.name, "columns": [i], "numeric": numbers[i]}
            for i, c in enumerate(chosen.choices)
        ]
    groups: dict[str, list[int]] = {}
    for index, choice in enumerate(chosen.choices):
        if numbers[index] and len(choice.options) > 1:
            groups.setdefault(choice.name.rpartition("_")[2], []).append(index)
    return [
        {
            "label": word if len(columns) == 1 else f"mean {word}",
            "columns": columns,
            "numeric": True,
        }
        for word, columns in sorted(groups.items(), key=lambda item: -len(item[1]))[:most]
    ]
