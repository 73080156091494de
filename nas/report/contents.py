"""Collects the contents of a report, as the JSON that its page reads.

They are the evaluations as columns, the choices as codes, the layers of all architectures, and the
panels. A run that is still being written can be read. Knows runs. Does not know HTML.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from evaluators.costs.budget import Budget
from evaluators.costs.tables import CONVENTION
from evaluators.device_prices import Target
from evaluators.metrics import GREENSCORE, SCORES, Metric, carbon_on
from hardware_profiles.electricity.grid import load_region
from nas.report import figures
from nas.report.findings.choices import ChosenOptions, axes, frequencies, importance
from nas.report.networks import Networks
from nas.report.packed import packed
from nas.report.panels.choices import on_choices
from nas.report.panels.progress import on_progress
from nas.report.panels.trust import on_trust
from nas.report.panels.winner import on_winner, winner_card
from nas.report.published import published
from nas.report.several import other_run, run_row
from nas.run import ranking
from nas.run.evaluation import Evaluation
from nas.run.folder import Run
from nas.run.history import hours_of, references
from nas.run.objectives import Objective, directed, knee
from nas.task.evaluator_kinds import needs_images
from nas.task.pricing import micrograms, priced, task_of
from nas.task.task import Task
from search_spaces.errors import UserError
from search_spaces.files import without_folders
from search_spaces.space import SearchSpace

GREENSCORE_WORDS = (
    "accuracy times powers of how much less compute and carbon it takes than the largest network "
    "of the space; that one has its accuracy as GreenScore"
)
"""What GreenScore is, where it stands; `evaluators.footprint.greenscore` has the formula."""

VERSION = 1
"""Version of the JSON that the page reads."""


@dataclass
class ReportSource:
    """A run with the parts of its task that a report needs, which are loaded once."""

    run: Run
    task: Task
    devices: bool
    """Whether devices were requested in addition to those of the search."""
    space: SearchSpace | None = None
    targets: Sequence[Target] = ()
    missing: str = ""
    """Why the space is not available; empty if it is."""
    worst: Mapping[str, float] | None = None
    """Reference value of each cost for the hypervolume, if the space is available."""
    others: Sequence[Run] = ()
    """Runs whose frontiers are drawn over this run's."""

    @classmethod
    def of(cls, run: Run, devices: Sequence[str] = (), others: Sequence[Run] = ()) -> ReportSource:
        """Load the run's space.

        If its data are not available, the report has no layers.

        Args:
            devices: devices to price the networks on, beside those of the run.
            others: see `others`.

        Raises:
            UserError: for an unknown device.
        """
        known = dict.fromkeys((*run.specification.devices, *devices)) if devices else ()
        source = cls(run, task_of(run, tuple(known)), bool(devices), others=others)
        try:
            source.space = source.task.space
            source.worst = source.task.worst
            source.targets = source.task.targets
        except (UserError, OSError) as error:
            if devices:
                raise
            source.space, source.missing = None, " ".join(str(error).split())
        return source

    @property
    def scored(self) -> bool:
        """Whether scores are of the validation part: a function or a table has its own samples."""
        return needs_images(self.task.kind)

    def contents(self) -> dict[str, Any]:
        """The contents of the page for the run's current state."""
        # The study does not exist yet while the supernet trains.
        evaluations = self.run.evaluations() if self.run.has_study else []
        good = [(n, e) for n, e in enumerate(evaluations) if e.error is None]
        done = self._priced([e for _, e in good])
        chosen = ChosenOptions.of(done, self.space)
        front = self._on_frontier(done)
        objectives = self.run.objectives
        values = ranking.values(done, objectives)
        importances = importance(chosen, values, objectives, self.run.specification.seed)
        worst = references(done, objectives, self.worst)
        return {
            "version": VERSION,
            "run": self._run_facts(len(evaluations), len(done)),
            "winner": winner_card(self.run, done, self.targets),
            "noise": self._noise(),
            "palette": {"light": figures.LIGHT, "dark": figures.DARK},
            "objectives": [{"metric": o.metric, "maximise": o.maximise} for o in objectives],
            "metrics": _metrics(done, objectives, "validation " if self.scored else ""),
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
            "missing": without_folders(self.missing),
            "published": published(self.run.specification),
            "others": [other_run(run) for run in self.others],
            "runs": [run_row(run) for run in (self.run, *self.others)] if self.others else [],
            "panels": {
                "winner": [panel.to_json() for panel in on_winner(self.run)],
                "matters": [
                    panel.to_json()
                    for panel in on_choices(importances, frequencies(chosen, front), chosen)
                ],
                "progress": [
                    panel.to_json()
                    for panel in on_progress(self.run, evaluations, objectives, worst)
                ],
                "trust": [panel.to_json() for panel in on_trust(self.run, self.targets)],
            },
        }

    def _run_facts(self, evaluations: int, done: int) -> dict[str, Any]:
        specification, summary = self.run.specification, self.run.summary()
        ended = summary is not None and summary.evaluations >= evaluations
        data = specification.data or self.run.data.get("name")
        return {
            "folder": without_folders(str(self.run.folder)),
            "name": self.run.folder.resolve().name,
            "space": without_folders(specification.space),
            "data": None if data is None else without_folders(data),
            "strategy": specification.strategy,
            "evaluator": without_folders(specification.evaluator),
            "seed": specification.seed,
            "budget": str(self.run.budget),
            "trials": specification.trials,
            "evaluations": evaluations,
            "done": done,
            "ended": ended,
            "convention": CONVENTION,
        }

    def _noise(self) -> dict[str, Any] | None:
        """The part and its samples by which accuracies were scored in the search, for intervals."""
        part = self.run.data.get("parts", {}).get("validation")
        if part is None or not self.scored or self.run.data["metric"] != "accuracy":
            return None
        return {"metric": "accuracy", "samples": part["extent"], "part": "validation"}

    def _priced(self, done: Sequence[Evaluation]) -> list[Evaluation]:
        """Evaluations with the metrics of requested devices, and the carbon of each energy."""
        evaluations = priced(self.task, done) if self.devices else list(done)
        grams = load_region(self.run.specification.region).intensity
        return [
            replace(
                e,
                metrics=before.metrics
                | e.metrics
                | {
                    carbon_on(str(metric.device)): micrograms(energy, grams)
                    for name, energy in e.metrics.items()
                    if (metric := Metric.of(name)).is_energy
                },
            )
            for before, e in zip(done, evaluations, strict=True)
        ]

    def _on_frontier(self, done: Sequence[Evaluation]) -> npt.NDArray[np.bool_]:
        on = {e.arch for e in self.run.front(done)}
        return np.array([e.feasible and e.arch in on for e in done], dtype=bool)

    def _marked(self, done: Sequence[Evaluation], front: npt.NDArray[np.bool_]) -> dict[str, int]:
        """Indices of the winner and the knee; -1 if there is none."""
        won = self.run.winner
        winner = next((i for i, e in enumerate(done) if e.arch.id == won), -1) if won else -1
        places = np.flatnonzero(front).tolist()
        if not places:
            return {"winner": winner, "knee": -1}
        objectives = self.run.objectives
        values = ranking.values([done[i] for i in places], objectives)
        return {"winner": winner, "knee": places[knee(values, objectives)]}

    def _networks(self, chosen: ChosenOptions) -> dict[str, Any] | None:
        if self.space is None:
            return None
        prices = self.task.tables.prices if self.targets else {}
        return Networks(self.space, prices).to_json(chosen.rows)


def _points(
    done: Sequence[Evaluation], numbers: Sequence[int], hours: Sequence[float]
) -> dict[str, Any]:
    """Columns of the evaluations, `(n,)` each; ids are `(n, 6)` bytes."""
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


def _metrics(
    done: Sequence[Evaluation], objectives: Sequence[Objective], scored_on: str
) -> list[dict[str, Any]]:
    """Every metric with its label and its form; `scored_on` precedes the names of scores."""
    result = []
    # GreenScore combines the others.
    for name in sorted(_names(done), key=lambda name: name == GREENSCORE):
        values = [e.metrics[name] for e in done if name in e.metrics]
        largest = max((v for v in values if v == v), default=0.0)
        metric = Metric.of(name)
        result.append(
            {
                "name": name,
                "label": scored_on * (name in SCORES) + metric.axis,
                "style": metric.style_for(largest),
                "less": not directed(name, objectives).maximise,
                "note": GREENSCORE_WORDS if name == GREENSCORE else "",
            }
        )
    return result


def _bounds(budget: Budget) -> list[dict[str, Any]]:
    return [
        {"metric": metric, "value": value, "words": str(Budget(*sides))}
        for bounds, high in ((budget.high, True), (budget.low, False))
        for metric, value in bounds.items()
        for sides in [({metric: value}, {}) if high else ({}, {metric: value})]
    ]
