"""One network that changes its compute while it runs: width, depth, kernels, heads, resolution.

Holds the shared weights of a trained supernet once, and a few of its subnets. The active one's
tensors are views of the shared ones (of query, key and value together, and of positions on
another grid, there is a part of its own, which goes with the next switch); its batch-norm
statistics were measured when it was saved. A switch therefore moves no weights (slimmable
networks: Yu et al., 2019; Cai et al., "Once-for-all", 2020). For inference: nothing here trains.

Does not know the search, nor how a folder is made (`dynamic_export.py`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from evaluators.costs.budget import LATENCY, shown
from evaluators.data.augmentation import Normalisation, prepare, resize
from evaluators.sizes import parse_milliseconds, parse_size
from nas.dynamic.files import Subnet, read
from nas.supernet.shared_weights import shared_part
from search_spaces.errors import UserError, unknown
from search_spaces.networks.modules import Network
from search_spaces.ops import Op

COUNTER = torch.zeros((), dtype=torch.long)


class DynamicNetwork(nn.Module):
    """The subnets of one set of weights, of which one is active.

    `forward` takes `(batch, channels, height, width)` of any size and resizes it to what the
    active subnet takes (bilinear, as it was scored): float32 as `nas.load` describes it, that is
    scaled to 0..1, minus `mean`, divided by `std`; or uint8, which it normalises itself. It gives
    logits `(batch, classes)`.

    Threads may call it while another switches: each pass runs to its end with the subnet that was
    active when it began.

    Args:
        subnets: at least one; the most accurate one is active at first.
        tensors: `shared.BLOCK.OP.NAME` and `statistics.ID`, see `dynamic_files.py`.
        about: `mean`, `std`, `classes` and more, see `config`.
        copies: let the active subnet have a contiguous copy of its weights instead of views. A
            switch takes longer and the memory of one subnet more; a pass takes a few per cent
            less (`benchmarks/dynamic.py`).
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
        # Not modules of this one: they have no tensors of their own.
        self._forms = {subnet.id: _Form.of(subnet) for subnet in self.subnets}
        best = max(self.subnets, key=lambda s: (s.accuracy, -s.macs))
        self._active: tuple[Subnet, Network] = (best, self.network(best))

    @classmethod
    def load(cls, folder: Path | str, *, copies: bool = False) -> DynamicNetwork:
        """Load what `dynamic_export.save_dynamic` wrote, in evaluation mode.

        Raises:
            UserError: if the folder is not a dynamic network, or its files do not belong together.
        """
        subnets, tensors, about = read(Path(folder))
        try:
            return cls(subnets, tensors, about, copies=copies).eval()
        except (AttributeError, KeyError, RuntimeError) as error:
            raise UserError(f"the weights in {folder} do not fit its subnets: {error}") from error

    def _share(self, name: str, tensor: Tensor) -> None:
        """Keep a tensor as `shared.BLOCK.OP.NAME`."""
        block, op, own = name.split(".")
        if block not in self.shared:
            self.shared[block] = nn.ModuleDict()
        ops = self.shared[block]
        assert isinstance(ops, nn.ModuleDict)
        if op not in ops:
            ops[op] = nn.ParameterDict()
        ops[op].register_parameter(own, nn.Parameter(tensor, requires_grad=False))

    # Which subnet is active

    @property
    def active(self) -> Subnet:
        """The subnet that `forward` runs."""
        return self._active[0]

    @property
    def input_shape(self) -> tuple[int, ...]:
        """What the active subnet takes without resizing, `(channels, height, width)`."""
        return self.active.input_shape

    def set_budget(
        self,
        *,
        max_flops: float | str | None = None,
        max_latency: float | str | None = None,
        device: str | None = None,
    ) -> Subnet:
        """Switch to the most accurate subnet within a budget, of equals to the cheapest.

        Args:
            max_flops: most multiply-accumulates for one image: a number, or `"3M"`.
            max_latency: longest time on `device`: milliseconds, or `"5ms"`.
            device: one that the run was priced for; may be left out where there is only one.

        Returns:
            The subnet that is active now.

        Raises:
            UserError: if no subnet is within the budget (the message has the nearest), or the
                device's latencies are not known. The active subnet stays what it was.
        """
        return self.use(self.choose(max_flops=max_flops, max_latency=max_latency, device=device))

    def choose(
        self,
        *,
        max_flops: float | str | None = None,
        max_latency: float | str | None = None,
        device: str | None = None,
    ) -> Subnet:
        """The subnet that `set_budget` would switch to."""
        bounds: dict[str, float] = {}
        if max_flops is not None:
            bounds["macs"] = parse_size(max_flops) if isinstance(max_flops, str) else max_flops
        if max_latency is not None:
            text = isinstance(max_latency, str)
            bounds[self._latency(device)] = (
                parse_milliseconds(str(max_latency)) if text else float(max_latency)
            )
        elif device is not None:
            raise UserError(f"device {device} without a latency: max_latency is missing")
        within = [s for s in self.subnets if all(s.costs[m] <= b for m, b in bounds.items())]
        if not within:
            asked = " and ".join(f"at most {shown(m, b)}" for m, b in bounds.items())
            nearest = min(
                self.subnets, key=lambda s: max(s.costs[m] / b for m, b in bounds.items())
            )
            needs = " and ".join(shown(m, nearest.costs[m], exact=True) for m in bounds)
            raise UserError(f"no subnet has {asked}: the nearest, {nearest.id}, has {needs}")
        return max(within, key=lambda s: (s.accuracy, -s.macs))

    def _latency(self, device: str | None) -> str:
        """The metric of a device's latency."""
        known = self.subnets[0].devices
        if not known:
            raise UserError(
                "no latency is known of these subnets: their run had no --device; use max_flops"
            )
        if device is None:
            if len(known) > 1:
                raise UserError(f"latency on which device? one of {', '.join(known)}")
            device = known[0]
        if device not in known:
            raise unknown("device", device, known)
        return f"{LATENCY}{device}"

    def use(self, subnet: Subnet | str) -> Subnet:
        """Switch to a subnet, or to the one of this id (a prefix will do); returns it."""
        if isinstance(subnet, str):
            subnet = self.find(subnet)
        # One assignment: a pass that has begun keeps the pair that it took.
        self._active = (subnet, self.network(subnet))
        return subnet

    def find(self, name: str) -> Subnet:
        """The subnet whose id begins so.

        Raises:
            UserError: if there is none or more than one.
        """
        found = [subnet for subnet in self.subnets if subnet.id.startswith(name)]
        if len(found) > 1:
            raise UserError(f"'{name}' fits {len(found)} subnets")
        if not found:
            raise unknown("subnet", name, [subnet.id for subnet in self.subnets])
        return found[0]

    # Running

    def forward(self, images: Tensor) -> Tensor:
        """Logits `(batch, classes)` of images `(batch, channels, height, width)` of any size."""
        subnet, network = self._active
        logits: Tensor = network(self.fitted(images, subnet))
        return logits

    def fitted(self, images: Tensor, subnet: Subnet) -> Tensor:
        """Images as `forward` takes them, normalised and at the subnet's resolution."""
        channels = subnet.input_shape[0]
        if images.dim() != 4 or images.shape[1] != channels:
            shape = tuple(images.shape)
            raise ValueError(f"expected images (batch, {channels}, height, width), got {shape}")
        if images.dtype == torch.uint8:
            return prepare(images, self.normalisation, subnet.resolution)
        return resize(images, subnet.resolution)

    @property
    def normalisation(self) -> Normalisation:
        """Mean and standard deviation of the images, a channel."""
        return Normalisation(tuple(self.config["mean"]), tuple(self.config["std"]))

    @torch.no_grad()
    def network(self, subnet: Subnet) -> Network:
        """A subnet as a network of its own over the shared weights, in evaluation mode.

        It takes `(batch, *subnet.input_shape)`, normalised. Several may be in use at a time; each
        changes with the shared weights wherever its tensors are views.
        """
        form = self._forms[subnet.id]
        tensors = {}
        for key, op, name in form.parts:
            part = shared_part(op, name, self._shared(key))
            if self.copies:
                part = part.clone(memory_format=torch.contiguous_format)
            tensors[key] = part
        if form.measured:
            sizes = [prod(shape) for shape in form.measured.values()]
            flat = self.statistics.get_buffer(subnet.id).split(sizes)
            named = zip(form.measured.items(), flat, strict=True)
            tensors |= {key: part.view(shape) for (key, shape), part in named}
        return _over(form.skeleton, tensors)

    def _shared(self, key: str) -> Tensor:
        """The shared tensor of a network's `blocks.BLOCK.ops.OP.NAME`."""
        _, block, _, op, name = key.split(".")
        tensor = self.shared._modules[block]._modules[op]._parameters[name]  # type: ignore[union-attr]
        assert tensor is not None
        return tensor

    # As a module

    def _apply(self, fn: Any, recurse: bool = True) -> DynamicNetwork:
        """After a move to another device or type the active subnet is one of the moved tensors."""
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        self.use(self.active)
        return self

    def load_state_dict(self, *args: Any, **kwargs: Any) -> Any:
        """Put tensors in; the active subnet is of them."""
        result = super().load_state_dict(*args, **kwargs)
        self.use(self.active)
        return result

    def __getstate__(self) -> dict[str, Any]:
        """Without the active subnet's tensors, which are parts of the shared ones."""
        state = self.__dict__.copy()
        state["_active"] = self.active
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)  # type: ignore[no-untyped-call]
        self.use(state["_active"])


def measured(network: nn.Module) -> dict[str, Tensor]:
    """The buffers that a subnet has of its own: batch norms' running means and variances."""
    return {n: b for n, b in network.named_buffers() if b.is_floating_point()}


@dataclass(frozen=True)
class _Form:
    """What a switch to a subnet needs: all that follows from its ops alone."""

    skeleton: Network
    """Its modules without memory, in evaluation mode."""
    parts: tuple[tuple[str, Op, str], ...]
    """Of each tensor its name in the network, its op, and its name in the op's module."""
    measured: dict[str, tuple[int, ...]]
    """Shapes of its own buffers, in the order in which `statistics` has them."""

    @classmethod
    def of(cls, subnet: Subnet) -> _Form:
        with torch.device("meta"):
            skeleton = Network(subnet.blocks).eval()
        parts = tuple(
            (f"blocks.{block}.ops.{op.name}.{name}", op, name)
            for block, ops in subnet.blocks
            for op in ops
            for name in op.parameter_shapes
        )
        shapes = {name: tuple(buffer.shape) for name, buffer in measured(skeleton).items()}
        return cls(skeleton, parts, shapes)


def _over(skeleton: Any, tensors: Mapping[str, Tensor], prefix: str = "") -> Any:
    """The same modules over these tensors; the skeleton and other copies of it do not change.

    A switch is for others to see only when it is done, so subnets in use cannot share modules
    that have tensors: a pass of another thread may be in the midst of one.
    """
    content = skeleton.__dict__
    children = {n: _over(m, tensors, f"{prefix}{n}.") for n, m in content["_modules"].items()}
    own = (*content["_parameters"].values(), *content["_buffers"].values(), *children.values())
    if not own:
        return skeleton
    module = skeleton.__new__(type(skeleton))
    # Past `nn.Module.__setattr__`, which would take most of the time of a switch.
    module.__dict__.update(
        content,
        _modules=children,
        _parameters={
            name: None if p is None else nn.Parameter(tensors[prefix + name], requires_grad=False)
            for name, p in content["_parameters"].items()
        },
        # What is not measured is a counter of batches, which inference does not read.
        _buffers={name: tensors.get(prefix + name, COUNTER) for name in content["_buffers"]},
    )
    return module
