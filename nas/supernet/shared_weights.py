"""The supernet: one set of weights that holds every network of a space.

Each block keeps the parameters of its largest form; an architecture uses a part of each: the
first channels, the centre of a kernel, the first heads of query, key and value, a resampled grid
of positions. The active architecture is an argument of `forward`, never hidden state, and it runs
through the very modules of a standalone network, so an extracted network computes the same.

Does not know training (`supernet_training.py`) or scoring.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import lru_cache
from itertools import product
from math import prod
from operator import gt

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional as F

from search_spaces import ops as o
from search_spaces import token_ops as t
from search_spaces.architecture import Value
from search_spaces.networks.modules import BlockModule, Network, routes, tie, ties
from search_spaces.space import Block, SearchSpace

CACHED_BLOCKS = 65_536
"""Forms of blocks whose modules are kept: making them takes as long as running them."""

OUR_OPS = (o.__name__, t.__name__)


def largest_ops(space: SearchSpace, block: Block) -> tuple[o.Op, ...]:
    """Of each op that the block can have, a form whose parameters hold those of all others.

    Raises:
        ValueError: if there is no such form.
    """
    forms: dict[str, list[o.Op]] = {}
    known: set[int] = set()
    options = [space.choices[space.column[name]].options for name in block.choices]
    kept = []
    for values in product(*options):
        ops = block.ops(*values)
        if id(ops) in known:
            continue
        known.add(id(ops))
        kept.append(ops)  # an id is only unique while its object lives
        for op in ops:
            forms.setdefault(op.name, []).append(op)
    return tuple(_holder(block, alike) for alike in forms.values())


def _holder(block: Block, forms: Sequence[o.Op]) -> o.Op:
    largest = max(forms, key=lambda op: sum(map(prod, op.parameter_shapes.values())))
    bounds = largest.parameter_shapes
    for op in forms:
        for name, shape in op.parameter_shapes.items():
            bound = bounds.get(name, ())
            if len(shape) == len(bound) and not any(map(gt, shape, bound)):
                continue
            if isinstance(op, o.Conv2d) and isinstance(largest, o.Conv2d) and op.groups == 1:
                # The widest input and the widest output may belong to different forms.
                return _widest(block, largest, forms)
            raise ValueError(
                f"{block.name}/{op.name}: {name} {shape} does not fit into {bound or 'nothing'}"
            )
    return largest


def _widest(block: Block, conv: o.Conv2d, forms: Sequence[o.Op]) -> o.Op:
    """A dense convolution from the most inputs to the most outputs, of the largest kernel."""
    if not all(isinstance(op, o.Conv2d) and (op.groups, op.bias) == (1, conv.bias) for op in forms):
        raise ValueError(f"{block.name}/{conv.name}: its forms do not fit into one")
    source = conv.inputs[0]
    into = max(op.inputs[0].shape[0] for op in forms)
    out = max(op.out_shape[0] for op in forms)
    kernel = max(op.kernel for op in forms if isinstance(op, o.Conv2d))
    return replace(
        conv,
        inputs=(replace(source, shape=(into, *source.shape[1:])),),
        out_shape=(out, *conv.out_shape[1:]),
        kernel=kernel,
    )


def shared_part(op: o.Op, name: str, whole: Tensor) -> Tensor:
    """The part of the supernet's tensor that an op of this shape uses.

    Args:
        op: the op of the active architecture.
        name: the tensor's name in the op's module, such as `weight` or `running_mean`.
        whole: the supernet's tensor. Gradients flow back into it.
    """
    shape = op.parameter_shapes.get(name, (op.out_shape[0],))
    if whole.dim() == 0 or tuple(whole.shape) == shape:
        return whole
    if isinstance(op, t.PositionEmbedding) and op.grid:
        return _resampled_positions(whole, *shape[1:])
    if isinstance(op, o.Linear) and op.parts > 1:
        parts = whole.unflatten(0, (op.parts, -1))[:, : shape[0] // op.parts]
        return parts[..., : shape[1]].flatten(0, 1) if len(shape) == 2 else parts.flatten()
    if isinstance(op, o.Conv2d) and name == "weight":
        crop = (whole.shape[-1] - op.kernel) // 2
        centre = slice(crop, crop + op.kernel)
        return whole[: shape[0], : shape[1], centre, centre]
    return whole[tuple(slice(size) for size in shape)]


def _resampled_positions(whole: Tensor, tokens: int, width: int) -> Tensor:
    """`(1, 1 + grid^2, width)` for another grid: bicubic, the class token's position kept."""
    side, new_side = round((whole.shape[1] - 1) ** 0.5), round((tokens - 1) ** 0.5)
    whole = whole[:, :, :width]
    if side == new_side:
        return whole
    grid = whole[:, 1:].transpose(1, 2).unflatten(2, (side, side))
    grid = F.interpolate(grid, (new_side, new_side), mode="bicubic", align_corners=False)
    return torch.cat([whole[:, :1], grid.flatten(2).transpose(1, 2)], dim=1)


class Supernet(nn.Module):
    """Weights shared by all networks of a space.

    In training mode a subnet normalises by its batch, and only the largest network's passes
    update the running statistics; those are shared and fit no other subnet, so recalibrate an
    extracted network before it is scored (`evaluators.accuracy.recalibrate`).
    """

    def __init__(self, space: SearchSpace) -> None:
        super().__init__()
        self.space = space
        self.blocks = nn.ModuleDict(
            {block.name: BlockModule(largest_ops(space, block)) for block in space.blocks}
        )
        largest = space.ops(space.largest)
        tie(self.blocks, ties(largest))
        made = lru_cache(maxsize=CACHED_BLOCKS)(_skeleton)
        self._skeleton = lru_cache(maxsize=CACHED_BLOCKS)(lambda ops: made(_sizeless(ops)))

    def forward(self, x: Tensor, arch: Mapping[str, Value]) -> Tensor:
        """Run the network `arch` on `(batch, *space.input_shape(arch))`."""
        output = x
        for _, given in self.outputs(x, arch):
            output = given
        return output

    def outputs(self, x: Tensor, arch: Mapping[str, Value]) -> Iterator[tuple[str, Tensor]]:
        """Run the blocks of the network `arch` in order, and give what each gives, by name."""
        own_buffers = self.own_buffers(arch)
        blocks = self.space.ops(arch)
        kept: dict[str, Tensor] = {}
        for (name, ops), route in zip(blocks, routes(blocks), strict=True):
            outside = {f"@{read}": kept[read] for read in route.reads}
            x = self.run_block(name, ops, x, outside, own_buffers=own_buffers)
            if route.read_later:
                kept[name] = x
            yield name, x

    def own_buffers(self, arch: Mapping[str, Value]) -> bool:
        """Whether a pass of `arch` leaves the shared statistics alone."""
        return self.training and dict(arch) != dict(self.space.largest)

    def run_block(
        self,
        block: str,
        ops: tuple[o.Op, ...],
        x: Tensor,
        outside: Mapping[str, Tensor],
        *,
        own_buffers: bool,
    ) -> Tensor:
        """Run one block of the active network; arguments as in `block_tensors`."""
        skeleton = self._skeleton(ops)
        if skeleton.training != self.training:
            skeleton.train(self.training)
        tensors = self.block_tensors(block, ops, own_buffers=own_buffers)
        # Every tensor is given, and none of a block is another's.
        output: Tensor = functional_call(skeleton, tensors, (x, outside), tie_weights=False)
        return output

    def block_tensors(
        self, block: str, ops: Iterable[o.Op], *, own_buffers: bool = False
    ) -> dict[str, Tensor]:
        """Parameters and buffers of a block of the active network, by their module's names.

        They are views where the part allows it; with `own_buffers`, buffers are copies, so that
        running the block leaves the supernet's as they are.
        """
        container = self.blocks[block]
        assert isinstance(container, BlockModule)
        modules = container.ops
        tensors = {}
        for op in ops:
            module = modules[op.name]
            for name, parameter in module.named_parameters():
                tensors[f"ops.{op.name}.{name}"] = shared_part(op, name, parameter)
            for name, buffer in module.named_buffers():
                part = shared_part(op, name, buffer)
                tensors[f"ops.{op.name}.{name}"] = part.clone() if own_buffers else part
        return tensors

    @torch.no_grad()
    def extract(self, arch: Mapping[str, Value]) -> Network:
        """A standalone network with its own copy of the weights of `arch`, in the same mode."""
        ops = self.space.ops(arch)
        with torch.device("meta"):
            network = Network(ops)
        weights = {
            f"blocks.{name}.{key}": tensor.detach().clone(memory_format=torch.contiguous_format)
            for name, block in ops
            for key, tensor in self.block_tensors(name, block).items()
        }
        network.load_state_dict(weights, assign=True)
        network.tie()
        for parameter in network.parameters():
            parameter.requires_grad_()
        return network.train(self.training)


def _sizeless(ops: tuple[o.Op, ...]) -> tuple[o.Op, ...]:
    """The same for all sizes of images: no module of ours knows them, but that of `Zero`."""

    def left(shape: o.Shape) -> o.Shape:
        return shape[:1] if len(shape) == 3 else shape

    return tuple(
        replace(
            op,
            inputs=tuple(replace(tensor, shape=left(tensor.shape)) for tensor in op.inputs),
            out_shape=left(op.out_shape),
        )
        if type(op).__module__ in OUR_OPS and not isinstance(op, o.Zero)
        else op
        for op in ops
    )


def _skeleton(ops: tuple[o.Op, ...]) -> BlockModule:
    """A block's modules without memory, to be run with the supernet's tensors."""
    with torch.device("meta"):
        return BlockModule(ops)
