"""Spaces `cnn-tiny`, `-cifar` and `-imagenet`: stages of any common kind of convolutional block.

Each stage chooses its kind of block (`convolution_blocks.py`), its depth and its width, the stem
its stride and its width, the head whether it has a 1x1 convolution; the last stages may be absent.
`cnn-PIXELS-WIDTH` has the size that a budget asks for.
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
from search_spaces.spaces.cnn_presets import (
    POOLED_STEM,
    Stage,
    fitted_preset,
    parse_fitted,
    preset,
)
from search_spaces.spaces.convolution_blocks import block_ops


def cnn(
    name: str = "imagenet", *, image_size: int | None = None, channels: int = 3, classes: int = 1000
) -> SearchSpace:
    """Return the space for images of `channels` channels and `classes` classes.

    Args:
        name: the preset, or `PIXELS-WIDTH` for that of `fitted_preset`.
        image_size: height and width of the data's images.
        channels: channels of images.
        classes: number of classes.
    """
    fitted = parse_fitted(f"cnn-{name}")
    if fitted is None:
        sizes = {"tiny": 8, "cifar": 32, "imagenet": 224}
        ranges = preset(name, image_size or sizes[name])
    else:
        ranges = fitted_preset(*fitted)
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
    activation = f"{name}_activation" if stage.activations else "activation"
    block = f"{name}_block"
    first = f"{name}_first" if stage.firsts else block
    present = tuple(d for d in stage.depths if d)
    if optional:
        (nearest,) = (c for c in parts.choices if c.name == optional[-1])
        parts.choose(depth, stage.depths, nearest.name, tuple(d for d in nearest.options if d))
    else:
        parts.choose(depth, stage.depths)
    with_stage = (depth, present)
    parts.choose(width, stage.widths, *with_stage)
    if stage.activations:
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
