"""Opens what a user names for a prediction: an export, an ONNX file, or the winner of a run.

An ONNX file is preferred, since onnxruntime starts in a fraction of the time that torch takes.
Knows the files of an export. Does not know inputs.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from nas.exports.description import CONFIG_FILE, ONNX_FILE, WEIGHTS_FILE
from nas.inference.predictor import Array, Function, Predictor
from search_spaces.errors import UserError
from search_spaces.files import read_json


def export_folder(place: Path | str) -> Path:
    """The folder of an export: itself, or the winner of a run.

    Raises:
        UserError: for a run without a trained winner.
    """
    folder = Path(place)
    if not (folder / "specification.json").is_file():
        return folder
    winner = folder / "winner"
    if not winner.is_dir():
        raise UserError(
            f"{folder} has no trained winner: expected a run whose search has ended with a training"
        )
    return winner


def open_network(place: Path | str) -> Predictor:
    """Open a network by the folder of its export, of its run, or by its ONNX file.

    Raises:
        UserError: if there is no network that can be run.
    """
    path = Path(place)
    if path.is_file() and path.suffix.lower() == ".onnx":
        function, config = _onnx(path)
        return Predictor(str(path), config, function, path.parent)
    folder = export_folder(path)
    if not folder.is_dir():
        raise UserError(f"no folder {folder}: expected an export, or a run")
    if (folder / CONFIG_FILE).is_file():
        config = _config(folder / CONFIG_FILE)
        if (folder / ONNX_FILE).is_file() and "exits" not in config:
            function, _ = _onnx(folder / ONNX_FILE, config)
            return Predictor(str(path), config, function, folder)
        if (folder / WEIGHTS_FILE).is_file():
            from nas.exports.saved import load

            return Predictor(str(path), config, torch_function(load(folder)), folder)
    elif (folder / ONNX_FILE).is_file():
        function, config = _onnx(folder / ONNX_FILE)
        return Predictor(str(path), config, function, folder)
    raise UserError(
        f"{path} has no network to predict with: expected an export with {ONNX_FILE}, or with "
        f"{WEIGHTS_FILE} and {CONFIG_FILE}, or a run"
    )


def torch_function(network: Any) -> Function:
    """A torch network as a function of arrays, on the device where it is; its mode is restored."""

    def run(inputs: Array) -> Array:
        import torch

        device = next(network.parameters()).device
        training = network.training
        network.eval()
        with torch.no_grad():
            logits = network(torch.from_numpy(inputs).to(device)).float().cpu().numpy()
        network.train(training)
        return np.asarray(logits)

    return run


def _config(path: Path) -> dict[str, Any]:
    """A network's description.

    Raises:
        UserError: if it is not one.
    """
    try:
        return _checked(read_json(path))
    except (OSError, ValueError) as error:
        raise UserError(f"cannot read {path}: {error}") from error


def _checked(config: Any) -> dict[str, Any]:
    if not isinstance(config, dict):
        raise ValueError("not a description of a network")
    shape, classes = config.get("input_shape"), config.get("classes", [])
    if not isinstance(shape, list) or not shape or not all(isinstance(n, int) for n in shape):
        raise ValueError("no input_shape")
    if not isinstance(classes, list):
        raise ValueError("no list of classes")
    if "mean" in config and not classes:
        raise ValueError("no classes")
    if len(set(map(str, classes))) < len(classes):
        raise ValueError("two classes of one name")
    return config


def _onnx(path: Path, config: dict[str, Any] | None = None) -> tuple[Function, dict[str, Any]]:
    """The network of an ONNX file, and the description that it holds, unless one is given.

    Raises:
        UserError: if it cannot be read, or says nothing about itself.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    try:
        session = onnxruntime.InferenceSession(
            str(path), options, providers=["CPUExecutionProvider"]
        )
        (tensor,) = session.get_inputs()
    except Exception as error:  # onnxruntime has an own type for each cause
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise UserError(f"cannot read {path}: {reason}") from error
    if config is None:
        about = session.get_modelmeta().custom_metadata_map
        try:
            config = _checked(json.loads(about["config"]))
        except (KeyError, ValueError):
            raise UserError(
                f"{path} does not say how its input is prepared: expected a file that this version "
                "of `nas export` wrote"
            ) from None
    if tensor.name not in ("images", "tokens"):
        raise UserError(
            f"{path} takes '{tensor.name}': expected {ONNX_FILE}, which takes prepared images"
        )

    def run(inputs: Array) -> Array:
        return np.asarray(session.run(None, {tensor.name: inputs})[0])

    return run, config
