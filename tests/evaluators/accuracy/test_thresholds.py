"""Thresholds: within the loss or budget on the fitted samples, and optimal on small grids."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evaluators.accuracy.thresholds import NEVER, Outcomes, operate, within_budget, within_loss
from evaluators.costs.exit_costs import ExitCosts
from search_spaces.errors import UserError


def outcomes(n: int, exits: int, seed: int, *, digits: int | None = None) -> Outcomes:
    """Samples of varying difficulty, with later exits more accurate."""
    rng = np.random.default_rng(seed)
    easy = rng.random((n, 1))
    sure = np.clip(easy + 0.3 * rng.normal(size=(n, exits)), 0, 1)
    if digits is not None:
        sure = sure.round(digits)
    right = rng.random((n, exits + 1)) < easy ** np.linspace(0.6, 0.3, exits + 1)
    return Outcomes(sure.astype(np.float32), right)


def costs_of(exits: int) -> ExitCosts:
    return ExitCosts(tuple(range(100, 101 + exits)), tuple(range(7, 7 + exits)))


some_outcomes = st.builds(
    outcomes,
    n=st.integers(2, 60),
    exits=st.integers(0, 3),
    seed=st.integers(0, 1000),
    digits=st.sampled_from([None, 1]),
)


def one_by_one(
    samples: Outcomes, thresholds: tuple[float, ...], costs: ExitCosts
) -> tuple[int, int]:
    """Correct predictions and MACs over all samples, computed sample by sample."""
    right = macs = 0
    for sure, correct in zip(samples.confidence, samples.right, strict=True):
        for exit, threshold in enumerate((*thresholds, 0.0)):
            macs += costs.segments[exit]
            if exit == len(thresholds):
                right += correct[exit]
                break
            macs += costs.heads[exit] if threshold < NEVER else 0
            if sure[exit] >= threshold:
                right += correct[exit]
                break
    return int(right), int(macs)


@given(samples=some_outcomes, seed=st.integers(0, 1000))
def test_operating_is_sample_by_sample(samples: Outcomes, seed: int) -> None:
    exits = samples.confidence.shape[1]
    costs = costs_of(exits)
    rng = np.random.default_rng(seed)
    thresholds = tuple(rng.choice([0.0, 0.3, 0.5, 0.8, NEVER], exits).tolist())
    operation = operate(samples, thresholds, costs)
    right, macs = one_by_one(samples, thresholds, costs)
    assert operation.accuracy * len(samples) == pytest.approx(right)
    assert operation.macs * len(samples) == pytest.approx(macs)
    assert sum(operation.rates) == pytest.approx(1)


@settings(max_examples=60)
@given(samples=some_outcomes, loss=st.floats(0, 0.3), caution=st.sampled_from([0.0, 1.0, 2.0]))
def test_a_loss_is_never_exceeded_on_the_samples_it_is_found_on(
    samples: Outcomes, loss: float, caution: float
) -> None:
    costs = costs_of(samples.confidence.shape[1])
    operation = operate(samples, within_loss(samples, costs, loss, caution=caution), costs)
    assert samples.whole - operation.accuracy <= loss + 1e-9
    assert operation.macs <= costs.whole


@settings(max_examples=60)
@given(samples=some_outcomes, share=st.floats(0, 1))
def test_a_budget_is_never_exceeded(samples: Outcomes, share: float) -> None:
    costs = costs_of(samples.confidence.shape[1])
    budget = costs.least + share * max(0, costs.whole - costs.least)
    operation = operate(samples, within_budget(samples, costs, budget), costs)
    assert operation.macs <= budget + 1e-6


@given(samples=some_outcomes, losses=st.lists(st.floats(0, 0.3), min_size=2, max_size=2))
def test_more_loss_never_costs_more_macs(samples: Outcomes, losses: list[float]) -> None:
    costs = costs_of(samples.confidence.shape[1])
    strict, lenient = (
        operate(samples, within_loss(samples, costs, loss), costs).macs for loss in sorted(losses)
    )
    assert lenient <= strict + 1e-6


@given(samples=some_outcomes, shares=st.lists(st.floats(0, 1), min_size=2, max_size=2))
def test_more_budget_is_never_less_accurate(samples: Outcomes, shares: list[float]) -> None:
    costs = costs_of(samples.confidence.shape[1])
    least = costs.least
    tight, wide = (
        operate(
            samples, within_budget(samples, costs, least + s * max(0, costs.whole - least)), costs
        )
        for s in sorted(shares)
    )
    assert tight.accuracy <= wide.accuracy + 1e-9


@given(samples=some_outcomes, caution=st.floats(0, 3))
def test_caution_never_saves_more(samples: Outcomes, caution: float) -> None:
    costs = costs_of(samples.confidence.shape[1])
    bold, careful = (
        operate(samples, within_loss(samples, costs, 0.05, caution=c), costs).macs
        for c in (0.0, caution)
    )
    assert bold <= careful + 1e-6


@settings(max_examples=20)
@given(seed=st.integers(0, 1000), exits=st.integers(1, 2), loss=st.sampled_from([0.0, 0.05, 0.2]))
def test_no_other_thresholds_are_better(seed: int, exits: int, loss: float) -> None:
    samples = outcomes(12, exits, seed, digits=1)
    costs = costs_of(exits)
    every = [0.0, *(x / 10 - 0.05 for x in range(1, 11)), NEVER]
    operations = [
        operate(samples, combination, costs) for combination in product(every, repeat=exits)
    ]
    found = operate(samples, within_loss(samples, costs, loss, caution=0), costs)
    allowed = [o for o in operations if samples.whole - o.accuracy <= loss + 1e-9]
    assert found.macs == pytest.approx(min(o.macs for o in allowed))
    budget = (costs.least + costs.whole) / 2
    found = operate(samples, within_budget(samples, costs, budget), costs)
    affordable = [o for o in operations if o.macs <= budget + 1e-9]
    assert found.accuracy == pytest.approx(max(o.accuracy for o in affordable))
    cheapest = min(o.macs for o in affordable if o.accuracy >= found.accuracy - 1e-9)
    assert found.macs == pytest.approx(cheapest)


@pytest.mark.parametrize("exits", [1, 2, 3, 4, 5])
def test_many_samples_and_exits_are_searched_on_a_grid(exits: int) -> None:
    samples = outcomes(3000, exits, 0)
    costs = costs_of(exits)
    operation = operate(samples, within_loss(samples, costs, 0.01), costs)
    assert samples.whole - operation.accuracy <= 0.01
    assert operation.macs < costs.whole


def test_caution_makes_up_for_choosing_among_many_thresholds() -> None:
    costs = costs_of(2)
    judges = outcomes(60_000, 2, 10_000)
    lost: dict[float, list[float]] = {0.0: [], 2.0: []}
    for seed in range(20):
        samples = outcomes(1000, 2, seed)
        for caution, losses in lost.items():
            operation = operate(judges, within_loss(samples, costs, 0.02, caution=caution), costs)
            losses.append(judges.whole - operation.accuracy)
    assert np.mean(lost[0.0]) > 0.02
    assert np.mean(lost[2.0]) < 0.02
    assert np.mean(np.array(lost[2.0]) <= 0.02) >= 0.8


def test_invalid_losses_and_budgets_are_refused() -> None:
    samples, costs = outcomes(20, 2, 0), costs_of(2)
    for loss in (-0.1, float("nan"), float("inf")):
        with pytest.raises(UserError, match="expected 0 or more"):
            within_loss(samples, costs, loss)
    with pytest.raises(UserError, match="is below 107"):
        within_budget(samples, costs, 50)
