"""Spaces `resnet` and `ofa-resnet50`: bottleneck networks, elastic in depth and width.

`resnet` is the network of He et al. (2016) with the stride in the 3x3 convolution, which is dense
or separable per stage; ResNet-50 is a member. `ofa-resnet50` is that of Once-for-All (Cai et al.,
2020): a stem of three convolutions, pooled shortcuts, a ratio for the inner width of each layer,
and the authors' encoding `{"d": [5], "e": [18], "w": [6], "r": 224}`, where `w` are indices of
width multipliers.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import numpy as np
import numpy.typing as npt

from search_spaces.builder import BlockBuilder, pooled
from search_spaces.ops import AvgPool2d, MaxPool2d, Op, strided
from search_spaces.published import Encodings, Published, option_indices
from search_spaces.space import Block, Choice, SearchSpace, layer_choices
from search_spaces.spaces.mobilenet import divisible

STRIDES = (1, 2, 2, 2)
EXPANSION = 4
"""Output width of a bottleneck as a multiple of its inner width."""

RESOLUTIONS = (128, 160, 192, 224)
INNER_WIDTHS = ((32, 48, 64), (64, 96, 128), (128, 192, 256), (256, 384, 512))
DEPTHS = ((2, 3), (2, 3, 4), (3, 4, 5, 6), (2, 3))

OFA_RESOLUTIONS = tuple(range(128, 225, 4))
OFA_WIDTHS = (0.65, 0.8, 1.0)
OFA_RATIOS = (0.2, 0.25, 0.35)
OFA_EXTRA_DEPTHS = (0, 1, 2)
OFA_BASE_DEPTHS = (2, 2, 4, 2)
OFA_STAGES = (256, 512, 1024, 2048)


def resnet(*, image_size: int | None = None, channels: int = 3, classes: int = 1000) -> SearchSpace:
    """Return the space of bottleneck ResNets up to ResNet-50 in depth and width."""
    resolutions = tuple(sorted({*RESOLUTIONS, image_size or RESOLUTIONS[-1]}))
    choices = [Choice("resolution", resolutions)]

    def stem(resolution: int) -> tuple[Op, ...]:
        return _stem(resolution, channels, 64)

    blocks = [Block("stem", ("resolution",), stem)]
    before, reduction = "", 1
    for index, (widths, depths) in enumerate(zip(INNER_WIDTHS, DEPTHS, strict=True)):
        prefix = f"stage{index}"
        choices += [
            Choice(f"{prefix}_depth", depths),
            Choice(f"{prefix}_width", widths),
            # Options are ordered from cheapest: separable first.
            Choice(f"{prefix}_separable", (True, False)),
        ]
        for layer in range(max(depths)):
            of_stage = ("width", "depth", "separable")
            depends = ("resolution", *(f"{prefix}_{name}" for name in of_stage))
            if layer == 0 and before:
                depends = (*depends, before)
            stride = STRIDES[index] if layer == 0 else 1
            ops = _layer(layer, stride, reduction, 64 if index == 0 and layer == 0 else None)
            blocks.append(Block(f"{prefix}_layer{layer}", depends, ops))
            reduction *= stride
        before = f"{prefix}_width"

    def head(resolution: int, width: int) -> tuple[Op, ...]:
        return _head(strided(_pooled_stem(resolution), 8), EXPANSION * width, classes)

    blocks.append(Block("head", ("resolution", before), head))
    return SearchSpace("resnet", tuple(choices), tuple(blocks))


def _pooled_stem(resolution: int) -> int:
    return pooled(strided(resolution, 2), 3, 2, 1, ceil=False)


def _layer(
    layer: int, stride: int, reduction: int, stem_width: int | None
) -> Callable[..., tuple[Op, ...]]:
    def ops(
        resolution: int, width: int, depth: int, separable: bool, before: int | None = None
    ) -> tuple[Op, ...]:
        if layer >= depth:
            return ()
        size = strided(_pooled_stem(resolution), reduction)
        in_width = EXPANSION * (width if before is None else before)
        return _bottleneck(
            size, stem_width or in_width, width, EXPANSION * width, stride, separable, layer == 0
        )

    return ops


@cache
def _bottleneck(
    size: int,
    in_width: int,
    inner: int,
    width: int,
    stride: int,
    separable: bool,
    projected: bool,
    pooled_shortcut: bool = False,
) -> tuple[Op, ...]:
    """1x1, 3x3 and 1x1 convolutions, and a shortcut that is projected with `projected`."""
    build = BlockBuilder(in_width, size, size)
    x = build.batch_norm("reduce_norm", build.conv("reduce", build.input, inner))
    x = build.activation("reduce_activation", x, "relu")
    if separable:
        x = build.conv("depthwise", x, inner, 3, stride=stride, groups=inner)
        x = build.conv("pointwise", build.batch_norm("depthwise_norm", x), inner)
    else:
        x = build.conv("spatial", x, inner, 3, stride=stride)
    x = build.activation("spatial_activation", build.batch_norm("spatial_norm", x), "relu")
    x = build.batch_norm("expand_norm", build.conv("expand", x, width))
    y = build.input
    if projected and pooled_shortcut:
        y = build.pool("shortcut_pool", y, AvgPool2d, stride, stride, ceil=True)
        y = build.batch_norm("shortcut_norm", build.conv("shortcut", y, width))
    elif projected:
        y = build.batch_norm("shortcut_norm", build.conv("shortcut", y, width, stride=stride))
    build.activation("activation", build.add("residual", x, y), "relu")
    return build.ops


@cache
def _stem(size: int, channels: int, width: int) -> tuple[Op, ...]:
    build = BlockBuilder(channels, size, size)
    x = build.batch_norm("norm", build.conv("conv", build.input, width, 7, stride=2))
    build.pool("pool", build.activation("activation", x, "relu"), MaxPool2d, 3, 2, padding=1)
    return build.ops


@cache
def _head(size: int, width: int, classes: int) -> tuple[Op, ...]:
    build = BlockBuilder(width, size, size)
    build.linear("classifier", build.global_pool("pool", build.input), classes)
    return build.ops


def ofa_resnet50(
    *, image_size: int | None = None, channels: int = 3, classes: int = 1000
) -> SearchSpace:
    """Return the ResNet-50 space of Once-for-All, with up to two more layers per stage."""
    resolutions = tuple(sorted({*OFA_RESOLUTIONS, image_size or OFA_RESOLUTIONS[-1]}))
    choices = [
        Choice("resolution", resolutions),
        Choice("stem_residual", (False, True)),
        Choice("stem_inner_width", OFA_WIDTHS),
        Choice("stem_width", OFA_WIDTHS),
    ]

    def stem(resolution: int, residual: bool, inner: float, width: float) -> tuple[Op, ...]:
        narrow = divisible(_scaled(64, inner) // 2)
        return _ofa_stem(resolution, channels, narrow, _scaled(64, width), residual)

    depends: tuple[str, ...] = ("resolution", "stem_residual", "stem_inner_width", "stem_width")
    blocks = [Block("stem", depends, stem)]
    before, before_base, reduction = "stem_width", 64, 1
    for index, (base, base_depth) in enumerate(zip(OFA_STAGES, OFA_BASE_DEPTHS, strict=True)):
        prefix = f"stage{index}"
        depth = Choice(f"{prefix}_extra_depth", OFA_EXTRA_DEPTHS)
        choices += [depth, Choice(f"{prefix}_width", OFA_WIDTHS)]
        for layer in range(base_depth + max(OFA_EXTRA_DEPTHS)):
            name = f"{prefix}_layer{layer}"
            choices += layer_choices(depth, layer - base_depth, {"ratio": OFA_RATIOS}, name)
            depends = ("resolution", depth.name, f"{prefix}_width", f"{name}_ratio")
            if layer == 0:
                depends = (*depends, before)
            stride = STRIDES[index] if layer == 0 else 1
            ops = _ofa_layer(layer, base_depth, base, before_base, stride, reduction)
            blocks.append(Block(name, depends, ops))
            reduction *= stride
        before, before_base = f"{prefix}_width", base

    def head(resolution: int, width: float) -> tuple[Op, ...]:
        size = strided(_pooled_stem(resolution), 8)
        return _head(size, _scaled(OFA_STAGES[-1], width), classes)

    blocks.append(Block("head", ("resolution", before), head))
    return SearchSpace("ofa-resnet50", tuple(choices), tuple(blocks), _ofa_published(resolutions))


def _scaled(base: int, width: float) -> int:
    return divisible(base * width)


def _ofa_layer(
    layer: int, base_depth: int, base: int, before_base: int, stride: int, reduction: int
) -> Callable[..., tuple[Op, ...]]:
    def ops(
        resolution: int, extra: int, width: float, ratio: float, before: float | None = None
    ) -> tuple[Op, ...]:
        if layer >= base_depth + extra:
            return ()
        size = strided(_pooled_stem(resolution), reduction)
        out = _scaled(base, width)
        in_width = out if before is None else _scaled(before_base, before)
        inner = divisible(round(out * ratio))
        return _bottleneck(size, in_width, inner, out, stride, False, layer == 0, True)

    return ops


@cache
def _ofa_stem(size: int, channels: int, inner: int, width: int, residual: bool) -> tuple[Op, ...]:
    build = BlockBuilder(channels, size, size)
    x = build.batch_norm("first_norm", build.conv("first", build.input, inner, 3, stride=2))
    x = build.activation("first_activation", x, "relu")
    if residual:
        y = build.batch_norm("second_norm", build.conv("second", x, inner, 3))
        x = build.add("residual", build.activation("second_activation", y, "relu"), x)
    x = build.batch_norm("third_norm", build.conv("third", x, width, 3))
    build.pool("pool", build.activation("third_activation", x, "relu"), MaxPool2d, 3, 2, padding=1)
    return build.ops


def _ofa_published(resolutions: tuple[int, ...]) -> Published:
    layers = [base + max(OFA_EXTRA_DEPTHS) for base in OFA_BASE_DEPTHS]

    def rows(batch: Encodings) -> npt.NDArray[np.uint8]:
        depths = option_indices(batch, "d", OFA_EXTRA_DEPTHS, 1 + len(layers))
        ratios = option_indices(batch, "e", OFA_RATIOS, sum(layers))
        widths = option_indices(batch, "w", (0, 1, 2), 2 + len(layers))
        # The stem has its residual layer only at the largest depth.
        columns = [option_indices(batch, "r", resolutions), (depths[:, 0] == 2).astype(np.uint8)]
        columns += [widths[:, 0], widths[:, 1]]
        first = 0
        for index, count in enumerate(layers):
            columns += [depths[:, index + 1], widths[:, index + 2]]
            columns += [ratios[:, layer] for layer in range(first, first + count)]
            first += count
        return np.stack(columns, axis=1)

    return Published(("d", "e", "w", "r"), rows)
