"""The relaxed supernet: probabilities of options as masks on the supernet's shared weights.

A choice of sizes is a mask: an output feature is scaled by the probability that there are more
features than its index, a border of a kernel by the probability of the larger kernels, a block by
the probability of the depths that include it, and its input is added with the remaining
probability. One pass of the largest form covers all options, so neither time nor memory grows with
their number (Wan et al., "FBNetV2", 2020, section 3.1; Cai et al., "ProxylessNAS", 2019, for
paths). Choices that cannot be masks (`masks.py`) are sampled; blocks whose structure they change
are scaled by `1 + p - p.detach()`, which is 1 and has the gradient of p (Dong and Yang, "GDAS",
2019, eq. 6).

If all probabilities are 0 or 1, the result is that of the supernet for this architecture, in
evaluation mode and, since batch statistics are computed per channel, in training mode. Otherwise a
normalisation would divide out a mask on its input, so masks are applied to its scale and shift.
Knows one forward pass. Does not know how probabilities are trained (`alternation.py`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional as F

from nas.supernet.masks import BlockForms, Lookup, MaskPlan, Ops, analyse_forms
from nas.supernet.shared_weights import Supernet, shared_part
from search_spaces import ops as o
from search_spaces import token_ops as t
from search_spaces.networks.modules import BlockModule, routes

NORMS = (o.BatchNorm2d, o.LayerNorm, t.RMSNorm)

CACHED_PLANS = 4096
"""Maximum number of blocks, with given sampled options, that are kept ready to run."""


class RelaxedSupernet:
    """Runs a supernet with probabilities of its choices, on the weights of the supernet.

    Attributes:
        sampled: columns of the choices that are sampled; all others are masks.
    """

    def __init__(self, supernet: Supernet) -> None:
        self.supernet = supernet
        self.space = space = supernet.space
        self._blocks, self.sampled = analyse_forms(space)
        self._is_sampled = frozenset(self.sampled)
        self._scaled = [
            tuple(column for column in self.sampled if block.restructures(column))
            for block in self._blocks
        ]
        self._plan = lru_cache(maxsize=CACHED_PLANS)(self._planned)

    def input_size(self, sample: npt.NDArray[np.uint8]) -> int:
        """Height and width of the input of `forward` for sampled options, `(choices,)`."""
        for index, block in enumerate(self._blocks):
            part = self._plan(index, self._options(block, sample))
            for op in part.plan.ops if part is not None else ():
                for tensor in op.inputs:
                    if tensor.name == "input":
                        return tensor.shape[-1]
        raise ValueError("no block reads an input")

    def forward(
        self,
        x: Tensor,
        probabilities: Sequence[Tensor],
        sample: npt.NDArray[np.uint8],
        *,
        frozen: bool = False,
    ) -> Tensor:
        """Run the relaxed network.

        Args:
            x: `(batch, channels, size, size)` with the size `input_size(sample)`.
            probabilities: `(options,)` float32 for each choice of the space.
            sample: index of the option of each choice, `(choices,)`; only the sampled choices are
                read.
            frozen: compute gradients of the probabilities only, not of the weights.

        Returns:
            The network's output: `(batch, classes)` logits for images.
        """
        values = _Values(probabilities)
        parts = [
            self._plan(index, self._options(block, sample))
            for index, block in enumerate(self._blocks)
        ]
        route = iter(routes([(part.name, part.plan.ops) for part in parts if part is not None]))
        kept: dict[str, Tensor] = {}
        for block, part, scaled in zip(self._blocks, parts, self._scaled, strict=True):
            if part is not None:
                step = next(route)
                outside = {f"@{read}": kept[read] for read in step.reads}
                y = part.run(x, outside, values, self.supernet, frozen=frozen)
                presence = values.scalar(part.plan.presence)
                x = y if presence is None else torch.lerp(x, y, presence)
            for column in scaled:
                p = probabilities[column][int(sample[column])]
                x = x * (1 + p - p.detach())
            if part is not None:
                if step.read_later:
                    kept[block.name] = x
                for read in step.freed:
                    del kept[read]
        return x

    def _options(
        self, block: BlockForms, sample: npt.NDArray[np.uint8]
    ) -> tuple[tuple[int, int], ...]:
        """The sampled choices of a block and their options."""
        return tuple((c, int(sample[c])) for c in block.columns if c in self._is_sampled)

    def _planned(self, index: int, options: tuple[tuple[int, int], ...]) -> _MaskedBlock | None:
        plan = self._blocks[index].plan(dict(options))
        return None if plan is None else _MaskedBlock(self._blocks[index].name, plan)


class _Values:
    """Masks for the probabilities of one pass; each is computed once."""

    def __init__(self, probabilities: Sequence[Tensor]) -> None:
        self._probabilities = probabilities
        self._joints: dict[tuple[int, ...], Tensor] = {}
        self._masks: dict[tuple[int, int], Tensor] = {}

    def weights(self, lookup: Lookup) -> Tensor:
        """The probability of each entry of a lookup, given that the block is present."""
        joint = self._joints.get(lookup.columns)
        if joint is None:
            joint = self._probabilities[lookup.columns[0]]
            for column in lookup.columns[1:]:
                joint = (joint[:, None] * self._probabilities[column]).flatten()
            self._joints[lookup.columns] = joint
        if all(lookup.valid):
            return joint
        joint = joint * torch.tensor(lookup.valid, dtype=joint.dtype, device=joint.device)
        return joint / joint.sum().clamp_min(1e-12)

    def scalar(self, lookup: Lookup | None) -> Tensor | None:
        """The expectation of a lookup's values."""
        if lookup is None:
            return None
        weights = self.weights(lookup)
        return weights @ torch.tensor(lookup.values, dtype=weights.dtype, device=weights.device)

    def mask(self, lookup: Lookup, indicator: Tensor) -> Tensor:
        """Sum of the rows of `indicator`, `(entries, n)`, weighted by probability: `(n,)`."""
        key = (id(lookup), id(indicator))
        if key not in self._masks:
            weights = self.weights(lookup)
            self._masks[key] = weights @ indicator.to(weights)
        return self._masks[key]


class _MaskedBlock:
    """A block with masks, prepared to run."""

    def __init__(self, name: str, plan: MaskPlan) -> None:
        self.name = name
        self.plan = plan
        with torch.device("meta"):
            modules = BlockModule(plan.ops).ops
        self._freed = o.freed_tensors(plan.ops)
        self._modules = modules
        normed = _read_by_norms_alone(plan.ops)
        self._feature_rows = [
            None if lookup is None else _feature_rows(lookup, op)
            for lookup, op in zip(plan.features, plan.ops, strict=True)
        ]
        self._kernel_rows = [
            _kernel_rows(lookup, op.kernel) if lookup and isinstance(op, o.Conv2d) else None
            for lookup, op in zip(plan.kernels, plan.ops, strict=True)
        ]
        self._unmasked = [op.name in normed for op in plan.ops]

    def run(
        self,
        x: Tensor,
        outside: Mapping[str, Tensor],
        values: _Values,
        supernet: Supernet,
        *,
        frozen: bool,
    ) -> Tensor:
        """Run the block on its input and on other blocks' outputs by `@name`."""
        container = supernet.blocks[self.name]
        assert isinstance(container, BlockModule)
        tensors = {"input": x, **outside}
        del x
        output = tensors["input"]
        for index, op in enumerate(self.plan.ops):
            module = container.ops[op.name]
            weights = {}
            for name, whole in module.named_parameters():
                part = shared_part(op, name, whole)
                weights[name] = part.detach() if frozen else part
            mask = kernel = None
            lookup, rows = self.plan.features[index], self._feature_rows[index]
            if lookup is not None and rows is not None:
                mask = values.mask(lookup, rows)
            lookup, rows = self.plan.kernels[index], self._kernel_rows[index]
            if lookup is not None and rows is not None:
                kernel = values.mask(lookup, rows)
            inputs = [tensors[tensor.name] for tensor in op.inputs]
            if isinstance(op, NORMS):
                output = _normalise(op, inputs[0], weights, mask, module, supernet.training)
            else:
                if kernel is not None:
                    weights["weight"] = weights["weight"] * kernel.view(weights["weight"].shape[2:])
                if mask is not None and weights and not self._unmasked[index]:
                    weights = {n: _masked(op, n, w, mask) for n, w in weights.items()}
                output = self._apply(op, inputs, weights)
                if mask is not None and _revives(op):
                    output = output * _beside(mask, output)
            tensors[op.name] = output
            for name in self._freed[index]:
                del tensors[name]
        return output

    def _apply(self, op: o.Op, inputs: list[Tensor], weights: dict[str, Tensor]) -> Tensor:
        if isinstance(op, o.Conv2d):
            return F.conv2d(
                inputs[0],
                weights["weight"],
                weights.get("bias"),
                op.stride,
                op.padding,
                op.dilation,
                op.groups,
            )
        if isinstance(op, o.Linear):
            return F.linear(inputs[0], weights["weight"], weights.get("bias"))
        module = self._modules[op.name]
        if not weights:
            result: Tensor = module(*inputs)
            return result
        output: Tensor = functional_call(module, weights, tuple(inputs))
        return output


def _feature_rows(lookup: Lookup, op: o.Op) -> Tensor:
    """1 where a feature is present, else 0: `(entries, features)`, the features of one part."""
    parts = op.parts if isinstance(op, o.Linear) else 1
    index = parts * torch.arange(o.feature_count(op.out_shape) // parts)
    return (index < torch.tensor(lookup.values)[:, None]).float()


def _kernel_rows(lookup: Lookup, total: int) -> Tensor:
    """1 inside a centred kernel, else 0: `(entries, total * total)`."""
    distance = (2 * torch.arange(total) - (total - 1)).abs()
    inside = distance < torch.tensor(lookup.values)[:, None]
    return (inside[:, :, None] & inside[:, None, :]).flatten(1).float()


def _read_by_norms_alone(ops: Ops) -> set[str]:
    """Ops whose outputs are read by normalisations only, which would divide a mask out."""
    readers: dict[str, list[o.Op]] = {op.name: [] for op in ops}
    for op in ops:
        for tensor in op.inputs:
            if tensor.name in readers:
                readers[tensor.name].append(op)
    return {name for name, by in readers.items() if by and all(isinstance(r, NORMS) for r in by)}


def _masked(op: o.Op, name: str, weight: Tensor, mask: Tensor) -> Tensor:
    """A weight whose output features are scaled by the mask."""
    if isinstance(op, o.Linear) and op.parts > 1:
        mask = mask.repeat(op.parts)
    if isinstance(op, o.Conv2d | o.Linear | t.CausalConvolution):
        return weight * mask.view(-1, *[1] * (weight.dim() - 1))
    if isinstance(op, t.TiedLinear | t.RelativeAttention):
        return weight
    return weight * mask


def _revives(op: o.Op) -> bool:
    """Whether the output of an op is not zero for features that are zero."""
    if isinstance(op, o.Activation):
        function = getattr(F, op.function)
        return bool(function(torch.zeros(1)) != 0)
    return isinstance(op, t.RelativeAttention)


def _beside(mask: Tensor, x: Tensor) -> Tensor:
    """The mask, reshaped to scale the features of the batch `x`."""
    return mask[:, None, None] if x.dim() == 4 else mask


def _normalise(
    op: o.Op,
    x: Tensor,
    weights: Mapping[str, Tensor],
    mask: Tensor | None,
    module: nn.Module,
    training: bool,
) -> Tensor:
    """A normalisation over the present features, with masked scale and shift."""
    weight, bias = weights["weight"], weights.get("bias")
    eps: Any = module.eps
    if mask is not None:
        weight = weight * mask
        bias = None if bias is None else bias * mask
    if isinstance(op, o.BatchNorm2d):
        if training:
            return F.batch_norm(x, None, None, weight, bias, training=True, eps=eps)
        mean, variance = (
            shared_part(op, name, module.get_buffer(name))
            for name in ("running_mean", "running_var")
        )
        return F.batch_norm(x, mean, variance, weight, bias, eps=eps)
    if mask is None:
        if isinstance(op, o.LayerNorm):
            return F.layer_norm(x, weight.shape, weight, bias, eps)
        return F.rms_norm(x, weight.shape, weight, eps)
    share = mask / mask.sum()
    if isinstance(op, o.LayerNorm):
        x = x - (x @ share)[..., None]
    variance = (x.square() @ share)[..., None]
    x = x * torch.rsqrt(variance + eps) * weight
    return x if bias is None else x + bias
