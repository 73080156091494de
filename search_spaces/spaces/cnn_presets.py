"""The options of the spaces `cnn`: presets for the usual sizes of images, and those for a budget.

Knows options. Does not know what is built from them (`cnn.py`).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from search_spaces.errors import UserError

POOLED_STEM = 4
"""Stem stride of ResNets for large images: a 7x7 convolution and pooling, both with stride 2."""


@dataclass(frozen=True)
class Stage:
    """The options of one stage, cheapest first."""

    stride: int
    depths: tuple[int, ...]
    """Without a stage of depth 0 there are no later stages either."""
    widths: tuple[int, ...]
    blocks: tuple[str, ...]
    """Kinds of block (`convolution_blocks.BlockKind`). In `inverted-k3-e2.5/inverted-k3-e2.3` the
    first is that of the first block to which the choice applies, the second that of all others."""
    firsts: tuple[str, ...] = ()
    """Kinds of the stage's first block, if it is chosen apart from the others."""
    activations: tuple[str, ...] = ()
    """Of the stage; none: that of the stem and the head."""


@dataclass(frozen=True)
class Preset:
    """The options of a network, cheapest first."""

    resolutions: tuple[int, ...]
    stem_strides: tuple[int, ...]
    stem_widths: tuple[int, ...]
    stages: tuple[Stage, ...]
    head_widths: tuple[int, ...]
    """Channels of the head's 1x1 convolution; 0: none."""
    hidden_features: tuple[int, ...] = (0,)
    """Features of the classifier's hidden layer, 0: none; its activation is `hardswish`."""
    activations: tuple[str, ...] = ("relu",)
    """Of stem and head."""


SMALL_BLOCKS = (
    *("separable-k3", "inverted-k3-e2", "fused-e1", "fused-e1-se", "inverted-k3-e4-se"),
    *("bottleneck", "fused-e2-se", "basic", "basic-se"),
)
"""Kinds of blocks where the budget, or small images, decide the size of the networks."""

ACTIVATIONS = ("relu", "silu", "hardswish")

MOST_PIXELS, LEAST_WIDTH, MOST_WIDTH = 512, 4, 4096
"""Ranges of `fitted_preset`."""

LARGE_BLOCKS = (
    *("inverted-k3-e2.5/inverted-k3-e2.3", "inverted-k3-e3", "inverted-k5-e3-se"),
    *("inverted-k3-e4", "inverted-k3-e6", "inverted-k3-e6-se", "inverted-k5-e6-se"),
    *("bottleneck", "fused-e2", "fused-e4", "basic"),
)
"""Kinds of blocks for large images."""


def _small_stages(*widths: tuple[int, ...]) -> tuple[Stage, ...]:
    depths = ((1, 2, 3), (1, 2, 3, 4), (1, 2, 3, 4), (0, 1, 2, 3))
    strides = (1, 2, 2, 2)
    stages = zip(strides, depths, widths, strict=True)
    return tuple(Stage(stride, depth, width, SMALL_BLOCKS) for stride, depth, width in stages)


def _large_stages() -> tuple[Stage, ...]:
    start = ("separable-k3", "inverted-k3-e1", "inverted-k3-e1-se", "fused-e1", "basic")
    two, three = ("relu", "silu"), ("relu", "hardswish", "silu")

    def stage(
        stride: int, depths: tuple[int, ...], widths: tuple[int, ...], activations: tuple[str, ...]
    ) -> Stage:
        return Stage(stride, depths, widths, LARGE_BLOCKS, LARGE_BLOCKS, activations)

    return (
        Stage(1, (1, 2), (16, 24, 32, 64), start, (), two),
        stage(2, (1, 2, 3), (24, 32, 64, 128), two),
        stage(2, (1, 2, 3, 4), (32, 40, 48, 256), two),
        stage(2, (1, 2, 3, 4), (64, 80, 96, 512), three),
        stage(1, (0, 1, 2, 3), (96, 112, 128), three),
        stage(2, (1, 2, 3, 4), (160, 192, 224), three),
        stage(1, (0, 1), (320,), three),
    )


def preset(name: str, image_size: int) -> Preset:
    """Return the preset `tiny` (8-31 pixels), `cifar` (32-63) or `imagenet` (224).

    Args:
        image_size: height and width of the data's images, on which all but `imagenet` depend.
    """
    if name == "imagenet":
        return Preset(
            (128, 160, 192, 224),
            (POOLED_STEM, 2),
            (16, 24, 32, 64),
            _large_stages(),
            (0, 960, 1280),
            (0, 1280),
            ("relu", "hardswish", "silu"),
        )
    if name == "tiny":
        resolutions = tuple(sorted({image_size, max(16, image_size)}))
        stages = _small_stages(
            (8, 16, 24), (16, 24, 32, 48), (24, 32, 48, 64, 96), (48, 64, 96, 128)
        )
        stems = (8, 16, 24)
        return Preset(resolutions, (2, 1), stems, stages, (0, 128), activations=ACTIVATIONS)
    shrunk = 4 * round(image_size * 3 / 16)
    stages = _small_stages(
        (8, 16, 24, 32, 48, 64),
        (16, 24, 32, 48, 64, 96, 128),
        (32, 48, 64, 96, 128, 192, 256),
        (64, 96, 128, 192, 256, 384),
    )
    return Preset(
        (shrunk, image_size),
        (2, 1),
        (8, 16, 24, 32, 48),
        stages,
        (0, 256),
        activations=ACTIVATIONS,
    )


def fitted_preset(pixels: int, width: int) -> Preset:
    """Return the options of networks for a budget, given by their size.

    Args:
        pixels: largest resolution.
        width: usual channels of the first stage; those of later ones are twice as many each.
    """
    sizes = {4 * max(2, round(pixels * share / 4)) for share in (0.5, 0.75)}
    large, small = pixels > 96, pixels < 24
    # Images of 2 to 16 pixels remain before the head.
    stages = 3 if small else 5 if pixels > 256 else 4
    base = [width * 2**index for index in range(stages)]
    return Preset(
        tuple(sorted({*sizes, pixels})),
        (POOLED_STEM, 2) if large else (2, 1),
        _channels(width, (0.5, 1, 1.5)),
        tuple(
            Stage(
                1 if index == 0 else 2,
                (0, 1, 2, 3) if index == stages - 1 else (1, 2, 3, 4),
                _channels(base[index], (0.5, 0.75, 1, 1.5, 2)),
                SMALL_BLOCKS,
            )
            for index in range(stages)
        ),
        (0, _channels(base[-1], (2,))[0]),
        activations=ACTIVATIONS,
    )


def _channels(width: int, ratios: Sequence[float]) -> tuple[int, ...]:
    """Multiples of a width in steps of 8, for which kernels are fast, or of 4 below 16."""
    steps = [8 if ratio * width > 12 else 4 for ratio in ratios]
    found = (s * max(1, round(r * width / s)) for r, s in zip(ratios, steps, strict=True))
    return tuple(sorted(set(found)))


def fitted_name(pixels: int, width: int) -> str:
    """Return the name of a space of `fitted_preset`: `cnn-32-16`."""
    return f"cnn-{pixels}-{width}"


def parse_fitted(name: str) -> tuple[int, int] | None:
    """Return pixels and width of a name such as `cnn-32-16`; None for other names.

    Raises:
        UserError: for numbers out of range.
    """
    found = re.fullmatch(r"cnn-(\d+)-(\d+)", name)
    if found is None:
        return None
    pixels, width = int(found[1]), int(found[2])
    if not 8 <= pixels <= MOST_PIXELS or not LEAST_WIDTH <= width <= MOST_WIDTH:
        raise UserError(
            f"no space {name}: expected cnn-PIXELS-WIDTH with 8 to {MOST_PIXELS} pixels and "
            f"{LEAST_WIDTH} to {MOST_WIDTH} channels"
        )
    return pixels, width
