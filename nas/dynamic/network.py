"""A network whose compute changes at run time: width, depth, kernels, heads, resolution.

Stores the shared weights of a trained supernet once, and several subnets. Tensors of the active
subnet are views of the shared ones, except for joint query-key-value weights and for position
embeddings on another grid: these are copies, which the next switch frees. Batch-norm statistics
were measured when the network was saved. A switch therefore copies no other weights (slimmable
networks: Yu et al., 2019; Cai et al., "Once-for-all", 2020). For inference only.

Knows subnets and shared tensors. Does not know the search or how a folder is made (`saving.py`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from evaluators.data.augmentation import Normalisation, prepare, resize
from evaluators.metrics import Metric, latency_on
from evaluators.sizes import parse_milliseconds, parse_size
from nas.dynamic.files import Subnet, read
from nas.supernet.shared_weights import shared_part
from search_spaces.errors import UserError, unknown
from search_spaces.networks.dry_run import check_runs
from search_spaces.networks.modules import Network
from search_spaces.ops import Op

COUNTER = torch.zeros((), dtype=torch.long)


class DynamicNetwork(nn.Module):
    """Subnets that share one set of weights, of which one is active.

    `forward` takes images `(batch, channels, height, width)` of any size and resizes them to the
    resolution of the active subnet (bilinear, as for its score). Images are either float32 as
    `nas.load` describes them (scaled to 0..1, minus `mean`, divided by `std`), or uint8, which
    `forward` normalises. It returns logits `(batch, classes)`.

    Several threads may call `forward` while another thread switches: each pass uses the subnet that
    was active when it began.

    Args:
        subnets: at least one; the most accurate one is active at first.
        tensors: `shared.BLOCK.OP.NAME` and `statistics.ID`, see `files.py`.
        about: `mean`, `std`, `classes` and more; available as `config`.
        copies: give the active subnet a contiguous copy of its weights instead of views. A switch
            then takes longer and needs the memory of one more subnet; a forward pass takes a few
            per cent less (`benchmarks/dynamic.py`).
    """

    def __init__(
        self,
        subnets: Sequence[Subnet],
        tensors: Mapping[str, Tensor],
        about: Mapping[str, Any],
        *,
        copies: bool = False,
    ) -> None:
        super().__init__()
        self.config = dict(about)
        self.copies = copies
        self.subnets = tuple(sorted(subnets, key=lambda s: (s.macs, s.id)))
        """All subnets, the cheapest first."""
        self.shared = nn.ModuleDict()
        self.statistics = nn.Module()
        for name, tensor in tensors.items():
            kind, _, rest = name.partition(".")
            if kind == "shared":
                self._share(rest, tensor)
            else:
                self.statistics.register_buffer(rest, tensor)
        # Kept outside of `nn.Module`: skeletons have no tensors.
        self._layouts = {subnet.id: _Layout.of(subnet) for subnet in self.subnets}
        best = max(self.subnets, key=lambda s: (s.accuracy, -s.macs))
        self._active: tuple[Subnet, Network] = (best, self.network(best))

    @classmethod
    def load(cls, folder: Path | str, *, copies: bool = False) -> DynamicNetwork:
        """Load what `nas.dynamic.saving.save_dynamic` wrote, in evaluation mode.

        Raises:
            UserError: if the folder is not a dynamic network, or its files do not belong together.
        """
        subnets, tensors, about = read(Path(folder))
        try:
            network = cls(subnets, tensors, about, copies=copies).eval()
            for subnet in subnets:
                check_runs(network._layouts[subnet.id].skeleton, subnet.blocks)
                network.network(subnet)
        except UserError as error:
            raise UserError(f"cannot read the dynamic network {folder}: {error}") from error
        except Exception as error:  # whatever a description leads to
            first = (str(error).splitlines() or [""])[0]
            raise UserError(f"the weights in {folder} do not fit its subnets: {first}") from error
        return network

    def _share(self, name: str, tensor: Tensor) -> None:
        """Register a tensor as `shared.BLOCK.OP.NAME`."""
        block, op, own = name.split(".")
        if block not in self.shared:
            self.shared[block] = nn.ModuleDict()
        ops = self.shared[block]
        assert isinstance(ops, nn.ModuleDict)
        if op not in ops:
            ops[op] = nn.ParameterDict()
        ops[op].register_parameter(own, nn.Parameter(tensor, requires_grad=False))

    # Selection of the active subnet

    @property
    def active(self) -> Subnet:
        """The subnet that `forward` runs."""
        return self._active[0]

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Input of the active subnet without resizing, `(channels, height, width)`."""
        return self.active.input_shape

    def set_budget(
        self,
        *,
        max_flops: float | str | None = None,
        max_latency: float | str | None = None,
        device: str | None = None,
    ) -> Subnet:
        """Switch to the most accurate subnet within a budget; among equals, to the cheapest.

        Args:
            max_flops: upper bound of multiply-accumulates per image: a number, or `"3M"`.
            max_latency: upper bound of the latency on `device`: milliseconds, or `"5ms"`.
            device: a device of the run; may be omitted if there is only one.

        Returns:
            The new active subnet.

        Raises:
            UserError: if no subnet is within the budget (the message names the nearest), or the
                latencies of the device are unknown. The active subnet does not change.
        """
        return self.use(self.choose(max_flops=max_flops, max_latency=max_latency, device=device))

    def choose(
        self,
        *,
        max_flops: float | str | None = None,
        max_latency: float | str | None = None,
        device: str | None = None,
    ) -> Subnet:
        """The subnet that `set_budget` would switch to, with the same arguments and errors."""
        bounds: dict[str, float] = {}
        if max_flops is not None:
            bounds["macs"] = parse_size(max_flops) if isinstance(max_flops, str) else max_flops
        if max_latency is not None:
            text = isinstance(max_latency, str)
            bounds[self._latency(device)] = (
                parse_milliseconds(str(max_latency)) if text else float(max_latency)
            )
        elif device is not None:
            raise UserError(f"device {device} has no bound: max_latency is missing")
        within = [s for s in self.subnets if all(s.costs[m] <= b for m, b in bounds.items())]
        if not within:
            wanted = " and ".join(f"at most {Metric.of(m).quantity(b)}" for m, b in bounds.items())
            nearest = min(
                self.subnets, key=lambda s: max(s.costs[m] / b for m, b in bounds.items())
            )
            costs = " and ".join(
                Metric.of(m).quantity(nearest.costs[m], exact=True) for m in bounds
            )
            raise UserError(f"no subnet has {wanted}: the nearest, {nearest.id}, has {costs}")
        return max(within, key=lambda s: (s.accuracy, -s.macs))

    def _latency(self, device: str | None) -> str:
        """Name of the metric of a device's latency."""
        known = self.subnets[0].devices
        if not known:
            raise UserError(
                "no latency is known for these subnets: their run had no --device; use max_flops"
            )
        if device is None:
            if len(known) > 1:
                raise UserError(f"device is missing: expected one of {', '.join(known)}")
            device = known[0]
        if device not in known:
            raise unknown("device", device, known)
        return latency_on(device)

    def use(self, subnet: Subnet | str) -> Subnet:
        """Switch to a subnet, given as such or by a prefix of its id; return it."""
        if isinstance(subnet, str):
            subnet = self.find(subnet)
        # One assignment, so that a pass that has begun keeps a consistent pair.
        self._active = (subnet, self.network(subnet))
        return subnet

    def find(self, name: str) -> Subnet:
        """The subnet whose id starts with `name`.

        Raises:
            UserError: if there is none or more than one.
        """
        found = [subnet for subnet in self.subnets if subnet.id.startswith(name)]
        if len(found) > 1:
            raise UserError(f"'{name}' matches {len(found)} subnets")
        if not found:
            raise unknown("subnet", name, [subnet.id for subnet in self.subnets])
        return found[0]

    # Forward pass

    def forward(self, images: Tensor) -> Tensor:
        """Logits `(batch, classes)` of images `(batch, channels, height, width)` of any size."""
        subnet, network = self._active
        logits: Tensor = network(self.preprocess(images, subnet))
        return logits

    def preprocess(self, images: Tensor, subnet: Subnet) -> Tensor:
        """Normalise images that `forward` accepts, and resize them to the subnet's resolution.

        Raises:
            ValueError: for a tensor of another shape than `(batch, channels, height, width)`.
        """
        channels = subnet.input_shape[0]
        if images.dim() != 4 or images.shape[1] != channels:
            shape = tuple(images.shape)
            raise ValueError(f"expected images (batch, {channels}, height, width), got {shape}")
        if images.dtype == torch.uint8:
            return prepare(images, self.normalisation, subnet.resolution)
        return resize(images, subnet.resolution)

    @property
    def normalisation(self) -> Normalisation:
        """Mean and standard deviation of the images per channel."""
        return Normalisation(tuple(self.config["mean"]), tuple(self.config["std"]))

    @torch.no_grad()
    def network(self, subnet: Subnet) -> Network:
        """A subnet as a separate module over the shared weights, in evaluation mode.

        It takes normalised images `(batch, *subnet.input_shape)`. Several may be in use at the
        same time; those of its tensors that are views change with the shared weights.
        """
        layout = self._layouts[subnet.id]
        tensors = {}
        for key, op, name in layout.parts:
            part = shared_part(op, name, self._shared(key))
            if self.copies:
                part = part.clone(memory_format=torch.contiguous_format)
            tensors[key] = part
        if layout.statistics:
            sizes = [prod(shape) for shape in layout.statistics.values()]
            flat = self.statistics.get_buffer(subnet.id).split(sizes)
            named = zip(layout.statistics.items(), flat, strict=True)
            tensors |= {key: part.view(shape) for (key, shape), part in named}
        return _with_tensors(layout.skeleton, tensors)

    def _shared(self, key: str) -> Tensor:
        """The shared tensor behind `blocks.BLOCK.ops.OP.NAME` of a subnet."""
        _, block, _, op, name = key.split(".")
        tensor = self.shared._modules[block]._modules[op]._parameters[name]  # type: ignore[union-attr]
        assert tensor is not None
        return tensor

    # Behaviour of `nn.Module`

    def _apply(self, fn: Any, recurse: bool = True) -> DynamicNetwork:
        """Apply `fn`, then rebuild the active subnet from the new tensors."""
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        self.use(self.active)
        return self

    def load_state_dict(self, *args: Any, **kwargs: Any) -> Any:
        """Load the tensors, then rebuild the active subnet from them."""
        result = super().load_state_dict(*args, **kwargs)
        self.use(self.active)
        return result

    def __getstate__(self) -> dict[str, Any]:
        """State without the active subnet's tensors, which are parts of the shared ones."""
        state = self.__dict__.copy()
        state["_active"] = self.active
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)  # type: ignore[no-untyped-call]
        self.use(state["_active"])


def statistics(network: nn.Module) -> dict[str, Tensor]:
    """Buffers that each subnet has itself: running means and variances of batch norms."""
    return {n: b for n, b in network.named_buffers() if b.is_floating_point()}


@dataclass(frozen=True)
class _Layout:
    """Everything that a switch to a subnet needs and that follows from its ops alone."""

    skeleton: Network
    """Its modules on the meta device, in evaluation mode."""
    parts: tuple[tuple[str, Op, str], ...]
    """For each tensor, its name in the network, its op, and its name in the op's module."""
    statistics: dict[str, tuple[int, ...]]
    """Shapes of its statistics, in the order in which they are concatenated."""

    @classmethod
    def of(cls, subnet: Subnet) -> _Layout:
        with torch.device("meta"):
            skeleton = Network(subnet.blocks).eval()
        parts = tuple(
            (f"blocks.{block}.ops.{op.name}.{name}", op, name)
            for block, ops in subnet.blocks
            for op in ops
            for name in op.parameter_shapes
        )
        shapes = {name: tuple(buffer.shape) for name, buffer in statistics(skeleton).items()}
        return cls(skeleton, parts, shapes)


def _with_tensors(skeleton: Any, tensors: Mapping[str, Tensor], prefix: str = "") -> Any:
    """A copy of the skeleton's modules with these tensors; the skeleton does not change.

    A pass of another thread may still run with the previous subnet, so subnets cannot share modules
    that have tensors.
    """
    content = skeleton.__dict__
    children = {
        n: _with_tensors(m, tensors, f"{prefix}{n}.") for n, m in content["_modules"].items()
    }
    own = (*content["_parameters"].values(), *content["_buffers"].values(), *children.values())
    if not own:
        return skeleton
    module = skeleton.__new__(type(skeleton))
    # Bypasses `nn.Module.__setattr__`, which would take most of the time of a switch.
    module.__dict__.update(
        content,
        _modules=children,
        _parameters={
            name: None if p is None else nn.Parameter(tensors[prefix + name], requires_grad=False)
            for name, p in content["_parameters"].items()
        },
        # Buffers without statistics are counters of batches, which inference does not read.
        _buffers={name: tensors.get(prefix + name, COUNTER) for name in content["_buffers"]},
    )
    return module
