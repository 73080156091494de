"""What matters: how much each choice decides, and which options a frontier prefers.

The importance is Optuna's PED-ANOVA (Watanabe et al., 2023), in its conditional form where not
every architecture has a choice: how much a choice decides whether an evaluation is among the best
tenth. Knows choices as columns. Does not know networks.
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
"""Code of a choice that an architecture does not have."""

SAMPLE = 1000
"""Evaluations that importances are computed of: more change them by less than their own noise."""

LEAST = 20
"""Evaluations below which a best tenth says nothing."""

Codes = npt.NDArray[np.uint8]
"""`(n, choices)` option indices, `ABSENT` where an architecture does not have the choice."""


@dataclass(frozen=True)
class Chosen:
    """What a number of architectures chose."""

    choices: tuple[Choice, ...]
    codes: Codes

    @property
    def rows(self) -> Rows:
        """The same as canonical rows of the space, `(n, choices)`."""
        return np.where(self.codes == ABSENT, 0, self.codes).astype(np.uint8)

    @classmethod
    def of(cls, evaluations: Sequence[Evaluation], space: SearchSpace | None) -> Chosen:
        """The choices of evaluations; without a space, as far as they tell themselves."""
        if space is not None:
            rows = space.encode([e.arch for e in evaluations])
            active = space.active(rows)
            return cls(space.choices, np.where(active, rows, ABSENT).astype(np.uint8))
        seen: dict[str, dict[Value, None]] = {}
        for evaluation in evaluations:
            for name, value in evaluation.arch.items():
                seen.setdefault(name, {})[value] = None
        choices = tuple(Choice(name, tuple(_ordered(options))) for name, options in seen.items())
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
    chosen: Chosen, values: npt.NDArray[np.float64], objectives: Sequence[Objective], seed: int
) -> dict[str, dict[str, float]]:
    """The importance of each choice, by objective, the greatest first; shares that add up to 1.

    Args:
        values: `(n, objectives)`, of the same architectures.

    Returns:
        Nothing for fewer than `LEAST` architectures.
    """
    if len(values) < LEAST:
        return {}
    import optuna
    from optuna.distributions import CategoricalDistribution
    from optuna.importance import PedAnovaImportanceEvaluator, get_param_importances

    rows = np.arange(len(values))
    if len(rows) > SAMPLE:
        rows = np.sort(np.random.default_rng(seed).choice(rows, SAMPLE, replace=False))
    distributions = {c.name: CategoricalDistribution(c.options) for c in chosen.choices}
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
        warnings.simplefilter("ignore")  # of experiments, and of trials that are equally good
        for index, objective in enumerate(objectives):
            result[objective.metric] = get_param_importances(
                study,
                evaluator=PedAnovaImportanceEvaluator(),
                target=partial(_target, index, -1.0 if objective.maximise else 1.0),
            )
    return result


def _target(index: int, sign: float, trial: Any) -> float:
    """What PED-ANOVA takes less of as better."""
    return float(sign * trial.values[index])


def _trial(
    chosen: Chosen, row: int, distributions: dict[str, Any]
) -> tuple[dict[str, Value], dict[str, Any]]:
    params = {
        choice.name: choice.options[code]
        for choice, code in zip(chosen.choices, chosen.codes[row].tolist(), strict=True)
        if code != ABSENT
    }
    return params, {name: distributions[name] for name in params}


def frequencies(chosen: Chosen, front: npt.NDArray[np.bool_]) -> list[dict[str, Any]]:
    """How often each option appears among all and on the frontier, as shares of those that choose.

    Args:
        front: `(n,)` which architectures are on the frontier.
    """
    result = []
    for column, choice in enumerate(chosen.choices):
        codes = chosen.codes[:, column]
        counts = [
            np.bincount(part[part != ABSENT], minlength=len(choice.options))
            for part in (codes, codes[front])
        ]
        shares = [count / max(1, count.sum()) for count in counts]
        result.append(
            {
                "all": [round(float(share), 4) for share in shares[0]],
                "front": [round(float(share), 4) for share in shares[1]],
                "on": [int(count.sum()) for count in counts],
            }
        )
    return result


def axes(chosen: Chosen, most: int = 10) -> list[dict[str, Any]]:
    """Axes of parallel coordinates: the choices, or the means of those alike where they are many.

    Choices are alike by the last word of their names (`stage2_layer1_kernel`), and have a mean if
    all of their options are numbers.
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
