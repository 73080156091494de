"""Puts the preprocessing into the ONNX file: pixels of a picture in, probabilities of classes out.

The input is `pixels`, `(batch, height, width, 3)` uint8 of any height and width, as an upright RGB
picture is decoded. Resizing is in 8 bits with the weights of Pillow, which decoded the training
images; the two differ by at most one level, in few pixels. Grey networks read the picture's luma by
Pillow's formula. Knows ONNX operators. Does not know how a network is written.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from evaluators.data.preprocessing import Preprocessing
from search_spaces.errors import UserError

PIXELS_FILE = "model.with-preprocessing.onnx"
INPUT, OUTPUT = "pixels", "probabilities"

TOLERANCE = 1e-3
"""Largest difference of probabilities in the check."""

LUMA = (19595, 38470, 7471)
"""Weights of red, green and blue in 1/65536 (ITU-R 601-2), as in Pillow."""


def write(source: Path, target: Path, preprocessing: Preprocessing) -> None:
    """Write the network of an ONNX file with its preprocessing before it, and a softmax behind it.

    Args:
        source: a file with one input of images and one output of logits.
    """
    model = onnx.load(source)
    graph = model.graph
    (images,), (logits,) = graph.input, graph.output
    nodes = _Nodes()
    _prepare(nodes, preprocessing, images.name)
    before, nodes.made = nodes.made, []
    nodes.named("Softmax", [logits.name], OUTPUT, axis=-1)
    classes = logits.type.tensor_type.shape.dim[-1].dim_value
    shape: list[str | int] = ["batch", "height", "width", 3]
    pixels = helper.make_tensor_value_info(INPUT, TensorProto.UINT8, shape)
    output = helper.make_tensor_value_info(OUTPUT, TensorProto.FLOAT, ["batch", classes])
    made = helper.make_graph(
        [*before, *graph.node, *nodes.made],
        graph.name,
        [pixels],
        [output],
        [*graph.initializer, *nodes.constants],
    )
    whole = helper.make_model(
        made,
        opset_imports=model.opset_import,
        ir_version=model.ir_version,
        functions=model.functions,
    )
    onnx.checker.check_model(whole)
    properties = {entry.key: entry.value for entry in model.metadata_props}
    about = {"pixels": "upright RGB, uint8, any height and width"}
    helper.set_model_props(whole, {**properties, "input": json.dumps(about)})
    target.write_bytes(whole.SerializeToString())


def check(source: Path, target: Path, preprocessing: Preprocessing) -> None:
    """Compare the file with preprocessing with the network on pictures that need no resizing.

    Raises:
        UserError: if their probabilities differ.
    """
    import onnxruntime

    def run(path: Path, inputs: Any) -> Any:
        session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
        return session.run(None, {session.get_inputs()[0].name: inputs})[0]

    size = preprocessing.image_size
    grey = np.random.default_rng(0).integers(0, 256, (2, size, size, 1), dtype=np.uint8)
    logits = run(source, preprocessing.inputs(np.repeat(grey, preprocessing.channels, axis=3)))
    expected = np.exp(logits - logits.max(axis=1, keepdims=True))
    expected /= expected.sum(axis=1, keepdims=True)
    given = run(target, np.repeat(grey, 3, axis=3))
    difference = np.abs(given - expected).max()
    if not difference <= TOLERANCE:
        raise UserError(f"export failed its check: {target.name} differs by {difference:.2g}")


class _Nodes:
    """Nodes and constants of a graph, in order."""

    def __init__(self) -> None:
        self.made: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []

    def constant(self, value: Any, kind: Any) -> str:
        """Add an initializer; returns its name."""
        name = f"preprocessing.constant{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(np.asarray(value, dtype=kind), name))
        return name

    def add(self, kind: str, inputs: Sequence[str], **attributes: Any) -> str:
        """Add a node; returns its output."""
        return self.named(kind, inputs, f"preprocessing.{len(self.made)}.{kind}", **attributes)

    def named(self, kind: str, inputs: Sequence[str], output: str, **attributes: Any) -> str:
        """Add a node with a named output."""
        self.made.append(helper.make_node(kind, list(inputs), [output], output, **attributes))
        return output

    def cast(self, value: str, kind: int) -> str:
        """Add a conversion; returns its output."""
        return self.add("Cast", [value], to=kind)

    def resized(self, images: str, sizes: str, *, antialias: bool = True) -> str:
        """Add a bilinear resize to `sizes`, with the weights of Pillow; returns its output."""
        return self.add(
            "Resize",
            [images, "", "", sizes],
            mode="linear",
            antialias=int(antialias),
            # Weights beyond the border are left out, and the others sum to one.
            exclude_outside=int(antialias),
            coordinate_transformation_mode="half_pixel",
        )


def _prepare(nodes: _Nodes, preprocessing: Preprocessing, name: str) -> None:
    """Nodes from `pixels` to the network's input `name`."""
    size = preprocessing.image_size
    images = nodes.add("Transpose", [INPUT], perm=[0, 3, 1, 2])
    if preprocessing.channels == 1:
        images = _luma(nodes, images)
    images = _square(nodes, images, size)
    mean, std = (
        nodes.constant(np.reshape(values, (1, -1, 1, 1)), np.float32)
        for values in (preprocessing.mean, preprocessing.std)
    )
    x = nodes.cast(images, TensorProto.FLOAT)
    x = nodes.add("Div", [x, nodes.constant(255, np.float32)])
    x = nodes.add("Sub", [x, mean])
    if preprocessing.input_size == size:
        nodes.named("Div", [x, std], name)
        return
    x = nodes.add("Div", [x, std])
    side = preprocessing.input_size
    shape = nodes.add("Shape", [x], start=0, end=2)
    sides = nodes.constant([side, side], np.int64)
    sizes = nodes.add("Concat", [shape, sides], axis=0)
    nodes.named("Identity", [nodes.resized(x, sizes, antialias=side < size)], name)


def _luma(nodes: _Nodes, images: str) -> str:
    """The grey images `(batch, 1, height, width)` of RGB images."""
    wide = nodes.cast(images, TensorProto.INT32)
    weights = nodes.constant(np.reshape(LUMA, (1, 3, 1, 1)), np.int32)
    weighted = nodes.add("Mul", [wide, weights])
    axes = nodes.constant([1], np.int64)
    total = nodes.add("ReduceSum", [weighted, axes], keepdims=1)
    rounded = nodes.add("Add", [total, nodes.constant(1 << 15, np.int32)])
    return nodes.cast(
        nodes.add("Div", [rounded, nodes.constant(1 << 16, np.int32)]), TensorProto.UINT8
    )


def _square(nodes: _Nodes, images: str, size: int) -> str:
    """The short side resized to `size`, the centre cropped, as `pixels._resized` does it."""
    shape = nodes.add("Shape", [images], start=0, end=2)
    before = nodes.add("Shape", [images], start=2, end=4)
    sides = nodes.cast(before, TensorProto.DOUBLE)
    zero = nodes.constant([0], np.int64)
    short = nodes.add("ReduceMin", [sides, zero], keepdims=1)
    scale = nodes.add("Div", [nodes.constant([size], np.float64), short])
    rounded = nodes.add("Round", [nodes.add("Mul", [sides, scale])])  # halves to even, as Python
    least = nodes.constant([size], np.int64)
    after = nodes.add("Max", [nodes.cast(rounded, TensorProto.INT64), least])
    resized = nodes.resized(images, nodes.add("Concat", [shape, after], axis=0))
    start = nodes.add("Div", [nodes.add("Sub", [after, least]), nodes.constant([2], np.int64)])
    end = nodes.add("Add", [start, least])
    return nodes.add("Slice", [resized, start, end, nodes.constant([2, 3], np.int64)])
