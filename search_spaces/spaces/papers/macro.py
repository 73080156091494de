"""Space `macro`: a sequence of layers, each one of several named blocks or the identity.

A user's own list of `Layer`s defines such a space, with the names of the blocks for each. Knows
eight blocks; `blocks` adds a user's own functions. Widths and strides are fixed by layer.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache

import numpy as np
import numpy.typing as npt

from search_spaces.builder import BlockBuilder
from search_spaces.ops import Op, strided
from search_spaces.published import Encodings, Published, option_indices
from search_spaces.space import Block, Choice, SearchSpace
from search_spaces.spaces.mobilenet import inverted_residual

IDENTITY = "identity"

BlockFunction = Callable[[int, int, int, int], tuple[Op, ...]]
"""`(size, in_width, width, stride) -> ops`; a cached function makes tables faster."""


@dataclass(frozen=True)
class Layer:
    """A layer's width, stride, and the names of the blocks from which it is chosen.

    The identity is removed from the options where the shape changes.
    """

    width: int
    stride: int
    options: tuple[str, ...]


def _conv(kernel: int) -> BlockFunction:
    @cache
    def ops(size: int, in_width: int, width: int, stride: int) -> tuple[Op, ...]:
        build = BlockBuilder(in_width, size, size)
        x = build.conv("conv", build.input, width, kernel, stride=stride)
        build.activation("activation", build.batch_norm("norm", x), "relu")
        return build.ops

    return ops


def _separable(kernel: int) -> BlockFunction:
    @cache
    def ops(size: int, in_width: int, width: int, stride: int) -> tuple[Op, ...]:
        build = BlockBuilder(in_width, size, size)
        x = build.conv("depthwise", build.input, in_width, kernel, stride=stride, groups=in_width)
        x = build.activation("depthwise_activation", build.batch_norm("depthwise_norm", x), "relu")
        x = build.conv("pointwise", x, width)
        build.activation("activation", build.batch_norm("norm", x), "relu")
        return build.ops

    return ops


def _inverted(kernel: int, expand: int) -> BlockFunction:
    def ops(size: int, in_width: int, width: int, stride: int) -> tuple[Op, ...]:
        residual = stride == 1 and in_width == width
        return inverted_residual(
            size, in_width, width, kernel, stride, expand, False, "relu6", residual
        )

    return ops


BLOCKS: dict[str, BlockFunction] = {
    "sep3": _separable(3),
    "sep5": _separable(5),
    "mb3_e3": _inverted(3, 3),
    "mb5_e3": _inverted(5, 3),
    "mb3_e6": _inverted(3, 6),
    "mb5_e6": _inverted(5, 6),
    "conv3": _conv(3),
    "conv5": _conv(5),
}

LAYERS = tuple(
    Layer(width, stride if first else 1, (IDENTITY, *BLOCKS))
    for width, stride, layers in ((16, 1, 2), (24, 2, 3), (40, 2, 3), (80, 2, 3))
    for first in (True, *[False] * (layers - 1))
)
"""Default layers, for images of 32 pixels."""


def macro(
    layers: Sequence[Layer] = LAYERS,
    *,
    blocks: Mapping[str, BlockFunction] | None = None,
    image_size: int | None = None,
    channels: int = 3,
    classes: int = 10,
    stem_width: int = 16,
) -> SearchSpace:
    """Return a space of layers between a stem, a 3x3 convolution, and a classifier.

    The encoding is `{"layers": ["conv3", "identity", ..]}`.

    Args:
        layers: width, stride and options of each layer.
        blocks: block functions by name, in addition to `BLOCKS`.
        image_size: height and width of images, 32 by default.
        channels: channels of images.
        classes: number of classes.
        stem_width: output channels of the stem.
    """
    known = {**BLOCKS, **(blocks or {})}
    image = size = image_size or 32

    def stem() -> tuple[Op, ...]:
        return _conv(3)(image, channels, stem_width, 1)

    chain = [Block("stem", (), stem)]
    choices = []
    before = stem_width
    for index, layer in enumerate(layers):
        same_shape = layer.stride == 1 and before == layer.width
        options = tuple(o for o in layer.options if o != IDENTITY or same_shape)
        name = f"layer{index}"
        choices.append(Choice(name, options))
        chain.append(Block(name, (name,), _layer(known, size, before, layer)))
        before, size = layer.width, strided(size, layer.stride)

    def head(width: int = before, size: int = size) -> tuple[Op, ...]:
        build = BlockBuilder(width, size, size)
        build.linear("classifier", build.global_pool("pool", build.input), classes)
        return build.ops

    chain.append(Block("head", (), head))
    return SearchSpace("macro", tuple(choices), tuple(chain), _published(choices, known))


def _layer(
    known: Mapping[str, BlockFunction], size: int, in_width: int, layer: Layer
) -> Callable[[str], tuple[Op, ...]]:
    def ops(block: str) -> tuple[Op, ...]:
        if block == IDENTITY:
            return ()
        # The blocks of a layer share no weights: their ops differ in shape and function.
        return _named(known[block](size, in_width, layer.width, layer.stride), block)

    return ops


@cache
def _named(ops: tuple[Op, ...], block: str) -> tuple[Op, ...]:
    """The ops with the name of their block as a prefix of their names."""
    names = {op.name: f"{block}_{op.name}" for op in ops}
    return tuple(
        replace(
            op,
            name=names[op.name],
            inputs=tuple(replace(t, name=names.get(t.name, t.name)) for t in op.inputs),
        )
        for op in ops
    )


def _published(choices: Sequence[Choice], known: Mapping[str, BlockFunction]) -> Published:
    names = (IDENTITY, *known)

    def rows(batch: Encodings) -> npt.NDArray[np.uint8]:
        given = option_indices(batch, "layers", names, len(choices))
        columns = []
        for index, choice in enumerate(choices):
            index_of = [choice.options.index(n) if n in choice.options else 255 for n in names]
            column = np.array(index_of)[given[:, index]]
            if (column == 255).any():
                wrong = names[int(given[column == 255, index][0])]
                option_indices([{choice.name: wrong}], choice.name, choice.options)
            columns.append(column.astype(np.uint8))
        return np.stack(columns, axis=1)

    return Published(("layers",), rows)
