"""The race of a timed search: a resumed one ends as it would have, undisturbed."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import numpy as np
import numpy.typing as npt

from nas.engine.timed_race import PLAN, TimedRace
from nas.progress import Quiet
from nas.run.evaluation import Evaluation
from nas.run.folder import Run
from nas.run.specification import make, to_json
from nas.task.task import Task
from nas.timed.clock import FILE, Clock
from nas.timed.contest import SegmentScore
from nas.timed.plan import Rung, TimePlan
from search_spaces.space import Rows


class Law:
    """Networks with more MACs learn longer: they are best where much time is left."""

    def __init__(self, task: Task) -> None:
        self._tables = task.tables

    def after(self, rows: Rows, epochs: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        macs = self._tables.score(rows, ("macs",))["macs"]
        return np.log(epochs) * np.log(macs) / 20


def test_a_race_killed_while_its_winner_trained_has_the_same_winner(tmp_path: Path) -> None:
    task = Task.of(make({"data": "digits", "high": {"macs": 150_000}, "time": 100.0}))
    (tmp_path / "specification.json").write_text(to_json(task.specification))
    plan = TimePlan(100.0, (Rung(6, 2.0), Rung(2, 4.0)), 3.0, ())
    (tmp_path / PLAN).write_text(json.dumps(asdict(plan)))
    rows = task.budgeted.sample(6, np.random.default_rng(0))
    found = [
        Evaluation(arch, {**task.tables.cost(arch), "accuracy": 0.5 + 0.01 * number})
        for number, arch in enumerate(task.space.decode(rows))
    ]

    def raced(spent: float) -> tuple[list[str], int]:
        (tmp_path / FILE).write_text(json.dumps({"spent": spent}))
        race = TimedRace(task, Run(tmp_path), Clock(tmp_path, 100.0), Quiet())
        vars(race)["law"] = Law(task)
        starters, scores, segments = race.go_on(found)
        assert set(scores) == {e.arch.id for e in starters}
        return [e.arch.id for e in starters], segments

    for number, seconds in enumerate((2.0, 6.0)):
        for one in found:
            score = SegmentScore(one.metrics["accuracy"] + 0.1 * number, seconds, seconds)
            file = tmp_path / "race" / f"{one.arch.id}-{number}.json"
            file.parent.mkdir(exist_ok=True)
            file.write_text(json.dumps(asdict(score)))
    undisturbed = raced(20.0)
    assert undisturbed[1] == 2
    # 5 s are left: less than a second rung takes, had it not ended before.
    assert raced(95.0) == undisturbed
