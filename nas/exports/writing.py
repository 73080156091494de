"""Taking a network away: files that run without the search, each checked before it is kept.

`model.safetensors` with `config.json` is loaded back by `load`; `model.onnx` runs in onnxruntime,
`model.pt2` in torch, both at any batch size; `network.py` is the network in plain PyTorch;
`model.pte` runs in ExecuTorch. How each is written is in `nas/exports`. Everything is written to a
temporary folder and checked there; a failed check leaves nothing behind.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import nn

from evaluators.costs.gated_costs import network_costs
from evaluators.costs.tables import CONVENTION, CostTables
from evaluators.data.dataset import Data
from nas.exports import checks, executorch_file, onnx_file, pt2_file
from nas.exports.formats import FILES
from nas.exports.saved import FORMAT_VERSION, _write_weights, write_config
from nas.exports.source import python_source
from search_spaces.architecture import Architecture
from search_spaces.errors import UserError, unknown
from search_spaces.exits.network import ExitNetwork
from search_spaces.files import refuse_full, write_folder
from search_spaces.serial import Blocks, blocks_to_json

FORMATS = tuple(FILES)
DEFAULT_FORMATS = ("safetensors", "onnx")

Finish = Callable[[nn.Module, Blocks, dict[str, Any], Path], None]
"""`(network, blocks, description, folder)`: adds to the folder that was written, and checks it."""


def export(
    network: nn.Module,
    arch: Architecture,
    tables: CostTables,
    data: Data,
    folder: Path,
    *,
    formats: Sequence[str] = DEFAULT_FORMATS,
    metrics: dict[str, Any] | None = None,
    overwrite: bool = False,
    blocks: Blocks | None = None,
    cut: Mapping[str, Any] | None = None,
    finish: Finish | None = None,
) -> Path:
    """Write a network to `folder` in the given formats, checked, whole or not at all.

    Args:
        blocks: what the network is made of, where that is not the architecture as it stands in
            the space: a network cut from it.
        cut: what is known of the cut, for `config.json`; `architecture` there is then what it was
            cut from, and `network` and `costs` are the cut network's.
        metrics: what is known of the network beside its costs (test accuracy).
        finish: in place of the quick check in this process.

    Raises:
        UserError: for an unknown format, early exits in a format that has none, a folder that is
            not empty, a failed check, or a place that cannot be written.
    """
    check_formats(formats)
    exits = network.exits_to_json() if isinstance(network, ExitNetwork) else None
    if exits is not None and set(formats) != {"safetensors"}:
        # Where a sample leaves depends on what is computed, which a graph of ops does not.
        other = next(name for name in formats if name != "safetensors")
        raise UserError(
            f"a network with early exits is not written as {other}: expected safetensors"
        )
    refuse_full(folder, overwrite=overwrite)
    network = network.to("cpu").eval()
    config = _config(arch, tables, data, metrics or {})
    if blocks is not None:
        config |= {"network": blocks_to_json(blocks), "costs": network_costs(blocks)}
        config["cut"] = dict(cut or {})
    if exits is not None:
        config["exits"] = exits
    made = blocks or tables.space.ops(arch)

    def fill(place: Path) -> None:
        if "safetensors" in formats:
            write_config(config, place)
            for name, text in data.files.items():
                (place / name).write_text(text, encoding="utf-8")
        if "safetensors" in formats or "python" in formats:
            _write_weights(network, place)
        if "onnx" in formats:
            onnx_file.write(network, made, place / onnx_file.FILE)
        if "pt2" in formats:
            pt2_file.write(network, made, place / pt2_file.FILE)
        if "executorch" in formats:
            executorch_file.write(network, made, place / executorch_file.FILE)
        if "python" in formats:
            write_source(made, config, place)
        if finish is None:
            checks.in_this_process(network, made, place, formats)
        else:
            finish(network, made, config, place)

    write_folder(folder, fill, overwrite=overwrite)
    return folder


def check_formats(formats: Sequence[str]) -> None:
    """Raise a `UserError` for a format that is not known, one whose extra lacks, or none at all."""
    if not formats:
        raise UserError(f"no export format: expected some of {', '.join(FORMATS)}")
    for name in formats:
        if name not in FORMATS:
            raise unknown("export format", name, FORMATS)
    if "executorch" in formats:
        executorch_file.check_installed()


def write_source(blocks: Blocks, config: Mapping[str, Any], place: Path) -> None:
    """Write the network in plain PyTorch.

    Raises:
        UserError: for an op type that cannot be written.
    """
    about = python_source.described(config)
    own = [f"Network {config['architecture']['id']} of the space {config['space']}."]
    text = python_source.write_python(blocks, about, own)
    (place / python_source.FILE).write_text(text, encoding="utf-8")


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
