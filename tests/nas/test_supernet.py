"""The supernet: any architecture of a space inside one set of weights."""

from __future__ import annotations

from functools import cache

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from nas.supernet import Supernet
from search_spaces.catalogue import load_space
from search_spaces.modules import build
from search_spaces.ops import BlockBuilder, Op
from search_spaces.space import Block, Choice, SearchSpace

SPACES = ["mobilenet-tiny", "vit-tiny"]


@cache
def supernet_of(name: str) -> Supernet:
    """With weights and statistics away from their initial values, where errors would hide."""
    torch.manual_seed(0)
    supernet = Supernet(load_space(name, channels=1))
    for tensor in (*supernet.parameters(), *supernet.buffers()):
        if tensor.is_floating_point():
            tensor.data += 0.1 * torch.rand_like(tensor)
    return supernet


@settings(max_examples=30, deadline=None)
@given(
    name=st.sampled_from(SPACES),
    seed=st.integers(0, 2**32 - 1),
    training=st.booleans(),
    batch=st.integers(2, 5),
)
def test_extracted_networks_compute_what_the_subnet_computes(
    name: str, seed: int, training: bool, batch: int
) -> None:
    supernet = supernet_of(name).train(training)
    space = supernet.space
    (arch,) = space.decode(space.sample(1, seed))
    x = torch.randn(batch, *space.input_shape(arch), generator=torch.Generator().manual_seed(seed))
    with torch.no_grad():
        inside = supernet(x, arch)
        network = supernet.extract(arch)
        assert network.training == training
        torch.testing.assert_close(network(x), inside, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", SPACES)
def test_an_extracted_network_has_its_own_memory(name: str) -> None:
    supernet = supernet_of(name)
    before = {key: value.clone() for key, value in supernet.state_dict().items()}
    network = supernet.extract(supernet.space.largest)
    with torch.no_grad():
        for tensor in (*network.parameters(), *network.buffers()):
            tensor.zero_()
    assert all((before[key] == value).all() for key, value in supernet.state_dict().items())


@pytest.mark.parametrize("name", SPACES)
def test_the_supernet_is_no_larger_than_its_largest_network(name: str) -> None:
    supernet = supernet_of(name)
    largest = build(supernet.space, supernet.space.largest)
    counts = [sum(p.numel() for p in m.parameters()) for m in (supernet, largest)]
    assert counts[0] == counts[1]


def test_only_the_largest_network_updates_running_statistics() -> None:
    supernet = supernet_of("mobilenet-tiny").train()
    space = supernet.space

    def statistics() -> list[torch.Tensor]:
        return [b.clone() for name, b in supernet.named_buffers() if "running" in name]

    before = statistics()
    small = space.smallest
    supernet(torch.randn(8, *space.input_shape(small)), small)
    assert all((a == b).all() for a, b in zip(before, statistics(), strict=True))
    supernet(torch.randn(8, *space.input_shape(space.largest)), space.largest)
    assert all((a != b).any() for a, b in zip(before, statistics(), strict=True))


def test_gradients_reach_only_the_used_part_of_shared_weights() -> None:
    supernet = supernet_of("mobilenet-tiny").train()
    supernet.zero_grad(set_to_none=True)
    space = supernet.space
    arch = space.smallest
    supernet(torch.randn(8, *space.input_shape(arch)), arch).logsumexp(1).sum().backward()
    weight = supernet.get_parameter("blocks.stage0_layer0.ops.depthwise.weight")
    assert weight.grad is not None
    used = weight.grad != 0
    channels = arch["stem_width"] * arch["stage0_layer0_expand"]
    assert weight.shape[-1] == 7
    assert used[:channels, :, 2:5, 2:5].all()
    assert used.sum() == channels * 9
    unused = supernet.get_parameter("blocks.stage2_layer1.ops.project.weight")
    assert unused.grad is None


def test_kernels_share_their_centre() -> None:
    supernet = supernet_of("mobilenet-tiny").eval()
    space = supernet.space
    values = {**space.largest, "stage0_layer0_kernel": 3}
    network = supernet.extract(space.architecture(values))
    whole = supernet.get_parameter("blocks.stage0_layer0.ops.depthwise.weight")
    part = network.get_parameter("blocks.stage0_layer0.ops.depthwise.weight")
    assert (part == whole[:, :, 2:5, 2:5]).all()


def test_query_key_and_value_are_each_used_from_their_own_start() -> None:
    supernet = supernet_of("vit-tiny").eval()
    space = supernet.space
    width, largest = 32, 64
    values = {**space.largest, "block0_qkv_width": width}
    network = supernet.extract(space.architecture(values))
    whole = supernet.get_parameter("blocks.block0.ops.qkv.weight")
    part = network.get_parameter("blocks.block0.ops.qkv.weight")
    for index in range(3):
        expected = whole[index * largest : index * largest + width]
        assert (part[index * width : (index + 1) * width] == expected).all()


def test_a_block_whose_options_do_not_nest_is_refused() -> None:
    def ops(wide: bool) -> tuple[Op, ...]:
        build = BlockBuilder(4 if wide else 16, 8, 8)
        build.conv("conv", build.input, 32 if wide else 4, 1)
        return build.ops

    space = SearchSpace("s", (Choice("wide", (False, True)),), (Block("b", ("wide",), ops),))
    with pytest.raises(ValueError, match=r"b/conv: weight .* does not fit into"):
        Supernet(space)
