"""The folder of a dynamic network: shared weights once, and what each subnet is.

`dynamic.safetensors` has the shared tensors (`shared.BLOCK.OP.NAME`) and, for each subnet with
statistics of its own, one vector of them (`statistics.ID`). `dynamic.json` has the subnets: ops of
every block, costs, accuracy; and the images that they take. A folder needs no search space and no
file of a user's. Does not know how a subnet runs.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor

from evaluators.costs.budget import LATENCY
from search_spaces.errors import UserError
from search_spaces.serial import Blocks, blocks_from_json, blocks_to_json

FORMAT_VERSION = 1
CONFIG = "dynamic.json"
WEIGHTS = "dynamic.safetensors"


@dataclass(frozen=True)
class Subnet:
    """One network inside a dynamic network.

    `costs` has `macs`, `params`, `memory` and `latency_ms_DEVICE` for each device that is known;
    `accuracy` is the share of validation images that it labels rightly.
    """

    id: str
    choices: Mapping[str, Any]
    blocks: Blocks
    input_shape: tuple[int, ...]
    costs: Mapping[str, float]
    accuracy: float

    @property
    def macs(self) -> int:
        """Multiply-accumulates for one image."""
        return int(self.costs["macs"])

    @property
    def resolution(self) -> int:
        """Height and width of its input."""
        return self.input_shape[-1]

    @property
    def devices(self) -> list[str]:
        """Devices whose latency is known."""
        return [name.removeprefix(LATENCY) for name in self.costs if name.startswith(LATENCY)]

    def to_json(self) -> dict[str, Any]:
        """All of it, as `read` takes it."""
        return {
            "id": self.id,
            "choices": dict(self.choices),
            "accuracy": self.accuracy,
            "costs": dict(self.costs),
            "input_shape": list(self.input_shape),
            "network": blocks_to_json(self.blocks),
        }

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> Subnet:
        """What `to_json` gave."""
        return cls(
            content["id"],
            content["choices"],
            blocks_from_json(content["network"]),
            tuple(content["input_shape"]),
            content["costs"],
            content["accuracy"],
        )


def write(
    folder: Path, subnets: Sequence[Subnet], tensors: Mapping[str, Tensor], about: Mapping[str, Any]
) -> None:
    """Fill an empty folder.

    Args:
        about: `mean`, `std`, `classes` and whatever else is known of the data and the space.
    """
    contiguous = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    (folder / WEIGHTS).write_bytes(save(contiguous, metadata={"format": "pt"}))
    content = {
        "format_version": FORMAT_VERSION,
        **about,
        "subnets": [subnet.to_json() for subnet in subnets],
    }
    (folder / CONFIG).write_text(json.dumps(content) + "\n", encoding="utf-8")


def read(folder: Path) -> tuple[list[Subnet], dict[str, Tensor], dict[str, Any]]:
    """Subnets, tensors and what else `write` was told.

    Raises:
        UserError: if the folder is not a dynamic network, or was written by another version.
    """
    try:
        about: dict[str, Any] = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
        tensors = load_file(folder / WEIGHTS)
    except FileNotFoundError as error:
        missing = Path(error.filename).name
        raise UserError(f"{folder} is not a dynamic network: it has no {missing}") from error
    except (OSError, ValueError, SafetensorError) as error:
        raise UserError(f"cannot read the dynamic network {folder}: {error}") from error
    if about.pop("format_version", None) != FORMAT_VERSION:
        raise UserError(f"{folder} has another format version than {FORMAT_VERSION}")
    try:
        subnets = [Subnet.from_json(content) for content in about.pop("subnets")]
    except (KeyError, TypeError) as error:
        raise UserError(f"{folder / CONFIG} is malformed: {error!r}") from error
    if not subnets:
        raise UserError(f"{folder / CONFIG} has no subnets")
    return subnets, tensors, about
