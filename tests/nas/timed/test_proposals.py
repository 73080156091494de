"""Candidates of a race: what the law prefers, and how they follow evaluations."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest

from evaluators.costs.budget import Budget, BudgetedSpace
from evaluators.costs.tables import CostTables
from hardware_profiles.fitting.fitted import FittedLatency, fit_latency
from nas.run.evaluation import Evaluation
from nas.run.objectives import objective
from nas.strategies.candidates import Candidates
from nas.timed.proposals import (
    BOTH_POWER,
    ENOUGH_EPOCHS,
    EPOCHS_POWER,
    LIKE,
    MACS_POWER,
    REFERENCE_MACS,
    LearningLaw,
    RaceProposals,
    regular_rows,
)
from search_spaces.catalogue import load_space
from search_spaces.space import Row

CEILING = 1_000_000


@cache
def tables() -> CostTables:
    return CostTables(load_space("cnn-tiny", image_size=8, channels=1, classes=10))


@cache
def speed() -> FittedLatency:
    """A machine on which a MAC of a depthwise convolution takes ten times as long as another."""
    space = tables().space
    rows = space.sample(64, 3)
    milliseconds = []
    for arch in space.decode(rows):
        ops = [op for _, block in space.ops(arch) for op in block]
        milliseconds.append(
            sum(op.macs * (10 if getattr(op, "groups", 1) > 1 else 1) for op in ops) / 1e6 + 0.01
        )
    return fit_latency(space, rows, milliseconds, "a machine")


def law(seconds: float) -> LearningLaw:
    return LearningLaw(tables().space, speed(), seconds, 1500)


def proposals(seconds: float = 60.0, count: int = 8) -> RaceProposals:
    budgeted = BudgetedSpace(tables(), Budget({"macs": CEILING}, {}))
    return RaceProposals(Candidates(budgeted, 0), [objective("accuracy")], law(seconds), count)


def told(strategy: RaceProposals, row: Row, accuracy: float, error: str | None = None) -> None:
    (arch,) = tables().space.decode(row[None])
    strategy.tell(row, Evaluation(arch, {"accuracy": accuracy}, error=error))


def macs(row: Row) -> float:
    return float(tables().score(row[None], ("macs",))["macs"][0])


def test_candidates_are_within_the_budget_and_unlike_each_other() -> None:
    strategy = proposals()
    rows = [strategy.propose() for _ in range(8)]
    for index, row in enumerate(rows):
        assert row is not None
        assert macs(row) <= CEILING
        assert all((row != other).sum() >= LIKE for other in rows[:index] if other is not None)


def test_more_time_prefers_larger_networks() -> None:
    short, long = (proposals(seconds).propose() for seconds in (2.0, 3600.0))
    assert short is not None
    assert long is not None
    assert macs(short) < macs(long)
    assert macs(long) > 0.7 * CEILING


def test_of_two_networks_with_equal_macs_the_faster_one_is_better() -> None:
    space = tables().space
    rows = regular_rows(space, 4000, np.random.default_rng(0))
    costs = tables().score(rows, ("macs",))["macs"]
    near = rows[np.abs(costs - 500_000) < 25_000]
    layers = np.array([sum(map(len, dict(space.ops(a)).values())) for a in space.decode(near)])
    alike = near[layers == np.bincount(layers).argmax()]
    epochs, score = law(30.0).epochs(alike), law(30.0)(alike)
    assert epochs.max() > 1.5 * epochs.min()
    assert score[epochs.argmax()] > score[epochs.argmin()]


def test_too_few_layers_for_the_time_and_too_many_are_worse() -> None:
    space = tables().space
    rows = regular_rows(space, 4000, np.random.default_rng(0))
    features = speed().features
    macs = features.of_rows(space, rows)[:, features.names.index("all macs")]
    convs = np.array(
        [
            sum(type(op).__name__ in ("Conv2d", "Linear") for _, ops in space.ops(a) for op in ops)
            for a in space.decode(rows)
        ]
    )
    # Without what FLOPs explain, at equal epochs.
    power = EPOCHS_POWER * np.log(10) + np.log(macs / REFERENCE_MACS) * (
        MACS_POWER + BOTH_POWER * np.log(10)
    )
    left = law(1.0).after(rows, np.full(len(rows), 10 / (1 - 10 / ENOUGH_EPOCHS))) - power
    of = {count: float(left[convs == count].mean()) for count in set(convs.tolist())}
    assert of[8] == max(of.values())  # 4 e^0.3 = 8 layers after 10 epochs
    assert of[min(of)] < of[8] - 0.1
    assert of[max(of)] < of[8] - 0.05


def test_later_candidates_are_children_of_the_best() -> None:
    strategy = proposals(count=4)
    first, second = strategy.propose(), strategy.propose()
    assert first is not None
    assert second is not None
    told(strategy, first, 0.3)
    told(strategy, second, 0.9)
    changed = []
    for _ in range(2):
        child = strategy.propose()
        assert child is not None
        changed.append(min((child != first).sum(), (child != second).sum()))
    assert max(changed) <= 6


def test_a_resumed_race_proposes_nothing_twice() -> None:
    strategy = proposals(count=4)
    rows = [strategy.propose() for _ in range(3)]
    again = proposals(count=4)
    for row in rows:
        assert row is not None
        told(again, row, 0.5)
    following = again.propose()
    assert following is not None
    assert all((following != row).any() for row in rows)


def test_failed_evaluations_have_no_children() -> None:
    strategy = proposals(count=2)
    row = strategy.propose()
    assert row is not None
    told(strategy, row, 0.9, error="out of memory")
    assert strategy.propose() is not None  # by the law: nothing has proved good


def test_regular_rows_repeat_their_choices() -> None:
    space = tables().space
    rows = regular_rows(space, 200, np.random.default_rng(0))
    assert (rows == space.canonical(rows)).all()
    for arch in space.decode(rows):
        kinds = {value for name, value in arch.items() if name.endswith("_block")}
        assert len(kinds) == 1


def test_the_state_of_a_row_says_what_the_law_expected() -> None:
    strategy = proposals()
    row = strategy.propose()
    assert row is not None
    expected = strategy.state_of(row)["expected_epochs"]
    assert expected == pytest.approx(float(law(60.0).epochs(row[None])[0]), abs=1e-3)
