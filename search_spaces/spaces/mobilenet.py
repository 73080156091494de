"""Spaces `mobilenet-tiny`, `-cifar` and `-imagenet`: stages of inverted residuals.

The block is that of MobileNetV2 (Sandler et al., 2018, section 3) with the squeeze-excitation and
the activations of MobileNetV3 (Howard et al., 2019). Elastic: resolution, and per stage depth,
width, squeeze-excitation and activation, and per layer kernel and expansion. The first layer of a
stage has no residual, even if its widths are equal, so that shared weights always have the same
function.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

from search_spaces.builder import BlockBuilder
from search_spaces.ops import AvgPool2d, Op, Tensor, strided
from search_spaces.space import Block, Choice, SearchSpace, layer_choices

KERNELS = (3, 5, 7)
ACTIVATIONS = ("relu", "hardswish")
HEAD_ACTIVATION = "hardswish"


@dataclass(frozen=True)
class Stage:
    """The options of one stage, and the stride of its first layer."""

    widths: tuple[int, ...]
    depths: tuple[int, ...]
    expands: tuple[int, ...]
    stride: int


@dataclass(frozen=True)
class Preset:
    """The options of a network."""

    resolutions: tuple[int, ...]
    stem_widths: tuple[int, ...]
    stem_stride: int
    stages: tuple[Stage, ...]
    head_widths: tuple[int, ...]


def _tiny_resolutions(image_size: int) -> tuple[int, ...]:
    """Half the image size to all of it, and at least 16: small digits gain from upscaling."""
    image_size = min(image_size, 32)
    low, high = max(8, image_size // 2), max(16, image_size)
    return tuple(size for size in (8, 12, 16, 20, 24, 28, 32) if low <= size <= high)


def preset(name: str, image_size: int) -> Preset:
    """Return the preset `tiny` (8-32 pixels), `cifar` (32) or `imagenet` (224).

    MobileNetV2 at width 1.0 is a member of `imagenet`.
    """
    stages: tuple[Stage, ...]
    if name == "tiny":
        stages = (
            Stage((8, 12, 16), (1, 2), (1, 2), 1),
            Stage((12, 16, 24), (1, 2, 3), (2, 3, 4), 2),
            Stage((24, 32, 40), (1, 2), (2, 3, 4), 2),
        )
        return Preset(_tiny_resolutions(image_size), (8, 12, 16), 1, stages, (64, 96, 128))
    if name == "cifar":
        stages = (
            Stage((8, 12), (1,), (1,), 1),
            Stage((12, 16, 20), (1, 2), (2, 3), 2),
            Stage((20, 24, 32), (1, 2), (2, 3, 4), 2),
            Stage((32, 40, 48), (1, 2), (2, 3), 1),
            Stage((48, 64, 80), (1, 2), (2, 3, 4), 2),
        )
        return Preset((20, 24, 28, 32), (8, 12, 16), 1, stages, (128, 192, 256))
    stages = (
        Stage((16, 24), (1, 2), (1,), 1),
        Stage((16, 24, 32), (1, 2, 3), (3, 4, 6), 2),
        Stage((24, 32, 40), (2, 3, 4), (3, 4, 6), 2),
        Stage((48, 64, 80), (2, 3, 4), (3, 4, 6), 2),
        Stage((72, 96, 112), (2, 3, 4), (3, 4, 6), 1),
        Stage((112, 160, 192), (2, 3, 4), (3, 4, 6), 2),
        Stage((192, 256, 320), (1, 2), (3, 4, 6), 1),
    )
    return Preset((128, 160, 192, 224), (16, 24, 32), 2, stages, (960, 1280))


def mobilenet(
    name: str = "imagenet",
    *,
    image_size: int | None = None,
    channels: int = 3,
    classes: int = 1000,
) -> SearchSpace:
    """Return the space for images of `channels` channels and `classes` classes.

    Args:
        name: the preset.
        image_size: height and width of the data's images, which `tiny` depends on.
        channels: channels of images.
        classes: number of classes.
    """
    sizes = {"tiny": 8, "cifar": 32, "imagenet": 224}
    ranges = preset(name, image_size or sizes[name])
    stem = Choice("stem_width", ranges.stem_widths)
    choices = [Choice("resolution", ranges.resolutions), stem]
    stem_stride = ranges.stem_stride

    def stem_ops(resolution: int, width: int) -> tuple[Op, ...]:
        return _stem(resolution, channels, width, stem_stride)

    blocks = [Block("stem", ("resolution", "stem_width"), stem_ops)]
    width_before, reduction = "stem_width", ranges.stem_stride
    for index, stage in enumerate(ranges.stages):
        prefix = f"stage{index}"
        depth = Choice(f"{prefix}_depth", stage.depths)
        choices += [
            depth,
            Choice(f"{prefix}_width", stage.widths),
            Choice(f"{prefix}_se", (False, True)),
            Choice(f"{prefix}_activation", ACTIVATIONS),
        ]
        for layer in range(max(stage.depths)):
            layer_name = f"{prefix}_layer{layer}"
            options = {"kernel": KERNELS, "expand": stage.expands}
            choices += layer_choices(depth, layer, options, layer_name)
            first = layer == 0
            depends = (
                "resolution",
                f"{prefix}_width",
                f"{prefix}_depth",
                f"{prefix}_se",
                f"{prefix}_activation",
                f"{layer_name}_kernel",
                f"{layer_name}_expand",
                *((width_before,) if first else ()),
            )
            stride = stage.stride if first else 1
            blocks.append(Block(layer_name, depends, _layer(layer, reduction, stride)))
            reduction *= stride
        width_before = f"{prefix}_width"
    choices.append(Choice("head_width", ranges.head_widths))

    def head_ops(resolution: int, in_width: int, width: int) -> tuple[Op, ...]:
        return _head(strided(resolution, reduction), in_width, width, classes)

    blocks.append(Block("head", ("resolution", width_before, "head_width"), head_ops))
    return SearchSpace(f"mobilenet-{name}", tuple(choices), tuple(blocks))


def _layer(layer: int, reduction: int, stride: int) -> Callable[..., tuple[Op, ...]]:
    """The function of one layer: its ops, or none beyond the depth of the stage."""

    def ops(
        resolution: int,
        width: int,
        depth: int,
        se: bool,
        activation: str,
        kernel: int,
        expand: int,
        width_before: int | None = None,
    ) -> tuple[Op, ...]:
        if layer >= depth:
            return ()
        size = strided(resolution, reduction)  # repeated ceilings equal one ceiling
        residual = width_before is None
        return inverted_residual(
            size, width_before or width, width, kernel, stride, expand, se, activation, residual
        )

    return ops


@cache
def inverted_residual(
    size: int,
    in_width: int,
    width: int,
    kernel: int,
    stride: int,
    expand: int,
    se: bool,
    activation: str,
    residual: bool,
    projected: bool = False,
) -> tuple[Op, ...]:
    """Return the ops of an inverted residual block.

    They are a 1x1 convolution that expands, a depthwise convolution, squeeze-excitation with `se`,
    and a 1x1 convolution that projects.

    Args:
        residual: add the input to the result.
        projected: if shapes differ, pool the input and project it to `width` before the sum.
    """
    build = BlockBuilder(in_width, size, size)
    x = build.input
    hidden = in_width * expand
    if expand > 1:
        x = build.conv("expand", x, hidden)
        x = build.activation("expand_activation", build.batch_norm("expand_norm", x), activation)
    x = build.conv("depthwise", x, hidden, kernel, stride=stride, groups=hidden)
    x = build.activation("depthwise_activation", build.batch_norm("depthwise_norm", x), activation)
    if se:
        x = squeeze_excitation(build, x, divisible(hidden / 4))
    x = build.batch_norm("project_norm", build.conv("project", x, width))
    if residual:
        y = build.input
        if projected and stride > 1:
            y = build.pool("shortcut_pool", y, AvgPool2d, stride, stride, ceil=True)
        if projected and in_width != width:
            y = build.conv("shortcut", y, width)
        build.add("residual", x, y)
    return build.ops


def squeeze_excitation(build: BlockBuilder, x: Tensor, squeezed: int) -> Tensor:
    """Append squeeze-excitation with `squeezed` inner channels (Hu et al., 2018, section 3)."""
    s = build.linear("se_reduce", build.global_pool("se_pool", x), squeezed)
    s = build.linear("se_expand", build.activation("se_activation", s, "relu"), x.shape[0])
    return build.scale("se_scale", x, build.activation("se_gate", s, "hardsigmoid"))


def divisible(width: float, by: int = 8) -> int:
    """Round to a multiple of `by`, at least 90 % of `width` (the rule of MobileNetV2)."""
    rounded = max(by, int(width + by / 2) // by * by)
    return rounded + by if rounded < 0.9 * width else rounded


@cache
def _stem(size: int, channels: int, width: int, stride: int) -> tuple[Op, ...]:
    build = BlockBuilder(channels, size, size)
    x = build.batch_norm("norm", build.conv("conv", build.input, width, 3, stride=stride))
    build.activation("activation", x, HEAD_ACTIVATION)
    return build.ops


@cache
def _head(size: int, in_width: int, width: int, classes: int) -> tuple[Op, ...]:
    build = BlockBuilder(in_width, size, size)
    x = build.batch_norm("norm", build.conv("conv", build.input, width))
    x = build.activation("activation", x, HEAD_ACTIVATION)
    build.linear("classifier", build.global_pool("pool", x), classes)
    return build.ops
