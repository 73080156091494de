"""Expected costs against enumeration, sampling and finite differences."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from evaluators.costs.expected import ExpectedCosts
from evaluators.costs.tables import CostTables
from search_spaces.catalogue import load_space
from search_spaces.errors import UserError
from search_spaces.space import Rows, SearchSpace

Tables = Callable[[str], CostTables]


def random_probabilities(space: SearchSpace, seed: int) -> list[Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [
        (2 * torch.randn(len(c.options), generator=generator, dtype=torch.float64)).softmax(0)
        for c in space.choices
    ]


def likelihood(space: SearchSpace, rows: Rows, probabilities: Sequence[Tensor]) -> Tensor:
    """The probability of each canonical row, `(n,)`: inactive choices sum to 1."""
    active = space.active(rows)
    total = torch.ones(len(rows), dtype=torch.float64)
    for column, p in enumerate(probabilities):
        taken = p[torch.from_numpy(rows[:, column].astype(np.int64))]
        total = total * torch.where(torch.from_numpy(active[:, column]), taken, 1.0)
    return total


@settings(max_examples=20)
@given(name=st.sampled_from(["nested", "nasbench201"]), seed=st.integers(0, 2**32 - 1))
def test_the_expectation_is_the_sum_over_all_architectures(
    tables_of: Tables, name: str, seed: int
) -> None:
    tables = tables_of(name)
    space = tables.space
    rows = space.enumerate()
    probabilities = random_probabilities(space, seed)
    weights = likelihood(space, rows, probabilities)
    assert float(weights.sum()) == pytest.approx(1.0)
    metrics = ("macs", "params", "latency")
    costs = tables.score(rows, metrics)
    expected = ExpectedCosts(tables, metrics)(probabilities)
    for metric in metrics:
        exact = float(weights @ torch.from_numpy(costs[metric].astype(np.float64)))
        assert float(expected[metric]) == pytest.approx(exact, rel=1e-9)


@pytest.mark.parametrize("name", ["mobilenet-cifar", "vit-tiny", "ofa-mbv3", "darts", "macro"])
def test_the_expectation_under_uniform_choices_is_the_mean_of_samples(name: str) -> None:
    tables = CostTables(load_space(name))
    space = tables.space
    uniform = [
        torch.full((len(c.options),), 1 / len(c.options), dtype=torch.float64)
        for c in space.choices
    ]
    costs = tables.score(space.sample(100_000, seed=0), ("macs", "params"))
    expected = ExpectedCosts(tables, ("macs", "params"))(uniform)
    for metric, values in costs.items():
        error = values.std() / len(values) ** 0.5
        assert abs(float(expected[metric]) - values.mean()) < 5 * error


@settings(max_examples=20)
@given(
    name=st.sampled_from(["nested", "mobilenet-tiny", "vit-tiny", "macro"]),
    seed=st.integers(0, 2**32 - 1),
)
def test_one_hot_probabilities_give_the_exact_cost(tables_of: Tables, name: str, seed: int) -> None:
    tables = tables_of(name)
    row = tables.space.sample(1, seed)
    one_hot = [
        torch.eye(len(choice.options), dtype=torch.float64)[int(option)]
        for choice, option in zip(tables.space.choices, row[0], strict=True)
    ]
    expected = ExpectedCosts(tables, ("macs", "params"))(one_hot)
    for metric, values in tables.score(row, ("macs", "params")).items():
        assert float(expected[metric]) == values[0]


@pytest.mark.parametrize("name", ["nested", "mobilenet-tiny"])
def test_gradients_are_those_of_finite_differences(tables_of: Tables, name: str) -> None:
    tables = tables_of(name)
    expected = ExpectedCosts(tables, ("macs", "params", "latency"))
    logits = [p.log().requires_grad_() for p in random_probabilities(tables.space, 1)]

    def log_costs(*logits: Tensor) -> Tensor:
        return torch.stack([c.log() for c in expected([z.softmax(0) for z in logits]).values()])

    assert torch.autograd.gradcheck(log_costs, tuple(logits), eps=1e-5)


def test_bilinear_widths_are_taken_jointly(tables_of: Tables) -> None:
    """The product of expected widths differs from the expected product."""
    tables = tables_of("nested")
    uniform = [torch.full((len(c.options),), 1 / len(c.options)) for c in tables.space.choices]
    one = ExpectedCosts(tables, ("macs",))

    def macs(width: int) -> float:
        given: list[npt.NDArray[np.float64] | Tensor] = list(uniform)
        given[0] = torch.eye(3)[width]
        return float(one([torch.as_tensor(p) for p in given])["macs"])

    # The middle block is quadratic in its width, so the mean lies above the middle's cost.
    mean = float(one(uniform)["macs"])
    assert mean == pytest.approx(np.mean([macs(0), macs(1), macs(2)]), rel=1e-6)
    assert mean > macs(1) * 1.01


@pytest.mark.parametrize(("metric", "said"), [("memory", "a peak is no sum"), ("joules", "joules")])
def test_metrics_that_are_no_sum_are_refused(tables_of: Tables, metric: str, said: str) -> None:
    with pytest.raises(UserError, match=rf"no expectation of .*{said}.*: expected one of macs,"):
        ExpectedCosts(tables_of("nested"), (metric,))
