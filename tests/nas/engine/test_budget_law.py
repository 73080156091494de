"""No strategy evaluates or returns anything over budget, whatever the space and the bounds."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest

from cached_tables import tables_of
from evaluators.costs.budget import Budget, BudgetedSpace
from evaluators.metrics import COUNTED
from nas.run import ranking
from nas.run.evaluation import Evaluation
from nas.run.objectives import objective
from nas.strategies import STRATEGIES, Candidates, make_strategy
from search_spaces.errors import UserError

SPACES = (
    "mobilenet-tiny",
    "mobilenet-cifar",
    "vit-tiny",
    "vit-cifar",
    "nasbench201",
    "macro",
    "ofa-proxyless",
    "gpt-char",
    "gpt-conv",
    "resnet",
)
OBJECTIVES = (objective("accuracy"), objective("macs"))
TRIALS = 24
DECODED = 2
"""Evaluations of `darts`, each of which takes integer programs of seconds."""

DECODABLE = ("mobilenet-tiny", "vit-tiny", "nasbench201", "macro", "resnet")
"""Spaces whose programs take less than a second, even with probabilities that decide little."""

DRAWN = (*STRATEGIES, *(name for name in STRATEGIES if name != "darts"))


@cache
def costs_of(name: str) -> dict[str, np.ndarray]:
    tables = tables_of(name)
    return tables.score(tables.space.sample(2000, 0))


def random_budget(name: str, rng: np.random.Generator) -> Budget:
    """One to three ceilings, tight or loose, and sometimes a floor below one of them."""
    costs = costs_of(name)
    metrics = rng.choice(COUNTED, size=rng.integers(1, 4), replace=False)
    high = {m: int(np.quantile(costs[m], rng.uniform(0.001, 1.0))) for m in metrics}
    low = {}
    if rng.random() < 0.3:
        low = {metrics[0]: int(rng.uniform(0.3, 0.95) * high[metrics[0]])}
    return Budget(high, low)


def one_search(seed: int) -> tuple[bool, int]:
    """A search of random settings: whether its budget was accepted, and evaluations beyond it.

    A budget may be refused only if none of many random architectures is within it.
    """
    rng = np.random.default_rng((seed, 17))
    of = str(rng.choice(DRAWN))
    name = str(rng.choice(DECODABLE if of == "darts" else SPACES))
    tables = tables_of(name)
    space = tables.space
    budget = random_budget(name, rng)
    try:
        candidates = Candidates(BudgetedSpace(tables, budget), seed)
    except UserError:
        assert not budget.admits(costs_of(name)).any(), f"{budget} is refused, and can be met"
        return False, 0
    strategy = make_strategy(
        of,
        candidates,
        OBJECTIVES,
        seed=seed,
        bins=int(rng.integers(0, 5)),
        probabilities=[rng.dirichlet(np.full(n, 0.3)) for n in space.option_counts],
    )
    worth = [rng.normal(size=n) for n in space.option_counts]
    done = []
    for _ in range(DECODED if of == "darts" else TRIALS):
        row = strategy.propose()
        if row is None:
            break
        (arch,) = space.decode(row[None])
        score = sum(w[code] for w, code in zip(worth, row, strict=True))
        metrics = {"accuracy": float(1 / (1 + np.exp(-score))), **tables.cost(arch)}
        error = "no luck" if rng.random() < 0.05 else None
        done.append(Evaluation(arch, metrics, error=error))
        strategy.tell(row, done[-1])
    assert done
    assert len({e.arch for e in done}) == len(done)
    returned = ranking.frontier(done, OBJECTIVES)
    return True, sum(bool(budget.violation(e.metrics) > 0) for e in (*done, *returned))


@pytest.mark.parametrize("seed", range(30))
def test_a_random_search_never_leaves_its_budget(seed: int) -> None:
    _, violations = one_search(seed)
    assert violations == 0


def test_most_random_budgets_are_accepted() -> None:
    accepted = 0
    for seed in range(30):
        rng = np.random.default_rng((seed, 17))
        rng.choice(DRAWN)
        name = str(rng.choice(SPACES))
        accepted += bool(random_budget(name, rng).admits(costs_of(name)).any())
    assert accepted >= 20


@pytest.mark.slow
def test_three_hundred_random_searches_never_leave_their_budgets() -> None:
    searches = [one_search(seed) for seed in range(1000, 1300)]
    assert sum(violations for _, violations in searches) == 0
    assert sum(accepted for accepted, _ in searches) > 180
