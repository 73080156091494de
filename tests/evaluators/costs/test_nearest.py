"""The most probable architecture within a budget, against enumeration."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from evaluators.costs.distribution import log_probabilities
from evaluators.costs.nearest import most_probable_row
from evaluators.costs.tables import CostTables
from search_spaces.space import Rows

Tables = Callable[[str], CostTables]

SMALL = ["nested", "nasbench201"]
METRICS = ("macs", "params", "latency", "memory")


def random_probabilities(tables: CostTables, seed: int) -> list[npt.NDArray[np.float64]]:
    rng = np.random.default_rng(seed)
    return [rng.dirichlet(np.ones(len(c.options))) for c in tables.space.choices]


def best_by_enumeration(
    tables: CostTables, logs: list[npt.NDArray[np.float64]], rows: Rows
) -> float:
    active = tables.space.active(rows)
    terms = [np.where(active[:, c], log[rows[:, c]], 0.0) for c, log in enumerate(logs)]
    return float(np.sum(terms, axis=0).max())


def within(
    tables: CostTables, rows: Rows, high: dict[str, float], low: dict[str, float]
) -> npt.NDArray[np.bool_]:
    costs = tables.score(rows)
    admitted = np.ones(len(rows), dtype=bool)
    for metric, bound in high.items():
        admitted &= costs[metric] <= bound
    for metric, bound in low.items():
        admitted &= costs[metric] >= bound
    return admitted


@settings(max_examples=60)
@given(
    name=st.sampled_from(SMALL),
    ceilings=st.dictionaries(st.sampled_from(METRICS), st.floats(0, 1), min_size=1),
    floored=st.sampled_from([None, *METRICS]),
    seed=st.integers(0, 2**32 - 1),
)
def test_the_decoded_row_is_the_most_probable_of_all(
    tables_of: Tables, name: str, ceilings: dict[str, float], floored: str | None, seed: int
) -> None:
    tables = tables_of(name)
    space = tables.space
    rows = space.enumerate()
    costs = tables.score(rows)
    high = {m: float(np.quantile(costs[m], q, method="lower")) for m, q in ceilings.items()}
    if "latency" in high:  # a sum of fractions: rows of the same latency differ in the last digit
        high["latency"] *= 1 + 1e-9
    low = {} if floored is None else {floored: float(np.quantile(costs[floored], 0.2)) * (1 - 1e-9)}
    assume(all(low.get(m, 0.0) <= bound for m, bound in high.items()))
    probabilities = random_probabilities(tables, seed)
    logs = [np.log(np.maximum(p, 1e-9)) for p in probabilities]
    admitted = within(tables, rows, high, low)
    found = most_probable_row(tables, probabilities, high, low)
    if not admitted.any():
        assert found is None
        return
    assert found is not None
    near = admitted & np.any([costs[m] >= 0.95 * bound for m, bound in high.items()], axis=0)
    wanted = rows[near] if near.any() else rows[admitted]
    assert (space.canonical(found[None]) == found).all()
    assert any((wanted == found).all(axis=1))
    best = best_by_enumeration(tables, logs, wanted)
    assert log_probabilities(space, probabilities, found[None])[0] == pytest.approx(
        best, rel=1e-5, abs=1e-5
    )


@pytest.mark.parametrize("name", SMALL)
def test_excluding_what_was_found_gives_the_next_most_probable(
    tables_of: Tables, name: str
) -> None:
    tables = tables_of(name)
    rows = tables.space.enumerate()
    costs = tables.score(rows, ("macs",))["macs"]
    ceiling = {"macs": float(np.quantile(costs, 0.4))}
    probabilities = random_probabilities(tables, 5)
    logs = [np.log(np.maximum(p, 1e-9)) for p in probabilities]
    left = rows[within(tables, rows, ceiling, {})]
    found = np.zeros((0, rows.shape[1]), dtype=np.uint8)
    for _ in range(6):
        row = most_probable_row(tables, probabilities, ceiling, {}, excluded=found, floor=0.0)
        assert row is not None
        best = best_by_enumeration(tables, logs, left)
        assert log_probabilities(tables.space, probabilities, row[None])[0] == pytest.approx(
            best, rel=1e-5, abs=1e-5
        )
        left = left[~(left == row).all(axis=1)]
        found = np.concatenate([found, row[None]])
    assert len(np.unique(found, axis=0)) == 6


def test_many_rows_just_above_the_ceiling_do_not_hide_those_below(tables_of: Tables) -> None:
    """HiGHS admits all 405 cells whose latency equals the ceiling up to rounding."""
    tables = tables_of("nasbench201")
    latency = tables.score(tables.space.enumerate(), ("latency",))["latency"]
    ceiling = float(np.quantile(latency, 0.15625, method="lower"))
    below = float(np.nextafter(latency[np.isclose(latency, ceiling)].min(), 0.0))
    assert np.count_nonzero(np.isclose(latency, below) & (latency > below)) > 16
    for seed in range(3):
        row = most_probable_row(tables, random_probabilities(tables, seed), {"latency": below}, {})
        assert row is not None
        assert tables.score(row[None])["latency"][0] <= below


def test_no_row_is_left_when_all_are_excluded(tables_of: Tables) -> None:
    tables = tables_of("nested")
    rows = tables.space.enumerate()
    probabilities = random_probabilities(tables, 0)
    assert most_probable_row(tables, probabilities, {"macs": 1e9}, {}, excluded=rows) is None


def test_inactive_choices_do_not_count(tables_of: Tables) -> None:
    """Improbable options of choices that `outer` deactivates do not count against it."""
    tables = tables_of("nested")
    probabilities = [np.full(len(c.options), 1 / len(c.options)) for c in tables.space.choices]
    probabilities[1] = np.array([0.4, 0.6])
    row = most_probable_row(tables, probabilities, {"macs": 1e9}, {}, floor=0.0)
    assert row is not None
    assert row[1] == 0


@pytest.mark.parametrize("name", ["mobilenet-cifar", "vit-cifar", "macro"])
@pytest.mark.parametrize("quantile", [0.02, 0.3])
def test_decoded_rows_of_large_spaces_use_nearly_all_of_the_budget(
    tables_of: Tables, name: str, quantile: float
) -> None:
    tables = tables_of(name)
    macs = tables.score(tables.space.sample(2000, 0), ("macs",))["macs"]
    ceiling = float(np.quantile(macs, quantile))
    for seed in range(2):
        probabilities = random_probabilities(tables, seed)
        row = most_probable_row(tables, probabilities, {"macs": ceiling}, {})
        assert row is not None
        assert 0.95 * ceiling <= tables.score(row[None])["macs"][0] <= ceiling
