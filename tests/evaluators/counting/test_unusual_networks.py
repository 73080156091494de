"""Networks of unusual parts count right, or are refused: sparse, packed, lazy, frozen."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from evaluators.counting.torch_counter import count_module
from evaluators.counting.without_memory import without_memory
from search_spaces.errors import UserError


class Does(nn.Module):
    def __init__(self, function: Callable[..., Any], **parts: Any) -> None:
        super().__init__()
        self.function = function
        for name, part in parts.items():
            setattr(self, name, part)

    def forward(self, *inputs: Tensor) -> Any:
        return self.function(self, *inputs)


@pytest.mark.parametrize("size", [4, 400])
@pytest.mark.parametrize("kind", ["to_sparse", "to_sparse_csr"])
def test_a_sparse_matrix_takes_part_with_the_elements_that_it_has(size: int, kind: str) -> None:
    matrix = getattr(torch.eye(size), kind)()
    network = Does(lambda n, x: n.graph @ n.layer(x), layer=nn.Linear(3, 3))
    network.register_buffer("graph", matrix)
    expected = size * 9 + size * 3
    assert count_module(network, [torch.zeros(size, 3)]).macs == expected
    given = Does(lambda n, graph, x: graph @ n.layer(x), layer=nn.Linear(3, 3))
    assert count_module(given, [matrix, torch.zeros(size, 3)]).macs == expected


@pytest.mark.parametrize("kind", ["to_sparse_bsr", "to_sparse_bsc"])
def test_blocks_of_a_sparse_matrix_count_whole(kind: str) -> None:
    network = Does(lambda n, x: n.graph @ x)
    network.register_buffer("graph", getattr(torch.eye(8), kind)((2, 2)))
    assert count_module(network, [torch.zeros(8, 3)]).macs == 4 * 4 * 3


@pytest.mark.parametrize("size", [8, 400])
@pytest.mark.parametrize("kind", ["to_sparse", "to_sparse_csr"])
def test_a_product_of_sparse_matrices_counts_what_meets(size: int, kind: str) -> None:
    network = Does(lambda n, x: (n.graph @ n.graph) @ x)
    network.register_buffer("graph", getattr(torch.eye(size), kind)())
    assert count_module(network, [torch.zeros(size, 3)]).macs == size + size * 3


def test_a_sparse_matrix_of_unknown_elements_is_named() -> None:
    network = Does(lambda n, x: (n.graph * x) @ x)
    network.register_buffer("graph", torch.eye(8).to_sparse())
    assert "unknown number of elements" in " ".join(
        count_module(network, [torch.zeros(8, 8)]).uncounted
    )


def test_many_distances_are_a_product() -> None:
    network = Does(lambda n, a, b: torch.cdist(a, b))
    count = count_module(network, [torch.zeros(40, 3), torch.zeros(50, 3)])
    assert count.macs == 40 * 50 * (3 + 2)


@pytest.mark.parametrize("kind", [torch.qint8, torch.float16])
def test_packed_layers_keep_their_macs_and_parameters(kind: torch.dtype) -> None:
    plain = nn.Sequential(nn.Linear(4, 5), nn.ReLU(), nn.Linear(5, 2))
    packed = torch.ao.quantization.quantize_dynamic(plain, {nn.Linear}, dtype=kind)
    count = count_module(packed, [torch.zeros(3, 4)])
    assert (count.macs, count.params) == (3 * (20 + 10), 25 + 12)
    assert count.root.total().params == count.params
    assert not count.uncounted


def test_weights_frozen_to_constants_are_named() -> None:
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)).eval()
    count = count_module(torch.jit.freeze(torch.jit.script(network)), [torch.zeros(1, 3, 8, 8)])
    assert count.macs == 36 * 4 * 27
    assert list(count.uncounted) == ["weights that TorchScript froze to constants"]


def test_a_frozen_part_of_a_network_is_named() -> None:
    part = torch.jit.freeze(torch.jit.script(nn.Sequential(nn.Linear(8, 16), nn.ReLU()).eval()))
    count = count_module(nn.Sequential(part, nn.Linear(16, 2)), [torch.zeros(2, 8)])
    assert (count.macs, count.params) == (2 * (128 + 32), 34)
    assert count.uncounted["weights that TorchScript froze to constants"].path == "0"
    for whole in (
        nn.Sequential(torch.jit.script(nn.Linear(8, 16)), torch.jit.script(nn.ReLU())),
        nn.Sequential(nn.Linear(8, 16), torch.jit.freeze(torch.jit.script(nn.ReLU().eval()))),
    ):
        count = count_module(whole, [torch.zeros(2, 8)])
        assert (count.params, count.uncounted) == (144, {})


def test_gradients_of_inputs_are_counted_where_asked_for() -> None:
    x = torch.zeros(2, 8)
    layer = nn.Linear(8, 8)
    assert count_module(layer, [x], backward=True, input_gradients=True).macs == 2 * 128
    x.requires_grad_()
    assert count_module(layer, [x], backward=True).macs == 2 * 128
    assert count_module(layer, [x], backward=True, input_gradients=True).macs == 3 * 128
    assert count_module(layer, [x]).macs == 128


def test_lazy_modules_are_refused_until_they_have_run() -> None:
    network = nn.Sequential(nn.LazyConv2d(4, 3), nn.LazyBatchNorm2d())
    x = torch.zeros(2, 3, 8, 8)
    with pytest.raises(UserError, match="lazy modules"):
        count_module(network, [x])
    network(x)
    assert count_module(network, [x]).macs == 2 * 36 * 4 * 27


def test_a_network_that_catches_the_refusal_is_refused_all_the_same() -> None:
    layer = nn.Linear(4, 4)

    def run(network: Any, x: Tensor) -> Any:
        try:
            if x.sum() > 0:
                return layer(layer(x))
        except Exception:
            pass
        return layer(x)

    with pytest.raises(UserError, match="depends on values of its input"):
        count_module(Does(run, layer=layer), [torch.zeros(2, 4)])


def initialised() -> nn.Module:
    network = nn.Linear(400, 400)
    nn.init.trunc_normal_(network.weight)
    return network


def test_initial_weights_that_are_redrawn_need_no_memory() -> None:
    with without_memory() as mode:
        network = initialised()
    assert not mode.has_read_values
    assert type(network.weight.data) is not Tensor
