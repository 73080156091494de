"""What a strategy learns from in long searches: bounded, and the best are kept."""

from __future__ import annotations

import numpy as np
import pytest

from cached_tables import tables_of
from nas.run.evaluation import Evaluation
from nas.run.objectives import nondominated, objective
from nas.strategies import remembered
from nas.strategies.remembered import Remembered

OBJECTIVES = (objective("accuracy"), objective("macs"))


def filled(count: int, failing: int = 0) -> tuple[Remembered, list[Evaluation]]:
    """`count` evaluations of random accuracy, of which each `failing`-th failed."""
    tables = tables_of("mobilenet-cifar")
    rows = tables.space.sample(count, seed=0)
    macs = tables.score(rows, ("macs",))["macs"]
    accuracies = np.random.default_rng(0).random(count)
    known, added = Remembered(tables, OBJECTIVES), []
    for place, arch in enumerate(tables.space.decode(rows)):
        failed = failing and place % failing == 0
        one = Evaluation(
            arch,
            {"accuracy": float(accuracies[place]), "macs": float(macs[place])},
            error="failed" if failed else None,
        )
        added.append(one)
        known.add(rows[place], one)
        assert len(known) < remembered.MOST
    return known, added


def test_all_are_kept_at_first() -> None:
    known, added = filled(200, failing=7)
    assert len(known) == 200
    assert known.failed == 29
    assert known.metrics == [e.metrics for e in added if e.error is None]
    assert known.good.tolist() == [e.error is None for e in added]


@pytest.mark.parametrize("failing", [0, 1, 2, 7])
def test_few_are_kept_later_and_the_frontier_among_them(
    monkeypatch: pytest.MonkeyPatch, failing: int
) -> None:
    monkeypatch.setattr(remembered, "MOST", 128)
    known, added = filled(2000, failing)
    assert 8 <= len(known) < 128
    assert len(known.metrics) == len(known) - known.failed == known.good.sum()
    done = [e for e in added if e.error is None]
    points = np.array([[e.metrics["accuracy"], e.metrics["macs"]] for e in done])
    if not done:
        return
    front = nondominated(points, OBJECTIVES)
    kept = [tuple(m.values()) for m in known.metrics]
    assert {tuple(point) for point in points[front]} <= set(kept)
    low = np.quantile(points[:, 0], 0.3)
    assert any(accuracy < low for accuracy, _ in kept), "only good ones: nothing to learn from"
