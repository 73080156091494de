"""Budgets: exact bounds, and samples within them however few rows they admit."""

from __future__ import annotations

from functools import cache

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cached_tables import tables_of
from evaluators.costs.budget import Budget, BudgetedSpace
from evaluators.metrics import COUNTED
from search_spaces.errors import UserError


@cache
def every_cost() -> dict[str, npt.NDArray[np.int64]]:
    """Costs of all of vit-tiny: nearly three million rows for its million networks."""
    tables = tables_of("vit-tiny")
    counts = tables.space.option_counts
    rows = np.indices(counts, dtype=np.uint8).reshape(len(counts), -1).T
    return tables.score(rows)


@settings(max_examples=25, deadline=None)
@given(
    name=st.sampled_from(["mobilenet-tiny", "mobilenet-cifar", "vit-cifar"]),
    metric=st.sampled_from(COUNTED),
    share=st.floats(0.0, 1.0),
    seed=st.integers(0, 1000),
)
def test_samples_are_never_over_budget(name: str, metric: str, share: float, seed: int) -> None:
    tables = tables_of(name)
    space = tables.space
    smallest, largest = tables.cost(space.smallest)[metric], tables.cost(space.largest)[metric]
    bound = round(smallest + share * (largest - smallest))
    budgeted = BudgetedSpace(tables, Budget({metric: bound}, {}))
    rows = budgeted.sample(200, np.random.default_rng(seed))
    assert rows.shape == (200, len(space.choices))
    assert (tables.score(rows)[metric] <= bound).all()
    assert (space.canonical(rows) == rows).all()


def test_a_budget_that_rejection_would_not_find_is_sampled_with_variety() -> None:
    tables = tables_of("mobilenet-cifar")
    bound = round(1.1 * tables.cost(tables.space.smallest)["macs"])
    assert (tables.score(tables.space.sample(1_000_000, 0))["macs"] > bound).all()
    budgeted = BudgetedSpace(tables, Budget({"macs": bound}, {}))
    rows = budgeted.sample(100, np.random.default_rng(0))
    assert budgeted.admits(rows).all()
    assert len({row.tobytes() for row in rows}) > 50


def test_several_bounds_hold_together() -> None:
    tables = tables_of("mobilenet-cifar")
    budget = Budget({"macs": 3_000_000, "params": 90_000, "memory": 90_000}, {"macs": 2_500_000})
    rows = BudgetedSpace(tables, budget).sample(50, np.random.default_rng(0))
    costs = tables.score(rows)
    assert (costs["macs"] <= 3_000_000).all()
    assert (costs["macs"] >= 2_500_000).all()
    assert (costs["params"] <= 90_000).all()
    assert (costs["memory"] <= 90_000).all()


def test_bounds_are_inclusive_and_exact() -> None:
    budget = Budget({"macs": 2**53 + 1}, {"macs": 5})
    costs = {"macs": np.array([4, 5, 2**53 + 1, 2**53 + 2])}
    assert budget.admits(costs).tolist() == [False, True, True, False]


@pytest.mark.parametrize("name", ["mobilenet-tiny", "mobilenet-imagenet", "vit-cifar"])
@pytest.mark.parametrize("metric", COUNTED)
def test_the_budget_of_the_smallest_network_is_met(name: str, metric: str) -> None:
    tables = tables_of(name)
    bound = tables.cost(tables.space.smallest)[metric] + 1
    rows = BudgetedSpace(tables, Budget({metric: bound}, {})).sample(5, np.random.default_rng(0))
    assert len(rows) == 5
    assert (tables.score(rows)[metric] <= bound).all()


@settings(max_examples=15, deadline=None)
@given(
    ceilings=st.dictionaries(st.sampled_from(COUNTED), st.floats(0.0, 1.0), min_size=1),
    seed=st.integers(0, 1000),
)
def test_several_ceilings_are_kept_at_once(ceilings: dict[str, float], seed: int) -> None:
    tables = tables_of("mobilenet-tiny")
    low, high = (tables.cost(a) for a in (tables.space.smallest, tables.space.largest))
    bounds = {m: round(low[m] + share * (high[m] - low[m])) for m, share in ceilings.items()}
    budgeted = BudgetedSpace(tables, Budget(bounds, {}))
    costs = tables.score(budgeted.sample(20, np.random.default_rng(seed)))
    for metric, bound in bounds.items():
        assert (costs[metric] <= bound).all()


def test_samples_follow_from_the_generator() -> None:
    tables = tables_of("mobilenet-tiny")
    smallest = tables.cost(tables.space.smallest)["macs"]
    for bound in (2 * smallest, smallest + 1000, 20 * smallest):
        budgeted = BudgetedSpace(tables, Budget({"macs": bound}, {}))
        draws = [budgeted.sample(30, np.random.default_rng(s)) for s in (1, 1, 2)]
        assert (draws[0] == draws[1]).all()
        assert (draws[0] != draws[2]).any()
        assert budgeted.sample(0, np.random.default_rng(0)).shape == (0, len(tables.space.choices))


def test_a_budget_for_all_leaves_sampling_uniform() -> None:
    tables = tables_of("vit-tiny")
    space = tables.space
    budgeted = BudgetedSpace(tables, Budget({"macs": tables.cost(space.largest)["macs"]}, {}))
    rows = budgeted.sample(9000, np.random.default_rng(0))
    counts = np.bincount(rows[:, space.column["depth"]], minlength=3)
    # Six standard deviations of a binomial.
    assert (np.abs(counts - 3000) < 6 * np.sqrt(3000)).all()


@settings(max_examples=40, deadline=None)
@given(share=st.floats(0.0, 0.5), seed=st.integers(0, 10_000))
def test_repaired_rows_are_within_the_budget(share: float, seed: int) -> None:
    tables = tables_of("mobilenet-tiny")
    space = tables.space
    low, high = (tables.cost(a)["macs"] for a in (space.smallest, space.largest))
    budgeted = BudgetedSpace(tables, Budget({"macs": round(low + share * (high - low))}, {}))
    row = space.sample(1, seed)[0]
    before = row.copy()
    repaired = budgeted.repair(row, np.random.default_rng(seed))
    assert (row == before).all()
    assert repaired is not None, "one ceiling can always be reached by making something smaller"
    assert budgeted.admits(repaired[None])[0]
    assert (space.canonical(repaired[None]) == repaired).all()
    if budgeted.admits(row[None])[0]:
        assert (repaired == row).all()


def test_neighbours_are_all_rows_one_change_away() -> None:
    tables = tables_of("vit-tiny")
    budgeted = BudgetedSpace(tables, Budget({}, {}))
    row = tables.space.sample(1, 0)[0]
    rows = budgeted.neighbours(row)
    assert ((rows != row).sum(axis=1) == 1).all()
    assert (rows < tables.space.option_counts).all()
    assert len(np.unique(rows, axis=0)) == (tables.space.option_counts - 1).sum() == len(rows)


@given(st.integers(1, 10**12), st.integers(1, 10**12), st.integers(0, 2 * 10**12))
def test_violation_is_zero_exactly_within_the_budget(a: int, b: int, cost: int) -> None:
    budget = Budget({"macs": max(a, b)}, {"macs": min(a, b)})
    costs = {"macs": np.array([cost, min(a, b), max(a, b)])}
    assert ((budget.violation(costs) == 0) == budget.admits(costs)).all()
    assert (budget.violation(costs) >= 0).all()


def test_violation_adds_up_relative_excesses() -> None:
    budget = Budget({"macs": 100, "params": 10}, {"memory": 50})
    costs = {"macs": 150, "params": 12, "memory": 20}
    assert budget.violation(costs) == pytest.approx(0.5 + 0.2 + 0.6)


def test_a_survey_reports_the_share_within_the_budget() -> None:
    costs = every_cost()
    bound = int(np.median(costs["macs"]))
    budgeted = BudgetedSpace(tables_of("vit-tiny"), Budget({"macs": bound}, {}))
    drawn, share = budgeted.survey(20_000, np.random.default_rng(0))
    assert share == (drawn["macs"] <= bound).mean()
    # The rows of `every_cost` are uniform over choices, as the survey's are.
    assert share == pytest.approx(0.5, abs=6 * 0.5 / np.sqrt(20_000))


@pytest.mark.parametrize("metric", COUNTED)
@pytest.mark.parametrize("ceiling", [True, False])
def test_the_nearest_value_in_the_error_is_the_extreme_of_all_networks(
    metric: str, ceiling: bool
) -> None:
    values = every_cost()[metric]
    extreme = int(values.min() if ceiling else values.max())
    tables = tables_of("vit-tiny")

    def budget(bound: int) -> Budget:
        return Budget({metric: bound}, {}) if ceiling else Budget({}, {metric: bound})

    budgeted = BudgetedSpace(tables, budget(extreme))
    assert tables.score(budgeted.nearest[None])[metric][0] == extreme
    with pytest.raises(UserError, match=rf"the nearest one has {extreme:,} "):
        BudgetedSpace(tables, budget(extreme - 1 if ceiling else extreme + 1))


@pytest.mark.parametrize(
    ("high", "low"),
    [
        ({"macs": 1_100_000}, {"macs": 991_000}),
        ({"macs": 463_000}, {"params": 24_800}),
        ({"memory": 47_400}, {"macs": 4_080_000}),
    ],
)
def test_a_budget_that_some_network_meets_is_accepted(
    high: dict[str, int], low: dict[str, int]
) -> None:
    budget = Budget(high, low)
    assert budget.admits(every_cost()).sum() > 0
    BudgetedSpace(tables_of("vit-tiny"), budget)


@pytest.mark.parametrize("name", ["mobilenet-tiny", "vit-cifar"])
def test_an_impossible_budget_names_the_smallest_reachable_value(name: str) -> None:
    tables = tables_of(name)
    smallest = tables.cost(tables.space.smallest)["macs"]
    BudgetedSpace(tables, Budget({"macs": smallest}, {}))
    with pytest.raises(UserError, match=rf"the nearest one has {smallest:,} FLOPs"):
        BudgetedSpace(tables, Budget({"macs": smallest - 1}, {}))


def test_contradictions_and_unknown_metrics_are_refused() -> None:
    with pytest.raises(UserError, match="contradictory budget: minimum 2M FLOPs is above"):
        Budget({"macs": 10**6}, {"macs": 2 * 10**6})
    with pytest.raises(UserError, match="unknown metric 'mac': did you mean 'macs'"):
        BudgetedSpace(tables_of("mobilenet-tiny"), Budget({"mac": 1}, {}))
    with pytest.raises(UserError, match="the budget of parameters must be above 0"):
        Budget({"params": 0}, {})
    assert str(Budget({"macs": 5}, {"macs": 5})) == "at most 5 FLOPs, at least 5 FLOPs"
    assert str(Budget({}, {})) == "no budget"


def test_the_largest_within_a_budget_leaves_out_options_that_are_rare_there() -> None:
    tables = tables_of("mobilenet-tiny")
    space = tables.space
    assert BudgetedSpace(tables, Budget({}, {})).largest == space.largest
    whole = tables.cost(space.largest)["macs"]
    assert BudgetedSpace(tables, Budget({"macs": whole}, {})).largest == space.largest
    budgeted = BudgetedSpace(tables, Budget({"macs": 0.08 * whole}, {}))
    rows = budgeted.sample(3000, np.random.default_rng(1))
    held = (rows <= space.encode([budgeted.largest])[0])[space.active(rows)].mean()
    assert held > 0.99
    assert tables.cost(budgeted.largest)["macs"] < 0.6 * whole
