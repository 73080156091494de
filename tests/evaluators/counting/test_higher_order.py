"""Operators that run functions, and networks that compute with their own values."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from functorch.experimental import control_flow
from torch import Tensor, nn
from torch.nn.attention.flex_attention import create_block_mask, flex_attention
from torch.nn.functional import grouped_mm

from evaluators.counting.torch_counter import count_module
from evaluators.counting.without_memory import without_memory
from search_spaces.errors import UserError


class Runs(nn.Module):
    """A network of one function, with two linear layers at its disposal."""

    def __init__(self, function: Any) -> None:
        super().__init__()
        self.small = nn.Linear(8, 8)
        self.large = nn.Sequential(nn.Linear(8, 16), nn.Linear(16, 8))
        self.register_buffer("steps", torch.tensor(3))
        self.function = function

    def forward(self, *inputs: Tensor) -> Any:
        return self.function(self, *inputs)


def macs(function: Any, *inputs: Tensor) -> int:
    return count_module(Runs(function), inputs).macs


X = torch.randn(2, 8)
SMALL, LARGE = 2 * 64, 2 * 2 * 8 * 16


def test_flex_attention_counts_all_pairs() -> None:
    q, k = torch.randn(1, 4, 6, 16), torch.randn(1, 2, 10, 16)
    expected = 4 * 6 * 10 * 2 * 16
    assert macs(lambda n, q, k: flex_attention(q, k, k, enable_gqa=True), q, k) == expected

    def causal(b: Any, h: Any, i: Any, j: Any) -> Any:
        return i >= j

    mask = create_block_mask(causal, None, None, 128, 128, device="cpu")
    q = torch.randn(1, 2, 128, 16)
    count = count_module(Runs(lambda n, q: flex_attention(q, q, q, block_mask=mask)), (q,))
    assert count.macs == 2 * 128 * 128 * 2 * 16
    assert count.root.total().macs["attention"] == count.macs
    assert not count.uncounted


def test_a_map_counts_each_step() -> None:
    def steps(network: Runs, x: Tensor) -> Any:
        return control_flow.map(lambda row: torch.mv(network.small.weight, row), x)

    assert macs(steps, torch.randn(5, 8)) == 5 * 64


def test_a_scan_counts_each_step() -> None:
    from torch._higher_order_ops.scan import scan

    def steps(network: Runs, x: Tensor) -> Any:
        def step(carry: Tensor, row: Tensor) -> tuple[Tensor, Tensor]:
            after = carry + row @ network.small.weight
            return after, after.clone()

        return scan(step, torch.zeros(8), x)

    assert macs(steps, torch.randn(5, 8)) == 5 * 64


class Between(nn.Module):
    """Runs a function between two linear layers."""

    def __init__(self, function: Any) -> None:
        super().__init__()
        self.before, self.small, self.after = (nn.Linear(8, 8) for _ in range(3))
        self.function = function

    def forward(self, x: Tensor) -> Any:
        return self.after(self.function(self, self.before(x)))


def repeated(network: Between, x: Tensor) -> Any:
    from torch._higher_order_ops.while_loop import while_loop

    start = (torch.tensor(0), x)
    return while_loop(lambda i, y: i < 1, lambda i, y: (i + 1, network.small(y)), start)[1]


def scanned(network: Between, x: Tensor) -> Any:
    from torch._higher_order_ops.scan import scan

    return scan(lambda carry, row: (carry + 1, network.small(row)), torch.zeros(8), x)[1]


@pytest.mark.parametrize(
    "function",
    [
        lambda n, x: n.small(x),
        lambda n, x: torch.cond(torch.tensor(True), n.small, lambda y: y.clone(), (x,)),
        lambda n, x: torch.cond(x.sum() > 0, n.small, lambda y: y.clone(), (x,)),
        lambda n, x: control_flow.map(lambda row: n.small(row), x),
        repeated,
        scanned,
    ],
)
def test_gradients_flow_through_operators_that_run_functions(function: Any) -> None:
    forward = 5 * 64
    # Two gradients for each layer, but none for the input.
    count = count_module(Between(function), (torch.randn(5, 8),), backward=True)
    assert count.macs == 3 * forward + 3 * 2 * forward - forward


@pytest.mark.parametrize(("steps", "expected"), [(2, LARGE), (1, SMALL)])
def test_a_condition_on_own_values_runs_its_branch(steps: int, expected: int) -> None:
    def choose(network: Runs, x: Tensor) -> Any:
        return torch.cond(network.steps - steps < 2, network.large, network.small, (x,))

    count = count_module(Runs(choose), (X,))
    assert count.macs == expected
    assert not count.uncounted


def test_a_condition_on_the_input_counts_the_larger_branch_and_says_so() -> None:
    for first, second in (("small", "large"), ("large", "small")):

        def choose(network: Runs, x: Tensor, a: str = first, b: str = second) -> Any:
            return torch.cond(x.sum() > 0, getattr(network, a), getattr(network, b), (x,))

        count = count_module(Runs(choose), (X,))
        assert count.macs == LARGE
        assert "larger branch" in " ".join(count.uncounted)


def test_a_loop_over_own_values_counts_its_steps() -> None:
    def repeat(network: Runs, x: Tensor) -> Tensor:
        for _ in range(int(network.steps)):
            x = network.small(x)
        return x

    network = Runs(repeat)
    assert count_module(network, (X,)).macs == 3 * SMALL
    assert count_module(network, (X,), backward=True).macs == 3 * 3 * SMALL - SMALL
    network.steps += 2
    assert count_module(network, (X,)).macs == 5 * SMALL


def test_a_branch_on_own_parameters_is_taken_and_they_are_unchanged() -> None:
    def branch(network: Runs, x: Tensor) -> Tensor:
        with torch.no_grad():
            network.small.bias.add_(1)
        return network.large(x) if float(network.small.bias.min()) > 1 else network.small(x)

    network = Runs(branch)
    nn.init.zeros_(network.small.bias)
    assert count_module(network, (X,)).macs == SMALL
    nn.init.constant_(network.small.bias, 0.5)
    assert count_module(network, (X,)).macs == LARGE
    assert network.small.bias.tolist() == [0.5] * 8


def test_values_of_the_input_are_still_refused() -> None:
    with pytest.raises(UserError, match="depends on values of its input"):
        macs(lambda n, x: n.small(x) if x.sum() > 0 else n.large(x), X)


def written(write: Any, read: Any) -> Any:
    """A network that writes the sum of its input, and reads it to choose its path."""

    def run(network: Runs, x: Tensor) -> Any:
        kept = torch.zeros(2)
        write(network, kept, x.sum())
        return network.small(x) if read(network, kept) == 0 else network.large(x)

    return run


@pytest.mark.parametrize(
    ("write", "read"),
    [
        (lambda n, kept, total: n.steps.copy_(total), lambda n, kept: n.steps - 3),
        (lambda n, kept, total: n.steps.fill_(total.long()), lambda n, kept: int(n.steps) - 3),
        (lambda n, kept, total: n.steps.data.add_(total > 0), lambda n, kept: n.steps - 3),
        (lambda n, kept, total: kept.__setitem__(0, total), lambda n, kept: kept[0]),
        (lambda n, kept, total: kept.__setitem__(0, total), lambda n, kept: kept.tolist()[0]),
        (lambda n, kept, total: kept.__setitem__(0, total), lambda n, kept: kept.numpy()[0]),
        (lambda n, kept, total: torch.stack([total, total], out=kept), lambda n, kept: kept[0]),
    ],
)
def test_values_of_the_input_are_refused_wherever_they_were_written(write: Any, read: Any) -> None:
    with pytest.raises(UserError, match=r"depends on values|numpy\(\) is not supported"):
        macs(written(write, read), X)


def test_what_was_written_may_stay_unread_or_be_overwritten() -> None:
    assert macs(written(lambda n, kept, total: n.steps.copy_(total), lambda n, kept: 0), X) == SMALL

    def overwrite(network: Runs, kept: Tensor, total: Tensor) -> None:
        network.steps.copy_(total)
        network.steps.fill_(2)

    assert macs(written(overwrite, lambda n, kept: int(n.steps) - 2), X) == SMALL


@pytest.mark.parametrize("read", [int, lambda t: int(t.tolist())])
def test_a_constructor_that_reads_what_it_wrote_of_large_tensors_is_named(read: Any) -> None:
    with without_memory() as mode:
        width = torch.zeros(())
        width.copy_(torch.ones(100_000).sum())
        read(width)
    assert mode.has_read_values


def test_random_numbers_of_others_are_unchanged() -> None:
    network = Runs(lambda n, x: n.small(x) if torch.rand(()) < 0.5 else n.large(x))
    torch.manual_seed(3)
    expected = torch.rand(3)
    torch.manual_seed(3)
    counts = {count_module(network, (X,)).macs for _ in range(3)}
    with without_memory():
        nn.Linear(8, 8)
    assert torch.equal(torch.rand(3), expected)
    assert len(counts) == 1


def test_constructors_may_compute_widths_and_depths_with_torch() -> None:
    with without_memory():
        widths = (4 * torch.pow(2.0, torch.arange(3))).int().tolist()
        depths = [int(d) for d in torch.linspace(1, 3, 3).round()]
        layers = [nn.Linear(w, w) for w, d in zip(widths, depths, strict=True) for _ in range(d)]
        huge = nn.Linear(100_000, 100_000)
    assert widths == [4, 8, 16]
    assert [layer.in_features for layer in layers] == [4, 8, 8, 16, 16, 16]
    assert type(huge.weight.data) is not Tensor
    assert count_module(nn.Sequential(*layers[3:]), (torch.zeros(1, 16),)).macs == 3 * 256
    assert count_module(huge, (torch.zeros(1, 100_000),)).macs == 10**10


@pytest.mark.parametrize("kind", [torch.float32, torch.bfloat16])
def test_grouped_products_count_each_row_once(kind: torch.dtype) -> None:
    rows, weight = torch.randn(6, 16, dtype=kind), torch.randn(3, 16, 8, dtype=kind)
    ends = torch.tensor([1, 4, 6], dtype=torch.int32)
    assert macs(lambda n, a, b, e: grouped_mm(a, b, offs=e), rows, weight, ends) == 6 * 16 * 8
    left, right = torch.randn(16, 32, dtype=kind), torch.randn(32, 8, dtype=kind)
    assert macs(lambda n, a, b, e: grouped_mm(a, b, offs=e), left, right, ends) == 32 * 16 * 8
    both = torch.randn(3, 4, 16, dtype=kind)
    assert macs(lambda n, a, b: grouped_mm(a, b), both, weight) == 3 * 4 * 16 * 8


@pytest.mark.parametrize(
    ("product", "expected"),
    [
        (lambda n, x: torch.dot(x, x), 8),
        (lambda n, x: torch.vdot(x, x), 8),
        (lambda n, x: torch.inner(x, x), 8),
        (lambda n, x: x @ x, 8),
        (lambda n, x: torch.mv(n.small.weight, x), 64),
        (lambda n, x: x @ n.small.weight, 64),
        (lambda n, x: torch.addmv(x, n.small.weight, x), 64),
        (lambda n, x: torch.einsum("i,i->", x, x), 8),
        (lambda n, x: n.small(x), 64),
    ],
)
def test_products_of_vectors(product: Any, expected: int) -> None:
    assert macs(product, torch.randn(8)) == expected


def test_convolutions_over_time_first() -> None:
    weight, bias = torch.randn(3, 3, 4), torch.zeros(4)
    expected = 7 * 2 * 3 * 3 * 4
    assert macs(lambda n, x: torch.conv_tbc(x, weight, bias, 1), torch.randn(7, 2, 3)) == expected


def test_both_kinds_of_spectral_norm() -> None:
    network = nn.Sequential(
        nn.utils.parametrizations.spectral_norm(nn.Conv2d(3, 8, 3)),
        nn.Flatten(),
        nn.utils.spectral_norm(nn.Linear(288, 2)),
    )
    products = 36 * 8 * 27 + 288 * 2
    sigmas = 8 * 27 + 8 + 2 * 288 + 2
    assert count_module(network, (torch.randn(1, 3, 8, 8),)).macs == products + sigmas


def test_marks_of_profilers_and_data_parallel_are_no_operators() -> None:
    def marked(network: Runs, x: Tensor) -> Any:
        with torch.profiler.record_function("head"):
            return network.small(x)

    for network in (Runs(marked), nn.DataParallel(Runs(lambda n, x: n.small(x)))):
        count = count_module(network, (X,))
        assert (count.macs, count.uncounted) == (SMALL, {})
