"""The relaxed supernet: equal to the subnet at probabilities of 0 and 1."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional as F

from nas.supernet.masks import analyse_forms
from nas.supernet.relaxed import RelaxedSupernet
from nas.supernet.shared_weights import Supernet
from search_spaces.builder import BlockBuilder
from search_spaces.catalogue import load_space
from search_spaces.ops import AvgPool2d, Op
from search_spaces.space import Block, Choice, SearchSpace

OWN = f"{Path(__file__).parents[3] / 'examples' / 'own_space.py'}:plain"

SIZES = {
    "mobilenet-tiny": 8,
    "vit-tiny": 8,
    OWN: 8,
    "macro": 16,
    "nasbench201": 8,
    "autoformer-tiny": 32,
    "ofa-resnet50": 32,
    "resnet": 32,
    "attentivenas": 32,
}


@cache
def relaxed_of(name: str) -> RelaxedSupernet:
    """A supernet in float64 whose weights and statistics differ from their initial values."""
    torch.manual_seed(0)
    channels = 1 if SIZES.get(name) == 8 else 3
    supernet = Supernet(load_space(name, image_size=SIZES.get(name), channels=channels)).double()
    for tensor in (*supernet.parameters(), *supernet.buffers()):
        if tensor.is_floating_point():
            tensor.data += 0.1 * torch.rand_like(tensor)
    return RelaxedSupernet(supernet)


def one_hot(space: SearchSpace, row: npt.NDArray[np.uint8]) -> list[Tensor]:
    return [
        torch.eye(len(choice.options), dtype=torch.float64)[int(option)]
        for choice, option in zip(space.choices, row, strict=True)
    ]


def uniform(space: SearchSpace) -> list[Tensor]:
    logits = [torch.zeros(len(c.options), dtype=torch.float64) for c in space.choices]
    return [z.requires_grad_() for z in logits]


def images(relaxed: RelaxedSupernet, row: npt.NDArray[np.uint8], batch: int = 4) -> Tensor:
    (arch,) = relaxed.space.decode(relaxed.space.canonical(row[None]))
    shape = relaxed.space.input_shape(arch)
    return torch.randn(batch, *shape, dtype=torch.float64, generator=torch.manual_seed(1))


def compare(name: str, seed: int, *, training: bool) -> None:
    relaxed = relaxed_of(name)
    space = relaxed.space
    relaxed.supernet.train(training)
    row = space.sample(1, seed)[0]
    (arch,) = space.decode(row[None])
    x = images(relaxed, row)
    assert relaxed.input_size(row) == x.shape[-1]
    with torch.no_grad():
        expected = relaxed.supernet(x, arch)
        found = relaxed.forward(x, one_hot(space, row), row)
    torch.testing.assert_close(found, expected, rtol=1e-8, atol=1e-8)


@settings(max_examples=25)
@given(
    name=st.sampled_from(["mobilenet-tiny", "vit-tiny", OWN, "macro"]),
    seed=st.integers(0, 2**32 - 1),
    training=st.booleans(),
)
def test_decided_probabilities_give_the_subnet(name: str, seed: int, training: bool) -> None:
    compare(name, seed, training=training)


@pytest.mark.parametrize("name", ["nasbench201", "resnet", "autoformer-tiny"])
def test_decided_probabilities_give_the_subnet_in_published_spaces(name: str) -> None:
    compare(name, 3, training=True)
    compare(name, 4, training=False)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["attentivenas", "darts", "ofa-mbv3", "ofa-resnet50", "vit-cifar"])
def test_decided_probabilities_give_the_subnet_in_large_spaces(name: str) -> None:
    for seed in range(3):
        compare(name, seed, training=bool(seed % 2))


def two_layers(depths: tuple[int, ...] = (1, 2)) -> SearchSpace:
    """A convolution and another one that may be skipped, without normalisation."""

    def layer(index: int, depth: int, width: int) -> tuple[Op, ...]:
        if index >= depth:
            return ()
        build = BlockBuilder(1 if index == 0 else width, 4, 4)
        build.conv("conv", build.input, width, 3, bias=True)
        return build.ops

    blocks = tuple(
        Block(f"layer{i}", ("depth", "width"), lambda d, w, i=i: layer(i, d, w)) for i in range(2)
    )
    return SearchSpace("two", (Choice("depth", depths), Choice("width", (1, 2, 4))), blocks)


def test_an_uncertain_depth_is_a_mean_of_both_and_an_uncertain_width_scales_features() -> None:
    torch.manual_seed(0)
    space = two_layers()
    supernet = Supernet(space).double()
    relaxed = RelaxedSupernet(supernet)
    assert relaxed.sampled == ()
    x = torch.randn(2, 1, 4, 4, dtype=torch.float64)
    row = np.zeros(2, dtype=np.uint8)
    widest = torch.tensor([0.0, 0.0, 1.0], dtype=torch.float64)
    shallow, deep = (supernet(x, {"depth": d, "width": 4}) for d in (1, 2))
    between = relaxed.forward(x, [torch.tensor([0.3, 0.7], dtype=torch.float64), widest], row)
    torch.testing.assert_close(between, 0.3 * shallow + 0.7 * deep)
    widths = torch.tensor([0.5, 0.3, 0.2], dtype=torch.float64)
    only = torch.tensor([1.0, 0.0], dtype=torch.float64)
    scales = torch.tensor([1.0, 0.5, 0.2, 0.2], dtype=torch.float64)[:, None, None]
    torch.testing.assert_close(relaxed.forward(x, [only, widths], row), scales * shallow)


def test_an_uncertain_kernel_scales_its_border() -> None:
    def ops(kernel: int) -> tuple[Op, ...]:
        build = BlockBuilder(1, 6, 6)
        build.conv("conv", build.input, 2, kernel)
        return build.ops

    space = SearchSpace("k", (Choice("kernel", (1, 3)),), (Block("b", ("kernel",), ops),))
    supernet = Supernet(space).double()
    x = torch.randn(1, 1, 6, 6, dtype=torch.float64)
    weight = supernet.get_parameter("blocks.b.ops.conv.weight").clone()
    border = torch.full((3, 3), 0.25, dtype=torch.float64)
    border[1, 1] = 1.0
    p = torch.tensor([0.75, 0.25], dtype=torch.float64)
    found = RelaxedSupernet(supernet).forward(x, [p], np.zeros(1, dtype=np.uint8))
    torch.testing.assert_close(found, F.conv2d(x, weight * border, padding=1))


@pytest.mark.parametrize("name", ["mobilenet-tiny", "vit-tiny", "nasbench201", "macro", OWN])
def test_gradients_reach_every_choice_and_no_weight(name: str) -> None:
    relaxed = relaxed_of(name)
    space = relaxed.space
    relaxed.supernet.train().zero_grad(set_to_none=True)
    logits = uniform(space)
    row = (space.option_counts - 1).astype(np.uint8)
    x = images(relaxed, row)
    output = relaxed.forward(x, [z.softmax(0) for z in logits], row, frozen=True)
    F.cross_entropy(output, torch.arange(len(x)) % 10).backward()
    for choice, z in zip(space.choices, logits, strict=True):
        # A resolution changes no block: it gets gradients from samples only.
        if len(choice.options) > 1 and choice.name != "resolution":
            assert z.grad is not None, choice.name
            assert z.grad.abs().max() > 0, choice.name
    assert all(p.grad is None for p in relaxed.supernet.parameters())


def test_gradients_reach_the_weights_where_they_are_not_frozen() -> None:
    relaxed = relaxed_of("mobilenet-tiny")
    relaxed.supernet.train().zero_grad(set_to_none=True)
    row = (relaxed.space.option_counts - 1).astype(np.uint8)
    probabilities = [z.softmax(0) for z in uniform(relaxed.space)]
    relaxed.forward(images(relaxed, row), probabilities, row).square().sum().backward()
    assert all(p.grad is not None for p in relaxed.supernet.parameters())


def test_a_relaxed_pass_does_not_change_the_supernet() -> None:
    relaxed = relaxed_of("mobilenet-tiny")
    relaxed.supernet.train()
    before = {key: value.clone() for key, value in relaxed.supernet.state_dict().items()}
    row = (relaxed.space.option_counts - 1).astype(np.uint8)
    relaxed.forward(images(relaxed, row), [z.softmax(0) for z in uniform(relaxed.space)], row)
    assert all((before[k] == v).all() for k, v in relaxed.supernet.state_dict().items())


def chain(widths: tuple[int, ...], kernels: tuple[int, ...]) -> SearchSpace:
    """Four convolutions with normalisation whose largest form is independent of the options."""

    def layer(index: int, width: int, kernel: int) -> tuple[Op, ...]:
        build = BlockBuilder(3 if index == 0 else width, 16, 16)
        x = build.batch_norm("norm", build.conv("conv", build.input, width, kernel))
        build.activation("relu", x, "relu")
        return build.ops

    choices = [Choice("width", widths)]
    blocks = []
    for i in range(4):
        choices.append(Choice(f"kernel{i}", kernels))
        depends = ("width", f"kernel{i}")
        blocks.append(Block(f"layer{i}", depends, lambda w, k, i=i: layer(i, w, k)))
    return SearchSpace("chain", tuple(choices), tuple(blocks))


def kept_for_backward(space: SearchSpace) -> int:
    """Bytes of activations (tensors of a batch) that a relaxed pass keeps."""
    relaxed = RelaxedSupernet(Supernet(space))
    row = np.zeros(len(space.choices), dtype=np.uint8)
    logits = [torch.zeros(len(c.options), requires_grad=True) for c in space.choices]
    seen: dict[int, int] = {}

    def pack(tensor: Tensor) -> Tensor:
        if tensor.dim() == 4 and tensor.shape[0] == 8:
            seen[tensor.data_ptr()] = tensor.nbytes
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        relaxed.forward(torch.randn(8, 3, 16, 16), [z.softmax(0) for z in logits], row)
    return sum(seen.values())


def test_memory_does_not_grow_with_the_number_of_options() -> None:
    few = kept_for_backward(chain((12, 24), (3, 7)))
    many = kept_for_backward(chain(tuple(range(2, 25)), (1, 3, 5, 7)))
    assert 0 < many <= few


def names_of_sampled(space: SearchSpace) -> set[str]:
    _, sampled = analyse_forms(space)
    return {space.choices[column].name for column in sampled}


def test_what_is_a_mask_follows_from_the_ops() -> None:
    tiny = names_of_sampled(load_space("mobilenet-cifar"))
    kinds = {name.split("_")[-1] for name in tiny}
    assert kinds == {"resolution", "se", "activation"}
    assert names_of_sampled(load_space("ofa-mbv3")) == {"resolution"}
    # Heads are all 64 wide there, so that fewer heads are the first ones; here they differ.
    assert names_of_sampled(load_space("autoformer-tiny")) == set()
    vit = {name.split("_")[-1] for name in names_of_sampled(load_space("vit-tiny"))}
    assert vit == {"resolution", "heads", "width"}
    assert "width" not in names_of_sampled(load_space("vit-tiny"))  # only those of queries
    assert len(names_of_sampled(load_space("nasbench201"))) == 6
    assert names_of_sampled(load_space(OWN, image_size=8, channels=1)) == set()


@pytest.mark.parametrize("kind", ["concat", "pool", "patch", "group", "stride"])
def test_options_that_are_not_part_of_one_form_are_sampled(kind: str) -> None:
    def ops(option: int) -> tuple[Op, ...]:
        build = BlockBuilder(8, 8, 8)
        x = build.input
        if kind == "concat":  # the second part starts at another feature
            parts = [build.conv(f"conv{i}", x, 4 * option, 1) for i in range(2)]
            build.conv("out", build.concat("concat", parts), 8, 1)
        elif kind == "pool":
            build.pool("pool", x, AvgPool2d, 1 + 2 * option, 1, padding=option)
        elif kind == "patch":  # windows that are not centred on the same pixels
            build.conv("conv", x, 8, 2 * option, stride=2, padded=False)
        elif kind == "group":
            build.conv("conv", x, 8, 3, groups=2 * option)
        else:
            build.conv("conv", x, 8, 3, stride=option)
        return build.ops

    block = Block("b", ("option",), ops)
    space = SearchSpace("s", (Choice("option", (1, 2)),), (block,))
    assert names_of_sampled(space) == {"option"}


def test_forms_of_which_none_contains_the_others_are_sampled() -> None:
    def ops(wide: bool) -> tuple[Op, ...]:
        build = BlockBuilder(4, 8, 8)
        x = build.conv("first", build.input, 8 if wide else 4, 1)
        build.conv("second", x, 4, 1 if wide else 3)
        return build.ops

    space = SearchSpace("s", (Choice("wide", (False, True)),), (Block("b", ("wide",), ops),))
    assert names_of_sampled(space) == {"wide"}
