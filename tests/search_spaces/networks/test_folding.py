"""Folding batch norms: equal outputs with fewer modules."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from search_spaces.builder import BlockBuilder
from search_spaces.catalogue import load_space
from search_spaces.exits.heads import exits_of
from search_spaces.exits.network import ExitNetwork
from search_spaces.networks.folding import folded
from search_spaces.networks.modules import BlockModule, Network, build


def perturbed(network: nn.Module) -> nn.Module:
    """The network with parameters and statistics that differ from their initial values."""
    torch.manual_seed(0)
    for tensor in (*network.parameters(), *network.buffers()):
        if tensor.is_floating_point():
            tensor.data += 0.1 * torch.rand_like(tensor)
    return network


def norms(network: nn.Module) -> int:
    return sum(isinstance(module, nn.BatchNorm2d) for module in network.modules())


@settings(max_examples=12)
@given(name=st.sampled_from(["mobilenet-tiny", "vit-tiny"]), seed=st.integers(0, 2**32 - 1))
@torch.no_grad()
def test_a_folded_network_computes_the_same(name: str, seed: int) -> None:
    space = load_space(name, classes=10)
    (arch,) = space.decode(space.sample(1, seed))
    network = perturbed(build(space, arch))
    x = torch.randn(2, *space.input_shape(arch), generator=torch.Generator().manual_seed(seed))
    expected = network.eval()(x)
    before = {key: value.clone() for key, value in network.state_dict().items()}
    result = folded(network.train())
    assert not result.training
    assert network.training
    scale = expected.abs().max().item()
    torch.testing.assert_close(result(x), expected, rtol=1e-4, atol=1e-4 * scale)
    assert all((before[key] == value).all() for key, value in network.state_dict().items())


def test_every_norm_of_a_mobile_network_is_folded() -> None:
    space = load_space("mobilenet-tiny", classes=10)
    network = build(space, space.largest)
    assert norms(network) > 10
    assert norms(folded(network)) == 0


@torch.no_grad()
def test_exits_are_folded_and_thresholds_kept() -> None:
    space = load_space("mobilenet-tiny", classes=10)
    blocks = space.ops(space.largest)
    network = ExitNetwork(blocks, exits_of(blocks), [0.01, 0.02])
    perturbed(network).eval()
    result = folded(network)
    assert norms(result) == 0
    assert result.thresholds == network.thresholds
    x = torch.randn(16, *space.input_shape(space.largest))
    for left, right in zip(network.all_logits(x), result.all_logits(x), strict=True):
        torch.testing.assert_close(left, right, rtol=1e-3, atol=1e-3 * left.abs().max().item())


@torch.no_grad()
def test_a_norm_is_not_folded_if_another_op_reads_its_convolution() -> None:
    build = BlockBuilder(3, 6, 6)
    conv = build.conv("conv", build.input, 4, 3)
    other = build.conv("other", build.input, 4, 1)
    norm = build.batch_norm("norm", conv)
    other_norm = build.batch_norm("other_norm", other)
    build.add("sum", build.add("inner", norm, conv), other_norm)
    network = perturbed(Network([("block", build.ops)])).eval()
    result = folded(network)
    block = result.blocks["block"]
    assert isinstance(block, BlockModule)
    assert set(block.ops) == {"conv", "norm", "inner", "sum", "other_norm"}
    x = torch.randn(2, 3, 6, 6)
    torch.testing.assert_close(result(x), network(x), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("biased", [False, True])
@torch.no_grad()
def test_convolutions_with_and_without_bias_are_folded(biased: bool) -> None:
    build = BlockBuilder(3, 6, 6)
    build.batch_norm("norm", build.conv("conv", build.input, 4, 3, bias=biased))
    network = perturbed(Network([("block", build.ops)])).eval()
    x = torch.randn(2, 3, 6, 6)
    assert norms(folded(network)) == 0
    torch.testing.assert_close(folded(network)(x), network(x), rtol=1e-5, atol=1e-5)
