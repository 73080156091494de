"""Space `nasbench201`: a repeated cell of six edges (Dong and Yang, 2020, section 2).

Each edge of the cell is one of five operations; all cells are equal. Every edge is a block that
reads its source node, so that cost tables are small. Networks are built as in the benchmark, with
edges whose output is unused. The encoding is the benchmark's string, `{"arch":
"|nor_conv_3x3~0|+|none~0|skip_connect~1|+|..|"}`. Does not know the cells of DARTS (`darts.py`).
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import cache

import numpy as np
import numpy.typing as npt

from search_spaces.builder import BlockBuilder
from search_spaces.errors import UserError
from search_spaces.ops import AvgPool2d, Op, strided
from search_spaces.published import Encodings, Published
from search_spaces.space import Block, Choice, SearchSpace

OPERATIONS = ("none", "skip_connect", "avg_pool_3x3", "nor_conv_1x1", "nor_conv_3x3")
EDGES = ((0, 1), (0, 2), (1, 2), (0, 3), (1, 3), (2, 3))
"""Source and target node of each edge, in the order of the benchmark's string."""

WIDTHS = (16, 32, 64)
CELLS = 5

_EDGE = re.compile(r"\|([a-z0-9_]+)~(\d)")
_FORM = "'|op~0|+|op~0|op~1|+|op~0|op~1|op~2|'"


def nasbench201(
    *, image_size: int | None = None, channels: int = 3, classes: int = 10
) -> SearchSpace:
    """Return the space of 15,625 networks for images of `image_size` pixels (32 by default)."""
    image = size = image_size or 32
    choices = tuple(Choice(f"edge{a}{b}", OPERATIONS) for a, b in EDGES)

    def stem() -> tuple[Op, ...]:
        build = BlockBuilder(channels, image, image)
        build.batch_norm("norm", build.conv("conv", build.input, WIDTHS[0], 3))
        return build.ops

    blocks = [Block("stem", (), stem)]
    before, width = "stem", WIDTHS[0]
    for stage, stage_width in enumerate(WIDTHS):
        if stage:
            name = f"reduce{stage}"
            blocks.append(Block(name, (), _reduction(before, width, stage_width, size)))
            before, width, size = name, stage_width, strided(size, 2)
        for cell in range(CELLS):
            added, before = _cell(f"stage{stage}_cell{cell}", before, width, size)
            blocks += added

    def head(width: int = width, size: int = size) -> tuple[Op, ...]:
        build = BlockBuilder(width, size, size)
        x = build.activation("activation", build.batch_norm("norm", build.input), "relu")
        build.linear("classifier", build.global_pool("pool", x), classes)
        return build.ops

    blocks.append(Block("head", (), head))
    return SearchSpace("nasbench201", choices, tuple(blocks), Published(("arch",), _rows))


def _rows(batch: Encodings) -> npt.NDArray[np.uint8]:
    return np.array([_codes(encoding.get("arch")) for encoding in batch], dtype=np.uint8)


def _codes(text: object) -> tuple[int, ...]:
    if not isinstance(text, str):
        raise UserError(f"'arch' is {text}, expected {_FORM}")
    return _parsed(text)


@cache
def _parsed(text: str) -> tuple[int, ...]:
    found = _EDGE.findall(text)
    sources = [int(source) for _, source in found]
    if sources != [a for a, _ in EDGES] or text.count("+") != 2:
        raise UserError(f"'arch' is '{text}', expected {_FORM}")
    for name, _ in found:
        if name not in OPERATIONS:
            raise UserError(f"'arch' has '{name}': expected one of {', '.join(OPERATIONS)}")
    return tuple(OPERATIONS.index(name) for name, _ in found)


def _cell(name: str, before: str, width: int, size: int) -> tuple[list[Block], str]:
    """The blocks of a cell, three nodes that each sum edges, and the name of the last block."""
    nodes = [before]
    blocks = []
    for node in range(1, 4):
        edges = []
        for a, b in EDGES:
            if b == node:
                edge = f"{name}_edge{a}{b}"
                blocks.append(Block(edge, (f"edge{a}{b}",), _edge(nodes[a], width, size)))
                edges.append(edge)
        if len(edges) == 1:
            nodes.append(edges[0])
        else:
            total = f"{name}_node{node}"
            blocks.append(Block(total, (), _sum(tuple(edges), width, size)))
            nodes.append(total)
    return blocks, nodes[-1]


def _edge(source: str, width: int, size: int) -> Callable[..., tuple[Op, ...]]:
    @cache
    def ops(operation: str) -> tuple[Op, ...]:
        build = BlockBuilder(width, size, size)
        x = build.output_of(source, width, size, size)
        if operation == "none":
            build.zero("zero", x, x.shape)
        elif operation == "skip_connect":
            build.identity("identity", x)
        elif operation == "avg_pool_3x3":
            build.pool("pool", x, AvgPool2d, 3, 1, padding=1)
        else:
            x = build.activation("activation", x, "relu")
            kernel = 1 if operation == "nor_conv_1x1" else 3
            build.batch_norm("norm", build.conv(f"conv{kernel}x{kernel}", x, width, kernel))
        return build.ops

    return ops


def _sum(sources: tuple[str, ...], width: int, size: int) -> Callable[..., tuple[Op, ...]]:
    def ops() -> tuple[Op, ...]:
        return _added(sources, width, size)

    return ops


@cache
def _added(sources: tuple[str, ...], width: int, size: int) -> tuple[Op, ...]:
    build = BlockBuilder(width, size, size)
    x = build.output_of(sources[0], width, size, size)
    for index, source in enumerate(sources[1:]):
        x = build.add(f"add{index}", x, build.output_of(source, width, size, size))
    return build.ops


def _reduction(source: str, in_width: int, width: int, size: int) -> Callable[..., tuple[Op, ...]]:
    """A residual block of two 3x3 convolutions, with a pooled and widened shortcut."""

    def ops() -> tuple[Op, ...]:
        return _reduced(source, in_width, width, size)

    return ops


@cache
def _reduced(source: str, in_width: int, width: int, size: int) -> tuple[Op, ...]:
    build = BlockBuilder(in_width, size, size)
    y = build.output_of(source, in_width, size, size)
    x = build.activation("first_activation", y, "relu")
    x = build.batch_norm("first_norm", build.conv("first", x, width, 3, stride=2))
    x = build.conv("second", build.activation("second_activation", x, "relu"), width, 3)
    x = build.batch_norm("second_norm", x)
    y = build.conv("shortcut", build.pool("shortcut_pool", y, AvgPool2d, 2, 2), width)
    build.add("residual", x, y)
    return build.ops
