"""What the report of a run contains, as the JSON that its page reads.

The evaluations as columns, the choices as codes, the layers of all architectures, the panels.
Reads a run that is still being written as far as it is. Does not know HTML.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from evaluators.costs.budget import ENERGY, Budget
from evaluators.costs.tables import CONVENTION
from evaluators.device_prices import Target
from evaluators.metrics import CARBON, label, style
from hardware_profiles.electricity.grid import load_region
from nas.engine.pricing import micrograms, priced, task_of
from nas.engine.task import Task
from nas.report import figures
from nas.report.choices import Chosen, axes, frequencies, importance
from nas.report.networks import Networks
from nas.report.packed import packed
from nas.report.panels import on_choices, on_progress, on_trust
from nas.report.published import published
from nas.run import ranking
from nas.run.evaluation import Evaluation
from nas.run.folder import Run
from nas.run.history import hours_of, largest_costs
from nas.run.objectives import is_cost, knee
from search_spaces.errors import UserError
from search_spaces.space import SearchSpace

VERSION = 1
"""Of what the page reads."""


@dataclass
class Source:
    """A run, and what its report needs of its task, made once though the run goes on."""

    run: Run
    task: Task
    devices: bool
    """Whether more devices were asked for than the search knew."""
    space: SearchSpace | None = None
    targets: Sequence[Target] = ()
    missing: str = ""
    """Why there is no space, where there is none."""
    worst: Mapping[str, float] | None = None

    @classmethod
    def of(cls, run: Run, devices: Sequence[str] = ()) -> Source:
        """Look at the run's space once.

        Raises:
            UserError: for devices that nothing is known of. Data that are not at hand are no error:
                then the report has no networks.
        """
        known = dict.fromkeys((*run.specification.devices, *devices)) if devices else ()
        source = cls(run, task_of(run, tuple(known)), bool(devices))
        try:
            source.space = source.task.space
            source.worst = source.task.worst
            source.targets = source.task.targets
        except (UserError, OSError) as error:
            if devices:
                raise
            source.space, source.missing = None, " ".join(str(error).split())
        return source

    def contents(self) -> dict[str, Any]:
        """What the page shows of the run as it is now."""
        # A supernet trains before there is a study.
        evaluations = self.run.evaluations() if self.run.study_path.exists() else []
        good = [(n, e) for n, e in enumerate(evaluations) if e.error is None]
        done = self._priced([e for _, e in good])
        chosen = Chosen.of(done, self.space)
        front = self._on_frontier(done)
        objectives = self.run.objectives
        values = ranking.values(done, objectives)
        importances = importance(chosen, values, objectives, self.run.specification.seed)
        worst = self.worst or largest_costs(done, objectives)
        return {
            "version": VERSION,
            "run": self._told(len(evaluations), len(done)),
            "palette": {"light": figures.LIGHT, "dark": figures.DARK},
            "objectives": [{"metric": o.metric, "maximise": o.maximise} for o in objectives],
            "metrics": _metrics(done),
            "bounds": _bounds(self.run.budget),
            "points": {
                **_points(done, [n for n, _ in good], hours_of(evaluations)),
                "front": packed(front, "u1"),
                **self._marked(done, front),
            },
            "choices": [{"name": c.name, "options": list(c.options)} for c in chosen.choices],
            "codes": packed(chosen.codes, "u1"),
            "axes": axes(chosen),
            "networks": self._networks(chosen),
            "missing": self.missing,
            "published": published(self.run.specification),
            "panels": {
                "matters": [
                    panel.told()
                    for panel in on_choices(importances, frequencies(chosen, front), chosen)
                ],
                "progress": [
                    panel.told() for panel in on_progress(self.run, evaluations, objectives, worst)
                ],
                "trust": [panel.told() for panel in on_trust(self.run, self.targets)],
            },
        }

    def _told(self, evaluations: int, done: int) -> dict[str, Any]:
        specification, summary = self.run.specification, self.run.summary()
        ended = summary is not None and summary.get("evaluations", 0) >= evaluations
        return {
            "folder": str(self.run.folder),
            "name": self.run.folder.resolve().name,
            "space": specification.space,
            "data": specification.data,
            "strategy": specification.strategy,
            "evaluator": specification.evaluator,
            "seed": specification.seed,
            "budget": str(self.run.budget),
            "trials": specification.trials,
            "evaluations": evaluations,
            "done": done,
            "ended": ended,
            "convention": CONVENTION,
        }

    def _priced(self, done: Sequence[Evaluation]) -> list[Evaluation]:
        """With the devices that were asked for, and the carbon of every energy."""
        evaluations = priced(self.task, done) if self.devices else list(done)
        grams = load_region(self.run.specification.region).intensity
        return [
            replace(
                e,
                metrics=before.metrics
                | e.metrics
                | {
                    CARBON + metric.removeprefix(ENERGY): micrograms(energy, grams)
                    for metric, energy in e.metrics.items()
                    if metric.startswith(ENERGY)
                },
            )
            for before, e in zip(done, evaluations, strict=True)
        ]

    def _on_frontier(self, done: Sequence[Evaluation]) -> npt.NDArray[np.bool_]:
        on = {e.arch for e in self.run.front(done)}
        return np.array([e.feasible and e.arch in on for e in done], dtype=bool)

    def _marked(self, done: Sequence[Evaluation], front: npt.NDArray[np.bool_]) -> dict[str, int]:
        """Indices of the winner and the knee, -1 where there is none."""
        won = self.run.winner
        winner = next((i for i, e in enumerate(done) if e.arch.id == won), -1) if won else -1
        places = np.flatnonzero(front).tolist()
        if not places:
            return {"winner": winner, "knee": -1}
        objectives = self.run.objectives
        values = ranking.values([done[i] for i in places], objectives)
        return {"winner": winner, "knee": places[knee(values, objectives)]}

    def _networks(self, chosen: Chosen) -> dict[str, Any] | None:
        if self.space is None:
            return None
        prices = self.task.tables.prices if self.targets else {}
        return Networks(self.space, prices).told(chosen.rows)


def _points(
    done: Sequence[Evaluation], numbers: Sequence[int], hours: Sequence[float]
) -> dict[str, Any]:
    """The columns of the evaluations; `(n,)` each, and `(n, 6)` bytes of ids."""
    ids = np.frombuffer(bytes.fromhex("".join(e.arch.id for e in done)), dtype=np.uint8)
    nan = float("nan")
    return {
        "count": len(done),
        "ids": packed(ids, "u1"),
        "numbers": packed(numbers, "u4"),
        "hours": packed([hours[n] for n in numbers], "f8"),
        "seconds": packed([e.seconds for e in done], "f8"),
        "feasible": packed([e.feasible for e in done], "u1"),
        "columns": {
            name: packed([e.metrics.get(name, nan) for e in done], "f8") for name in _names(done)
        },
    }


def _names(done: Sequence[Evaluation]) -> list[str]:
    return list(dict.fromkeys(name for e in done for name in e.metrics))


def _metrics(done: Sequence[Evaluation]) -> list[dict[str, Any]]:
    result = []
    for name in _names(done):
        values = [e.metrics[name] for e in done if name in e.metrics]
        largest = max((v for v in values if v == v), default=0.0)
        less = is_cost(name)
        result.append(
            {"name": name, "label": label(name), "style": style(name, largest), "less": less}
        )
    return result


def _bounds(budget: Budget) -> list[dict[str, Any]]:
    return [
        {"metric": metric, "value": value, "words": str(Budget(*sides))}
        for bounds, high in ((budget.high, True), (budget.low, False))
        for metric, value in bounds.items()
        for sides in [({metric: value}, {}) if high else ({}, {metric: value})]
    ]
