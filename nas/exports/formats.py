"""Export formats by the names that users type, each with the file that identifies it.

A new format is one line here and one module that writes it.
"""

from __future__ import annotations

from nas.exports import executorch_file, pt2_file
from nas.exports.description import CONFIG_FILE, ONNX_FILE
from nas.exports.source import python_source

FORMAT_FILES = {
    # Not model.safetensors, which the `python` format writes too.
    "safetensors": CONFIG_FILE,
    "onnx": ONNX_FILE,
    "pt2": pt2_file.PT2_FILE,
    "python": python_source.SOURCE_FILE,
    "executorch": executorch_file.EXECUTORCH_FILE,
}
