"""Writes a network as `model.safetensors` and `config.json`, and loads it again.

Knows the two files and their format version. Does not know which other files an export has.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save
from torch import nn

from nas.exports.description import CONFIG_FILE, WEIGHTS_FILE
from search_spaces.errors import UserError
from search_spaces.exits.network import network_from_json
from search_spaces.files import read_json
from search_spaces.networks.dry_run import check_runs
from search_spaces.networks.modules import Network
from search_spaces.serial import blocks_from_json

FORMAT_VERSION = 1


def write_config(config: Mapping[str, Any], place: Path) -> None:
    """Write the description of a network as `config.json`."""
    (place / CONFIG_FILE).write_text(json.dumps(config, indent=1) + "\n", encoding="utf-8")


def load(folder: Path | str) -> Network:
    """Load an exported network, in evaluation mode, with its description as `network.config`.

    Args:
        folder: contains `config.json` and `model.safetensors`.

    Returns:
        A module that takes `(batch, *config["input_shape"])` and returns logits. Images are
        float32 scaled to 0..1, resized to that size, minus `config["mean"]`, divided by
        `config["std"]`. Text is int64 token ids: indices into `config["characters"]`, or ids of
        the `tokenizer.json` in the folder.

    Raises:
        UserError: if the folder is not an export, or its files do not belong together.
    """
    folder = Path(folder)
    try:
        config = read_json(folder / CONFIG_FILE)
        weights_file = folder / WEIGHTS_FILE
        if not weights_file.is_file():
            raise UserError(f"{folder} is not an export: no {weights_file.name}")
    except FileNotFoundError as error:
        raise UserError(f"{folder} is not an export: no {Path(error.filename).name}") from error
    except (OSError, ValueError) as error:
        raise UserError(f"cannot read the export {folder}: {error}") from error
    version = config.get("format_version") if isinstance(config, dict) else None
    if version != FORMAT_VERSION:
        raise UserError(f"{folder} has format version {version}, expected {FORMAT_VERSION}")
    network = _described(config, folder)
    weights = _weights(network, weights_file)
    network.load_state_dict(weights, assign=True)
    network.tie()
    network.config = config
    return network.eval()


def _described(config: dict[str, Any], folder: Path) -> Network:
    """The network of a description, without memory for weights, checked by a run."""
    try:
        blocks = blocks_from_json(config["network"])
        with torch.device("meta"):
            plain = Network(blocks)
            check_runs(plain, blocks)
            exits = config.get("exits")
            return plain if exits is None else network_from_json(blocks, exits)
    except KeyError as error:
        raise UserError(f"cannot read the export {folder}: config.json has no {error}") from error
    except UserError as error:
        raise UserError(f"cannot read the export {folder}: {error}") from error
    except Exception as error:  # whatever a description leads to
        first = (str(error).splitlines() or [""])[0]
        raise UserError(
            f"cannot read the export {folder}: malformed network description: "
            f"{type(error).__name__}: {first}"
        ) from error


def _weights(network: Network, file: Path) -> dict[str, torch.Tensor]:
    """The weights of a network, read once all names, shapes and types are those of its own."""
    tied = network.tied_weights
    expected = {
        name: (list(tensor.shape), tensor.dtype)
        for name, tensor in network.state_dict().items()
        if name not in tied
    }
    try:
        with safe_open(file, "pt") as stored:
            found = {
                name: (part.get_shape(), TYPES.get(part.get_dtype()))
                for name in stored.keys()  # noqa: SIM118
                for part in [stored.get_slice(name)]
            }
        for name in {**expected, **found}:
            if found.get(name) != expected.get(name):
                raise UserError(
                    f"the weights in {file.parent} do not fit its config.json: {name} is "
                    f"{_kind(found.get(name))}, expected {_kind(expected.get(name))}"
                )
        weights: dict[str, torch.Tensor] = load_file(file)
    except (OSError, ValueError, SafetensorError) as error:
        raise UserError(f"cannot read the export {file.parent}: {error}") from error
    return weights | {name: weights[source] for name, source in tied.items()}


TYPES = {"F32": torch.float32, "I64": torch.int64, "BOOL": torch.bool, "I32": torch.int32}
"""Types of an export's tensors, by their names in its file; others are refused."""


def _kind(described: tuple[list[int], torch.dtype | None] | None) -> str:
    if described is None:
        return "missing"
    shape, kind = described
    return f"{str(kind or 'another type').removeprefix('torch.')} {'x'.join(map(str, shape))}"


def write_weights(
    network: nn.Module, place: Path, properties: Mapping[str, str] | None = None
) -> None:
    """Write the weights of a network as `model.safetensors`, each tied weight once.

    Args:
        properties: what the file says about itself.
    """
    tied = network.tied_weights if isinstance(network, Network) else {}
    about = dict(properties or {})
    state = network.state_dict()
    weights = {name: tensor.contiguous() for name, tensor in state.items() if name not in tied}
    written = save(weights, metadata={**about, "format": "pt"})
    (place / WEIGHTS_FILE).write_bytes(_in_order(written))


def _in_order(written: bytes) -> bytes:
    """The same safetensors file with its metadata in order: the library writes it in any."""
    size = int.from_bytes(written[:8], "little")
    header = json.loads(written[8 : 8 + size])
    header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text + written[8 + size :]
