"""Populations: new, distinct rows within the budget that improve over generations."""

from __future__ import annotations

import numpy as np
import pytest

from cached_tables import tables_of
from evaluators.costs.budget import Budget, BudgetedSpace
from evaluators.costs.tables import CostTables
from nas.run.evaluation import Evaluation
from nas.run.objectives import objective
from nas.strategies import Candidates, make_strategy
from nas.strategies.population import Population, unique
from search_spaces.builder import BlockBuilder
from search_spaces.ops import Op
from search_spaces.space import Block, Choice, SearchSpace


def made(name: str, bound: int) -> tuple[Population, Candidates]:
    candidates = Candidates(BudgetedSpace(tables_of(name), Budget({"macs": bound}, {})), 0)
    return Population(candidates, np.random.default_rng(0)), candidates


def sevens(rows: np.ndarray) -> np.ndarray:
    return (rows == 2).sum(axis=1).astype(float)


@pytest.mark.parametrize(("name", "bound"), [("mobilenet-cifar", 3_000_000), ("ofa-mbv3", 10**8)])
def test_populations_have_new_distinct_rows_within_the_budget(name: str, bound: int) -> None:
    population, candidates = made(name, bound)
    first = candidates.budgeted.sample(50, np.random.default_rng(1))
    for row in first:
        candidates.claim(row)
    grown = population.grow(first, sevens(first), sevens)
    assert len(grown) > 500
    assert len(unique(grown)) == len(grown)
    assert candidates.admits(grown).all()
    assert (candidates.space.canonical(grown) == grown).all()


def test_selection_improves_the_population() -> None:
    population, candidates = made("mobilenet-cifar", 3_000_000)
    first = candidates.budgeted.sample(100, np.random.default_rng(1))
    grown = population.grow(first, sevens(first), sevens)
    assert np.sort(sevens(grown))[-20:].mean() > np.sort(sevens(first))[-20:].mean() + 1


def test_a_small_space_is_enumerated() -> None:
    population, candidates = made("nasbench201", 40_000_000)
    grown = population.grow(np.zeros((1, 6), np.uint8), np.zeros(1), sevens)
    tables = candidates.budgeted.tables
    macs = tables.score(tables.space.enumerate(), ("macs",))["macs"]
    assert len(grown) == (macs <= 40_000_000).sum()


def test_a_large_space_with_few_rows_within_the_budget_is_searched_to_the_last() -> None:
    # 12 widths of 8 options: within 2 steps of the smallest network are 1 + 12 + 12 + 66 rows.
    def block(number: int) -> Block:
        def ops(width: int) -> tuple[Op, ...]:
            b = BlockBuilder(3, 8, 8)
            b.conv("c", b.input, width)
            return b.ops

        return Block(f"block{number}", (f"width{number}",), ops)

    widths = tuple(Choice(f"width{n}", tuple(range(1, 9))) for n in range(12))
    tables = CostTables(SearchSpace("widths", widths, tuple(map(block, range(12)))))
    space = tables.space
    most = tables.cost(space.smallest)["macs"] + 2 * 3 * 8 * 8
    candidates = Candidates(BudgetedSpace(tables, Budget({"macs": most}, {})), 0)
    strategy = make_strategy("evolution", candidates, (objective("accuracy"),), seed=0)
    proposed = set()
    while (row := strategy.propose()) is not None:
        proposed.add(row.tobytes())
        (arch,) = space.decode(row[None])
        strategy.tell(row, Evaluation(arch, {"accuracy": float(row.sum()) / 100}))
    assert len(proposed) == 1 + 12 + 12 + 66
