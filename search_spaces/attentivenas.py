"""Space `attentivenas` of AttentiveNAS (Wang et al., 2021, table 7), which AlphaNet shares.

Seven stages of inverted residuals with elastic width, depth, kernel and expansion, each one value
a stage; the swish activation; squeeze-excitation in four stages; a shortcut around every layer,
through pooling and a 1x1 convolution where shapes differ (without these, AttentiveNAS-A0 would
have 198 M and not the published 203 M). The published encoding is
`{"resolution": 192, "width": [9], "depth": [7], "kernel_size": [7], "expand_ratio": [7]}`, where
the widths are those of the stem, the seven stages and the head.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import numpy as np
import numpy.typing as npt

from search_spaces.builder import BlockBuilder
from search_spaces.mobilenet import inverted_residual
from search_spaces.ops import Op, strided
from search_spaces.published import Encodings, Published, option_indices
from search_spaces.space import Block, Choice, SearchSpace

RESOLUTIONS = (192, 224, 256, 288)
STEM_WIDTHS = (16, 24)
HEAD_WIDTHS = (1792, 1984)
KERNELS = (3, 5)
HEAD_EXPAND = 6


@dataclass(frozen=True)
class Stage:
    """The ranges of one stage; `stride` is its first layer's."""

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
    """The space of AttentiveNAS; AttentiveNAS-A0 is its smallest network."""
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
            own = ("width", "depth", "kernel", "expand")
            depends = ("resolution", *(f"{prefix}_{name}" for name in own))
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
    def rows(batch: Encodings) -> npt.NDArray[np.uint8]:
        per_stage = len(STAGES)
        values = {
            key: _values(batch, key, length)
            for key, length in (
                ("width", per_stage + 2),
                ("depth", per_stage),
                ("kernel_size", per_stage),
                ("expand_ratio", per_stage),
            )
        }
        columns = [
            option_indices(batch, "resolution", resolutions),
            _column(values["width"], 0, "width", STEM_WIDTHS),
        ]
        for index, stage in enumerate(STAGES):
            columns += [
                _column(values["depth"], index, "depth", stage.depths),
                _column(values["width"], index + 1, "width", stage.widths),
                _column(values["kernel_size"], index, "kernel_size", KERNELS),
                _column(values["expand_ratio"], index, "expand_ratio", stage.expands),
            ]
        columns.append(_column(values["width"], per_stage + 1, "width", HEAD_WIDTHS))
        return np.stack(columns, axis=1)

    keys = ("resolution", "width", "depth", "kernel_size", "expand_ratio")
    return Published(keys, rows)


def _values(batch: Encodings, key: str, length: int) -> list[list[int]]:
    """The lists under a key, checked for their length; transposed: one list a place."""
    given = [encoding.get(key) for encoding in batch]
    # Each place has options of its own, so only the lengths are checked together.
    lists = [v if isinstance(v, list) and len(v) == length else None for v in given]
    if None in lists:
        option_indices([{key: given[lists.index(None)]}], key, (), length)
    return [list(place) for place in zip(*(v for v in lists if v is not None), strict=True)]


def _column(
    values: list[list[int]], place: int, key: str, options: tuple[int, ...]
) -> npt.NDArray[np.uint8]:
    name = f"{key}[{place}]"
    return option_indices([{name: value} for value in values[place]], name, options)


@cache
def _stem(size: int, channels: int, width: int) -> tuple[Op, ...]:
    build = BlockBuilder(channels, size, size)
    x = build.batch_norm("norm", build.conv("conv", build.input, width, 3, stride=2))
    build.activation("activation", x, "silu")
    return build.ops


@cache
def _head(size: int, in_width: int, width: int, classes: int) -> tuple[Op, ...]:
    """Expand six times, pool, mix without bias, classify."""
    build = BlockBuilder(in_width, size, size)
    x = build.batch_norm("norm", build.conv("expand", build.input, HEAD_EXPAND * in_width))
    x = build.global_pool("pool", build.activation("activation", x, "silu"))
    x = build.activation("mix_activation", build.linear("mix", x, width, bias=False), "silu")
    build.linear("classifier", x, classes)
    return build.ops
