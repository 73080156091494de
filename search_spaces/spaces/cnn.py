"""Spaces `cnn-tiny`, `-cifar` and `-imagenet`: stages of any common kind of convolutional block.

Each stage chooses its kind of block (`convolution_blocks.py`), its depth and its width, the stem
its stride and its width, the head whether it has a 1x1 convolution; the last stages may be absent.
MobileNetV2, MobileNetV3-Large, EfficientNet-B0 and ResNet-18 are members of `imagenet`, ResNet-8 of
`tiny` and `cifar`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any

from search_spaces.architecture import Value
from search_spaces.builder import BlockBuilder, pooled
from search_spaces.ops import MaxPool2d, Op, strided
from search_spaces.space import Block, Choice, SearchSpace
from search_spaces.spaces.convolution_blocks import block_ops

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
    activations: tuple[str, ...] = ("relu",)


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
    *("separable-k3", "separable-k5", "fused-e1", "inverted-k3-e2", "inverted-k3-e4-se"),
    *("inverted-k5-e4-se", "inverted-k3-e6", "bottleneck", "fused-e2", "fused-e4", "basic"),
)
"""Kinds of blocks for small images."""

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
        return Preset(resolutions, (2, 1), (8, 16, 24), stages, (0, 128))
    shrunk = 4 * round(image_size * 3 / 16)
    stages = _small_stages(
        (8, 16, 24, 32, 48, 64),
        (16, 24, 32, 48, 64, 96, 128),
        (32, 48, 64, 96, 128, 192, 256),
        (64, 96, 128, 192, 256, 384),
    )
    return Preset((shrunk, image_size), (2, 1), (8, 16, 24, 32, 48), stages, (0, 256))


def cnn(
    name: str = "imagenet", *, image_size: int | None = None, channels: int = 3, classes: int = 1000
) -> SearchSpace:
    """Return the space for images of `channels` channels and `classes` classes.

    Args:
        name: the preset.
        image_size: height and width of the data's images.
        channels: channels of images.
        classes: number of classes.
    """
    sizes = {"tiny": 8, "cifar": 32, "imagenet": 224}
    ranges = preset(name, image_size or sizes[name])
    parts = _Parts()
    parts.choose("resolution", ranges.resolutions)
    parts.choose("stem_stride", ranges.stem_strides)
    parts.choose("stem_width", ranges.stem_widths)
    parts.choose("activation", ranges.activations)

    def stem(s: Settings) -> tuple[Op, ...]:
        return _stem(s["resolution"], channels, s["stem_width"], s["stem_stride"], s["activation"])

    parts.block("stem", (*IMAGE, "stem_width", "activation"), stem)
    before, reduction = _Part("stem", 1), 1
    optional: list[str] = []
    last = [before]
    """Parts that may be the last one before the head, the latest first."""
    for index, stage in enumerate(ranges.stages):
        name_ = f"stage{index}"
        _add_stage(parts, name_, stage, before, optional)
        reduction *= stage.stride
        absent = 0 in stage.depths
        optional += [f"{name_}_depth"] if absent else []
        before = _Part(name_, reduction, tuple(optional))
        last = [before, *(last if absent else last[1:])]
    parts.choose("head_width", ranges.head_widths)
    parts.choose("hidden_features", ranges.hidden_features)

    def head(s: Settings) -> tuple[Op, ...]:
        part = next(p for p in last if all(s[depth] for depth in p.needs))
        width, hidden = s["head_width"], s["hidden_features"]
        size, into = _size(s, part.reduction), s[f"{part.name}_width"]
        return _head(size, into, width, hidden, classes, s["activation"])

    widths = (f"{part.name}_width" for part in last)
    at_end = ("head_width", "hidden_features", "activation")
    parts.block("head", (*IMAGE, *widths, *optional, *at_end), head)
    return SearchSpace(f"cnn-{name}", tuple(parts.choices), tuple(parts.blocks))


Settings = Mapping[str, Any]
"""Values of choices and constants, by name."""

IMAGE = ("resolution", "stem_stride")
"""Settings on which the size of every image depends."""


@dataclass(frozen=True)
class _Part:
    """The stem or a stage, as what follows it sees it."""

    name: str
    reduction: int
    """Product of the strides of the stages up to its end."""
    needs: tuple[str, ...] = ()
    """Depths that must not be 0 for it to be present."""


@dataclass
class _Parts:
    """Choices, constants and blocks of a network. A setting with one option is a constant."""

    choices: list[Choice] = field(default_factory=list)
    constants: dict[str, Value] = field(default_factory=dict)
    blocks: list[Block] = field(default_factory=list)

    def choose(
        self,
        name: str,
        options: Sequence[Value],
        parent: str | None = None,
        active_for: tuple[Value, ...] = (),
    ) -> None:
        """Add a choice, active for these values of its parent; for all if that is a constant."""
        if len(options) == 1:
            self.constants[name] = options[0]
        elif parent is None or parent in self.constants:
            self.choices.append(Choice(name, tuple(options)))
        else:
            self.choices.append(Choice(name, tuple(options), parent, active_for))

    def block(
        self, name: str, settings: Sequence[str], function: Callable[[Settings], tuple[Op, ...]]
    ) -> None:
        """Add a block whose function takes these settings."""
        constants = {s: self.constants[s] for s in settings if s in self.constants}
        chosen = tuple(dict.fromkeys(s for s in settings if s not in constants))

        def ops(*values: Value) -> tuple[Op, ...]:
            return function({**constants, **dict(zip(chosen, values, strict=True))})

        self.blocks.append(Block(name, chosen, ops))


def _add_stage(
    parts: _Parts, name: str, stage: Stage, before: _Part, optional: Sequence[str]
) -> None:
    """Add the choices and the blocks of one stage.

    Args:
        before: the stem or the stage before it.
        optional: depths of the earlier stages that may be absent, and this one with them.
    """
    depth, width = f"{name}_depth", f"{name}_width"
    activation, block = f"{name}_activation", f"{name}_block"
    first = f"{name}_first" if stage.firsts else block
    present = tuple(d for d in stage.depths if d)
    if optional:
        (nearest,) = (c for c in parts.choices if c.name == optional[-1])
        parts.choose(depth, stage.depths, nearest.name, tuple(d for d in nearest.options if d))
    else:
        parts.choose(depth, stage.depths)
    with_stage = (depth, present)
    parts.choose(width, stage.widths, *with_stage)
    parts.choose(activation, stage.activations, *with_stage)
    if stage.firsts:
        parts.choose(first, stage.firsts, *with_stage)
        parts.choose(block, stage.blocks, depth, tuple(d for d in present if d > 1))
    else:
        parts.choose(block, stage.blocks, *with_stage)
    nullable = (*optional, depth) if 0 in stage.depths else tuple(optional)

    def layer0(s: Settings) -> tuple[Op, ...]:
        if not all(s[d] for d in nullable):
            return ()
        kind = _of_layer(s[first], 0)
        into = s[f"{before.name}_width"]
        return block_ops(
            kind, _size(s, before.reduction), into, s[width], stage.stride, s[activation]
        )

    into = f"{before.name}_width"
    parts.block(f"{name}_layer0", (*IMAGE, into, width, *nullable, activation, first), layer0)
    reduction = before.reduction * stage.stride
    for layer in range(1, max(stage.depths)):

        def later(s: Settings, layer: int = layer) -> tuple[Op, ...]:
            if s[depth] <= layer or not all(s[d] for d in nullable):
                return ()
            kind = _of_layer(s[block], layer - 1 if stage.firsts else layer)
            return block_ops(kind, _size(s, reduction), s[width], s[width], 1, s[activation])

        settings = (*IMAGE, width, *nullable, depth, activation, block)
        parts.block(f"{name}_layer{layer}", settings, later)


def _of_layer(blocks: str, layer: int) -> str:
    """The kind of block of a layer; see `Stage.blocks`."""
    kinds = blocks.split("/")
    return kinds[min(layer, len(kinds) - 1)]


def _size(settings: Settings, reduction: int) -> int:
    """Height and width after stages that reduce them by `reduction`."""
    stride = settings["stem_stride"]
    size = strided(settings["resolution"], 2 if stride == POOLED_STEM else stride)
    if stride == POOLED_STEM:
        size = pooled(size, 3, 2, 1, ceil=False)
    return strided(size, reduction)  # repeated ceilings equal one ceiling


@cache
def _stem(size: int, channels: int, width: int, stride: int, activation: str) -> tuple[Op, ...]:
    build = BlockBuilder(channels, size, size)
    large = stride == POOLED_STEM
    name, kernel = ("conv7", 7) if large else ("conv", 3)
    x = build.conv(name, build.input, width, kernel, stride=2 if large else stride)
    x = build.activation("activation", build.batch_norm("norm", x), activation)
    if large:
        build.pool("pool", x, MaxPool2d, 3, 2, padding=1)
    return build.ops


@cache
def _head(
    size: int, in_width: int, width: int, hidden: int, classes: int, activation: str
) -> tuple[Op, ...]:
    build = BlockBuilder(in_width, size, size)
    x = build.input
    if width:
        x = build.batch_norm("norm", build.conv("conv", x, width))
        x = build.activation("activation", x, activation)
    x = build.global_pool("pool", x)
    if hidden:
        x = build.activation("hidden_activation", build.linear("hidden", x, hidden), "hardswish")
        name = "hidden_classifier"
    else:
        # Another layer than without the convolution: a supernet cannot share its weights.
        name = "wide_classifier" if width else "classifier"
    build.linear(name, x, classes)
    return build.ops
