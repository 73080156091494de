"""Spaces `darts` and `darts-imagenet`: a normal and a reduction cell of four nodes each.

As in Liu et al. (2019, section 3): each node sums two of the tensors before it (the outputs of the
two preceding cells, and earlier nodes), each through one of seven operations; a cell returns its
four nodes concatenated. Networks are those of the paper's evaluation, without the auxiliary head.
The encoding is the paper's genotype, `{"normal": [["sep_conv_3x3", 0], ..8], "reduce": [..8]}`,
with optional `normal_concat` and `reduce_concat`.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import cache
from itertools import combinations
from typing import Any

import numpy as np
import numpy.typing as npt

from search_spaces.builder import BlockBuilder
from search_spaces.errors import UserError, unknown
from search_spaces.ops import AvgPool2d, MaxPool2d, Op, Tensor, strided
from search_spaces.published import Encodings, Published
from search_spaces.space import Block, Choice, SearchSpace

OPERATIONS = (
    "skip_connect",
    "max_pool_3x3",
    "avg_pool_3x3",
    "dil_conv_3x3",
    "dil_conv_5x5",
    "sep_conv_3x3",
    "sep_conv_5x5",
)
NODES = 4
STEM_MULTIPLIER = 3
KINDS = ("normal", "reduce")


def _pairs(node: int) -> tuple[str, ...]:
    """The pairs of inputs of a node: 0 and 1 are the preceding cells, 2 and up earlier nodes."""
    return tuple(f"{a},{b}" for a, b in combinations(range(node + 2), 2))


def darts(
    preset: str = "cifar",
    *,
    image_size: int | None = None,
    channels: int = 3,
    classes: int | None = None,
) -> SearchSpace:
    """Return the space `cifar` (20 cells, 36 channels) or `imagenet` (14 cells, 48 channels)."""
    imagenet = preset == "imagenet"
    size = image_size or (224 if imagenet else 32)
    cells, width = (14, 48) if imagenet else (20, 36)
    outputs = classes or (1000 if imagenet else 10)
    choices = [
        Choice(f"{kind}_node{node}_{name}", options)
        for kind in KINDS
        for node in range(NODES)
        for name, options in (
            ("inputs", _pairs(node)),
            ("first", OPERATIONS),
            ("second", OPERATIONS),
        )
    ]
    blocks, outs = (
        _imagenet_stem(size, channels, width) if imagenet else _stem(size, channels, width)
    )
    reduced_before = imagenet
    reductions = (cells // 3, 2 * cells // 3)
    for index in range(cells):
        kind = "reduce" if index in reductions else "normal"
        if kind == "reduce":
            width *= 2
        added, out = _cell(f"cell{index}", kind, outs, width, reduced_before)
        blocks += added
        outs = (outs[1], out)
        reduced_before = kind == "reduce"
    last = outs[1]

    def head() -> tuple[Op, ...]:
        build = BlockBuilder(*last.shape)
        x = build.global_pool("pool", build.output_of(last.name[1:], *last.shape))
        build.linear("classifier", x, outputs)
        return build.ops

    blocks.append(Block("head", (), head))
    name = "darts" if preset == "cifar" else f"darts-{preset}"
    return SearchSpace(name, tuple(choices), tuple(blocks), Published(_KEYS, _rows))


_KEYS = ("normal", "normal_concat", "reduce", "reduce_concat")


def _rows(batch: Encodings) -> npt.NDArray[np.uint8]:
    return np.array(
        [[code for kind in KINDS for code in _codes(encoding, kind)] for encoding in batch],
        dtype=np.uint8,
    )


def _codes(encoding: Any, kind: str) -> list[int]:
    edges = encoding.get(kind)
    concat = encoding.get(f"{kind}_concat", list(range(2, 2 + NODES)))
    expected = f"expected {2 * NODES} pairs of an operation and an input, as in a genotype"
    if not isinstance(edges, list) or len(edges) != 2 * NODES:
        raise UserError(f"'{kind}' is {json.dumps(edges, default=str)}, {expected}")
    if sorted(concat) != list(range(2, 2 + NODES)):
        raise UserError(f"'{kind}_concat' is {concat}, expected all nodes: [2, 3, 4, 5]")
    codes = []
    for node in range(NODES):
        pair = edges[2 * node : 2 * node + 2]
        try:
            (first, a), (second, b) = pair
        except (TypeError, ValueError):
            raise UserError(f"'{kind}' has {json.dumps(pair, default=str)}, {expected}") from None
        for operation in (first, second):
            if operation not in OPERATIONS:
                raise unknown(f"operation in '{kind}'", str(operation), OPERATIONS)
        if a > b:
            (first, a), (second, b) = (second, b), (first, a)
        if f"{a},{b}" not in _pairs(node):
            raise UserError(
                f"node {node} of '{kind}' reads {a} and {b}: expected two different inputs "
                f"below {node + 2}"
            )
        codes += [_pairs(node).index(f"{a},{b}"), OPERATIONS.index(first), OPERATIONS.index(second)]
    return codes


def _stem(size: int, channels: int, width: int) -> tuple[list[Block], tuple[Tensor, Tensor]]:
    def ops() -> tuple[Op, ...]:
        build = BlockBuilder(channels, size, size)
        x = build.conv("conv", build.input, STEM_MULTIPLIER * width, 3)
        build.batch_norm("norm", x)
        return build.ops

    out = BlockBuilder.output_of("stem", STEM_MULTIPLIER * width, size, size)
    return [Block("stem", (), ops)], (out, out)


def _imagenet_stem(
    size: int, channels: int, width: int
) -> tuple[list[Block], tuple[Tensor, Tensor]]:
    half, quarter, eighth = (strided(size, by) for by in (2, 4, 8))

    def first() -> tuple[Op, ...]:
        build = BlockBuilder(channels, size, size)
        x = build.batch_norm("norm0", build.conv("conv0", build.input, width // 2, 3, stride=2))
        x = build.conv("conv1", build.activation("activation", x, "relu"), width, 3, stride=2)
        build.batch_norm("norm1", x)
        return build.ops

    def second() -> tuple[Op, ...]:
        build = BlockBuilder(width, quarter, quarter)
        x = build.activation(
            "activation", build.output_of("stem0", width, quarter, quarter), "relu"
        )
        build.batch_norm("norm", build.conv("conv", x, width, 3, stride=2))
        return build.ops

    assert quarter == strided(half, 2)
    outs = (
        BlockBuilder.output_of("stem0", width, quarter, quarter),
        BlockBuilder.output_of("stem1", width, eighth, eighth),
    )
    return [Block("stem0", (), first), Block("stem1", (), second)], outs


def _cell(
    name: str, kind: str, outs: tuple[Tensor, Tensor], width: int, reduced_before: bool
) -> tuple[list[Block], Tensor]:
    """The blocks of a cell, and its output `(4 * width, size, size)`."""
    size = outs[1].shape[1]
    blocks = []
    states = []
    for index, source in enumerate(outs):
        factorised = index == 0 and reduced_before
        blocks.append(Block(f"{name}_in{index}", (), _preprocess(source, width, factorised)))
        states.append(BlockBuilder.output_of(f"{name}_in{index}", width, size, size))
    out_size = strided(size, 2) if kind == "reduce" else size
    for node in range(NODES):
        prefix = f"{kind}_node{node}"
        edges = []
        for index, ordinal in enumerate(("first", "second")):
            edge = f"{name}_node{node}_{ordinal}"
            depends = (f"{prefix}_inputs", f"{prefix}_{ordinal}")
            ops = _edge(tuple(states), index, kind == "reduce", width)
            blocks.append(Block(edge, depends, ops))
            edges.append(BlockBuilder.output_of(edge, width, out_size, out_size))
        blocks.append(Block(f"{name}_node{node}", (), _sum(tuple(edges))))
        states.append(BlockBuilder.output_of(f"{name}_node{node}", width, out_size, out_size))
    blocks.append(Block(name, (), _concat(tuple(states[2:]))))
    return blocks, BlockBuilder.output_of(name, NODES * width, out_size, out_size)


def _preprocess(source: Tensor, width: int, factorised: bool) -> Callable[..., tuple[Op, ...]]:
    def ops() -> tuple[Op, ...]:
        build = BlockBuilder(*source.shape)
        x = build.activation("activation", source, "relu")
        if factorised:
            _factorised_reduction(build, x, width)
        else:
            build.batch_norm("norm", build.conv("conv", x, width))
        return build.ops

    return ops


def _factorised_reduction(build: BlockBuilder, x: Tensor, width: int) -> Tensor:
    """Two 1x1 convolutions of stride 2, the second without the first row and column."""
    even = build.conv("even", x, width // 2, stride=2, padded=False)
    odd = build.conv("odd", build.crop("crop", x), width // 2, stride=2, padded=False)
    return build.batch_norm("norm", build.concat("concat", (even, odd)))


def _edge(
    states: tuple[Tensor, ...], index: int, reduces: bool, width: int
) -> Callable[..., tuple[Op, ...]]:
    @cache
    def ops(inputs: str, operation: str) -> tuple[Op, ...]:
        source = int(inputs.split(",")[index])
        x = states[source]
        stride = 2 if reduces and source < 2 else 1
        build = BlockBuilder(*x.shape)
        _operate(build, x, operation, stride, width)
        return build.ops

    return ops


def _operate(build: BlockBuilder, x: Tensor, operation: str, stride: int, width: int) -> None:
    if operation == "skip_connect":
        if stride == 1:
            build.identity("identity", x)
        else:
            _factorised_reduction(build, build.activation("activation", x, "relu"), width)
    elif operation.endswith("pool_3x3"):
        kind = MaxPool2d if operation.startswith("max") else AvgPool2d
        build.pool("pool", x, kind, 3, stride, padding=1)
    else:
        kernel = int(operation[-1])
        rounds = 2 if operation.startswith("sep") else 1
        dilation = 1 if operation.startswith("sep") else 2
        for number in range(rounds):
            x = build.activation(f"activation{number}", x, "relu")
            name = f"depthwise{number}_{kernel}_{dilation}"
            step = stride if number == 0 else 1
            x = build.conv(name, x, width, kernel, stride=step, groups=width, dilation=dilation)
            x = build.conv(f"pointwise{number}", x, width)
            x = build.batch_norm(f"norm{number}", x)


def _sum(edges: tuple[Tensor, ...]) -> Callable[..., tuple[Op, ...]]:
    def ops() -> tuple[Op, ...]:
        build = BlockBuilder(*edges[0].shape)
        build.add("sum", *edges)
        return build.ops

    return ops


def _concat(nodes: tuple[Tensor, ...]) -> Callable[..., tuple[Op, ...]]:
    def ops() -> tuple[Op, ...]:
        build = BlockBuilder(*nodes[0].shape)
        build.concat("concat", nodes)
        return build.ops

    return ops
