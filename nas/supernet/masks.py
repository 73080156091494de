"""Determines which choices can be expressed as masks on shared weights, from a block's ops.

Two forms of a block that have the same list of ops and differ only in numbers of features and sizes
of kernels are equal to the larger form with some features and kernel borders at zero (Wan et al.,
"FBNetV2", 2020, section 3.1). A block that is skipped is equal to its input. All other choices
(resolution, another activation, operations of a cell, heads of another width) need a separate path
and are sampled. Nothing is configured per space. Does not know weights or torch.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from functools import lru_cache
from itertools import product
from typing import Any

import numpy as np
import numpy.typing as npt

from search_spaces import ops as o
from search_spaces import token_ops as t
from search_spaces.space import Block, SearchSpace

Ops = tuple[o.Op, ...]
Integers = npt.NDArray[np.int64]

_COMMON = {field.name for field in fields(o.Op)}

ELASTIC = (
    o.BatchNorm2d,
    o.LayerNorm,
    t.RMSNorm,
    o.Linear,
    o.Activation,
    o.GlobalPool,
    o.MaxPool2d,
    o.AvgPool2d,
    o.Crop,
    o.Identity,
    o.Zero,
    o.Scale,
    o.Add,
    o.Multiply,
    t.ToTokens,
    t.ClassToken,
    t.PositionEmbedding,
    t.TokenType,
    t.Bias,
    t.CausalConvolution,
    t.Embedding,
    t.TiedLinear,
    t.FirstToken,
    t.MeanToken,
)
"""Ops that process each feature separately or sum over features: a feature at zero has no effect.
"""


@dataclass(frozen=True)
class Lookup:
    """An integer for each combination of some masked choices: a number of features, a kernel size.

    Attributes:
        columns: the choices.
        values: `(entries,)`; the last choice changes fastest.
        valid: `(entries,)`; whether the block is present.
    """

    columns: tuple[int, ...]
    values: tuple[int, ...]
    valid: tuple[bool, ...]


@dataclass(frozen=True)
class MaskPlan:
    """The masks of a block for given options of its sampled choices.

    Attributes:
        ops: the largest form.
        features: for each op the number of features; None if it does not vary.
        kernels: for each op the kernel size; None if it does not vary.
        presence: 1 if the block is present, 0 if it is skipped; None if it is always present.
    """

    ops: Ops
    features: tuple[Lookup | None, ...]
    kernels: tuple[Lookup | None, ...]
    presence: Lookup | None


class BlockForms:
    """All forms of a block, as an array over its choices.

    Attributes:
        name: the block's name.
        columns: the block's choices.
        index: an index into `distinct` for each combination of options, one axis per choice; -1
            where the block is skipped.
        distinct: the distinct forms.
        reads: names of other blocks whose outputs a form reads.
    """

    def __init__(self, space: SearchSpace, block: Block) -> None:
        self.name = block.name
        self.columns = tuple(space.column[name] for name in block.choices)
        seen: dict[int, int] = {}
        known: dict[Ops, int] = {}
        index = []
        every = space.forms(block)
        for ops in every:
            if id(ops) not in seen:
                seen[id(ops)] = known.setdefault(ops, len(known)) if ops else -1
            index.append(seen[id(ops)])
        sizes = tuple(len(space.choices[column].options) for column in self.columns)
        self.index: Integers = np.array(index, dtype=np.int64).reshape(sizes)
        self.distinct = tuple(known)
        self.reads = {name for ops in self.distinct for name in o.outside_blocks(ops)}
        self._sizes = [_sizes(ops) for ops in self.distinct]
        self._kinds = self._numbered([structure(ops) for ops in self.distinct])
        self._shapeless = self._numbered([structure(ops, sized=False) for ops in self.distinct])

    def _numbered(self, keys: Sequence[Any]) -> Integers:
        numbers: dict[Any, int] = {}
        kinds = np.array([numbers.setdefault(key, len(numbers)) for key in keys] + [-1])
        return np.asarray(kinds[self.index])  # index -1 is the last entry

    def unmaskable(self) -> set[int]:
        """The choices whose options cannot be expressed as masks on one form."""
        return {
            column
            for axis, column in enumerate(self.columns)
            if not self._alike(self._kinds, axis) or not self._may_vanish(axis)
        }

    def restructures(self, column: int) -> bool:
        """Whether a choice changes the structure of the block, not only its sizes."""
        if column not in self.columns:
            return False
        axis = self.columns.index(column)
        vanishing = (self._kinds < 0).any(axis=axis) != (self._kinds < 0).all(axis=axis)
        return not self._alike(self._shapeless, axis) or bool(vanishing.any())

    @staticmethod
    def _alike(kinds: Integers, axis: int) -> bool:
        """Whether all present forms along an axis are of one kind."""
        highest = kinds.max(axis=axis, keepdims=True)
        return bool(((kinds == highest) | (kinds < 0)).all())

    def _may_vanish(self, axis: int) -> bool:
        """Whether the input has the output's shape wherever the choice can skip the block."""
        vanishing = (self.index < 0).any(axis=axis, keepdims=True) & (self.index >= 0)
        return all(_passes(self.distinct[number]) for number in np.unique(self.index[vanishing]))

    def plan(self, sampled: dict[int, int]) -> MaskPlan | None:
        """Return the masks of the block for given options of the sampled choices.

        Args:
            sampled: index of the option by column.

        Returns:
            The plan; None if the block is skipped.

        Raises:
            ValueError: if no form contains all others.
        """
        masked = tuple(column for column in self.columns if column not in sampled)
        place = tuple(sampled.get(column, slice(None)) for column in self.columns)
        index = np.asarray(self.index[place])
        present = index >= 0
        if not present.any():
            return None
        numbers = np.unique(index[present])
        if len(np.unique(self._kinds[place][present])) > 1:
            raise ValueError(f"{self.name}: no form contains all others")
        sizes = np.array([self._sizes[number] for number in numbers])
        largest = (sizes == sizes.max(axis=0)).all(axis=1)
        if not largest.any():
            raise ValueError(f"{self.name}: no form contains all others")
        ops = self.distinct[numbers[int(largest.argmax())]]
        table = np.zeros((*index.shape, sizes.shape[1]), dtype=np.int64)
        table[present] = sizes[np.searchsorted(numbers, index[present])]
        features = [_lookup(masked, table[..., 3 * i], present) for i in range(len(ops))]
        kernels = [_lookup(masked, table[..., 3 * i + 1], present) for i in range(len(ops))]
        presence = _lookup(masked, present.astype(np.int64), np.ones_like(present))
        return MaskPlan(ops, tuple(features), tuple(kernels), presence)


@lru_cache(maxsize=8)
def analyse_forms(space: SearchSpace) -> tuple[tuple[BlockForms, ...], tuple[int, ...]]:
    """All forms of a space's blocks, and the columns of the choices that must be sampled."""
    blocks = tuple(BlockForms(space, block) for block in space.blocks)
    return blocks, _sampled(space, blocks)


def _sampled(space: SearchSpace, blocks: Sequence[BlockForms]) -> tuple[int, ...]:
    """Columns of the choices that cannot be masks in some block, in the space's order."""
    sampled = {column for block in blocks for column in block.unmaskable()}
    for block in blocks:
        own = [column for column in block.columns if column in sampled]
        options = [range(len(space.choices[column].options)) for column in own]
        try:
            for taken in product(*options):
                block.plan(dict(zip(own, taken, strict=True)))
        except ValueError:
            sampled |= set(block.columns)
    return tuple(sorted(sampled))


def structure(ops: Ops, *, sized: bool = True) -> tuple[Any, ...]:
    """A form without its numbers of features and kernel sizes.

    Two forms with equal structures are masks on one form.

    Args:
        sized: whether heights and widths are part of the structure.
    """
    return tuple(
        (
            type(op).__name__,
            op.name,
            *((tensor.name, _positions(tensor.shape) if sized else ()) for tensor in op.inputs),
            _positions(op.out_shape) if sized else (),
            _settings(op),
        )
        for op in ops
    )


def _positions(shape: o.Shape) -> o.Shape:
    """A shape without its dimension of features."""
    axis = o.feature_axis(shape)
    return shape[:axis] + shape[axis + 1 :]


def _settings(op: o.Op) -> object:
    """What two ops must have in common to differ in their numbers of features only."""
    if isinstance(op, o.Conv2d):
        # A smaller kernel is the centre of a larger one only if both are centred on the same pixel.
        centre = 2 * op.padding - op.dilation * (op.kernel - 1)
        channels = op.inputs[0].shape[0]
        groups: object = (op.groups, channels, op.out_shape[0])
        if op.groups == 1 or op.groups == channels:
            groups = "dense" if op.groups == 1 else op.out_shape[0] // op.groups
        return (op.stride, op.dilation, op.bias, centre, groups)
    if isinstance(op, o.Attention):
        group = op.heads // (op.kv_heads or op.heads)
        return (op.out_shape[-1] // op.heads, group, op.causal)
    if isinstance(op, t.KeepTokens):
        # A head whose query and key are zero attends to all tokens equally: the order is unchanged.
        return (op.inner // op.heads, op.judges, op.padding)
    if isinstance(op, t.RelativeAttention):
        return (op.out_shape[-1] // op.heads, op.distance)
    if isinstance(op, t.Rotary):
        return op.out_shape[-1] // op.heads
    if type(op) in ELASTIC:
        return tuple((f.name, getattr(op, f.name)) for f in fields(op) if f.name not in _COMMON)
    return op  # an op that is not elastic, such as a concatenation, must be equal


def _sizes(ops: Ops) -> list[int]:
    """Output features, kernel size and input features of each op, in one list."""
    result = []
    for op in ops:
        kernel = op.kernel if isinstance(op, o.Conv2d) else 0
        result += [o.feature_count(op.out_shape), kernel, o.feature_count(op.inputs[0].shape)]
    return result


def _passes(ops: Ops) -> bool:
    """Whether the output of a block has the shape of its input."""
    shapes = [tensor.shape for op in ops for tensor in op.inputs if tensor.name == "input"]
    return bool(shapes) and shapes[0] == ops[-1].out_shape


def _lookup(
    columns: tuple[int, ...], values: Integers, valid: npt.NDArray[np.bool_]
) -> Lookup | None:
    """The lookup over the choices on which the values depend; None if all values are equal."""
    kept = list(columns)
    for column in columns:
        axis = kept.index(column)
        highest = np.where(valid, values, -1).max(axis=axis, keepdims=True)
        if ((values == highest) | ~valid).all():
            values, valid = highest.squeeze(axis), np.asarray(valid.any(axis=axis))
            kept.remove(column)
    if not kept:
        return None
    return Lookup(tuple(kept), tuple(values.ravel().tolist()), tuple(valid.ravel().tolist()))
