"""Results that a run ends with, as frozen values with their JSON form.

`summary.json` holds a `Summary`; `config.json` of an exported network holds a `FinalScore` or, for
a network with early exits, an `ExitReport` under `metrics`. Reads and writes their JSON. Does not
compute them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from evaluators.metrics import SCORES, Metric


@dataclass(frozen=True)
class FinalScore:
    """Score of a network on the test part, which the search never saw."""

    metric: str
    """`accuracy` or `loss`."""
    value: float
    samples: int
    """Extent of the test part, in `unit`."""
    unit: str
    """`images`, `tokens` or `sentences`."""
    interval: tuple[float, float] | None = None
    """95 % confidence interval; None where none is computed."""

    def to_json(self) -> dict[str, Any]:
        """`test_METRIC`, `test_METRIC_interval` where there is one, and `test_UNIT`."""
        content: dict[str, Any] = {f"test_{self.metric}": self.value}
        if self.interval is not None:
            content[f"test_{self.metric}_interval"] = list(self.interval)
        return {**content, f"test_{self.unit}": self.samples}

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> FinalScore | None:
        """The score that `to_json` wrote among other keys; None if there is none."""
        metric = next((name for name in SCORES if f"test_{name}" in content), None)
        if metric is None:
            return None
        own = f"test_{metric}"
        unit = next(
            key for key in content if key.startswith("test_") and not key.startswith(own)
        ).removeprefix("test_")
        interval = content.get(f"{own}_interval")
        ends = None if interval is None else (float(interval[0]), float(interval[1]))
        return cls(metric, content[own], content[f"test_{unit}"], unit, ends)

    def __str__(self) -> str:
        text = f"test {self.metric} {Metric.of(self.metric).format(self.value)}"
        if self.interval is not None:
            low, high = (Metric.of(self.metric).format(end) for end in self.interval)
            text += f" (95 % interval {low} to {high})"
        return f"{text} on {self.samples} {self.unit} the search never saw"


@dataclass(frozen=True)
class ExitUse:
    """One place where samples leave a network."""

    rate: float
    """Share of the test samples that leave here."""
    macs: int
    """MACs of a sample that leaves here."""
    after: str | None = None
    """Name of the block before the exit; None at the end of the network."""
    threshold: float | None = None
    """Margin of the two largest probabilities above which a sample leaves; None: none does."""

    def row(self) -> tuple[str, str, str, int]:
        """Place, margin and share in words, and the MACs."""
        if self.after is None:
            return "the end", "", f"{self.rate:.1%}", self.macs
        margin = "never" if self.threshold is None else f"{self.threshold:.1%}"
        return self.after, margin, f"{self.rate:.1%}", self.macs


@dataclass(frozen=True)
class TimeSaving:
    """Measured inference time with exits and without; times are medians in milliseconds."""

    share: float
    """Time saved, as a share of the time without exits."""
    batch: int
    whole_ms: float
    exits_ms: float
    ratio: float
    """Median over pairs of time with exits divided by time without."""
    quartiles: tuple[float, float]
    """Quartiles of that ratio."""


@dataclass(frozen=True)
class ExitValidation:
    """Behaviour on the validation part, on which the thresholds were chosen."""

    whole_accuracy: float
    """Accuracy without exits."""
    accuracy: float
    macs: float
    """Mean over samples."""
    rates: tuple[float, ...]
    """Share of samples that leave at each exit, then at the end."""


@dataclass(frozen=True)
class ExitReport:
    """Costs and scores of a network with early exits."""

    points: float
    """Points of validation accuracy that leaving early was allowed to cost."""
    score: FinalScore
    whole_test_accuracy: float
    """Test accuracy without exits."""
    avg_flops: float
    """Mean MACs over the test samples."""
    macs: int
    """MACs of the network without exits."""
    mac_saving: float
    time_saving: TimeSaving
    validation: ExitValidation
    exits: tuple[ExitUse, ...]
    end: ExitUse

    @property
    def places(self) -> tuple[ExitUse, ...]:
        """Every place where samples leave, the end of the network last."""
        return (*self.exits, self.end)

    def to_json(self) -> dict[str, Any]:
        """The report with the keys of `FinalScore.to_json` beside its own."""
        return {
            "points": self.points,
            **self.score.to_json(),
            "whole_test_accuracy": self.whole_test_accuracy,
            "avg_flops": self.avg_flops,
            "macs": self.macs,
            "mac_saving": self.mac_saving,
            "time_saving": asdict(self.time_saving),
            "validation": asdict(self.validation),
            "exits": [
                {"after": e.after, "threshold": e.threshold, "rate": e.rate, "macs": e.macs}
                for e in self.exits
            ],
            "end": {"rate": self.end.rate, "macs": self.end.macs},
        }

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> ExitReport | None:
        """The report that `to_json` wrote among other keys; None if there is none."""
        score = FinalScore.from_json(content)
        if score is None or "exits" not in content:
            return None
        validation, timed = content["validation"], content["time_saving"]
        return cls(
            content["points"],
            score,
            content["whole_test_accuracy"],
            content["avg_flops"],
            content["macs"],
            content["mac_saving"],
            TimeSaving(**{**timed, "quartiles": tuple(timed["quartiles"])}),
            ExitValidation(**{**validation, "rates": tuple(validation["rates"])}),
            tuple(ExitUse(**exit_use) for exit_use in content["exits"]),
            ExitUse(**content["end"]),
        )


@dataclass(frozen=True)
class ScoredArchitecture:
    """An evaluated architecture: its id and its metrics by name."""

    id: str
    metrics: Mapping[str, float]
    after_race: float | None = None
    """Validation score after the short training of the race; None if it did not race."""


@dataclass(frozen=True)
class Winner:
    """The architecture that a run ends with."""

    id: str
    choices: Mapping[str, Any]
    costs: Mapping[str, float]
    """Metrics known before training, by name: `macs`, `params`, ..."""
    validation: float | None
    """Its score in the search; None if the evaluator gave none."""
    score: FinalScore | None = None
    """None where the run has no data to train on."""
    exits: ExitReport | None = None
    """None for a network without early exits."""

    def to_json(self, metric: str) -> dict[str, Any]:
        """Its keys in `summary.json`."""
        content = {
            "id": self.id,
            "choices": dict(self.choices),
            **self.costs,
            f"validation_{metric}": self.validation,
        }
        if self.exits is not None:
            return {**content, **self.exits.to_json()}
        return content if self.score is None else {**content, **self.score.to_json()}


@dataclass(frozen=True)
class Summary:
    """How a search ended: the content of `summary.json`, which is written last."""

    space: str
    data: str | None
    """None where nothing was trained."""
    evaluator: str
    strategy: str
    budget: str
    """The bounds in words."""
    metric: str
    """What networks of the run are scored by."""
    evaluations: int
    failed: int
    reused: int
    """Evaluations that were found again in the storage."""
    first_failure: str | None
    """Reason of the first failed evaluation."""
    hypervolume: float
    frontier: tuple[ScoredArchitecture, ...]
    knee: str
    """Id of the frontier's knee."""
    finalists: tuple[ScoredArchitecture, ...]
    winner: Winner
    seed: int
    relaxation: Mapping[str, Any] = field(default_factory=dict)
    """Last point of the relaxation's trajectory; empty for strategies other than `darts`."""
    stopped: str | None = None
    """Setting that ended the evaluations before all trials: `patience`; None if none did."""

    def to_json(self) -> dict[str, Any]:
        """The content of `summary.json`."""
        content = {
            "space": self.space,
            "data": self.data,
            "evaluator": self.evaluator,
            "strategy": self.strategy,
            "budget": self.budget,
            "evaluations": self.evaluations,
            "failed": self.failed,
            "reused": self.reused,
            "first_failure": self.first_failure,
            "hypervolume": self.hypervolume,
            "frontier": [{"id": e.id, **e.metrics} for e in self.frontier],
            "knee": self.knee,
            "finalists": [
                {"id": e.id, **e.metrics, f"{self.metric}_after_race": e.after_race}
                for e in self.finalists
            ],
            "winner": self.winner.to_json(self.metric),
            "seed": self.seed,
        }
        content |= {} if self.stopped is None else {"stopped": self.stopped}
        return {**content, "relaxation": dict(self.relaxation)} if self.relaxation else content

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> Summary:
        """The summary that `to_json` wrote, this version's or an earlier one's.

        Raises:
            KeyError: for a content that lacks a field.
        """
        given = dict(content["winner"])
        exits, score = ExitReport.from_json(given), FinalScore.from_json(given)
        metric = next(
            (name for name in SCORES if f"validation_{name}" in given),
            "accuracy" if score is None else score.metric,
        )
        known = {"id", "choices", f"validation_{metric}"}
        if exits is not None:
            known |= exits.to_json().keys() - {"macs"}
        elif score is not None:
            known |= score.to_json().keys()
        winner = Winner(
            given["id"],
            given["choices"],
            {name: value for name, value in given.items() if name not in known},
            given.get(f"validation_{metric}"),
            score,
            exits,
        )
        return cls(
            space=content["space"],
            data=content["data"],
            evaluator=content["evaluator"],
            strategy=content["strategy"],
            budget=content["budget"],
            metric=metric,
            evaluations=content["evaluations"],
            failed=content["failed"],
            reused=content.get("reused", 0),
            first_failure=content["first_failure"],
            hypervolume=content["hypervolume"],
            frontier=tuple(_scored(row, metric) for row in content["frontier"]),
            knee=content["knee"],
            finalists=tuple(_scored(row, metric) for row in content["finalists"]),
            winner=winner,
            seed=content["seed"],
            relaxation=content.get("relaxation", {}),
            stopped=content.get("stopped"),
        )


def _scored(row: Mapping[str, Any], metric: str) -> ScoredArchitecture:
    race = f"{metric}_after_race"
    metrics = {name: value for name, value in row.items() if name not in ("id", race)}
    return ScoredArchitecture(row["id"], metrics, row.get(race))
