"""The formats of an export by the names users type, with the file that each is known by."""

from __future__ import annotations

from nas.exports import executorch_file, onnx_file, pt2_file
from nas.exports.source import python_source

FILES = {
    # model.safetensors is beside network.py as well.
    "safetensors": "config.json",
    "onnx": onnx_file.FILE,
    "pt2": pt2_file.FILE,
    "python": python_source.FILE,
    "executorch": executorch_file.FILE,
}
