"""The FBNet space against released networks, torch's counter and a supernet."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils.flop_counter import FlopCounterMode

from evaluators.costs.tables import CostTables
from nas.supernet.shared_weights import Supernet
from search_spaces.architecture import Architecture
from search_spaces.errors import UserError
from search_spaces.networks.modules import MODULES, build
from search_spaces.ops import ChannelShuffle
from search_spaces.space import SearchSpace
from search_spaces.spaces.papers.fbnet import fbnet

# FBNet-A as the authors released it (mobile-vision, `fbnet_a`): a block for each of 22 layers.
FBNET_A = [
    *("skip", "k3_e3", "k3_e1", "skip", "skip"),
    *("k5_e6", "k3_e3", "k5_e1", "k3_e3"),
    *("k5_e6", "k5_e3", "k5_e1_g2", "k5_e6", "k3_e6", "k5_e1_g2", "k5_e3", "k3_e1_g2"),
    *("k5_e6", "k5_e6", "k5_e3", "k5_e6", "k5_e6"),
]

# FBNet-C, from the paper's figure of searched networks.
FBNET_C = [
    *("k3_e1", "k3_e6", "skip", "k3_e1", "k3_e1"),
    *("k5_e6", "k5_e3", "k5_e6", "k3_e6"),
    *("k5_e6", "k5_e3", "k5_e6", "k5_e6", "k5_e6", "k5_e6", "k5_e6", "k5_e3"),
    *("k5_e6", "k5_e6", "k5_e6", "k5_e6", "k3_e6"),
]

# Layers that halve the image or change its width.
NEVER_SKIPPED = (1, 5, 9, 13, 17, 21)


@cache
def tables() -> CostTables:
    return CostTables(fbnet())


def as_published(arch: Architecture) -> dict[str, Any]:
    blocks = [value for name, value in arch.items() if "_layer" in name]
    return {"blocks": blocks, "head": arch["head_width"]}


def counted_by_torch(space: SearchSpace, arch: Architecture) -> tuple[int, int]:
    with torch.device("meta"):
        network = build(space, arch).eval()
        with FlopCounterMode(display=False) as counter:
            network(torch.empty(1, *space.input_shape(arch)))
    return counter.get_total_flops() // 2, sum(p.numel() for p in network.parameters())


def test_fbnet_a_has_the_released_flops_and_weights() -> None:
    space = tables().space
    arch = space.architecture({"blocks": FBNET_A})
    cost = tables().cost(arch)
    # The release reports 249.921848 MFLOPs and 4.28648 M parameters, the paper 249 M and 4.3 M. The
    # release counts weights of convolutions and the classifier, without bias and normalisation.
    ops = [op for _, block in space.ops(arch) for op in block]
    weights = [op.parameter_shapes.get("weight", ()) for op in ops]
    assert cost["macs"] == 249_921_848
    assert sum(int(np.prod(shape)) for shape in weights if len(shape) > 1) == 4_286_480
    assert (cost["macs"], cost["params"]) == counted_by_torch(space, arch)


def test_fbnet_c_has_the_parameters_of_fbnetc_100_in_timm() -> None:
    cost = tables().cost(tables().space.architecture({"blocks": FBNET_C, "head": 1984}))
    # The weight file of timm has 5,572,200 parameters; the paper reports 5.5 M.
    assert (cost["macs"], cost["params"]) == (384_960_160, 5_572_200)


def test_options_are_ordered_by_cost() -> None:
    space = tables().space
    for index, choice in enumerate(space.choices):
        rows = np.zeros((len(choice.options), len(space.choices)), dtype=np.uint8)
        rows[:, index] = np.arange(len(choice.options))
        assert (np.diff(tables().score(rows)["macs"]) >= 0).all()


def test_a_shuffle_lets_each_group_read_half_of_each_group() -> None:
    op = ChannelShuffle("shuffle", (), (6, 1, 1), 2)
    shuffled = MODULES[ChannelShuffle](op)(torch.arange(6.0).reshape(1, 6, 1, 1))
    assert shuffled.flatten().tolist() == [0, 3, 1, 4, 2, 5]


def test_layers_are_skipped_only_where_the_shape_is_unchanged() -> None:
    layers = [choice for choice in tables().space.choices if "_layer" in choice.name]
    assert len(layers) == 22
    for index, choice in enumerate(layers):
        assert ("skip" in choice.options) == (index not in NEVER_SKIPPED)
        assert len(choice.options) == 8 + ("skip" in choice.options)


def test_a_skipped_layer_has_no_block_and_its_neighbours_are_joined() -> None:
    space = tables().space
    graph = space.graph(space.architecture({"blocks": FBNET_A}))
    names = {node.split("/")[0] for node in graph if node != "input"}
    assert len(names) == 2 + 22 - FBNET_A.count("skip")
    assert ("stem/activation", "stage1_layer0/expand") in graph.edges


def test_grouped_blocks_halve_the_pointwise_convolutions() -> None:
    space = tables().space
    plain, grouped = (
        space.architecture({"blocks": [first, *["k3_e3"] * 21]}) for first in ("k5_e1", "k5_e1_g2")
    )
    # Two 1x1 convolutions of 16 to 16 channels at 112 x 112.
    saved = 2 * 16 * 8
    first, second = tables().cost(plain), tables().cost(grouped)
    assert first["params"] - second["params"] == saved
    assert first["macs"] - second["macs"] == saved * 112**2


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 2**32 - 1))
def test_tables_equal_torch_and_the_module_for_any_architecture(seed: int) -> None:
    space = tables().space
    (arch,) = space.decode(space.sample(1, seed))
    cost = tables().cost(arch)
    assert (cost["macs"], cost["params"]) == counted_by_torch(space, arch)


@pytest.mark.slow
def test_tables_are_exact_for_two_hundred_random_architectures() -> None:
    space = tables().space
    rows = space.sample(200, seed=7)
    scored = tables().score(rows)
    for index, arch in enumerate(space.decode(rows)):
        counted = scored["macs"][index], scored["params"][index]
        ops = [op for _, block in space.ops(arch) for op in block]
        assert counted == (sum(op.macs for op in ops), sum(op.params for op in ops))
        # Torch's counter takes 0.1 s per network.
        if index < 25:
            assert counted == counted_by_torch(space, arch)


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 2**32 - 1))
def test_published_encodings_round_trip(seed: int) -> None:
    space = tables().space
    assert space.published is not None
    rows = space.sample(20, seed)
    archs = space.decode(rows)
    read = space.published.rows([as_published(arch) for arch in archs])
    assert (read.dtype, read.shape) == (np.uint8, rows.shape)
    assert (read == rows).all()
    assert space.architecture(as_published(archs[0])) == archs[0]


@pytest.mark.parametrize(
    ("blocks", "message"),
    [
        (["k3_e1"] * 21, r"'blocks' is \[.*\], expected 22 values"),
        (["k3_e1"] * 21 + ["k7_e6"], r"'blocks' cannot be \"k7_e6\": expected one of .*k5_e6"),
        (["skip"] * 22, r"cannot be \"skip\": expected one of .*k5_e6"),
        ("k3_e1", r"'blocks' is \"k3_e1\", expected 22 values"),
    ],
)
def test_errors_of_encodings_are_one_line(blocks: object, message: str) -> None:
    with pytest.raises(UserError, match=message) as caught:
        tables().space.architecture({"blocks": blocks})
    assert "\n" not in str(caught.value)


@cache
def supernet() -> Supernet:
    torch.manual_seed(0)
    result = Supernet(fbnet(image_size=32, channels=1, classes=7))
    for tensor in (*result.parameters(), *result.buffers()):
        if tensor.is_floating_point():
            tensor.data += 0.1 * torch.rand_like(tensor)
    return result


@settings(max_examples=8, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), training=st.booleans())
def test_extracted_networks_compute_the_same_as_subnets(seed: int, training: bool) -> None:
    net = supernet().train(training)
    (arch,) = net.space.decode(net.space.sample(1, seed))
    x = torch.randn(3, 1, 32, 32, generator=torch.Generator().manual_seed(seed))
    with torch.no_grad():
        inside = net(x, arch)
        outside = net.extract(arch)(x)
    assert inside.shape == (3, 7)
    assert inside.isfinite().all()
    torch.testing.assert_close(outside, inside, rtol=1e-4, atol=1e-4)
