"""The supernet: any architecture of a space inside one set of weights."""

from __future__ import annotations

from functools import cache

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from nas.supernet.shared_weights import Supernet
from search_spaces.builder import BlockBuilder
from search_spaces.catalogue import load_space
from search_spaces.networks.modules import build
from search_spaces.ops import Op
from search_spaces.space import Block, Choice, SearchSpace

SPACES = ["mobilenet-tiny", "vit-tiny"]


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@cache
def supernet_of(name: str) -> Supernet:
    """A supernet whose weights and statistics differ from their initial values."""
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
def test_extracted_networks_have_the_outputs_of_the_subnet(
    name: str, seed: int, training: bool, batch: int
) -> None:
    supernet = supernet_of(name).train(training)
    space = supernet.space
    (arch,) = space.decode(space.sample(1, seed))
    x = torch.randn(batch, *space.input_shape(arch), generator=seeded(seed))
    with torch.no_grad():
        inside = supernet(x, arch)
        network = supernet.extract(arch)
        assert network.training == training
        torch.testing.assert_close(network(x), inside, rtol=1e-5, atol=1e-5)


def used_part(name: str, whole: torch.Tensor, part: torch.Tensor) -> torch.Tensor:
    """Which entries of a shared weight a network's weight of this shape is, as a mask.

    Said once more and in another way than in the supernet: first channels, centres of kernels,
    and query, key and value from their own starts.
    """
    mask = torch.zeros(whole.shape, dtype=torch.bool)
    if ".qkv." in name:
        third, length = len(whole) // 3, len(part) // 3
        for start in range(0, len(whole), third):
            mask[(slice(start, start + length), *[slice(s) for s in part.shape[1:]])] = True
        return mask
    places = []
    for axis, (size, own) in enumerate(zip(whole.shape, part.shape, strict=True)):
        start = (size - own) // 2 if axis >= 2 and whole.dim() == 4 else 0
        places.append(slice(start, start + own))
    mask[tuple(places)] = True
    return mask


@settings(max_examples=15, deadline=None)
@given(name=st.sampled_from(SPACES), seed=st.integers(0, 2**32 - 1))
def test_extracted_weights_are_the_stated_part_of_the_shared_ones(name: str, seed: int) -> None:
    supernet = supernet_of(name).eval()
    space = supernet.space
    (arch,) = space.decode(space.sample(1, seed))
    network, own = supernet.extract(arch), build(space, arch)
    assert [k for k, _ in network.named_parameters()] == [k for k, _ in own.named_parameters()]
    for key, expected in own.state_dict().items():
        whole, part = supernet.state_dict()[key], network.state_dict()[key]
        assert part.shape == expected.shape
        if key.endswith("positions.embedding"):
            assert (part[:, 0] == whole[:, 0, : part.shape[2]]).all()
            if whole.shape[1] != part.shape[1]:
                continue
        if whole.dim():
            assert (part.flatten() == whole[used_part(key, whole, part)]).all()


def test_resampled_positions_keep_a_slope() -> None:
    supernet = Supernet(load_space("vit-tiny", channels=1)).eval()
    space = supernet.space
    whole = supernet.get_parameter("blocks.embedding.ops.positions.embedding")
    side = 8
    with torch.no_grad():
        rows = torch.arange(side).float()[:, None].expand(side, side)
        whole[:, 1:] = rows.flatten()[None, :, None]
    arch = space.architecture({**space.largest, "resolution": 8})
    part = supernet.extract(arch).get_parameter("blocks.embedding.ops.positions.embedding")
    grid = part[0, 1:].unflatten(0, (4, 4))
    assert torch.allclose(grid[:, :1], grid)
    # The middles of four rows on a scale of eight, away from the border.
    torch.testing.assert_close(grid[1:3, 0, 0], torch.tensor([2.5, 4.5]), rtol=0, atol=0.1)


@pytest.mark.parametrize("name", SPACES)
def test_an_extracted_network_has_its_own_memory(name: str) -> None:
    supernet = supernet_of(name)
    before = {key: value.clone() for key, value in supernet.state_dict().items()}
    network = supernet.extract(supernet.space.largest)
    assert all(p.requires_grad and p.is_leaf for p in network.parameters())
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


@pytest.mark.parametrize("name", SPACES)
def test_scoring_does_not_change_the_supernet(name: str) -> None:
    supernet = supernet_of(name).eval()
    space = supernet.space
    before = {key: value.clone() for key, value in supernet.state_dict().items()}
    with torch.no_grad():
        for arch in (space.largest, space.smallest):
            x = torch.randn(4, *space.input_shape(arch))
            supernet(x, arch)
            supernet.extract(arch).train()(x)
    assert all((before[key] == value).all() for key, value in supernet.state_dict().items())


def test_running_statistics_of_the_largest_are_those_of_a_standalone_network() -> None:
    supernet = Supernet(load_space("mobilenet-tiny", channels=1)).train()
    space = supernet.space
    network = supernet.extract(space.largest)
    for seed in range(2):
        x = torch.randn(8, *space.input_shape(space.largest), generator=seeded(seed))
        supernet(x, space.largest)
        network(x)
    own = network.state_dict()
    for key, value in supernet.state_dict().items():
        if "running" in key or "num_batches" in key:
            torch.testing.assert_close(value, own[key])
    assert supernet.state_dict()["blocks.stem.ops.norm.num_batches_tracked"] == 2


@settings(max_examples=12, deadline=None)
@given(name=st.sampled_from(SPACES), seed=st.integers(0, 2**32 - 1))
def test_gradients_are_zero_outside_the_active_part(name: str, seed: int) -> None:
    supernet = supernet_of(name).train()
    space = supernet.space
    (arch,) = space.decode(space.sample(1, seed))
    own = dict(build(space, arch).named_parameters())
    supernet.zero_grad(set_to_none=True)
    x = torch.randn(4, *space.input_shape(arch), generator=seeded(seed))
    supernet(x, arch).square().sum().backward()
    for key, parameter in supernet.named_parameters():
        if key not in own:
            assert parameter.grad is None
            continue
        assert parameter.grad is not None
        if key.endswith("positions.embedding"):
            width = own[key].shape[2]
            assert not parameter.grad[:, :, width:].any()
            continue
        used = used_part(key, parameter, own[key])
        assert not parameter.grad[~used].any()
    classifier = supernet.get_parameter("blocks.head.ops.classifier.weight")
    assert classifier.grad is not None
    width = own["blocks.head.ops.classifier.weight"].shape[1]
    assert classifier.grad[:, :width].any(dim=0).float().mean() > 0.9


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


def test_query_key_and_value_each_use_their_first_features() -> None:
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
        build = BlockBuilder(4 if wide else 16)
        build.linear("linear", build.input, 32 if wide else 4)
        return build.ops

    space = SearchSpace("s", (Choice("wide", (False, True)),), (Block("b", ("wide",), ops),))
    with pytest.raises(ValueError, match=r"b/linear: weight .* does not fit into"):
        Supernet(space)


def test_the_largest_input_and_output_may_belong_to_different_forms() -> None:
    def ops(wide: bool) -> tuple[Op, ...]:
        build = BlockBuilder(4 if wide else 16, 8, 8)
        build.conv("conv", build.input, 32 if wide else 4, 1)
        return build.ops

    space = SearchSpace("s", (Choice("wide", (False, True)),), (Block("b", ("wide",), ops),))
    supernet = Supernet(space)
    assert supernet.get_parameter("blocks.b.ops.conv.weight").shape == (32, 16, 1, 1)
    for arch, shape in ((space.smallest, (4, 16)), (space.largest, (32, 4))):
        assert supernet.extract(arch).get_parameter("blocks.b.ops.conv.weight").shape[:2] == shape


def test_a_block_whose_options_have_other_tensors_is_refused() -> None:
    def ops(biased: bool) -> tuple[Op, ...]:
        build = BlockBuilder(4, 8, 8)
        build.conv("conv", build.input, 4, 3 if biased else 5, bias=biased)
        return build.ops

    space = SearchSpace("s", (Choice("biased", (False, True)),), (Block("b", ("biased",), ops),))
    with pytest.raises(ValueError, match="b/conv"):
        Supernet(space)


def test_the_largest_as_a_plain_mapping_updates_running_statistics_too() -> None:
    supernet = Supernet(load_space("mobilenet-tiny", channels=1)).train()
    largest = supernet.space.largest
    supernet(torch.randn(4, *supernet.space.input_shape(largest)), dict(largest))
    assert supernet.get_buffer("blocks.stem.ops.norm.num_batches_tracked") == 1
