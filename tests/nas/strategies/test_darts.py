"""Strategy `darts`: exact decoding first, then a frontier of probable rows."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest

from cached_tables import tables_of
from evaluators.costs.budget import Budget, BudgetedSpace
from evaluators.costs.distribution import log_probabilities
from evaluators.costs.nearest import most_probable_row
from evaluators.costs.tables import CostTables
from nas.run.evaluation import Evaluation
from nas.strategies.candidates import Candidates
from nas.strategies.darts import DartsStrategy
from search_spaces.space import Rows


def probabilities_of(name: str, seed: int = 0) -> list[npt.NDArray[np.float64]]:
    rng = np.random.default_rng(seed)
    return [rng.dirichlet(np.full(len(c.options), 0.5)) for c in tables_of(name).space.choices]


def strategy_of(
    name: str, high: dict[str, float], low: dict[str, float] | None = None
) -> tuple[DartsStrategy, Candidates]:
    candidates = Candidates(BudgetedSpace(tables_of(name), Budget(high, low or {})), seed=0)
    return DartsStrategy(candidates, probabilities_of(name)), candidates


def proposals(strategy: DartsStrategy, n: int) -> Rows:
    rows = []
    for _ in range(n):
        row = strategy.propose()
        if row is None:
            break
        rows.append(row)
    return np.array(rows)


def evaluation(tables: CostTables, row: npt.NDArray[np.uint8], accuracy: float) -> Evaluation:
    (arch,) = tables.space.decode(row[None])
    return Evaluation(arch, {"accuracy": accuracy, **tables.cost(arch)})


@pytest.mark.parametrize("name", ["mobilenet-cifar", "vit-tiny", "macro"])
def test_the_first_proposal_is_the_most_probable_within_the_budget(name: str) -> None:
    tables = tables_of(name)
    ceiling = float(np.quantile(tables.score(tables.space.sample(999, 0))["macs"], 0.3))
    strategy, _ = strategy_of(name, {"macs": ceiling})
    expected = most_probable_row(tables, probabilities_of(name), {"macs": ceiling}, {})
    found = strategy.propose()
    assert found is not None
    assert expected is not None
    assert (found == expected).all()
    assert 0.95 * ceiling <= tables.score(found[None])["macs"][0] <= ceiling


@pytest.mark.parametrize(
    ("high", "low"),
    [
        ({"macs": 3_000_000}, {}),
        ({"macs": 3_000_000, "params": 90_000}, {"macs": 1_000_000}),
        ({"memory": 60_000}, {}),
        ({}, {"macs": 3_000_000}),
        ({}, {}),
    ],
)
def test_proposals_are_within_the_budget_and_never_repeated(
    high: dict[str, float], low: dict[str, float]
) -> None:
    tables = tables_of("vit-tiny")
    strategy, candidates = strategy_of("vit-tiny", high, low)
    rows = proposals(strategy, 60)
    assert len(np.unique(rows, axis=0)) == 60
    assert candidates.budgeted.admits(rows).all()
    assert (tables.space.canonical(rows) == rows).all()


def test_proposals_cover_the_budget_and_are_more_probable_than_chance() -> None:
    tables = tables_of("vit-tiny")
    ceiling = 3_000_000
    strategy, candidates = strategy_of("vit-tiny", {"macs": ceiling})
    rows = proposals(strategy, 60)
    shares = tables.score(rows)["macs"] / ceiling
    for low, high in ((0.9, 1.0), (0.6, 0.75), (0.3, 0.45)):
        assert ((shares > low) & (shares <= high)).any()
    given = probabilities_of("vit-tiny")
    found = log_probabilities(tables.space, given, rows).mean()
    drawn = candidates.budgeted.sample(200, np.random.default_rng(1))
    assert found > log_probabilities(tables.space, given, drawn).mean() + 5


def test_a_small_space_is_proposed_completely() -> None:
    tables = tables_of("nasbench201")
    everything = tables.space.enumerate()
    ceiling = int(np.sort(tables.score(everything)["macs"])[40])
    within = int((tables.score(everything)["macs"] <= ceiling).sum())
    strategy, _ = strategy_of("nasbench201", {"macs": ceiling})
    rows = proposals(strategy, within + 5)
    assert len(rows) == within
    assert len(np.unique(rows, axis=0)) == within


def test_a_resumed_strategy_proposes_nothing_twice() -> None:
    tables = tables_of("vit-tiny")
    first = proposals(strategy_of("vit-tiny", {"macs": 3_000_000})[0], 16)
    strategy, _ = strategy_of("vit-tiny", {"macs": 3_000_000})
    for row in first:
        strategy.tell(row, evaluation(tables, row, 0.5))
    both = np.concatenate([first, proposals(strategy, 16)])
    assert len(np.unique(both, axis=0)) == 32


def test_samples_are_near_the_best_evaluated_rows() -> None:
    tables = tables_of("vit-tiny")
    strategy, candidates = strategy_of("vit-tiny", {"macs": 3_000_000})
    proposals(strategy, 12)  # past the exact decodes
    best = candidates.budgeted.sample(1, np.random.default_rng(5))[0]
    others, _ = strategy_of("vit-tiny", {"macs": 3_000_000})
    proposals(others, 12)
    strategy.tell(best, evaluation(tables, best, 0.9))
    distances = [
        np.sort((proposals(s, 60) != best).mean(axis=1))[:10].mean() for s in (strategy, others)
    ]
    assert distances[0] < distances[1]


def test_a_failed_evaluation_is_accepted() -> None:
    tables = tables_of("vit-tiny")
    strategy, _ = strategy_of("vit-tiny", {"macs": 3_000_000})
    row = strategy.propose()
    assert row is not None
    (arch,) = tables.space.decode(row[None])
    strategy.tell(row, Evaluation(arch, {}, error="no"))
    assert strategy.propose() is not None
    assert strategy.state_of(row) == {}
