"""Space `fbnet` of FBNet (Wu et al., 2019, tables 1 and 2): a block for each of 22 layers.

Each layer is one of eight inverted residuals (kernel, expansion, groups of the 1x1 convolutions)
or, where input and output have the same shape, skipped. Widths are those of the paper and fixed.
The encoding is `{"blocks": ["k3_e1", ..], "head": 1984}`, all layers in order; `head` is optional.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import numpy as np
import numpy.typing as npt

from search_spaces.builder import BlockBuilder
from search_spaces.ops import ChannelShuffle, Op, strided
from search_spaces.published import Encodings, Published, option_indices
from search_spaces.space import Block, Choice, SearchSpace

BLOCKS = {
    "k3_e1_g2": (3, 1, 2),
    "k5_e1_g2": (5, 1, 2),
    "k3_e1": (3, 1, 1),
    "k5_e1": (5, 1, 1),
    "k3_e3": (3, 3, 1),
    "k5_e3": (5, 3, 1),
    "k3_e6": (3, 6, 1),
    "k5_e6": (5, 6, 1),
}
"""Kernel, expansion and groups of each block, cheapest first."""

SKIP = "skip"

STAGES = ((16, 1, 1), (24, 4, 2), (32, 4, 2), (64, 4, 2), (112, 4, 1), (184, 4, 2), (352, 1, 1))
"""Width, number of layers and first stride of each stage."""

STEM_WIDTH = 16
HEAD_WIDTHS = (1504, 1984)
"""Width of the last convolution: in FBNet-A, and in FBNet-B and FBNet-C."""


def fbnet(*, image_size: int | None = None, channels: int = 3, classes: int = 1000) -> SearchSpace:
    """Return the space for images of `image_size` pixels (224 by default)."""
    size = image_size or 224
    side = strided(size, 2)

    def stem() -> tuple[Op, ...]:
        return _stem(size, channels)

    choices: list[Choice] = []
    blocks = [Block("stem", (), stem)]
    before = STEM_WIDTH
    for stage, (width, layers, first_stride) in enumerate(STAGES):
        for layer in range(layers):
            stride = first_stride if layer == 0 else 1
            name = f"stage{stage}_layer{layer}"
            can_skip = stride == 1 and before == width
            options = ((SKIP,) if can_skip else ()) + tuple(BLOCKS)
            choices.append(Choice(name, options))
            blocks.append(Block(name, (name,), _layer(side, before, width, stride)))
            before, side = width, strided(side, stride)

    def head(width: int) -> tuple[Op, ...]:
        return _head(side, before, width, classes)

    published = _published(tuple(choices))
    choices.append(Choice("head_width", HEAD_WIDTHS))
    blocks.append(Block("head", ("head_width",), head))
    return SearchSpace("fbnet", tuple(choices), tuple(blocks), published)


def _published(choices: tuple[Choice, ...]) -> Published:
    def rows(batch: Encodings) -> npt.NDArray[np.uint8]:
        names = option_indices(batch, "blocks", (*BLOCKS, SKIP), len(choices))
        columns = []
        known = (*BLOCKS, SKIP)
        for index, choice in enumerate(choices):
            index_of = [choice.options.index(n) if n in choice.options else 255 for n in known]
            column = np.array(index_of)[names[:, index]]
            if (column == 255).any():
                option_indices([{choice.name: SKIP}], choice.name, choice.options)
            columns.append(column.astype(np.uint8))
        heads = [{"head": encoding.get("head", HEAD_WIDTHS[0])} for encoding in batch]
        columns.append(option_indices(heads, "head", HEAD_WIDTHS))
        return np.stack(columns, axis=1)

    return Published(("blocks", "head"), rows)


def _layer(size: int, in_width: int, width: int, stride: int) -> Callable[..., tuple[Op, ...]]:
    @cache
    def ops(block: str) -> tuple[Op, ...]:
        if block == SKIP:
            return ()
        kernel, expand, groups = BLOCKS[block]
        build = BlockBuilder(in_width, size, size)
        hidden = expand * in_width
        x = build.conv("expand", build.input, hidden, groups=groups)
        x = build.activation("expand_activation", build.batch_norm("expand_norm", x), "relu")
        if groups > 1:
            x = build.add_op(ChannelShuffle("shuffle", (x,), x.shape, groups))
        x = build.conv("depthwise", x, hidden, kernel, stride=stride, groups=hidden)
        x = build.batch_norm("depthwise_norm", x)
        x = build.activation("depthwise_activation", x, "relu")
        x = build.batch_norm("project_norm", build.conv("project", x, width, groups=groups))
        if stride == 1 and in_width == width:
            build.add("residual", x, build.input)
        return build.ops

    return ops


@cache
def _stem(size: int, channels: int) -> tuple[Op, ...]:
    build = BlockBuilder(channels, size, size)
    x = build.batch_norm("norm", build.conv("conv", build.input, STEM_WIDTH, 3, stride=2))
    build.activation("activation", x, "relu")
    return build.ops


@cache
def _head(size: int, in_width: int, width: int, classes: int) -> tuple[Op, ...]:
    build = BlockBuilder(in_width, size, size)
    x = build.batch_norm("norm", build.conv("conv", build.input, width))
    x = build.global_pool("pool", build.activation("activation", x, "relu"))
    build.linear("classifier", x, classes)
    return build.ops
