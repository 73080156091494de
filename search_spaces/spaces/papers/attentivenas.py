"""Space `attentivenas` of AttentiveNAS (Wang et al., 2021, table 7), also used by AlphaNet.

Seven stages of inverted residuals with elastic width, depth, kernel and expansion, one value of
each per stage; the swish activation; squeeze-excitation in four stages; a shortcut around every
layer, with pooling and a 1x1 convolution where shapes differ (without these, AttentiveNAS-A0 would
have 198 M instead of the published 203 M). The published encoding is
`{"resolution": 192, "width": [9], "depth": [7], "kernel_size": [7], "expand_ratio": [7]}`, where
the widths are those of the stem, the seven stages and the head.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
import numpy.typing as npt

from search_spaces.builder import BlockBuilder
from search_spaces.errors import UserError
from search_spaces.ops import Op, strided
from search_spaces.published import Encodings, Published, option_indices
from search_spaces.space import Block, Choice, SearchSpace
from search_spaces.spaces.mobilenet import inverted_residual

RESOLUTIONS = (192, 224, 256, 288)
STEM_WIDTHS = (16, 24)
HEAD_WIDTHS = (1792, 1984)
KERNELS = (3, 5)
HEAD_EXPAND = 6


@dataclass(frozen=True)
class Stage:
    """The options of one stage, and the stride of its first layer."""

    widths: tuple[int, ...]
    depths: tuple[int, ...]
    expands: tuple[int, ...]
    stride: int
    se: bool


STAGES = (
    Stage((16, 24), (1, 2), (1,), 1, False),
    Stage((24, 32), (3, 4, 5), (4, 5, 6), 2, False),
    Stage((32, 40), (3, 4, 5, 6), (4, 5, 6), 2, True),
    Stage((64, 72), (3, 4, 5, 6), (4, 5, 6), 2, False),
    Stage((112, 120, 128), (3, 4, 5, 6, 7, 8), (4, 5, 6), 1, True),
    Stage((192, 200, 208, 216), (3, 4, 5, 6, 7, 8), (6,), 2, True),
    Stage((216, 224), (1, 2), (6,), 1, True),
)


def attentivenas(
    *, image_size: int | None = None, channels: int = 3, classes: int = 1000
) -> SearchSpace:
    """Return the space of AttentiveNAS, whose smallest network is AttentiveNAS-A0."""
    resolutions = tuple(sorted({*RESOLUTIONS, image_size or RESOLUTIONS[0]}))
    choices = [Choice("resolution", resolutions), Choice("stem_width", STEM_WIDTHS)]

    def stem(resolution: int, width: int) -> tuple[Op, ...]:
        return _stem(resolution, channels, width)

    blocks = [Block("stem", ("resolution", "stem_width"), stem)]
    before, reduction = "stem_width", 2
    for index, stage in enumerate(STAGES):
        prefix = f"stage{index}"
        choices += [
            Choice(f"{prefix}_depth", stage.depths),
            Choice(f"{prefix}_width", stage.widths),
            Choice(f"{prefix}_kernel", KERNELS),
            Choice(f"{prefix}_expand", stage.expands),
        ]
        for layer in range(max(stage.depths)):
            of_stage = ("width", "depth", "kernel", "expand")
            depends = ("resolution", *(f"{prefix}_{name}" for name in of_stage))
            if layer == 0:
                depends = (*depends, before)
            blocks.append(Block(f"{prefix}_layer{layer}", depends, _layer(stage, layer, reduction)))
            if layer == 0:
                reduction *= stage.stride
        before = f"{prefix}_width"
    choices.append(Choice("head_width", HEAD_WIDTHS))

    def head(resolution: int, in_width: int, width: int) -> tuple[Op, ...]:
        return _head(strided(resolution, 32), in_width, width, classes)

    blocks.append(Block("head", ("resolution", before, "head_width"), head))
    return SearchSpace("attentivenas", tuple(choices), tuple(blocks), _published(resolutions))


def _layer(stage: Stage, layer: int, reduction: int) -> Callable[..., tuple[Op, ...]]:
    def ops(
        resolution: int, width: int, depth: int, kernel: int, expand: int, before: int | None = None
    ) -> tuple[Op, ...]:
        if layer >= depth:
            return ()
        stride = stage.stride if layer == 0 else 1
        size = strided(resolution, reduction)
        return inverted_residual(
            size, before or width, width, kernel, stride, expand, stage.se, "silu", True, True
        )

    return ops


def _published(resolutions: tuple[int, ...]) -> Published:
    options = {
        "width": (STEM_WIDTHS, *(stage.widths for stage in STAGES), HEAD_WIDTHS),
        "depth": tuple(stage.depths for stage in STAGES),
        "kernel_size": (KERNELS,) * len(STAGES),
        "expand_ratio": tuple(stage.expands for stage in STAGES),
    }
    lists = {key: _OptionLists(key, per_index) for key, per_index in options.items()}

    def rows(batch: Encodings) -> npt.NDArray[np.uint8]:
        found = {key: option_lists.indices(batch) for key, option_lists in lists.items()}
        resolution = option_indices(batch, "resolution", resolutions)
        columns = [resolution, found["width"][:, 0]]
        for index in range(len(STAGES)):
            columns += [
                found["depth"][:, index],
                found["width"][:, index + 1],
                found["kernel_size"][:, index],
                found["expand_ratio"][:, index],
            ]
        columns.append(found["width"][:, -1])
        return np.stack(columns, axis=1)

    return Published(("resolution", *options), rows)


class _OptionLists:
    """A key of the encoding whose value is a list, with different options at each index."""

    def __init__(self, key: str, options: Sequence[tuple[int, ...]]) -> None:
        self.key = key
        self.options = options
        self.union = sorted({value for values in options for value in values})
        index_of = [[o.index(v) if v in o else 255 for v in self.union] for o in options]
        self.index_of = np.array(index_of, dtype=np.uint8)

    def indices(self, batch: Encodings) -> npt.NDArray[np.uint8]:
        """Return option indices `(n, length)`; one lookup for all indices, which is faster."""
        try:
            of_union = option_indices(batch, self.key, self.union, len(self.options))
            found = self.index_of[np.arange(len(self.options)), of_union]
        except UserError:
            if any(np.shape(e.get(self.key, ())) != (len(self.options),) for e in batch):
                raise
            found = np.full((1, 1), 255, dtype=np.uint8)
        if (found == 255).any():
            for index, options in enumerate(self.options):
                name = f"{self.key}[{index}]"
                option_indices([{name: e[self.key][index]} for e in batch], name, options)
        return found


@cache
def _stem(size: int, channels: int, width: int) -> tuple[Op, ...]:
    build = BlockBuilder(channels, size, size)
    x = build.batch_norm("norm", build.conv("conv", build.input, width, 3, stride=2))
    build.activation("activation", x, "silu")
    return build.ops


@cache
def _head(size: int, in_width: int, width: int, classes: int) -> tuple[Op, ...]:
    """1x1 convolution to six times the width, pooling, linear layer without bias, classifier."""
    build = BlockBuilder(in_width, size, size)
    x = build.batch_norm("norm", build.conv("expand", build.input, HEAD_EXPAND * in_width))
    x = build.global_pool("pool", build.activation("activation", x, "silu"))
    x = build.activation("mix_activation", build.linear("mix", x, width, bias=False), "silu")
    build.linear("classifier", x, classes)
    return build.ops
