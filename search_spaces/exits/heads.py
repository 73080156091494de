"""Early exits: what a head after a block is made of, and after which blocks heads stand.

A head turns a block's output into class scores of its own, so that a sample that is already
decided need not go on (Teerapittayanon et al., "BranchyNet", 2016). Its ops are ordinary ops with
shapes, so whatever prices, stores or builds a block does the same with a head; several heads are
written as blocks are, each under the name of the block that it stands after. Does not know
weights, thresholds, nor what leaving early saves.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from itertools import accumulate

from search_spaces.builder import BlockBuilder
from search_spaces.errors import UserError, unknown
from search_spaces.ops import AvgPool2d, Op, Shape, outside_blocks
from search_spaces.serial import Blocks
from search_spaces.space import Block, SearchSpace
from search_spaces.token_ops import FirstToken

EXITS = 2
"""Exits of a network, where nobody says otherwise."""

GRID = 4
"""Height and width that a head pools images to before it looks at them: it stays cheap."""

WIDTH_FACTOR = 4
"""Features of an image head, as a multiple of the channels it reads."""

WIDEST = 192
"""Features that an image head has at most, unless it reads more channels: late ones need few."""

PENDING_COST = 0.05
"""Share of the MACs by which an exit may move to where one output less is yet to be read."""


@cache
def exit_ops(shape: Shape, classes: int, *, class_token: bool = False) -> tuple[Op, ...]:
    """The head for a block that gives `shape`: class scores `(classes,)`.

    Images are pooled to a small grid and given more channels by a 1x1 convolution, which a
    depthwise one then filters over the whole grid: early blocks have seen little of an image, and
    what they lack is that its parts meet. The result is averaged and classified. Tokens are
    normalised, read at the class token or averaged, and classified.

    Args:
        shape: `(channels, height, width)` or `(tokens, width)`.
        class_token: the first token is the one to read.

    Raises:
        ValueError: for a shape that is neither.
    """
    build = BlockBuilder(*shape)
    x = build.input
    if len(shape) == 3:
        stride = max(1, min(shape[1:]) // GRID)
        if stride > 1:
            x = build.pool("pool", x, AvgPool2d, stride, stride, ceil=True)
        width = min(WIDTH_FACTOR * shape[0], max(shape[0], WIDEST))
        x = build.batch_norm("widen_norm", build.conv("widen", x, width))
        x = build.activation("widen_activation", x, "hardswish")
        kernel = 5 if min(x.shape[1:]) >= GRID else 3
        x = build.batch_norm("mix_norm", build.conv("mix", x, width, kernel, groups=width))
        x = build.global_pool("mean", build.activation("mix_activation", x, "hardswish"))
    elif len(shape) == 2:
        x = build.layer_norm("norm", x)
        x = build.first_token("token", x) if class_token else build.mean_token("token", x)
    else:
        raise ValueError(f"an exit cannot read a tensor of shape {shape}")
    build.linear("classifier", x, classes)
    return build.ops


def exits_of(
    blocks: Blocks, exits: int | Sequence[str] = EXITS
) -> list[tuple[str, tuple[Op, ...]]]:
    """The heads of a network, in order: the block that each stands after, and its ops.

    Args:
        exits: the blocks to stand after, or how many heads, placed by `places`.

    Raises:
        UserError: for blocks that no exit can stand after, or a network that does not classify.
    """
    classes, class_token = reading(blocks)
    able = _able(blocks)
    if isinstance(exits, int):
        after: Sequence[str] = places(blocks, exits)
    else:
        after = exits
        for name in after:
            if name not in able:
                raise unknown("place of an exit", name, able)
        if list(after) != sorted(set(after), key=list(able).index):
            raise UserError(f"exits stand after {', '.join(after)}: expected each once, in order")
    return [(name, exit_ops(able[name], classes, class_token=class_token)) for name in after]


def places(blocks: Blocks, count: int = EXITS) -> tuple[str, ...]:
    """The blocks after which `count` exits stand, evenly by share of the network's MACs.

    The exit k of n stands after the block that ends nearest to a share `k / (n + 2)`: one near the
    end would save little. It stands at the end of a cell rather than within, where more outputs of
    earlier blocks are yet to be read. A block is no place where the head costs as much as what is
    left of the network. Where no block ends nearer to an exit's share than to its neighbours',
    there is one exit less.
    """
    able, pending = _able(blocks), _pending(blocks)
    ends = dict(zip(pending, accumulate(map(_macs, blocks)), strict=True))
    total = max(1, *ends.values())
    free = list(able)
    chosen = []
    for k in range(1, count + 1):
        distance = {name: abs(ends[name] / total - k / (count + 2)) for name in free}
        near = [name for name in free if distance[name] <= 0.5 / (count + 2)]
        if near:
            best = min(near, key=lambda name: distance[name] + PENDING_COST * pending[name])
            chosen.append(best)
            free.remove(best)
    return tuple(sorted(chosen, key=list(able).index))


def reading(blocks: Blocks) -> tuple[int, bool]:
    """How many classes a network tells, and whether it reads them off its first token.

    Raises:
        UserError: for a network whose output is not one vector.
    """
    name, ops = blocks[-1]
    shape = ops[-1].out_shape
    if len(shape) != 1:
        raise UserError(
            f"early exits need a network that gives one vector of class scores; block '{name}', "
            f"its last, gives {shape}"
        )
    return shape[0], any(isinstance(op, FirstToken) for op in ops)


def exit_block(space: SearchSpace, block: Block) -> Block:
    """The head after a block of a space, as a function of the block's own choices.

    Its forms are the heads after all forms of the block; none where the block is switched off.
    """
    classes, class_token = reading(space.ops(space.largest))

    def ops(*values: object) -> tuple[Op, ...]:
        own = block.ops(*values)
        if not own or len(own[-1].out_shape) == 1:
            return ()
        return exit_ops(own[-1].out_shape, classes, class_token=class_token)

    return replace(block, name=exit_name(block.name), ops=ops)


def exit_name(block: str) -> str:
    """What the head after a block is called among blocks."""
    return f"exit_{block}"


def _able(blocks: Blocks) -> dict[str, Shape]:
    """The blocks that an exit can stand after, with what they give."""
    classes, class_token = reading(blocks)
    left = sum(map(_macs, blocks))
    result = {}
    for block in blocks[:-1]:
        name, ops = block
        left -= _macs(block)
        shape = ops[-1].out_shape
        if len(shape) == 1:
            continue
        head = exit_ops(shape, classes, class_token=class_token)
        if sum(op.macs for op in head) < left:
            result[name] = shape
    return result


def _pending(blocks: Blocks) -> dict[str, int]:
    """How many outputs of earlier blocks are yet to be read, after each block."""
    readers = {
        source: index for index, (_, ops) in enumerate(blocks) for source in outside_blocks(ops)
    }
    place = {name: index for index, (name, _) in enumerate(blocks)}
    return {
        name: sum(place[source] < index < reader for source, reader in readers.items())
        for name, index in place.items()
    }


def _macs(block: tuple[str, Sequence[Op]]) -> int:
    return sum(op.macs for op in block[1])
