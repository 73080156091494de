"""Taking a network away: files that run without the search, each checked before it is kept.

`model.safetensors` with `config.json` is loaded back by `load`; `model.onnx` runs in onnxruntime
at any batch size. Everything is written to a temporary folder and checked there; a failed check
leaves nothing behind.
"""

from __future__ import annotations

import contextlib
import io
import json
import logging
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import nn

from evaluators.costs import CONVENTION, CostTables
from evaluators.dataset import Data
from evaluators.gated_costs import network_costs
from search_spaces.architecture import Architecture
from search_spaces.errors import UserError, unknown
from search_spaces.exit_network import ExitNetwork, network_from_json
from search_spaces.files import refuse_full, write_folder
from search_spaces.modules import Network
from search_spaces.onnx_writer import inputs_of
from search_spaces.serial import Blocks, blocks_from_json, blocks_to_json
from search_spaces.token_ops import Embedding

FORMATS = ("safetensors", "onnx")
FORMAT_VERSION = 1
TOLERANCE = 1e-4
CHECKED_BATCHES = (1, 3)


def export(
    network: nn.Module,
    arch: Architecture,
    tables: CostTables,
    data: Data,
    folder: Path,
    *,
    formats: Sequence[str] = FORMATS,
    metrics: dict[str, Any] | None = None,
    overwrite: bool = False,
    blocks: Blocks | None = None,
    cut: Mapping[str, Any] | None = None,
) -> Path:
    """Write a network to `folder` in the given formats, checked, whole or not at all.

    Args:
        blocks: what the network is made of, where that is not the architecture as it stands in
            the space: a network cut from it.
        cut: what is known of the cut, for `config.json`; `architecture` there is then what it was
            cut from, and `network` and `costs` are the cut network's.
        metrics: what is known of the network beside its costs (test accuracy).

    Raises:
        UserError: for an unknown format, early exits as ONNX, a folder that is not empty, a failed
            check, or a place that cannot be written.
    """
    for name in formats:
        if name not in FORMATS:
            raise unknown("export format", name, FORMATS)
    exits = network.exits_to_json() if isinstance(network, ExitNetwork) else None
    if exits is not None and "onnx" in formats:
        # Where a sample leaves depends on what is computed, which a graph of ops does not.
        raise UserError("a network with early exits is not written as onnx: expected safetensors")
    refuse_full(folder, overwrite=overwrite)
    network = network.to("cpu").eval()
    config = _config(arch, tables, data, metrics or {})
    if blocks is not None:
        config |= {"network": blocks_to_json(blocks), "costs": network_costs(blocks)}
        config["cut"] = dict(cut or {})
    if exits is not None:
        config["exits"] = exits

    def fill(place: Path) -> None:
        if "safetensors" in formats:
            _write_safetensors(network, config, place)
            for name, text in data.files.items():
                (place / name).write_text(text, encoding="utf-8")
        if "onnx" in formats:
            _write_onnx(network, blocks or tables.space.ops(arch), place)

    write_folder(folder, fill, overwrite=overwrite)
    return folder


def load(folder: Path | str) -> Network:
    """Load an exported network, in evaluation mode, with its description as `network.config`.

    The network takes `(batch, *config["input_shape"])`: images as float32 scaled to 0..1, resized
    to that size, minus `config["mean"]`, divided by `config["std"]`; or int64 token ids, which
    number the characters of `config["characters"]` from 0 or are of the `tokenizer.json` beside.

    Raises:
        UserError: if the folder is not an export, or its files do not belong together.
    """
    folder = Path(folder)
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
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


def _config(
    arch: Architecture, tables: CostTables, data: Data, metrics: dict[str, Any]
) -> dict[str, Any]:
    space = tables.space
    return {
        "format_version": FORMAT_VERSION,
        "space": space.name,
        "architecture": {"id": arch.id, "choices": dict(arch)},
        "input_shape": list(space.input_shape(arch)),
        **data.description,
        "data": data.name,
        "costs": tables.cost(arch),
        "convention": CONVENTION,
        "metrics": metrics,
        "network": blocks_to_json(space.ops(arch)),
    }


def _write_safetensors(network: nn.Module, config: dict[str, Any], place: Path) -> None:
    tied = network.tied_weights if isinstance(network, Network) else {}
    state = network.state_dict()
    weights = {name: tensor.contiguous() for name, tensor in state.items() if name not in tied}
    (place / "model.safetensors").write_bytes(save(weights, metadata={"format": "pt"}))
    (place / "config.json").write_text(json.dumps(config, indent=1) + "\n", encoding="utf-8")
    x = _example(blocks_from_json(config["network"]), 2)
    with torch.no_grad():
        difference = float((load(place)(x) - network(x)).abs().max())
    if difference > TOLERANCE:
        raise UserError(f"export failed its check: loaded outputs differ by {difference:.2g}")


def _write_onnx(network: nn.Module, blocks: Blocks, place: Path) -> None:
    import onnxruntime

    name = "tokens" if inputs_of(blocks)["input"].ids else "images"
    path = place / "model.onnx"
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        logging.getLogger("torch.onnx").setLevel(logging.ERROR)
        torch.onnx.export(
            network,
            (_example(blocks, 2),),
            path,
            input_names=[name],
            output_names=["logits"],
            dynamic_shapes=({0: torch.export.Dim("batch")},),
            dynamo=True,
            external_data=False,
            verbose=False,
        )
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    for batch in CHECKED_BATCHES:
        x = _example(blocks, batch)
        (given,) = session.run(None, {name: x.numpy()})
        with torch.no_grad():
            expected = network(x).numpy()
        difference = float(np.abs(np.asarray(given) - expected).max())
        if difference > TOLERANCE:
            raise UserError(
                f"export failed its check: ONNX outputs differ by {difference:.2g} at batch {batch}"
            )


def _example(blocks: Blocks, batch: int) -> torch.Tensor:
    """Random inputs of a network: noise, or ids that all of its embeddings have."""
    generator = torch.Generator().manual_seed(batch)
    taken = inputs_of(blocks)["input"]
    if not taken.ids:
        return torch.randn(batch, *taken.shape, generator=generator)
    ids = [op.vocabulary for _, ops in blocks for op in ops if isinstance(op, Embedding)]
    return torch.randint(min(ids), (batch, *taken.shape), generator=generator)
