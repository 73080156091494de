"""Saves subnets of a trained supernet as a dynamic network, checked before the folder is kept.

Batch-norm statistics of each subnet are measured as for its score. The loaded folder must then
compute the same outputs. Knows supernets and which subnets to save. Does not know how a run is
opened.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from evaluators.accuracy.inherited import InheritedAccuracy
from evaluators.costs.tables import CONVENTION, CostTables
from nas.dynamic.files import Subnet, write
from nas.dynamic.network import DynamicNetwork, statistics
from nas.exports.folder import refuse_full, staged
from search_spaces.architecture import Architecture
from search_spaces.errors import UserError

TOLERANCE = 1e-4
"""Largest difference of outputs, relative to the largest output if that exceeds 1."""

CHECK_BATCH = 2


@dataclass(frozen=True)
class Saved:
    """Result of `save_dynamic`."""

    folder: Path
    subnets: tuple[Subnet, ...]
    """The cheapest first."""

    @property
    def range(self) -> float:
        """MACs of the largest subnet divided by those of the smallest."""
        return self.subnets[-1].macs / self.subnets[0].macs


def save_dynamic(
    evaluator: InheritedAccuracy,
    archs: Iterable[Architecture],
    tables: CostTables,
    folder: Path,
    *,
    known: Mapping[str, float] | None = None,
    ends: bool = True,
    overwrite: bool = False,
    on_subnet: Callable[[int, int], None] | None = None,
) -> Saved:
    """Write the subnets `archs` of a trained supernet as one dynamic network.

    Args:
        evaluator: holds the supernet's weights; its data are images.
        archs: architectures; duplicates are saved once.
        folder: a new or empty folder.
        known: accuracies by architecture id that this evaluator has measured already.
        ends: also save the space's smallest and largest networks, to cover the whole range of
            compute.
        overwrite: replace a folder that is not empty.
        on_subnet: called after each subnet with (subnets done, number of subnets).

    Raises:
        UserError: for a folder that is not empty, a space whose networks do not take images, a
            failed check, or a place that cannot be written. On failure nothing is written.
    """
    refuse_full(folder, overwrite=overwrite)
    space, data, known = tables.space, evaluator.data, known or {}
    if len(space.input_shape(space.largest)) != 3:
        raise UserError(f"a dynamic network takes images, but space {space.name} does not")
    every = list(dict.fromkeys([*archs, *((space.smallest, space.largest) if ends else ())]))
    subnets, expected = [], {}
    tensors = _shared(evaluator)
    for done, arch in enumerate(every, start=1):
        network = evaluator.recalibrated(arch)
        shape = space.input_shape(arch)
        score = known.get(arch.id)
        if score is None:
            score = data.score(network, "validation", shape)["accuracy"]
        subnets.append(
            Subnet(arch.id, dict(arch), space.ops(arch), shape, tables.cost(arch), score)
        )
        network = network.to("cpu")
        buffers = statistics(network)
        if buffers:
            flat = torch.cat([buffer.flatten() for buffer in buffers.values()])
            tensors[f"statistics.{arch.id}"] = flat
        expected[arch.id] = _outputs(network, shape)
        if on_subnet is not None:
            on_subnet(done, len(every))
    about = {
        "space": space.name,
        "data": data.name,
        "image_size": data.space_options["image_size"],
        **data.description,
        "validation_images": data.extent("validation"),
        "convention": CONVENTION,
    }
    with staged(folder, overwrite=overwrite) as place:
        write(place, subnets, tensors, about)
        check(DynamicNetwork.load(place), expected)
    return Saved(folder, tuple(sorted(subnets, key=lambda s: (s.macs, s.id))))


def check(network: DynamicNetwork, expected: Mapping[str, Tensor]) -> None:
    """Compare the outputs of every subnet with the expected ones, by subnet id.

    Raises:
        UserError: if they differ by more than `TOLERANCE`.
    """
    for subnet in network.subnets:
        network.use(subnet)
        outputs = _outputs(network, subnet.input_shape)
        true = expected[subnet.id]
        difference = float((outputs - true).abs().max() / true.abs().max().clamp_min(1))
        if not difference <= TOLERANCE:
            raise UserError(
                f"export failed its check: outputs of subnet {subnet.id} differ by {difference:.2g}"
            )


@torch.no_grad()
def _outputs(network: nn.Module, shape: tuple[int, ...]) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    logits: Tensor = network(torch.randn(CHECK_BATCH, *shape, generator=generator))
    return logits


def _shared(evaluator: InheritedAccuracy) -> dict[str, Tensor]:
    """The supernet's weights, by their names in a dynamic network."""
    supernet = evaluator.supernet
    assert isinstance(supernet, nn.Module)
    names = ((name.split("."), tensor) for name, tensor in supernet.named_parameters())
    return {
        f"shared.{block}.{op}.{name}": tensor.detach().cpu()
        for (_, block, _, op, name), tensor in names
    }
