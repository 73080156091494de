"""Writes a network as `model.safetensors` and `config.json`, and loads it again.

Knows the two files and their format version. Does not know which other files an export has.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import nn

from search_spaces.errors import UserError
from search_spaces.exits.network import network_from_json
from search_spaces.files import read_json
from search_spaces.networks.modules import Network
from search_spaces.serial import blocks_from_json

FORMAT_VERSION = 1


def write_config(config: Mapping[str, Any], place: Path) -> None:
    """Write the description of a network as `config.json`."""
    (place / "config.json").write_text(json.dumps(config, indent=1) + "\n", encoding="utf-8")


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
        config = read_json(folder / "config.json")
        weights = load_file(folder / "model.safetensors")
    except FileNotFoundError as error:
        raise UserError(f"{folder} is not an export: no {Path(error.filename).name}") from error
    except (OSError, ValueError, SafetensorError) as error:
        raise UserError(f"cannot read the export {folder}: {error}") from error
    if config.get("format_version") != FORMAT_VERSION:
        raise UserError(
            f"{folder} has format version {config.get('format_version')}, expected {FORMAT_VERSION}"
        )
    blocks = blocks_from_json(config["network"])
    with torch.device("meta"):
        exits = config.get("exits")
        network = Network(blocks) if exits is None else network_from_json(blocks, exits)
    try:
        weights |= {name: weights[source] for name, source in network.tied_weights.items()}
        network.load_state_dict(weights, assign=True)
    except (RuntimeError, KeyError) as error:
        raise UserError(f"the weights in {folder} do not fit its config.json") from error
    network.tie()
    network.config = config
    return network.eval()


def write_weights(network: nn.Module, place: Path) -> None:
    """Write the weights of a network as `model.safetensors`, each tied weight once."""
    tied = network.tied_weights if isinstance(network, Network) else {}
    state = network.state_dict()
    weights = {name: tensor.contiguous() for name, tensor in state.items() if name not in tied}
    (place / "model.safetensors").write_bytes(save(weights, metadata={"format": "pt"}))
