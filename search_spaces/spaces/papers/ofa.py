"""Spaces `ofa-mbv3` and `ofa-proxyless` of Once-for-All (Cai et al., 2020).

Five stages of inverted residuals, in ProxylessNAS followed by a single layer. Widths are fixed by
the width multiplier; kernels and expansions are chosen per layer, the depth per stage. Layer
widths, strides and heads are those of the authors' networks. The published encoding is
`{"ks": [..], "e": [..], "d": [..], "r": 224}`, with values for every layer at full depth.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import numpy as np
import numpy.typing as npt

from search_spaces.builder import BlockBuilder
from search_spaces.errors import UserError
from search_spaces.ops import Op, strided
from search_spaces.published import Encodings, Published, option_indices
from search_spaces.space import Block, Choice, SearchSpace, layer_choices
from search_spaces.spaces.mobilenet import divisible, inverted_residual

KERNELS = (3, 5, 7)
EXPANDS = (3, 4, 6)
DEPTHS = (2, 3, 4)
RESOLUTIONS = tuple(range(128, 225, 4))


@dataclass(frozen=True)
class Stage:
    """One stage of a network."""

    width: int
    """At width multiplier 1."""
    layers: int
    """At full depth."""
    stride: int
    """Of the first layer."""
    activation: str
    se: bool
    """Whether layers have squeeze-excitation."""


MBV3_STAGES = (
    Stage(24, 4, 2, "relu", False),
    Stage(40, 4, 2, "relu", True),
    Stage(80, 4, 2, "hardswish", False),
    Stage(112, 4, 1, "hardswish", True),
    Stage(160, 4, 2, "hardswish", True),
)
PROXYLESS_STAGES = (
    Stage(24, 4, 2, "relu6", False),
    Stage(40, 4, 2, "relu6", False),
    Stage(80, 4, 2, "relu6", False),
    Stage(96, 4, 1, "relu6", False),
    Stage(192, 4, 2, "relu6", False),
    Stage(320, 1, 1, "relu6", False),
)


def ofa_mbv3(
    width: float = 1.0,
    *,
    image_size: int | None = None,
    channels: int = 3,
    classes: int = 1000,
) -> SearchSpace:
    """Return the space around MobileNetV3-Large, published at width multipliers 1.0 and 1.2."""

    def scaled(base: int) -> int:
        return divisible(base * width)

    def stem(resolution: int) -> tuple[Op, ...]:
        return _stem(resolution, channels, scaled(16), scaled(16), "hardswish", "relu", True)

    def head(resolution: int) -> tuple[Op, ...]:
        return _mbv3_head(strided(resolution, 32), scaled(160), scaled(960), scaled(1280), classes)

    name = "ofa-mbv3" if width == 1.0 else f"ofa-mbv3-{width:g}"
    return _space(name, MBV3_STAGES, scaled, scaled(16), stem, head, image_size)


def ofa_proxyless(
    width: float = 1.3,
    *,
    image_size: int | None = None,
    channels: int = 3,
    classes: int = 1000,
) -> SearchSpace:
    """Return the space around ProxylessNAS, published at width multiplier 1.3."""

    def scaled(base: int) -> int:
        return divisible(base * width)

    def stem(resolution: int) -> tuple[Op, ...]:
        return _stem(resolution, channels, scaled(32), scaled(16), "relu6", "relu6", False)

    def head(resolution: int) -> tuple[Op, ...]:
        return _proxyless_head(strided(resolution, 32), scaled(320), scaled(1280), classes)

    name = "ofa-proxyless" if width == 1.3 else f"ofa-proxyless-{width:g}"
    return _space(name, PROXYLESS_STAGES, scaled, scaled(16), stem, head, image_size)


def _space(
    name: str,
    stages: tuple[Stage, ...],
    scaled: Callable[[int], int],
    width_before: int,
    stem: Callable[..., tuple[Op, ...]],
    head: Callable[..., tuple[Op, ...]],
    image_size: int | None,
) -> SearchSpace:
    resolutions = tuple(sorted({*RESOLUTIONS, image_size or RESOLUTIONS[-1]}))
    choices = [Choice("resolution", resolutions)]
    blocks = [Block("stem", ("resolution",), stem)]
    reduction = 2
    for index, stage in enumerate(stages):
        depth = Choice(f"stage{index}_depth", DEPTHS if stage.layers > 1 else (1,))
        choices.append(depth)
        stage_width = scaled(stage.width)
        for layer in range(stage.layers):
            prefix = f"stage{index}_layer{layer}"
            options = {"kernel": KERNELS, "expand": EXPANDS}
            choices += layer_choices(depth, layer, options, prefix)
            depends = ("resolution", depth.name, f"{prefix}_kernel", f"{prefix}_expand")
            ops = _layer(stage, layer, width_before, stage_width, reduction)
            blocks.append(Block(prefix, depends, ops))
            if layer == 0:
                reduction *= stage.stride
            width_before = stage_width
    blocks.append(Block("head", ("resolution",), head))
    return SearchSpace(name, tuple(choices), tuple(blocks), _published(stages, resolutions))


def _layer(
    stage: Stage, layer: int, in_width: int, width: int, reduction: int
) -> Callable[..., tuple[Op, ...]]:
    stride = stage.stride if layer == 0 else 1
    residual = stride == 1 and in_width == width

    def ops(resolution: int, depth: int, kernel: int, expand: int) -> tuple[Op, ...]:
        if layer >= depth:
            return ()
        size = strided(resolution, reduction)
        return inverted_residual(
            size, in_width, width, kernel, stride, expand, stage.se, stage.activation, residual
        )

    return ops


def _published(stages: tuple[Stage, ...], resolutions: tuple[int, ...]) -> Published:
    layers = [stage.layers for stage in stages]
    elastic = sum(count > 1 for count in layers)

    def rows(batch: Encodings) -> npt.NDArray[np.uint8]:
        # The authors' sampler of ProxylessNAS also writes a depth for the last, single layer.
        given = [encoding.get("d") for encoding in batch]
        if all(isinstance(d, list) and len(d) == len(stages) > elastic for d in given):
            batch = [{**encoding, "d": encoding["d"][:elastic]} for encoding in batch]
        if any(isinstance(encoding.get("r"), list) for encoding in batch):
            batch = [{**encoding, "r": _single(encoding.get("r"))} for encoding in batch]
        kernels = option_indices(batch, "ks", KERNELS, sum(layers))
        expands = option_indices(batch, "e", EXPANDS, sum(layers))
        depths = option_indices(batch, "d", DEPTHS, elastic)
        columns = [option_indices(batch, "r", resolutions)]
        for encoding in batch:
            if encoding.get("wid") is not None:
                raise UserError(f"'wid' is {json.dumps(encoding['wid'])}, expected null")
        first = 0
        for index, count in enumerate(layers):
            columns.append(depths[:, index] if count > 1 else np.zeros_like(columns[0]))
            for layer in range(first, first + count):
                columns += [kernels[:, layer], expands[:, layer]]
            first += count
        return np.stack(columns, axis=1)

    # The authors' search also writes a `wid`, which is always null in these spaces.
    return Published(("ks", "e", "d", "r", "wid"), rows)


def _single(value: object) -> object:
    """The value, or that of a list of one: the authors' search writes resolutions as lists."""
    return value[0] if isinstance(value, list) and len(value) == 1 else value


@cache
def _stem(
    size: int,
    channels: int,
    stem_width: int,
    width: int,
    stem_activation: str,
    activation: str,
    residual: bool,
) -> tuple[Op, ...]:
    """The first convolution, and the first inverted residual, which does not expand."""
    build = BlockBuilder(channels, size, size)
    x = build.batch_norm("norm", build.conv("conv", build.input, stem_width, 3, stride=2))
    x = y = build.activation("activation", x, stem_activation)
    x = build.conv("depthwise", x, stem_width, 3, groups=stem_width)
    x = build.activation("depthwise_activation", build.batch_norm("depthwise_norm", x), activation)
    x = build.batch_norm("project_norm", build.conv("project", x, width))
    if residual:
        build.add("residual", x, y)
    return build.ops


@cache
def _mbv3_head(size: int, in_width: int, expanded: int, mixed: int, classes: int) -> tuple[Op, ...]:
    """The head of MobileNetV3 (Howard et al., 2019, section 5.1)."""
    build = BlockBuilder(in_width, size, size)
    x = build.batch_norm("norm", build.conv("expand", build.input, expanded))
    x = build.global_pool("pool", build.activation("activation", x, "hardswish"))
    x = build.activation("mix_activation", build.linear("mix", x, mixed, bias=False), "hardswish")
    build.linear("classifier", x, classes)
    return build.ops


@cache
def _proxyless_head(size: int, in_width: int, mixed: int, classes: int) -> tuple[Op, ...]:
    build = BlockBuilder(in_width, size, size)
    x = build.batch_norm("norm", build.conv("mix", build.input, mixed))
    x = build.global_pool("pool", build.activation("activation", x, "relu6"))
    build.linear("classifier", x, classes)
    return build.ops
