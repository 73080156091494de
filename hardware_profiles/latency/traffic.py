"""What an inference runtime runs for a block of ops: its kernels, and the bytes each one moves.

Runtimes fuse: a batch norm is folded into the convolution before it, and element-wise work that
follows a kernel is done on its result before that is written (TensorRT, TensorFlow Lite and
onnxruntime all do so; for a measured account of which pairs fuse where, see Zhang et al.,
"nn-Meter", 2021). One rule stands for all of them:

- an op that can write over its first input (`Op.in_place`: normalisation by stored statistics,
  activation, sums, products, added tables) joins the latest kernel that made one of its inputs, if
  that input has the size of its result and nothing else reads it. So a residual sum joins the
  convolution before it and reads the shortcut; a squeeze-excitation's `Scale` joins nothing, since
  its vector is not known before the whole image is;
- one whose inputs come from another block is a kernel of its own: that block may have other
  readers, and runtimes differ;
- `Identity` is a name, and `Zero` a constant that is folded: neither runs;
- attention is one kernel that keeps its scores on the chip (Dao et al., "FlashAttention", 2022);
  with relative positions it is not, and both score matrices are written and read. So are the scores
  by which tokens are kept; their sorting is counted into the same kernel.

Knows shapes and bytes. Does not know devices, and so neither caches nor time: every kernel reads
its inputs from memory and writes its result to it.
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
"""The name of a tensor that takes no reading."""


@dataclass
class Kernel:
    """Ops that run as one, and the elements that move for them.

    `read` and `written` are activations of one sample; `weights` are read once for a batch.
    """

    ops: list[Op] = field(default_factory=list)
    read: int = 0
    written: int = 0
    weights: int = 0

    @property
    def macs(self) -> int:
        """Multiply-accumulates for one sample."""
        return sum(op.macs for op in self.ops)


def kernels(ops: Sequence[Op]) -> list[Kernel]:
    """What a runtime runs for the ops of a block, in order."""
    names = _real_names(ops)
    ops = [op for op in ops if not isinstance(op, Identity | Zero)]
    readers = Counter(names[tensor.name] for op in ops for tensor in op.inputs)
    found: list[Kernel] = []
    made_by: dict[str, int] = {}
    for op in ops:
        inputs = {names[tensor.name]: tensor for tensor in op.inputs}
        inputs.pop(_CONSTANT, None)
        host = _host(op, inputs, made_by, readers)
        if host is None:
            host = len(found)
            found.append(Kernel())
        kernel = found[host]
        inside = {other.name for other in kernel.ops}
        kernel.read += sum(
            _elements_read(op, tensor) for name, tensor in inputs.items() if name not in inside
        )
        kernel.read += _elements_beside(op)
        kernel.weights += _weights_read(op, folded=bool(kernel.ops))
        kernel.written = prod(op.out_shape)
        kernel.ops.append(op)
        made_by[op.name] = host
    return found


def ops_bytes(ops: Sequence[Op], bytes_per_element: float = 4) -> tuple[float, float]:
    """Bytes that a block of ops moves to and from memory, fused as in `kernels`.

    Returns:
        `(weights, activations)`: weights are read once for a batch; activations, reads and writes
        together, are those of one sample.
    """
    run = kernels(ops)
    weights = sum(kernel.weights for kernel in run)
    activations = sum(kernel.read + kernel.written for kernel in run)
    return weights * bytes_per_element, activations * bytes_per_element


def _real_names(ops: Sequence[Op]) -> dict[str, str]:
    """For each tensor's name, that of the tensor it is when nothing runs for the op."""
    real = {tensor.name: tensor.name for op in ops for tensor in op.inputs}
    for op in ops:
        if isinstance(op, Zero):
            real[op.name] = _CONSTANT
        elif isinstance(op, Identity):
            real[op.name] = real[op.inputs[0].name]
        else:
            real[op.name] = op.name
    return real


def _host(
    op: Op, inputs: Mapping[str, Tensor], made_by: Mapping[str, int], readers: Mapping[str, int]
) -> int | None:
    """The kernel that an element-wise op joins, if there is one."""
    made = [name for name in inputs if name in made_by]
    if not op.in_place or not made:
        return None
    # The others must be there when it runs, so it can only be the latest.
    latest = max(made, key=lambda name: made_by[name])
    fits = prod(inputs[latest].shape) == prod(op.out_shape) and readers[latest] == 1
    return made_by[latest] if fits else None


def _elements_read(op: Op, tensor: Tensor) -> int:
    """Of one input; an op that takes a part reads that part."""
    if isinstance(op, FirstToken | Crop):
        return prod(op.out_shape)
    if isinstance(op, KeepTokens):
        return _read_to_keep(op, tensor)
    return prod(tensor.shape)


def _elements_beside(op: Op) -> int:
    """Elements moved for one sample that are neither inputs, result nor weights."""
    if isinstance(op, Embedding):
        return prod(op.out_shape)  # the rows of its tokens, not the table
    if isinstance(op, RelativeAttention):
        # Scores against keys and against positions, each written and read back.
        return 4 * op.heads * op.out_shape[0] ** 2
    if isinstance(op, KeepTokens):
        return 2 * op.heads * (op.macs // op.inner)
    return 0


def _read_to_keep(op: KeepTokens, tensor: Tensor) -> int:
    """The tokens that stay, all keys, and the queries of those who judge."""
    tokens, query, *others = op.inputs
    if tensor == tokens:
        return prod(op.out_shape)
    judges = op.macs // op.inner // tokens.shape[0]
    if tensor == query:
        keys = 0 if others and len(others[0].shape) == 2 else tokens.shape[0]
        return (judges + keys) * op.inner
    return prod(tensor.shape)


def _weights_read(op: Op, *, folded: bool) -> int:
    if isinstance(op, Embedding):
        return 0
    if isinstance(op, BatchNorm2d) and folded:
        return op.out_shape[0]  # its shift remains, as the bias of what it is folded into
    # By shape, not `params`: a tied weight is not learnt twice, but it is read.
    elements = sum(prod(shape) for shape in op.parameter_shapes.values())
    if isinstance(op, PositionEmbedding):
        return min(elements, prod(op.out_shape))
    return elements
