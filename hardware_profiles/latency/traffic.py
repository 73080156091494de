"""Fuse the ops of a block into kernels as inference runtimes do, and count the elements they move.

Runtimes fuse ops: a batch norm is folded into the convolution before it, and element-wise ops after
a kernel are applied to its result before that is written (as TensorRT, TensorFlow Lite and
onnxruntime do; Zhang et al., "nn-Meter", 2021, measure which pairs are fused on which runtime). One
set of rules models all of them:

- an op that can overwrite its first input (`Op.in_place`: normalisation by stored statistics,
  activation, sums, products, added tables) is fused into the latest kernel that produced one of its
  inputs, if that input has the size of the op's output and no other reader. A residual sum is
  therefore fused into the convolution before it and reads the shortcut; a squeeze-excitation's
  `Scale` is not fused, since its vector depends on the whole image;
- an op whose inputs come from another block is a separate kernel: that block may have other
readers,
  and runtimes differ;
- `Identity` is an alias and `Zero` a folded constant: neither runs;
- attention is one kernel that keeps its scores on the chip (Dao et al., "FlashAttention", 2022);
  with relative positions both score matrices are written and read. So are the scores by which
  tokens are kept; their sorting is counted in the same kernel.

Knows shapes and bytes. Does not know devices, caches or time: every kernel reads its inputs from
memory and writes its result to memory.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import prod

from search_spaces.ops import BatchNorm2d, Crop, Identity, Op, Tensor, Zero
from search_spaces.token_ops import (
    Embedding,
    FirstToken,
    KeepTokens,
    PositionEmbedding,
    RelativeAttention,
)

_CONSTANT = ""
"""Name of a tensor that is not read from memory."""


@dataclass
class Kernel:
    """Ops that are fused into one kernel, and the elements that it moves.

    `read` and `written` are activations of one sample; `weights` are read once per batch.
    """

    ops: list[Op] = field(default_factory=list)
    read: int = 0
    written: int = 0
    weights: int = 0

    @property
    def macs(self) -> int:
        """Multiply-accumulates of one sample."""
        return sum(op.macs for op in self.ops)


def kernels(ops: Sequence[Op]) -> list[Kernel]:
    """Return the kernels that a runtime runs for the ops of a block, in order."""
    names = _real_names(ops)
    ops = [op for op in ops if not isinstance(op, Identity | Zero)]
    readers = Counter(names[tensor.name] for op in ops for tensor in op.inputs)
    found: list[Kernel] = []
    made_by: dict[str, int] = {}
    for op in ops:
        inputs = {names[tensor.name]: tensor for tensor in op.inputs}
        inputs.pop(_CONSTANT, None)
        index = _fusing_kernel(op, inputs, made_by, readers)
        if index is None:
            index = len(found)
            found.append(Kernel())
        kernel = found[index]
        inside = {other.name for other in kernel.ops}
        kernel.read += sum(
            _elements_read(op, tensor) for name, tensor in inputs.items() if name not in inside
        )
        kernel.read += _elements_beside(op)
        kernel.weights += _weights_read(op, folded=bool(kernel.ops))
        kernel.written = prod(op.out_shape)
        kernel.ops.append(op)
        made_by[op.name] = index
    return found


def ops_bytes(ops: Sequence[Op], bytes_per_element: float = 4) -> tuple[float, float]:
    """Return the bytes that a block of ops, fused as in `kernels`, moves to and from memory.

    Returns:
        `(weights, activations)`: weights are read once per batch; activations are reads and writes
        of one sample.
    """
    run = kernels(ops)
    weights = sum(kernel.weights for kernel in run)
    activations = sum(kernel.read + kernel.written for kernel in run)
    return weights * bytes_per_element, activations * bytes_per_element


def _real_names(ops: Sequence[Op]) -> dict[str, str]:
    """Map each tensor's name to that of the tensor it is an alias of, or to `_CONSTANT`."""
    real = {tensor.name: tensor.name for op in ops for tensor in op.inputs}
    for op in ops:
        if isinstance(op, Zero):
            real[op.name] = _CONSTANT
        elif isinstance(op, Identity):
            real[op.name] = real[op.inputs[0].name]
        else:
            real[op.name] = op.name
    return real


def _fusing_kernel(
    op: Op, inputs: Mapping[str, Tensor], made_by: Mapping[str, int], readers: Mapping[str, int]
) -> int | None:
    """Return the index of the kernel that an op is fused into; None if it is not fused."""
    made = [name for name in inputs if name in made_by]
    if not op.in_place or not made:
        return None
    # All inputs must exist when the op runs, so only the latest kernel qualifies.
    latest = max(made, key=lambda name: made_by[name])
    fits = prod(inputs[latest].shape) == prod(op.out_shape) and readers[latest] == 1
    return made_by[latest] if fits else None


def _elements_read(op: Op, tensor: Tensor) -> int:
    """Return the elements read of one input; ops that slice read only their slice."""
    if isinstance(op, FirstToken | Crop):
        return prod(op.out_shape)
    if isinstance(op, KeepTokens):
        return _read_to_keep(op, tensor)
    return prod(tensor.shape)


def _elements_beside(op: Op) -> int:
    """Return the elements moved for one sample that are not inputs, output or weights."""
    if isinstance(op, Embedding):
        return prod(op.out_shape)  # the rows of its tokens, not the whole table
    if isinstance(op, RelativeAttention):
        # Scores against keys and against positions, each written and read back.
        return 4 * op.heads * op.out_shape[0] ** 2
    if isinstance(op, KeepTokens):
        return 2 * op.heads * (op.macs // op.inner)
    return 0


def _read_to_keep(op: KeepTokens, tensor: Tensor) -> int:
    """Return the elements read of an input: kept tokens, all keys, queries of scoring tokens."""
    tokens, query, *others = op.inputs
    if tensor == tokens:
        return prod(op.out_shape)
    scoring = op.macs // op.inner // tokens.shape[0]
    if tensor == query:
        keys = 0 if others and len(others[0].shape) == 2 else tokens.shape[0]
        return (scoring + keys) * op.inner
    return prod(tensor.shape)


def _weights_read(op: Op, *, folded: bool) -> int:
    if isinstance(op, Embedding):
        return 0
    if isinstance(op, BatchNorm2d) and folded:
        return op.out_shape[0]  # its shift remains as a bias of the kernel that it is folded into
    # From shapes, not `params`, which does not count tied weights: they are read as well.
    elements = sum(prod(shape) for shape in op.parameter_shapes.values())
    if isinstance(op, PositionEmbedding):
        return min(elements, prod(op.out_shape))
    return elements
