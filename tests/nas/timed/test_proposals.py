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
from nas.timed.law import (
    BOTH_POWER,
    ENOUGH_EPOCHS,
    ENOUGH_POWER,
    EPOCHS_POWER,
    LEAST_LOG_MACS,
    MACS_POWER,
    REFERENCE_MACS,
    REFERENCE_WEIGHTS,
    SHARPNESS,
    SHRUNK,
    LearningLaw,
    layers_loss,
)
from nas.timed.proposals import LIKE, RaceProposals
from nas.timed.regular import regular_rows, smooth
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


def test_no_step_from_the_first_candidate_betters_it() -> None:
    strategy, one, space = proposals(), law(60.0), tables().space
    row = strategy.propose()
    assert row is not None
    best = float(one(row[None])[0])
    random = np.random.default_rng(1)
    rows = np.concatenate([regular_rows(space, 2000, random), space.sample(2000, 1)])
    budgeted = BudgetedSpace(tables(), Budget({"macs": CEILING}, {}))
    rows = rows[budgeted.admits(rows) & smooth(space, rows)]
    assert best >= one(rows).max()


def test_more_time_prefers_more_weights() -> None:
    def weights(seconds: float) -> float:
        strategy = proposals(seconds)
        rows = [row for _ in range(4) if (row := strategy.propose()) is not None]
        return float(tables().score(np.stack(rows), ("params",))["params"].mean())

    assert weights(3600.0) > 1.5 * weights(2.0)


def test_the_faster_a_network_trains_the_better_it_is() -> None:
    rows = regular_rows(tables().space, 500, np.random.default_rng(0))
    one = law(30.0)
    np.testing.assert_allclose(one(rows), one.after(rows, one.epochs(rows)))
    once, twice = (one.after(rows, times * one.epochs(rows)) for times in (1, 2))
    np.testing.assert_allclose(law(60.0)(rows), twice)
    deep = one.layers(rows) > 3 * (2 * one.epochs(rows)) ** 0.3  # layers enough for the time
    assert (twice > once)[deep].all()
    assert deep.sum() > 50


def test_smaller_images_end_worse(monkeypatch: pytest.MonkeyPatch) -> None:
    space = tables().space
    rows = regular_rows(space, 100, np.random.default_rng(0))
    sizes = space.choices[space.column["resolution"]].options
    assert sizes == (8, 16)
    small = rows[:, space.column["resolution"]] == 0
    with_it = law(30.0)(rows)
    monkeypatch.setattr("nas.timed.law.SHRUNK", 0.0)
    np.testing.assert_allclose(law(30.0)(rows) - with_it, np.where(small, SHRUNK * np.log(2), 0))


def test_layers_are_those_one_after_the_other() -> None:
    space = tables().space

    def layers(block: str, depth: int = 1) -> float:
        values = {"resolution": 16, "stem_stride": 2, "stem_width": 8, "activation": "relu"}
        values |= {"head_width": 0, "stage3_depth": 0}
        for stage, width in enumerate((8, 16, 32)):
            values |= {f"stage{stage}_{k}": v for k, v in (("depth", depth), ("width", width))}
            values[f"stage{stage}_block"] = block
        (found,) = law(1.0).layers(space.encode([space.architecture(values)]))
        return float(found)

    # The stem, the classifier, and so many for each block.
    assert layers("basic") == 2 + 3 * 2  # ResNet-8
    assert layers("basic-se") == 2 + 3 * 2
    assert layers("fused-e1", depth=2) == 2 + 6 * 1
    assert layers("fused-e1-se", depth=2) == 2 + 6 * 1
    assert layers("separable-k3") == 2 + 3 * 2
    assert layers("inverted-k3-e4-se") == 2 + 3 * 3


def at_equal_epochs(rows: np.ndarray, epochs: float) -> np.ndarray:
    """The law without what MACs explain."""
    costs = tables().score(rows, ("macs", "params"))
    enough = ENOUGH_EPOCHS * (costs["params"] / REFERENCE_WEIGHTS) ** ENOUGH_POWER
    age = np.log(epochs / (1 + epochs / enough))
    ratio = np.log(costs["macs"] / REFERENCE_MACS)
    power = MACS_POWER * ratio + BOTH_POWER * age * np.maximum(ratio, LEAST_LOG_MACS)
    shrunk = rows[:, tables().space.column["resolution"]] == 0
    score: np.ndarray = law(1.0).after(rows, np.full(len(rows), epochs))
    sharp = rows[:, tables().space.column["activation"]] == 0
    known = score - power - EPOCHS_POWER * age + SHRUNK * np.log(2) * shrunk
    return np.asarray(known + SHARPNESS * sharp)


def test_too_few_layers_for_the_time_and_too_many_are_worse() -> None:
    more = np.linspace(-2.0, 2.0, 81)
    loss = layers_loss(more)
    assert loss[40] == 0
    assert (np.diff(loss[:41]) < 0).all()
    assert (np.diff(loss[40:]) > 0).all()
    assert layers_loss(np.array([-0.3, 0.5])) == pytest.approx([0.7 * 0.09, 0.09 * 0.5])

    rows = regular_rows(tables().space, 8000, np.random.default_rng(0))
    params = tables().score(rows, ("params",))["params"]
    rows = rows[(params > 80_000) & (params < 120_000)]
    left, layers = at_equal_epochs(rows, 400.0), law(1.0).layers(rows)
    # 4 a^0.2 = 8.2 layers for a = 36 of 400 epochs.
    assert left == pytest.approx(-layers_loss(np.log(layers / 8.2)), abs=0.01)


def test_more_time_is_never_worse() -> None:
    space = tables().space
    rows = np.concatenate([space.sample(500, 0), space.encode([space.smallest, space.largest])])
    epochs = np.geomspace(0.3, 1000.0, 30)
    scores = np.array([law(1.0).after(rows, np.full(len(rows), e)) for e in epochs])
    assert (np.diff(scores, axis=0) > 0).all()


def test_small_networks_stop_learning_early() -> None:
    rows = np.unique(regular_rows(tables().space, 8000, np.random.default_rng(0)), axis=0)
    costs, layers = tables().score(rows, ("macs", "params")), law(1.0).layers(rows)
    compared = 0
    for place in range(0, len(rows), 50):
        ratio = costs["macs"] / costs["macs"][place]
        larger = costs["params"] > 3 * costs["params"][place]
        alike = (layers == layers[place]) & (ratio >= 1) & (ratio < 1.2) & larger
        for other in np.flatnonzero(alike)[:3]:
            ahead = [
                float(np.diff(law(1.0).after(rows[[place, other]], np.full(2, epochs)))[0])
                for epochs in (2.0, 20.0, 200.0)
            ]
            assert ahead == sorted(ahead)
            assert ahead[-1] > ahead[0] + 0.01
            compared += 1
    assert compared > 10


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


def test_the_state_of_a_row_says_what_the_law_expected() -> None:
    strategy = proposals()
    row = strategy.propose()
    assert row is not None
    expected = strategy.state_of(row)["expected_epochs"]
    assert expected == pytest.approx(float(law(60.0).epochs(row[None])[0]), abs=1e-3)
