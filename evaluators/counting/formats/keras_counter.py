"""Counts Keras 3 models and TensorFlow SavedModels, from the operators of the traced graph.

With TensorFlow installed, a model is traced to a graph at the given shapes and its operators are
counted. A `.keras` file needs only Keras: without TensorFlow it is loaded on the PyTorch backend
and counted like any PyTorch network. Keras and TensorFlow are imported on use only. Knows operators
of TensorFlow. Does not know ONNX.
"""

from __future__ import annotations

import importlib.util
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from math import prod
from pathlib import Path
from typing import Any

from evaluators.counting.counts import Count, Node, Uncounted
from evaluators.counting.einsum import einsum_macs
from evaluators.counting.formats.input_shapes import Inputs, Shape, by_name, check_sizes
from search_spaces.errors import UserError

MISSING = "counting Keras models needs an extra: pip install '{name}[tensorflow]'"


def _names(text: str) -> frozenset[str]:
    return frozenset(text.split())


MOVES = _names(
    """
    Placeholder Const Identity IdentityN Reshape Squeeze ExpandDims Transpose ConcatV2 Split SplitV
    StridedSlice Slice Pack Unpack GatherV2 ResourceGather GatherNd Shape ShapeN Size Rank Cast Fill
    Range Tile Pad PadV2 MirrorPad BroadcastTo ReadVariableOp VarHandleOp NoOp StopGradient
    ZerosLike OnesLike OneHot DepthToSpace SpaceToDepth SpaceToBatchND BatchToSpaceND ReverseV2
    PlaceholderWithDefault PreventGradient EnsureShape BroadcastArgs Assert ResizeNearestNeighbor
    StatelessRandomUniformV2 RandomUniform RandomStandardNormal MatrixBandPart
    """
)
"""Operators that only create, inspect or move data."""

PASSES = {
    "FusedBatchNormV3": 2,
    "FusedBatchNormV2": 2,
    "FusedBatchNorm": 2,
    "Softmax": 5,
    "LogSoftmax": 5,
}
"""Element operations per element of the first input."""

REDUCTIONS = frozenset({"Mean", "Sum", "Max", "Min", "Prod", "All", "Any", "ArgMax", "ArgMin"})
"""Operators with one operation per element of their input."""

ELEMENTWISE = _names(
    """
    Add AddV2 AddN BiasAdd Sub Mul RealDiv Div DivNoNan FloorDiv FloorMod Maximum Minimum Neg Abs
    Exp Log Log1p Sqrt Rsqrt Square SquaredDifference Pow Relu Relu6 LeakyRelu Elu Selu Softplus
    Softsign Sigmoid Tanh Erf Erfc Sign Floor Ceil Round Select SelectV2 Greater GreaterEqual Less
    LessEqual Equal NotEqual LogicalAnd LogicalOr LogicalNot ClipByValue Reciprocal Sin Cos
    ResizeBilinear ResizeBicubic IsNan IsFinite Expm1 Cumsum
    """
)
"""Operators with one operation per element of their result."""

CONVOLUTIONS = {
    "Conv2D": "output",
    "Conv3D": "output",
    "DepthwiseConv2dNative": "output",
    "Conv2DBackpropInput": "input",
    "Conv3DBackpropInputV2": "input",
}
"""Tensor at whose positions the filter is applied: the input for a transposed convolution."""

PRODUCTS = frozenset({"MatMul", "BatchMatMul", "BatchMatMulV2", "BatchMatMulV3"})


def count_keras(path: Path | str, inputs: Inputs = None) -> Count:
    """Count a `.keras` file or a SavedModel folder.

    Args:
        inputs: shapes with the batch, by input name or in order; by default those of the model with
            a batch of 1, if it leaves that open.

    Raises:
        UserError: for a file that cannot be loaded, an input that is missing or of another rank,
            or if the extra is not installed.
    """
    path = Path(path)
    if not path.exists():
        raise UserError(f"no file '{path}'")
    if path.is_dir():
        if not (path / "saved_model.pb").is_file():
            raise UserError(f"'{path}' is not a SavedModel: the folder has no saved_model.pb")
        return _count_saved_model(path, inputs)
    if importlib.util.find_spec("keras") is None:
        raise UserError(MISSING.format(name=_distribution()))
    if "keras" not in sys.modules and "KERAS_BACKEND" not in os.environ:
        has_tensorflow = importlib.util.find_spec("tensorflow") is not None
        os.environ["KERAS_BACKEND"] = "tensorflow" if has_tensorflow else "torch"
    import keras

    try:
        model = keras.saving.load_model(path, compile=False)
    except Exception as error:
        first = (str(error).strip().splitlines() or [""])[0]
        raise UserError(f"'{path}' cannot be loaded by Keras: {first}") from error
    shapes = _shapes({i.name: tuple(i.shape) for i in model.inputs}, inputs)
    with _unrolled():
        if keras.backend.backend() == "torch":
            count = _count_on_torch(model, shapes)
        else:
            import tensorflow as tf

            specs = [tf.TensorSpec(shapes[i.name], i.dtype) for i in model.inputs]
            traced = tf.function(lambda *x: model(x[0] if len(x) == 1 else list(x), training=False))
            count = _count_graph(traced.get_concrete_function(*specs).graph, path.name, shapes)
    count.params = _parameters(model, count)
    return count


def _parameters(model: Any, count: Count) -> int:
    """Number of learnable scalars, also of frozen and of quantised layers."""
    model.trainable = True
    weights = {id(weight): weight for weight in model.trainable_weights}
    for layer in model._flatten_layers():
        mode = getattr(layer, "quantization_mode", None)
        if mode == "int8":
            weights |= {id(v): v for v in layer.variables if v.dtype == "int8"}
        elif mode is not None:
            _gap(count, f"parameters of layers in {mode}", [layer.name])
    return int(sum(prod(weight.shape) for weight in weights.values()))


@contextmanager
def _unrolled() -> Iterator[None]:
    """Run recurrent layers step by step, each once.

    Keras's loops run a step more for the shape of its result, stacked cells another one for the
    shapes of dropout masks, and TensorFlow hides all steps in one node.
    """
    from keras.src import backend
    from keras.src.layers.rnn.rnn import RNN

    loop, masks = backend.rnn, RNN._maybe_config_dropout_masks
    backend.rnn = lambda *args, **kwargs: loop(*args, **{**kwargs, "unroll": True})
    RNN._maybe_config_dropout_masks = lambda *args, **kwargs: None
    try:
        yield
    finally:
        backend.rnn, RNN._maybe_config_dropout_masks = loop, masks


def _distribution() -> str:
    from importlib.metadata import packages_distributions

    return next(iter(packages_distributions().get("evaluators", ["nas"])))


def _shapes(known: Mapping[str, tuple[int | None, ...]], given: Inputs) -> dict[str, Shape]:
    """Shape of every input: as given, or that of the model, with a batch of 1 if it has none."""
    shapes = by_name(given, known)
    result = {}
    for name, shape in known.items():
        sizes = shapes.get(name)
        text = "x".join("?" if size is None else str(size) for size in shape)
        if sizes is None:
            if None in shape[1:]:
                raise UserError(
                    f"input '{name}' has dynamic sizes ({text}): specify them, such as "
                    f"--input {name}={text.replace('?', '1')}"
                )
            sizes = tuple(size or 1 for size in shape)
        check_sizes(name, sizes, shape, text)
        result[name] = tuple(sizes)
    return result


def _count_on_torch(model: Any, shapes: Mapping[str, Shape]) -> Count:
    """Count the operators of one real pass: the state of Keras on PyTorch cannot be faked."""
    import torch

    from evaluators.counting.module_paths import following_modules
    from evaluators.counting.torch_counter import CountMode

    root = Node(model.name, type(model).__name__)
    zeros = [torch.zeros(shape, dtype=getattr(torch, i.dtype)) for i, shape in
             zip(model.inputs, shapes.values(), strict=True)]  # fmt: skip
    weights = [v.value for v in model.variables]
    mode = CountMode(root, weights)
    given = zeros[0] if len(zeros) == 1 else zeros
    with torch.no_grad():
        model(given, training=False)  # layers that are not built yet run twice at first
        with mode, following_modules(mode, model):
            model(given, training=False)
    return Count(root, dict(shapes), 0, mode.uncounted)


def _count_saved_model(path: Path, inputs: Inputs) -> Count:
    if importlib.util.find_spec("tensorflow") is None:
        raise UserError(MISSING.format(name=_distribution()))
    import tensorflow as tf

    try:
        loaded = tf.saved_model.load(str(path))
        signature = loaded.signatures["serving_default"]
    except Exception as error:
        first = (str(error).strip().splitlines() or [""])[0]
        raise UserError(f"'{path}' cannot be loaded by TensorFlow: {first}") from error
    specs = signature.structured_input_signature[1]
    shapes = _shapes({name: tuple(spec.shape) for name, spec in specs.items()}, inputs)
    traced = tf.function(lambda **x: signature(**x)).get_concrete_function(
        **{n: tf.TensorSpec(shapes[n], spec.dtype, name=n) for n, spec in specs.items()}
    )
    # Inlined and frozen, since the graph of the signature was traced for any batch size.
    from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

    frozen = convert_variables_to_constants_v2(traced, lower_control_flow=False)
    count = _count_graph(frozen.graph, path.name, shapes)
    count.params = int(
        sum(prod(v.shape) for v in getattr(loaded, "trainable_variables", signature.variables))
    )
    return count


def _count_graph(graph: Any, name: str, shapes: Mapping[str, Shape]) -> Count:
    root = Node(name, "TensorFlow")
    root.calls = 1
    count = Count(root, dict(shapes), 0)
    _walk(graph, root, count)
    return count


def _walk(graph: Any, root: Node, count: Count) -> None:
    for operation in graph.get_operations():
        kind = operation.type
        if kind in ("PartitionedCall", "StatefulPartitionedCall"):
            called = graph._get_function(operation.get_attr("f").name)
            _walk(called.graph, root, count)
            continue
        path = [part for part in operation.name.split("/") if part]
        if kind in MOVES:
            continue
        node = root
        for part in path:
            node = node.child(part)
        node.type = node.type or kind
        node.calls += 1
        try:
            _count_operation(operation, kind, node, count, path)
        except ValueError:  # an unknown shape
            _gap(count, kind, path)


def _gap(count: Count, kind: str, path: Sequence[str]) -> None:
    gap = count.uncounted.setdefault(f"tf::{kind}", Uncounted(path=".".join(path)))
    gap.calls += 1


def _count_operation(
    operation: Any, kind: str, node: Node, count: Count, path: Sequence[str]
) -> None:
    if kind in CONVOLUTIONS:
        node.macs["convolution"] += _convolution(operation, kind)
    elif kind in PRODUCTS:
        a = _shape(operation.inputs[0])
        flipped = _flag(operation, "transpose_a") or _flag(operation, "adj_x")
        inner = a[-2] if flipped else a[-1]
        node.macs[_product_kind(operation)] += prod(_shape(operation.outputs[0])) * inner
    elif kind == "Einsum":
        equation = operation.get_attr("equation").decode()
        macs = einsum_macs(equation, [_shape(x) for x in operation.inputs])
        node.macs[_product_kind(operation)] += macs
    elif kind in PASSES:
        node.elementwise += PASSES[kind] * prod(_shape(operation.inputs[0]))
    elif kind in ("MaxPool", "AvgPool", "MaxPool3D", "AvgPool3D"):
        window = prod(operation.get_attr("ksize"))
        node.elementwise += window * prod(_shape(operation.outputs[0]))
    elif kind in REDUCTIONS:
        node.elementwise += prod(_shape(operation.inputs[0]))
    elif kind in ELEMENTWISE:
        node.elementwise += prod(_shape(operation.outputs[0]))
    else:
        _gap(count, kind, path)
    written = sum(prod(_shape(x)) * x.dtype.size for x in operation.outputs)
    node.activation_bytes += written
    read = sum(prod(_shape(x)) * x.dtype.size for x in operation.inputs if x.dtype.size)
    node.traffic_bytes += written + read


def _shape(tensor: Any) -> Shape:
    """Shape of a tensor; raises `ValueError` for an unknown size."""
    return tuple(int(size) for size in tensor.shape.as_list() if _known(size))


def _known(size: int | None) -> bool:
    if size is None:
        raise ValueError("unknown size")
    return True


def _flag(operation: Any, name: str) -> bool:
    return name in operation.node_def.attr and bool(operation.get_attr(name))


def _convolution(operation: Any, kind: str) -> int:
    """MACs: output (or input) positions times the filter `(.., in / groups, out)`."""
    weight = _shape(operation.inputs[1])
    at = operation.outputs[0] if CONVOLUTIONS[kind] == "output" else operation.inputs[2]
    layout = operation.get_attr("data_format").decode()
    shape = _shape(at)
    channels = shape[layout.index("C")]
    return prod(shape) // channels * prod(weight)


def _product_kind(operation: Any) -> str:
    if any(_is_weight(x.op) for x in operation.inputs):
        return "linear"
    near = any(_reaches_softmax(x.op, forward=False) for x in operation.inputs)
    near = near or any(
        _reaches_softmax(reader, forward=True) for reader in operation.outputs[0].consumers()
    )
    return "attention" if near else "other"


def _is_weight(operation: Any, depth: int = 8) -> bool:
    if operation.type in ("ReadVariableOp", "Const", "VarHandleOp"):
        return True
    passing = ("Cast", "Reshape", "Transpose", "Identity")
    return depth > 0 and operation.type in passing and _is_weight(operation.inputs[0].op, depth - 1)


def _reaches_softmax(operation: Any, *, forward: bool, depth: int = 8) -> bool:
    if operation.type == "Softmax":
        return True
    if depth == 0 or operation.type not in ELEMENTWISE | MOVES or not operation.inputs:
        return False
    if forward:
        readers = operation.outputs[0].consumers() if operation.outputs else []
        return any(_reaches_softmax(r, forward=True, depth=depth - 1) for r in readers)
    return _reaches_softmax(operation.inputs[0].op, forward=False, depth=depth - 1)
