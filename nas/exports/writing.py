"""Writes a network in the requested export formats and checks the files before they are kept.

`model.safetensors` with `config.json` is loaded by `nas.load`; `model.onnx` runs in onnxruntime
and `model.pt2` in torch, both at any batch size; `network.py` is plain PyTorch; `model.pte` runs
in ExecuTorch. Everything is written to a temporary folder and checked there, so that a failed
check leaves nothing behind. Knows which formats there are and what `config.json` contains. Does
not know how a format is written, which is one module each.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

from evaluators.accuracy.class_scores import ClassScores
from evaluators.costs.gated_costs import network_costs
from evaluators.costs.tables import CONVENTION, CostTables
from evaluators.data.dataset import Data
from nas.exports import checks, description, executorch_file, onnx_file, pt2_file
from nas.exports.description import ONNX_FILE
from nas.exports.folder import staged
from nas.exports.formats import FORMAT_FILES
from nas.exports.saved import FORMAT_VERSION, write_config, write_weights
from nas.exports.source import python_source
from search_spaces.architecture import Architecture
from search_spaces.errors import UserError, unknown
from search_spaces.exits.network import ExitNetwork
from search_spaces.serial import Blocks, blocks_to_json

FORMATS = tuple(FORMAT_FILES)
DEFAULT_FORMATS = ("safetensors", "onnx")


@dataclass(frozen=True)
class Exportable:
    """A network to write, on the CPU and in evaluation mode, with its description."""

    network: nn.Module
    blocks: Blocks
    config: dict[str, Any]
    """Content of `config.json`."""
    files: Mapping[str, str]
    """Texts of the data's own files by name, such as a tokenizer."""

    @property
    def properties(self) -> dict[str, str]:
        """What a file says about itself."""
        return description.properties(self.config)


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
    scores: ClassScores | None = None,
) -> Path:
    """Write a network to `folder` in the given formats, checked; on failure write nothing.

    Args:
        metrics: recorded in `config.json` beside the costs, such as test accuracy.
        overwrite: replace a folder that is not empty.
        blocks: the network's ops if it was cut from the architecture; by default the
            architecture's own.
        cut: recorded in `config.json` for a network that was cut: `architecture` is then the one
            that it was cut from, `network` and `costs` are those of the cut network.
        scores: of the classes on the test part, written as `scores.json`.

    Returns:
        `folder`.

    Raises:
        UserError: for an unknown format, a format that early exits do not have, a folder that is
            not empty, a failed check, or a place that cannot be written.
    """
    made = prepare(
        network, arch, tables, data, formats=formats, metrics=metrics, blocks=blocks, cut=cut
    )
    with staged(folder, overwrite=overwrite) as place:
        write_formats(made, formats, place)
        write_scores(scores, place)
        checks.in_this_process(made.network, made.blocks, place, formats)
    return folder


def check_formats(formats: Sequence[str]) -> None:
    """Raise a `UserError` for no format, an unknown one, or one whose extra is not installed."""
    if not formats:
        raise UserError(f"no export format: expected some of {', '.join(FORMATS)}")
    for name in formats:
        if name not in FORMATS:
            raise unknown("export format", name, FORMATS)
    if "executorch" in formats:
        executorch_file.check_installed()


def prepare(
    network: nn.Module,
    arch: Architecture,
    tables: CostTables,
    data: Data,
    *,
    formats: Sequence[str],
    metrics: dict[str, Any] | None = None,
    blocks: Blocks | None = None,
    cut: Mapping[str, Any] | None = None,
) -> Exportable:
    """Check the formats and describe a network; arguments as in `export`.

    Raises:
        UserError: for an unknown format, or a format that early exits do not have.
    """
    check_formats(formats)
    exits = network.exits_to_json() if isinstance(network, ExitNetwork) else None
    if exits is not None and set(formats) != {"safetensors"}:
        # Where a sample leaves depends on its logits, which a static graph of ops cannot express.
        other = next(name for name in formats if name != "safetensors")
        raise UserError(
            f"a network with early exits is not written as {other}: expected safetensors"
        )
    config = _config(arch, tables, data, metrics or {})
    if blocks is not None:
        config |= {"network": blocks_to_json(blocks), "costs": network_costs(blocks)}
        config["cut"] = dict(cut or {})
    if exits is not None:
        config["exits"] = exits
    ops = blocks or tables.space.ops(arch)
    return Exportable(network.to("cpu").eval(), ops, config, data.files)


def write_formats(made: Exportable, formats: Sequence[str], place: Path) -> None:
    """Write the files of each format into the folder `place`, unchecked.

    Raises:
        UserError: for a network that a format cannot hold.
    """
    network, blocks, about = made.network, made.blocks, made.properties
    for name, text in {**description.files(made.config), **made.files}.items():
        (place / name).write_text(text, encoding="utf-8")
    if "safetensors" in formats:
        write_config(made.config, place)
    if "safetensors" in formats or "python" in formats:
        write_weights(network, place, about)
    if "onnx" in formats:
        onnx_file.write(network, blocks, place / ONNX_FILE, about)
    if "pt2" in formats:
        pt2_file.write(network, blocks, place / pt2_file.PT2_FILE, about)
    if "executorch" in formats:
        executorch_file.write(network, blocks, place / executorch_file.EXECUTORCH_FILE)
    if "python" in formats:
        write_source(blocks, made.config, place)


def write_source(blocks: Blocks, config: Mapping[str, Any], place: Path) -> None:
    """Write the network as plain PyTorch, `network.py`.

    Raises:
        UserError: for an op type that cannot be written.
    """
    about = python_source.file_description(config)
    own = [f"Network {config['architecture']['id']} of the space {config['space']}."]
    text = python_source.write_python(blocks, about, own, python_source.constants(config))
    (place / python_source.SOURCE_FILE).write_text(text, encoding="utf-8")


def write_scores(scores: ClassScores | None, place: Path) -> None:
    """Write the scores of the classes as `scores.json`, if there are any."""
    if scores is not None:
        text = json.dumps(scores.to_json(), indent=1, ensure_ascii=False) + "\n"
        (place / description.SCORES_FILE).write_text(text, encoding="utf-8")


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
