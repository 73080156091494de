"""Torch modules of networks: outputs and parameters have the shapes that the ops declare."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from search_spaces.builder import BlockBuilder
from search_spaces.catalogue import SPACES, load_space
from search_spaces.networks.modules import MODULES, BlockModule, Network, build, channels_last
from search_spaces.ops import Conv2d, Op, Zero
from search_spaces.spaces.vit import classifier, encoder_block, patch_embedding

BATCH = 2


def record(shapes: dict[str, tuple[int, ...]], name: str) -> Callable[..., None]:
    def hook(module: nn.Module, inputs: Any, output: Tensor) -> None:
        shapes[name] = tuple(output.shape)

    return hook


def assert_shapes_hold(blocks: Sequence[tuple[str, Sequence[Op]]], x: Tensor) -> Tensor:
    """Run a network and compare the shapes of all outputs and parameters with its ops."""
    network = Network(blocks).to(x.device).eval()
    shapes: dict[str, tuple[int, ...]] = {}
    expected = {}
    for name, ops in blocks:
        container = network.blocks[name]
        assert isinstance(container, BlockModule)
        for op in ops:
            module = container.ops[op.name]
            module.register_forward_hook(record(shapes, f"{name}/{op.name}"))
            expected[f"{name}/{op.name}"] = (len(x), *op.out_shape)
            parameters = {key: tuple(p.shape) for key, p in module.named_parameters()}
            assert parameters == op.parameter_shapes
    with torch.no_grad():
        output: Tensor = network(x)
    assert shapes == expected
    return output


@settings(max_examples=30, deadline=None)
@given(name=st.sampled_from(sorted(SPACES)), seed=st.integers(0, 2**32 - 1))
def test_every_output_has_the_shape_of_its_op(name: str, seed: int) -> None:
    space = load_space(name, channels=1, classes=7)
    (arch,) = space.decode(space.sample(1, seed))
    with torch.device("meta"):
        x = torch.empty(BATCH, *space.input_shape(arch))
        assert assert_shapes_hold(space.ops(arch), x).shape == (BATCH, 7)


@settings(max_examples=12, deadline=None)
@given(
    name=st.sampled_from([n for n in sorted(SPACES) if "imagenet" not in n]),
    seed=st.integers(0, 2**32 - 1),
)
def test_logits_are_finite_and_all_parameters_get_gradients(name: str, seed: int) -> None:
    space = load_space(name, classes=7)
    (arch,) = space.decode(space.sample(1, seed))
    torch.manual_seed(seed)
    network = build(space, arch).train()
    logits = network(torch.randn(BATCH, *space.input_shape(arch)))
    assert logits.shape == (BATCH, 7)
    assert logits.isfinite().all()
    logits.square().sum().backward()
    # Layers whose output is only read by a `Zero` op get no gradient.
    cut_off = any(isinstance(op, Zero) for _, ops in space.ops(arch) for op in ops)
    assert cut_off or all(p.grad is not None for p in network.parameters())


def test_all_ops_but_zero_are_size_agnostic_and_subclasses_do_not_inherit_it() -> None:
    class WindowedConv(Conv2d):
        pass

    assert {kind for kind in MODULES if not kind.size_agnostic} == {Zero}
    assert not WindowedConv.size_agnostic


def test_every_op_type_of_the_package_has_a_module() -> None:
    ours = ("search_spaces.ops", "search_spaces.token_ops")

    def descendants(kind: type[Op]) -> set[type[Op]]:
        return {kind}.union(*map(descendants, kind.__subclasses__()))

    own = {kind for kind in descendants(Op) - {Op} if kind.__module__ in ours}
    assert own == set(MODULES)


@given(
    kernel=st.sampled_from([1, 3, 5, 7]),
    stride=st.integers(1, 4),
    size=st.integers(1, 17),
    channels=st.integers(1, 3),
    depthwise=st.booleans(),
)
def test_padded_convolutions_have_the_shape_of_the_builder(
    kernel: int, stride: int, size: int, channels: int, depthwise: bool
) -> None:
    # See `test_a_padded_convolution_whose_stride_is_its_kernel`.
    assume(kernel == 1 or kernel != stride)
    block = BlockBuilder(channels, size, size)
    groups = channels if depthwise else 1
    block.conv("conv", block.input, 2 * channels, kernel, stride=stride, groups=groups)
    assert_shapes_hold([("block", block.ops)], torch.zeros(1, channels, size, size))


def test_a_padded_convolution_whose_stride_is_its_kernel() -> None:
    block = BlockBuilder(3, 8, 8)
    block.conv("conv", block.input, 4, 3, stride=3)
    assert_shapes_hold([("block", block.ops)], torch.zeros(1, 3, 8, 8))


@given(patch=st.integers(2, 8), patches=st.integers(1, 4), rest=st.integers(0, 7))
def test_incomplete_patches_are_dropped(patch: int, patches: int, rest: int) -> None:
    size = patch * patches + rest % patch
    block = BlockBuilder(3, size, size)
    block.conv("conv", block.input, 4, patch, stride=patch, padded=False)
    assert block.ops[0].out_shape == (4, patches, patches)
    assert_shapes_hold([("block", block.ops)], torch.zeros(1, 3, size, size))


def test_attention_is_softmax_of_scaled_products_head_by_head() -> None:
    tokens, heads, width = 5, 3, 12
    block = BlockBuilder(tokens, 3 * width)
    block.attention("attention", block.input, heads)
    x = torch.randn(BATCH, tokens, 3 * width, generator=torch.Generator().manual_seed(0))
    result = BlockModule(block.ops)(x)
    query, key, value = x.split(width, dim=-1)
    for head in range(heads):
        part = slice(head * width // heads, (head + 1) * width // heads)
        scores = query[..., part] @ key[..., part].mT / (width / heads) ** 0.5
        torch.testing.assert_close(result[..., part], scores.softmax(-1) @ value[..., part])


def test_a_residual_adds_the_input_of_the_block() -> None:
    block = BlockBuilder(3, 4, 4)
    block.add("sum", block.activation("relu", block.input, "relu"), block.input)
    x = torch.randn(BATCH, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    assert torch.equal(BlockModule(block.ops)(x), x.relu() + x)


def test_squeeze_excitation_scales_channels() -> None:
    block = BlockBuilder(3, 4, 4)
    block.scale("scale", block.input, block.global_pool("pool", block.input))
    x = torch.randn(BATCH, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    expected = x * x.mean(dim=(2, 3), keepdim=True)
    torch.testing.assert_close(BlockModule(block.ops)(x), expected)


def test_the_class_token_is_prepended_and_selected() -> None:
    block = BlockBuilder(4, 2, 3)
    tokens = block.class_token("token", block.to_tokens("tokens", block.input))
    block.first_token("first", tokens)
    module = BlockModule(block.ops)
    x = torch.randn(BATCH, 4, 2, 3, generator=torch.Generator().manual_seed(0))
    token = module.get_parameter("ops.token.token")
    assert torch.equal(module(x), token[0].expand(BATCH, -1))
    assert torch.equal(module.ops["tokens"](x)[:, 4], x[:, :, 1, 1])


def test_channels_last_changes_the_layout_and_nothing_else() -> None:
    space = load_space("mobilenet-tiny")
    network = build(space, space.smallest).eval()
    x = torch.randn(BATCH, *space.input_shape(space.smallest))
    with torch.no_grad():
        before = network(x)
        assert channels_last(network) is network
        torch.testing.assert_close(network(x), before, rtol=1e-5, atol=1e-5)
    weight = network.get_parameter("blocks.stem.ops.conv.weight")
    assert weight.is_contiguous(memory_format=torch.channels_last)


def test_two_networks_of_one_architecture_share_no_weights() -> None:
    space = load_space("mobilenet-tiny")
    first, second = build(space, space.smallest), build(space, space.smallest)
    owners = [{p.data_ptr() for p in n.parameters()} for n in (first, second)]
    assert not owners[0] & owners[1]


def mobilenetv2() -> list[tuple[str, tuple[Op, ...]]]:
    space = load_space("mobilenet-imagenet")
    depths, widths = (1, 2, 3, 4, 3, 3, 1), (16, 24, 32, 64, 96, 160, 320)
    values: dict[str, object] = {"resolution": 224, "stem_width": 32, "head_width": 1280}
    for stage, (depth, width) in enumerate(zip(depths, widths, strict=True)):
        values |= {f"stage{stage}_depth": depth, f"stage{stage}_width": width}
        values |= {f"stage{stage}_se": False, f"stage{stage}_activation": "relu"}
        for layer in range(depth):
            values[f"stage{stage}_layer{layer}_kernel"] = 3
            values[f"stage{stage}_layer{layer}_expand"] = 1 if stage == 0 else 6
    return space.ops(space.architecture(values))


def deit_small() -> list[tuple[str, tuple[Op, ...]]]:
    space = load_space("vit-imagenet")
    return space.ops(space.largest)


def vit_base() -> list[tuple[str, tuple[Op, ...]]]:
    encoder = encoder_block(197, 768, 12, 768, 3072)
    blocks = [(f"block{i}", encoder) for i in range(12)]
    ends = patch_embedding(224, 3, 16, 768), classifier(197, 768, 1000)
    return [("embedding", ends[0]), *blocks, ("head", ends[1])]


@pytest.mark.parametrize(
    ("network", "macs", "params"),
    [
        (mobilenetv2, 300_774_272, 3_504_872),
        (deit_small, 4_598_882_304, 22_050_664),
        (vit_base, 17_563_828_224, 86_567_656),
    ],
)
def test_built_modules_have_the_published_counts(
    network: Callable[[], list[tuple[str, tuple[Op, ...]]]], macs: int, params: int
) -> None:
    with torch.device("meta"):
        x = torch.empty(1, 3, 224, 224)
        module = Network(network()).eval()
        with FlopCounterMode(display=False) as counter:
            assert module(x).shape == (1, 1000)
    assert counter.get_total_flops() == 2 * macs
    assert sum(p.numel() for p in module.parameters()) == params
