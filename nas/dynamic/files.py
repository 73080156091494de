"""Reads and writes the folder of a dynamic network: one set of shared weights, several subnets.

`dynamic.safetensors` has the shared tensors (`shared.BLOCK.OP.NAME`) and, for each subnet with
batch-norm statistics, one vector of them (`statistics.ID`). `dynamic.json` has the subnets (ops of
every block, costs, accuracy) and the preprocessing of images. A folder is self-contained: loading
it needs neither the search space nor any file of the user. Does not know how a subnet runs.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor

from evaluators.metrics import Metric
from search_spaces.errors import UserError
from search_spaces.files import read_json
from search_spaces.serial import Blocks, blocks_from_json, blocks_to_json
from search_spaces.wiring import INPUT

FORMAT_VERSION = 1
CONFIG = "dynamic.json"
WEIGHTS = "dynamic.safetensors"


@dataclass(frozen=True)
class Subnet:
    """One network inside a dynamic network.

    `costs` has `macs`, `params`, `memory` and `latency_ms_DEVICE` for each device of the run;
    `accuracy` is the validation accuracy, between 0 and 1.
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
        """Devices that have a latency in `costs`."""
        return [str(m.device) for m in map(Metric.of, self.costs) if m.is_latency]

    def to_json(self) -> dict[str, Any]:
        """The JSON form, which `from_json` reads."""
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
        """Read what `to_json` returned.

        Raises:
            LookupError, TypeError, ValueError, UserError: if it is something else.
        """
        name, choices, costs = content["id"], content["choices"], content["costs"]
        if not (isinstance(name, str) and isinstance(choices, dict) and isinstance(costs, dict)):
            raise TypeError("id, choices and costs are a word and two objects")
        blocks, shape = blocks_from_json(content["network"]), tuple(content["input_shape"])
        inputs = (tensor for _, ops in blocks for op in ops for tensor in op.inputs)
        taken = next((tensor.shape for tensor in inputs if tensor.name == INPUT), None)
        if shape != taken:
            raise ValueError(f"input_shape is {shape}, but its network takes {taken}")
        figures = {**costs, "accuracy": content["accuracy"]}
        if "macs" not in costs or not all(_is_figure(value) for value in figures.values()):
            raise ValueError("costs and accuracy are finite numbers, macs one of them")
        return cls(name, choices, blocks, shape, costs, content["accuracy"])


def write(
    folder: Path, subnets: Sequence[Subnet], tensors: Mapping[str, Tensor], about: Mapping[str, Any]
) -> None:
    """Write a dynamic network into an empty folder.

    Args:
        about: `mean`, `std`, `classes` and further facts about the data and the space.
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
    """Read the subnets, the tensors and `about` that `write` wrote.

    Raises:
        UserError: if the folder is not a dynamic network, or has another format version.
    """
    for name in (CONFIG, WEIGHTS):
        if not (folder / name).is_file():
            raise UserError(f"{folder} is not a dynamic network: it has no {name}")
    try:
        about: dict[str, Any] = read_json(folder / CONFIG)
        if not isinstance(about, dict):
            raise ValueError(f"{CONFIG} holds a {type(about).__name__}, expected an object")
        tensors = load_file(folder / WEIGHTS)
    except (OSError, ValueError, SafetensorError) as error:
        raise UserError(f"cannot read the dynamic network {folder}: {error}") from error
    version = about.pop("format_version", None)
    if version != FORMAT_VERSION:
        raise UserError(f"{folder} has format version {version}, expected {FORMAT_VERSION}")
    try:
        subnets = [Subnet.from_json(content) for content in about.pop("subnets")]
        for name in ("mean", "std"):
            if not all(map(_is_figure, about[name])):
                raise ValueError(f"{name} holds finite numbers")
    except (LookupError, TypeError, ValueError, AttributeError, UserError) as error:
        raise UserError(f"{folder / CONFIG} is malformed: {error!r}") from error
    if not subnets:
        raise UserError(f"{folder / CONFIG} has no subnets")
    if len({subnet.id for subnet in subnets}) < len(subnets):
        raise UserError(f"{folder / CONFIG} is malformed: two subnets have one id")
    return subnets, tensors, about


def _is_figure(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
