"""Budgets: exact bounds, nothing over budget however rare the rest, sizes as people write them."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evaluators.budget import Budget, BudgetedSpace
from evaluators.costs import METRICS, CostTables
from evaluators.sizes import format_size, parse_size
from search_spaces.catalogue import load_space
from search_spaces.errors import UserError


@cache
def tables_of(name: str) -> CostTables:
    return CostTables(load_space(name))


@settings(max_examples=25, deadline=None)
@given(
    name=st.sampled_from(["mobilenet-tiny", "mobilenet-cifar", "vit-cifar"]),
    metric=st.sampled_from(METRICS),
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
        Budget({"mac": 1}, {})


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("300M", 300_000_000),
        ("4.1G", 4_100_000_000),
        ("2MiB", 2_097_152),
        ("4MB", 4_000_000),
        ("512KiB", 524_288),
        (".5k", 500),
        ("1e6", 1_000_000),
        ("1_000", 1000),
        ("1,000,000", 1_000_000),
        (" 3 m ", 3_000_000),
        ("2T", 2 * 10**12),
    ],
)
def test_sizes_read_as_people_write_them(text: str, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["", "M", "abc", "3X", "-3M", "0", "0.0M", "1.2.3", "3 M M"])
def test_malformed_sizes_are_refused(text: str) -> None:
    with pytest.raises(UserError, match=r"malformed size|must be above zero"):
        parse_size(text)


@pytest.mark.parametrize(
    ("count", "text"),
    [(300_774_272, "301M"), (4.1e9, "4.1G"), (999, "999"), (999_600, "1M"), (1000, "1k"), (0, "0")],
)
def test_sizes_are_written_with_three_digits(count: float, text: str) -> None:
    assert format_size(count) == text


@given(st.integers(1, 10**15))
def test_written_sizes_read_back_within_their_digits(count: int) -> None:
    assert parse_size(format_size(count)) == pytest.approx(count, rel=0.006)
