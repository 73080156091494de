"""Early-exit heads: their ops, and the blocks after which they are placed.

A head maps a block's output to class scores, so that inference can stop there for samples that are
classified with confidence (Teerapittayanon et al., "BranchyNet", 2016). Heads consist of ordinary
ops with shapes, and are priced, stored and built as blocks; several heads are a list of blocks,
each under the name of the block that it follows. Does not know weights, thresholds or savings.
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

DEFAULT_EXITS = 2
"""Number of exits of a network by default."""

POOLED_SIDE = 4
"""Approximate height and width to which a head pools images, which limits its cost."""

WIDTH_FACTOR = 4
"""Features of an image head, as a multiple of the channels that it reads."""

MAX_WIDTH = 192
"""Maximum features of an image head, unless it reads more channels: late heads need few."""

PENDING_COST = 0.05
"""Fraction of the MACs by which an exit may move to avoid one output that a later block reads."""


@cache
def exit_ops(shape: Shape, classes: int, *, class_token: bool = False) -> tuple[Op, ...]:
    """Return the ops of a head that maps `shape` to class scores `(classes,)`.

    Images are pooled to a small grid, widened by a 1x1 convolution and filtered by a depthwise
    convolution over the whole grid, since early blocks have small receptive fields; the result is
    averaged and classified. Tokens are normalised, reduced to the class token or their mean, and
    classified.

    Args:
        shape: output shape of the block, `(channels, height, width)` or `(tokens, width)`.
        classes: number of classes.
        class_token: read the first token instead of the mean.

    Raises:
        ValueError: for any other shape.
    """
    build = BlockBuilder(*shape)
    x = build.input
    if len(shape) == 3:
        stride = max(1, min(shape[1:]) // POOLED_SIDE)
        if stride > 1:
            x = build.pool("pool", x, AvgPool2d, stride, stride, ceil=True)
        width = min(WIDTH_FACTOR * shape[0], max(shape[0], MAX_WIDTH))
        x = build.batch_norm("widen_norm", build.conv("widen", x, width))
        x = build.activation("widen_activation", x, "hardswish")
        kernel = 5 if min(x.shape[1:]) >= POOLED_SIDE else 3
        x = build.batch_norm("mix_norm", build.conv("mix", x, width, kernel, groups=width))
        x = build.global_pool("mean", build.activation("mix_activation", x, "hardswish"))
    elif len(shape) == 2:
        x = build.layer_norm("norm", x)
        x = build.first_token("token", x) if class_token else build.mean_token("token", x)
    else:
        raise ValueError(
            f"an exit cannot read a tensor of shape {shape}: expected (channels, height, width) or "
            "(tokens, width)"
        )
    build.linear("classifier", x, classes)
    return build.ops


def exits_of(
    blocks: Blocks, exits: int | Sequence[str] = DEFAULT_EXITS
) -> list[tuple[str, tuple[Op, ...]]]:
    """Return the heads of a network, in order: the block that each follows, and its ops.

    Args:
        blocks: the network's.
        exits: the blocks after which to place heads, or the number of heads, placed by
            `exit_positions`.

    Raises:
        UserError: for blocks that no exit can follow, or a network that does not classify.
    """
    classes, class_token = classifier_output(blocks)
    candidates = _candidates(blocks)
    if isinstance(exits, int):
        after: Sequence[str] = exit_positions(blocks, exits)
    else:
        after = exits
        for name in after:
            if name not in candidates:
                raise unknown("block before an exit", name, candidates)
        if list(after) != sorted(set(after), key=list(candidates).index):
            raise UserError(f"exits after {', '.join(after)}: expected each block once, in order")
    return [(name, exit_ops(candidates[name], classes, class_token=class_token)) for name in after]


def exit_positions(blocks: Blocks, count: int = DEFAULT_EXITS) -> tuple[str, ...]:
    """Return the blocks after which to place `count` exits, evenly by MACs.

    Exit k of n follows the block whose end is nearest to a fraction `k / (n + 2)` of the network's
    MACs: an exit near the end would save little. Ends of cells are preferred to blocks inside,
    after which more outputs of earlier blocks are still to be read. A block is excluded if its head
    costs as much as the rest of the network. If no block ends nearer to an exit's fraction than to
    those of its neighbours, there is one exit fewer.
    """
    candidates, pending = _candidates(blocks), _pending(blocks)
    ends = dict(zip(pending, accumulate(map(_macs, blocks)), strict=True))
    total = max(1, *ends.values())
    free = list(candidates)
    chosen = []
    for k in range(1, count + 1):
        distance = {name: abs(ends[name] / total - k / (count + 2)) for name in free}
        near = [name for name in free if distance[name] <= 0.5 / (count + 2)]
        if near:
            best = min(near, key=lambda name: distance[name] + PENDING_COST * pending[name])
            chosen.append(best)
            free.remove(best)
    return tuple(sorted(chosen, key=list(candidates).index))


def classifier_output(blocks: Blocks) -> tuple[int, bool]:
    """Return the number of classes of a network, and whether it classifies its first token.

    Raises:
        UserError: for a network whose output is not one vector.
    """
    name, ops = blocks[-1]
    shape = ops[-1].out_shape
    if len(shape) != 1:
        raise UserError(
            f"early exits need a network whose output is one vector of class scores: that of its "
            f"last block '{name}' has shape {shape}"
        )
    return shape[0], any(isinstance(op, FirstToken) for op in ops)


def exit_block(space: SearchSpace, block: Block) -> Block:
    """Return the head after a block of a space, as a block that depends on the same choices.

    It has no ops where the block is absent.
    """
    classes, class_token = classifier_output(space.ops(space.largest))

    def ops(*values: object) -> tuple[Op, ...]:
        before = block.ops(*values)
        if not before or len(before[-1].out_shape) == 1:
            return ()
        return exit_ops(before[-1].out_shape, classes, class_token=class_token)

    return replace(block, name=exit_name(block.name), ops=ops)


def exit_name(block: str) -> str:
    """Return the name of the head after a block, as a block."""
    return f"exit_{block}"


def _candidates(blocks: Blocks) -> dict[str, Shape]:
    """The blocks that an exit can follow, with the shapes of their outputs."""
    classes, class_token = classifier_output(blocks)
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
    """After each block, the number of outputs of earlier blocks that are still to be read."""
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
