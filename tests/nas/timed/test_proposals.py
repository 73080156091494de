"""Candidates of a race: what the law prefers, and how they follow evaluations."""

from __future__ import annotations

import numpy as np
import pytest

from evaluators.costs.budget import Budget, BudgetedSpace
from nas.run.evaluation import Evaluation
from nas.run.objectives import objective
from nas.strategies.candidates import Candidates
from nas.timed.proposals import LIKE, TIMED, RaceProposals
from nas.timed.regular import regular_rows, smooth
from search_spaces.space import Row
from timed_law import law, tables

CEILING = 1_000_000


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


def test_those_that_prove_slow_are_proposed_later() -> None:
    budgeted = BudgetedSpace(tables(), Budget({"macs": CEILING}, {}))
    asked: list[int] = []

    def timed(rows: np.ndarray) -> list[float]:
        """Only three are timed: the first ones take a second a sample."""
        asked.append(len(rows))
        return [1e3, 1e3, 1e-3]

    plain = proposals(count=3)
    expected = [plain.propose() for _ in range(2)]
    candidates = Candidates(budgeted, 0)
    strategy = RaceProposals(candidates, [objective("accuracy")], law(60.0), 3, timed=timed)
    first, second = strategy.propose(), strategy.propose()
    assert asked == [TIMED]
    assert first is not None
    assert all((first != row).any() for row in expected)
    assert second is not None
    assert any((second == row).all() for row in expected if row is not None)


def test_without_time_for_enough_the_timed_ones_compete_with_the_rest() -> None:
    budgeted = BudgetedSpace(tables(), Budget({"macs": CEILING}, {}))
    expected = [proposals().propose()]
    strategy = RaceProposals(
        Candidates(budgeted, 0),
        [objective("accuracy")],
        law(60.0),
        8,
        timed=lambda rows: [1e3],  # the first alone, a second a sample
    )
    first = strategy.propose()
    assert first is not None
    assert expected[0] is not None
    assert (first != expected[0]).any()
    assert macs(first) > 0.5 * CEILING


def test_a_prior_is_climbed_with_the_law() -> None:
    space, budgeted = tables().space, BudgetedSpace(tables(), Budget({"macs": CEILING}, {}))
    silu = space.column["activation"]

    def against(rows: np.ndarray) -> np.ndarray:
        """Ten standard deviations for ReLU, of which the law thinks little."""
        return np.where(rows[:, silu] == 0, 10.0, 0.0)

    (plain,) = (proposals().propose(),)
    strategy = RaceProposals(
        Candidates(budgeted, 0), [objective("accuracy")], law(60.0), 8, prior=against
    )
    first = strategy.propose()
    assert plain is not None
    assert first is not None
    assert (plain[silu], first[silu]) == (1, 0)
    score = law(60.0)(np.stack([first, plain]))
    assert score[0] > score[1] - 0.2  # the best of those with ReLU by the law, not just any


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
