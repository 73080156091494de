"""An interrupted search goes on with the proposals of an undisturbed one."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from cached_tables import tables_of
from evaluators.costs.budget import Budget, BudgetedSpace
from nas.engine.search import search
from nas.run.evaluation import Evaluation
from nas.run.objectives import objective
from nas.run.specification import make
from nas.strategies import Candidates, Strategy, make_strategy
from nas.strategies.replay import replay
from search_spaces.architecture import Architecture
from search_spaces.space import Row

STRATEGIES = [
    ("random", ""),
    ("evolution", ""),
    ("nsga2", ""),
    ("regularized-evolution", ""),
    ("optuna", "tpe"),
]


def strategy_of(name: str, sampler: str) -> Strategy:
    budgeted = BudgetedSpace(tables_of("mobilenet-cifar"), Budget({"macs": 2_000_000}, {}))
    objectives = (objective("accuracy"), objective("macs"))
    candidates = Candidates(budgeted, 0)
    return make_strategy(name, candidates, objectives, sampler=sampler, seed=0)


def judged(row: Row) -> Evaluation:
    tables = tables_of("mobilenet-cifar")
    (arch,) = tables.space.decode(row[None])
    accuracy = float(np.sin(row.astype(float)).mean())
    return Evaluation(arch, {"accuracy": accuracy, **tables.cost(arch)})


def proposed(strategy: Strategy, count: int) -> list[Row]:
    rows = []
    for _ in range(count):
        row = strategy.propose()
        assert row is not None
        rows.append(row)
        strategy.tell(row, judged(row))
    return rows


@pytest.mark.parametrize(("name", "sampler"), STRATEGIES)
@pytest.mark.parametrize("interrupted", [5, 37])
def test_a_replayed_strategy_goes_on_as_if_undisturbed(
    name: str, sampler: str, interrupted: int
) -> None:
    rows = proposed(strategy_of(name, sampler), 50)
    before = rows[:interrupted]
    again = strategy_of(name, sampler)
    assert replay(again, np.array(before), [judged(row) for row in before]) is None
    rest = proposed(again, 50 - interrupted)
    assert np.array_equal(rest, rows[interrupted:])


@pytest.mark.parametrize(("name", "sampler"), STRATEGIES)
def test_what_ended_in_another_order_is_told_and_never_repeated(name: str, sampler: str) -> None:
    rows = proposed(strategy_of(name, sampler), 30)
    rows = [rows[0], *rows[:1:-1]]  # without the second, which was running
    again = strategy_of(name, sampler)
    waiting = replay(again, np.array(rows), [judged(row) for row in rows])
    assert waiting is not None
    known = {row.tobytes() for row in (*rows, waiting)}
    assert len(known) == 30
    assert not known & {row.tobytes() for row in proposed(again, 20)}


def test_a_row_proposed_too_early_is_not_evaluated_twice() -> None:
    rows = proposed(strategy_of("random", ""), 4)
    order = [rows[1], rows[0], rows[2]]
    again = strategy_of("random", "")
    assert replay(again, np.array(order), [judged(row) for row in order]) is None


FUNCTION = """
import os

def score(arch):
    left = int(os.environ["EVALUATIONS_LEFT"])
    if left == 0:
        raise KeyboardInterrupt
    os.environ["EVALUATIONS_LEFT"] = str(left - 1)
    return sum(map(ord, arch.id)) % 97 / 97
"""


@pytest.mark.parametrize("strategy", ["evolution", "regularized-evolution"])
def test_an_interrupted_search_ends_as_an_undisturbed_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, strategy: str
) -> None:
    path = tmp_path / "scores_of_this_test.py"
    path.write_text(FUNCTION)
    settings = {"space": "mobilenet-tiny", "evaluator": f"{path}:score", "trials": 36}

    def run(name: str, left: int, resume: bool = False) -> list[Architecture]:
        monkeypatch.setenv("EVALUATIONS_LEFT", str(left))
        given = make({**settings, "strategy": strategy})
        ended = search(given, tmp_path / name, resume=resume)
        return [e.arch for e in ended.run.evaluations()]

    whole = run("whole", 36)
    for left in (15, 8):
        with pytest.raises(KeyboardInterrupt):
            run("parts", left, resume=left == 8)
    assert run("parts", 13, resume=True) == whole
