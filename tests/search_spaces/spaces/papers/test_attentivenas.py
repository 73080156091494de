"""The AttentiveNAS space against published networks, a count by formulas and torch's counter."""

from __future__ import annotations

from functools import cache
from itertools import pairwise
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
from search_spaces.networks.modules import build
from search_spaces.ops import Conv2d
from search_spaces.space import SearchSpace
from search_spaces.spaces.mobilenet import divisible
from search_spaces.spaces.papers.attentivenas import attentivenas

KEYS = ("resolution", "width", "kernel_size", "expand_ratio", "depth")
ONES = (1, 4, 4, 4, 4, 6, 6)

# Strides and squeeze-excitation of the stages, from the authors' configuration of the supernet.
STRIDES = (1, 2, 2, 2, 1, 2, 1)
SQUEEZED = (False, False, True, False, True, True, True)

# The authors' configurations of A0 to A6, and MFLOPs from the table of their repository.
PUBLISHED: list[tuple[str, list[Any], int]] = [
    (
        "A0",
        [192, (16, 16, 24, 32, 64, 112, 192, 216, 1792), (3,) * 7, ONES, (1, 3, 3, 3, 3, 3, 1)],
        203,
    ),
    (
        "A1",
        [
            224,
            (16, 16, 24, 32, 64, 112, 192, 216, 1984),
            (3, 3, 3, 5, 3, 5, 3),
            ONES,
            (1, 3, 3, 3, 3, 3, 1),
        ],
        279,
    ),
    (
        "A2",
        [
            224,
            (16, 16, 24, 32, 64, 112, 200, 224, 1984),
            (3, 3, 3, 3, 3, 5, 3),
            (1, 4, 5, 4, 4, 6, 6),
            (1, 3, 3, 3, 3, 4, 1),
        ],
        317,
    ),
    (
        "A3",
        [
            224,
            (16, 16, 24, 32, 64, 112, 208, 224, 1984),
            (3, 3, 3, 5, 3, 3, 3),
            ONES,
            (2, 3, 3, 4, 3, 5, 1),
        ],
        357,
    ),
    (
        "A4",
        [
            256,
            (16, 16, 24, 32, 64, 112, 192, 216, 1984),
            (3, 3, 3, 5, 3, 5, 3),
            (1, 4, 4, 5, 4, 6, 6),
            (1, 3, 3, 4, 3, 5, 1),
        ],
        444,
    ),
    (
        "A5",
        [
            256,
            (16, 16, 24, 32, 72, 112, 192, 216, 1792),
            (3, 3, 3, 5, 3, 3, 3),
            (1, 4, 5, 4, 4, 6, 6),
            (1, 3, 3, 3, 4, 6, 1),
        ],
        491,
    ),
    (
        "A6",
        [
            288,
            (16, 16, 24, 32, 64, 112, 216, 224, 1984),
            (3, 3, 3, 3, 3, 5, 3),
            (1, 4, 6, 5, 4, 6, 6),
            (1, 3, 3, 4, 4, 6, 1),
        ],
        709,
    ),
]

# Exact MACs; each rounds to its published figure.
MACS = (203_389_568, 279_238_816, 316_730_080, 356_518_400, 443_530_752, 490_520_064, 709_007_232)


@cache
def tables() -> CostTables:
    return CostTables(attentivenas())


def encoding_of(values: list[Any]) -> dict[str, Any]:
    return {k: list(v) if isinstance(v, tuple) else v for k, v in zip(KEYS, values, strict=True)}


def as_published(arch: Architecture) -> dict[str, Any]:
    def stages(name: str) -> list[Any]:
        return [arch[f"stage{stage}_{name}"] for stage in range(7)]

    return {
        "resolution": arch["resolution"],
        "width": [arch["stem_width"], *stages("width"), arch["head_width"]],
        "depth": stages("depth"),
        "kernel_size": stages("kernel"),
        "expand_ratio": stages("expand"),
    }


def counted_by_torch(space: SearchSpace, arch: Architecture) -> tuple[int, int]:
    with torch.device("meta"):
        network = build(space, arch).eval()
        with FlopCounterMode(display=False) as counter:
            network(torch.empty(1, *space.input_shape(arch)))
    return counter.get_total_flops() // 2, sum(p.numel() for p in network.parameters())


def counted_by_formula(config: dict[str, Any]) -> tuple[int, int]:
    """MACs and parameters computed from the published encoding, layer by layer.

    A convolution's parameters are its weights and, except in shortcuts and before the classifier,
    a scale and a shift for each output channel.
    """
    stem, *widths, last = config["width"]
    side, before = config["resolution"] // 2, stem
    macs, params = 27 * stem * side**2, 27 * stem + 2 * stem
    per_stage = (widths, config["depth"], config["kernel_size"], config["expand_ratio"])
    for width, depth, kernel, expand, stride, squeezed in zip(
        *per_stage, STRIDES, SQUEEZED, strict=True
    ):
        for layer in range(depth):
            hidden = divisible(before * expand)
            if expand > 1:
                macs += before * hidden * side**2
                params += before * hidden + 2 * hidden
            side //= stride if layer == 0 else 1
            macs += (kernel**2 + width) * hidden * side**2
            params += (kernel**2 + width + 2) * hidden + 2 * width
            if squeezed:
                middle = divisible(hidden // 4)
                macs += 2 * hidden * middle
                params += 2 * hidden * middle + hidden + middle
            if before != width:
                macs += before * width * side**2
                params += before * width
            before = width
    macs += 6 * before**2 * side**2 + 6 * before * last + 1000 * last
    params += 6 * before**2 + 12 * before + 6 * before * last + 1000 * last + 1000
    return macs, params


@pytest.mark.parametrize(
    ("name", "values", "millions", "macs"),
    [(*published, macs) for published, macs in zip(PUBLISHED, MACS, strict=True)],
)
def test_the_published_networks_have_their_published_flops(
    name: str, values: list[Any], millions: int, macs: int
) -> None:
    space = tables().space
    arch = space.architecture(encoding_of(values))
    cost = tables().cost(arch)
    assert cost["macs"] == macs
    assert round(macs / 1e6) in (millions, millions - 1)  # A3, 356.5, was rounded up
    assert (cost["macs"], cost["params"]) == counted_by_torch(space, arch)


def test_a0_is_the_smallest_network() -> None:
    space = tables().space
    assert space.architecture(encoding_of(PUBLISHED[0][1])) == space.smallest


def test_the_largest_bounds_all_others() -> None:
    space = tables().space
    scored = tables().score(space.sample(50_000, seed=0))
    largest = tables().cost(space.largest)
    assert (largest["macs"], largest["params"]) == counted_by_torch(space, space.largest)
    assert scored["macs"].max() <= largest["macs"]
    assert scored["macs"].min() >= MACS[0]


@settings(max_examples=50, deadline=None)
@given(seed=st.integers(0, 2**32 - 1))
def test_tables_equal_the_count_by_formulas(seed: int) -> None:
    rows = tables().space.sample(20, seed)
    scored = tables().score(rows)
    for index, arch in enumerate(tables().space.decode(rows)):
        counted = scored["macs"][index], scored["params"][index]
        assert counted == counted_by_formula(as_published(arch))


@settings(max_examples=10, deadline=None)
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
        assert counted == counted_by_formula(as_published(arch))
        # Torch's counter takes 0.3 s per network.
        if index < 25:
            assert counted == counted_by_torch(space, arch)


def test_every_layer_has_a_shortcut_which_is_projected_where_widths_differ() -> None:
    space = tables().space
    arch = space.architecture(encoding_of(PUBLISHED[3][1]))
    layers = [ops for name, ops in space.ops(arch) if name.startswith("stage")]
    assert all(ops[-1].name == "residual" for ops in layers)
    inner = {"expand", "depthwise", "project"}
    projected = [
        any(isinstance(op, Conv2d) and op.name not in inner for op in ops) for ops in layers
    ]
    widths = [16, *(width for ops in layers for width in ops[-1].out_shape[:1])]
    assert projected == [before != after for before, after in pairwise(widths)]
    # The first stage, 16 to 16, has no projection; all six other stages start with one.
    assert sum(projected) == 6


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 2**32 - 1))
def test_published_encodings_round_trip(seed: int) -> None:
    space = tables().space
    assert space.published is not None
    rows = space.sample(20, seed)
    archs = space.decode(rows)
    read = space.published.rows([as_published(arch) for arch in archs])
    assert (read.dtype, read.shape) == (np.uint8, rows.shape)
    assert (space.canonical(read) == rows).all()
    assert space.architecture(as_published(archs[0])) == archs[0]


@pytest.mark.parametrize(
    ("key", "index", "value", "message"),
    [
        ("width", 3, 48, r"'width.*' cannot be 48: expected one of 32, 40$"),
        ("width", 8, 1280, r"'width.*' cannot be 1280: expected one of 1792, 1984$"),
        ("depth", 0, 3, r"'depth.*' cannot be 3: expected one of 1, 2$"),
        ("kernel_size", 6, 7, r"'kernel_size.*' cannot be 7: expected one of 3, 5$"),
        ("expand_ratio", 0, 4, r"'expand_ratio.*' cannot be 4: expected one of 1$"),
        ("expand_ratio", 6, 4, r"'expand_ratio.*' cannot be 4: expected one of 6$"),
    ],
)
def test_the_error_names_a_value_of_another_stage(
    key: str, index: int, value: int, message: str
) -> None:
    encoding = encoding_of(PUBLISHED[0][1])
    encoding[key][index] = value
    with pytest.raises(UserError, match=message) as caught:
        tables().space.architecture(encoding)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"resolution": 200}, r"'resolution' cannot be 200: expected one of 192, 224, 256, 288"),
        ({"width": [16] * 8}, r"'width' is \[16, .*\], expected 9 values"),
        ({"depth": 3}, r"'depth' is 3, expected 7 values"),
    ],
)
def test_malformed_encodings_raise(change: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        tables().space.architecture({**encoding_of(PUBLISHED[0][1]), **change})


@cache
def supernet() -> Supernet:
    torch.manual_seed(0)
    result = Supernet(attentivenas(image_size=32, channels=1, classes=7))
    for tensor in (*result.parameters(), *result.buffers()):
        if tensor.is_floating_point():
            tensor.data += 0.1 * torch.rand_like(tensor)
    return result


@settings(max_examples=4, deadline=None)
@given(seed=st.integers(0, 2**32 - 1))
def test_extracted_networks_compute_the_same_as_subnets(seed: int) -> None:
    # In training mode: with statistics of another network, forty layers overflow.
    net = supernet().train()
    (drawn,) = net.space.decode(net.space.sample(1, seed))
    arch = net.space.architecture({**drawn, "resolution": 32})
    x = torch.randn(4, 1, 32, 32, generator=torch.Generator().manual_seed(seed))
    with torch.no_grad():
        inside = net(x, arch)
        outside = net.extract(arch)(x)
    assert inside.shape == (4, 7)
    assert inside.isfinite().all()
    torch.testing.assert_close(outside, inside, rtol=1e-4, atol=1e-4)
