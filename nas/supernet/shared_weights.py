"""The supernet: one set of weights shared by all networks of a space.

Each block has the parameters of its largest form; an architecture uses a part of each: the first
channels, the centre of a kernel, the first heads of query, key and value, a resampled grid of
positions. The active architecture is an argument of `forward`, never hidden state, and it runs
through the same modules as a standalone network, so an extracted network computes the same.

Does not know training (`sandwich.py`) or scoring.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import lru_cache
from itertools import product
from math import prod
from operator import gt
from typing import Any

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
"""Number of blocks' forms whose modules are cached: building them takes as long as running them."""


def largest_ops(space: SearchSpace, block: Block) -> tuple[o.Op, ...]:
    """For each op of a block, the form whose parameters contain those of all other forms.

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
        kept.append(ops)  # an id is unique only while its object exists
        for op in ops:
            forms.setdefault(op.name, []).append(op)
    return tuple(_holder(block, alike) for alike in forms.values())


def _holder(block: Block, forms: Sequence[o.Op]) -> o.Op:
    """The form of an op whose parameters contain those of all others."""
    largest = max(forms, key=lambda op: sum(map(prod, op.parameter_shapes.values())))
    bounds = largest.parameter_shapes
    for op in forms:
        for name, shape in op.parameter_shapes.items():
            bound = bounds.get(name, ())
            if len(shape) == len(bound) and not any(map(gt, shape, bound)):
                continue
            if isinstance(op, o.Conv2d) and isinstance(largest, o.Conv2d) and op.groups == 1:
                # The largest input and the largest output may belong to different forms.
                return _widest(block, largest, forms)
            raise ValueError(
                f"{block.name}/{op.name}: {name} {shape} does not fit into {bound or 'nothing'}"
            )
    return largest


def _widest(block: Block, conv: o.Conv2d, forms: Sequence[o.Op]) -> o.Op:
    """A dense convolution with the largest numbers of channels and the largest kernel."""
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
    """The part of a supernet's tensor that an op uses.

    Args:
        op: the op of the active architecture.
        name: the tensor's name in the op's module, such as `weight` or `running_mean`.
        whole: the supernet's tensor; gradients are propagated to it.

    Returns:
        A view where possible, otherwise a new tensor.
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
    """Resample position embeddings `(1, 1 + grid^2, width)` to another grid.

    Bicubic; the class token's position is unchanged.
    """
    side, new_side = round((whole.shape[1] - 1) ** 0.5), round((tokens - 1) ** 0.5)
    whole = whole[:, :, :width]
    if side == new_side:
        return whole
    grid = whole[:, 1:].transpose(1, 2).unflatten(2, (side, side))
    grid = F.interpolate(grid, (new_side, new_side), mode="bicubic", align_corners=False)
    return torch.cat([whole[:, :1], grid.flatten(2).transpose(1, 2)], dim=1)


class Supernet(nn.Module):
    """Weights shared by all networks of a space.

    In training mode a subnet normalises with its batch statistics, and only passes of the largest
    network update the running statistics. Those are shared and valid for no other subnet, so an
    extracted network must be recalibrated before it is scored
    (`evaluators.accuracy.recalibration.recalibrate`).

    Raises:
        ValueError: for a space whose forms of a block do not fit into one.
    """

    def __init__(self, space: SearchSpace) -> None:
        super().__init__()
        self.space = space
        self.blocks = nn.ModuleDict(
            {block.name: BlockModule(largest_ops(space, block)) for block in space.blocks}
        )
        largest = space.ops(space.largest)
        tie(self.blocks, ties(largest))
        self._skeleton = _skeleton_cache()

    def __getstate__(self) -> dict[str, Any]:
        # The caches cannot be pickled; they hold no weights.
        return {name: value for name, value in self.__dict__.items() if name != "_skeleton"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)  # type: ignore[no-untyped-call]
        self._skeleton = _skeleton_cache()

    def forward(self, x: Tensor, arch: Mapping[str, Value]) -> Tensor:
        """Run the network `arch` on a batch `(batch, *space.input_shape(arch))`."""
        output = x
        for _, given in self.outputs(x, arch):
            output = given
        return output

    def outputs(self, x: Tensor, arch: Mapping[str, Value]) -> Iterator[tuple[str, Tensor]]:
        """Run the blocks of the network `arch` in order; yield the name and output of each."""
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
        """Whether a pass of `arch` must not update the shared running statistics."""
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
        """Run one block of the active network.

        Args:
            block: the block's name.
            ops: its ops.
            x: the output of the block before.
            outside: other blocks' outputs that it reads, by `@name`.
            own_buffers: see `block_tensors`.
        """
        skeleton = self._skeleton(ops)
        if skeleton.training != self.training:
            skeleton.train(self.training)
        tensors = self.block_tensors(block, ops, own_buffers=own_buffers)
        # All tensors are passed, and a block has no tied ones.
        output: Tensor = functional_call(skeleton, tensors, (x, outside), tie_weights=False)
        return output

    def block_tensors(
        self, block: str, ops: Iterable[o.Op], *, own_buffers: bool = False
    ) -> dict[str, Tensor]:
        """Parameters and buffers of a block of the active network, by their names in its module.

        They are views where possible. With `own_buffers`, buffers are copies, so that running the
        block does not change those of the supernet.
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
        """A standalone network with a copy of the weights of `arch`, in the supernet's mode."""
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
    """The ops without the height and width of images, where modules do not depend on them."""

    def left(shape: o.Shape) -> o.Shape:
        return shape[:1] if len(shape) == 3 else shape

    return tuple(
        replace(
            op,
            inputs=tuple(replace(tensor, shape=left(tensor.shape)) for tensor in op.inputs),
            out_shape=left(op.out_shape),
        )
        if op.size_agnostic
        else op
        for op in ops
    )


def _skeleton_cache() -> Callable[[tuple[o.Op, ...]], BlockModule]:
    """Skeletons by their ops, for each thread its own: a pass puts the supernet's tensors in."""
    caches = threading.local()

    def cached(ops: tuple[o.Op, ...]) -> BlockModule:
        if not hasattr(caches, "skeleton"):
            made = lru_cache(maxsize=CACHED_BLOCKS)(_skeleton)
            caches.skeleton = lru_cache(maxsize=CACHED_BLOCKS)(lambda ops: made(_sizeless(ops)))
        skeleton: BlockModule = caches.skeleton(ops)
        return skeleton

    return cached


def _skeleton(ops: tuple[o.Op, ...]) -> BlockModule:
    """The modules of a block on the meta device, to be run with the supernet's tensors."""
    with torch.device("meta"):
        return BlockModule(ops)
