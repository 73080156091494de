"""Which constants of ONNX files are parameters: no scales, zero points, first states, or copies."""

from __future__ import annotations

import contextlib
import io
import logging
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import GraphProto, NodeProto, TensorProto, helper, numpy_helper
from torch import Tensor, nn

from evaluators.counting.formats.onnx_counter import count_onnx
from evaluators.counting.torch_counter import count_module

node = helper.make_node
BYTES = TensorProto.UINT8


def value(name: str, shape: Any, kind: int = TensorProto.FLOAT) -> Any:
    return helper.make_tensor_value_info(name, kind, shape)


def ms(kind: str, inputs: list[str], **settings: Any) -> NodeProto:
    return node(kind, inputs, ["y"], domain="com.microsoft", **settings)


def ones(*shape: int) -> Any:
    return np.ones(shape, np.float32)


def int8(*shape: int) -> Any:
    return np.zeros(shape, np.int8)


ONE, ZERO = np.array(1, np.float32), np.array(0, np.uint8)


def counted(
    path: Path, nodes: list[NodeProto], inputs: list[Any], weights: dict[str, Any], **more: Any
) -> tuple[int, int]:
    tensors = [numpy_helper.from_array(np.asarray(v), k) for k, v in weights.items()]
    graph = helper.make_graph(nodes, "g", inputs, [value("y", None)], tensors)
    opsets = [helper.make_opsetid(*o) for o in (("", 21), ("com.microsoft", 1), ("own", 1))]
    onnx.save(helper.make_model(graph, opset_imports=opsets, **more), path / "m.onnx")
    count = count_onnx(path / "m.onnx")
    assert not count.uncounted
    return count.macs, count.params


X, PACKED = value("x", [2, 32]), {"K": 32, "N": 16, "bits": 4, "block_size": 16}
FEW_BITS = {"w": np.zeros((16, 2, 8), np.uint8), "s": ones(16, 2)}
LAYER = {"w": int8(32, 16), "s": ones(16)}
PRODUCT, MATRIX = 2 * 32 * 16, 32 * 16


@pytest.mark.parametrize(
    ("made", "weights", "macs", "params"),
    [
        (ms("MatMulNBits", ["x", "w", "s", "", "", "b"], **PACKED), FEW_BITS | {"b": ones(16)},
         PRODUCT, MATRIX + 16),
        (ms("MatMulNBits", ["x", "w", "s", "z"], **PACKED),
         FEW_BITS | {"z": np.zeros((16, 1), np.uint8)}, PRODUCT, MATRIX),
        (ms("DynamicQuantizeMatMul", ["x", "w", "s", "", "b"]), LAYER | {"b": ones(16)},
         PRODUCT, MATRIX + 16),
        (ms("MatMulIntegerToFloat", ["q", "w", "o", "s", "", "", "b"]),
         LAYER | {"o": ONE, "b": ones(16)}, PRODUCT, MATRIX + 16),
        (node("MatMulInteger", ["q", "w", "", "z"], ["y"]),
         {"w": int8(32, 16), "z": int8(1, 16)}, PRODUCT, MATRIX),
        (ms("QGemm", ["t", "o", "n", "w", "s", "z"], transA=1),
         LAYER | {"o": ONE, "n": ZERO, "z": int8(16)}, PRODUCT, MATRIX),
        (ms("QAttention", ["a", "v", "b", "o", "c", "", "n", "z"], num_heads=2),
         {"v": int8(8, 24), "b": ones(24), "o": ONE, "c": ones(24), "n": ZERO, "z": int8(24)},
         6 * 8 * 24 + 2 * 6 * 6 * 8, 8 * 24 + 24),
        (ms("QLinearAdd", ["q", "o", "n", "b", "o", "n", "o", "n"]),
         {"o": ONE, "n": ZERO, "b": np.zeros(32, np.uint8)}, 0, 32),
        (node("LSTM", ["r", "W", "R", "", "", "h"], ["y"], hidden_size=6),
         {"W": ones(1, 24, 5), "R": ones(1, 24, 6), "h": 0 * ones(1, 2, 6)},
         7 * 2 * 24 * 11, 24 * 11),
        (node("LSTM", ["r", "W", "R", "", "", "h"], ["y"], hidden_size=6),
         {"W": ones(1, 24, 5), "R": ones(1, 24, 6), "h": ones(1, 2, 6)},
         7 * 2 * 24 * 11, 24 * 11 + 12),
        (ms("FusedMatMul", ["f", "g"], transBatchA=1), {}, 2 * 3 * 4, 0),
        (ms("FusedMatMul", ["k", "g"], transBatchA=1, transA=1), {}, 2 * 5 * 3 * 4, 0),
        (ms("QLinearConv", ["i", "o", "n", "v", "o", "m", "o", "n"], channels_last=1),
         {"o": ONE, "n": ZERO, "v": int8(4, 3, 3, 3), "m": int8(4)}, 36 * 108, 108),
    ],
)  # fmt: skip
def test_operators_that_take_scales_beside_weights(
    tmp_path: Path, made: NodeProto, weights: dict[str, Any], macs: int, params: int
) -> None:
    kinds = {
        "x": X, "q": value("q", [2, 32], BYTES), "t": value("t", [32, 2], BYTES),
        "a": value("a", [1, 6, 8], BYTES), "r": value("r", [7, 2, 5]),
        "f": value("f", [1, 2, 3]), "k": value("k", [3, 2, 5]), "g": value("g", [2, 3, 4]),
        "i": value("i", [1, 8, 8, 3], BYTES),
    }  # fmt: skip
    inputs = [kinds[name] for name in made.input if name in kinds]
    assert counted(tmp_path, [made], inputs, weights) == (macs, params)


@pytest.mark.parametrize(
    ("scale", "zero", "settings"),
    [
        (ones(16), int8(16), {"axis": 1}),
        (ones(2, 16), int8(2, 16), {"axis": 0, "block_size": 16}),
    ],
)
def test_zero_points_of_blocks_are_no_weights(
    tmp_path: Path, scale: Any, zero: Any, settings: dict[str, int]
) -> None:
    nodes = [
        node("DequantizeLinear", ["w", "s", "z"], ["f"], **settings),
        node("DequantizeLinear", ["b", "o", "n"], ["g"]),
        node("MatMul", ["x", "f"], ["h"]),
        node("Add", ["h", "g"], ["y"]),
    ]
    weights = {"w": int8(32, 16), "s": scale, "z": zero}
    weights |= {"b": np.zeros(16, np.uint8), "o": ONE, "n": ZERO}
    assert counted(tmp_path, nodes, [X], weights) == (PRODUCT, MATRIX + 16)


def test_scales_of_channels_are_no_weights_where_the_input_is_quantised(tmp_path: Path) -> None:
    nodes = [
        node("DynamicQuantizeLinear", ["x"], ["q", "o", "n"]),
        node("MatMulInteger", ["q", "w", "n"], ["i"]),
        node("Cast", ["i"], ["f"], to=1),
        node("Mul", ["o", "s"], ["t"]),
        node("Mul", ["f", "t"], ["y"]),
    ]
    assert counted(tmp_path, nodes, [X], LAYER) == (PRODUCT, MATRIX)


def constant(**content: Any) -> NodeProto:
    return node("Constant", [], ["w"], **content)


def test_constants_of_every_form_are_weights(tmp_path: Path) -> None:
    numbers = helper.make_tensor("w", TensorProto.FLOAT, [8], [1.0] * 8)
    places = helper.make_tensor("i", TensorProto.INT64, [8], range(8))
    x, product = value("x", [2, 8]), node("MatMul", ["x", "w"], ["y"])
    sparse = constant(sparse_value=helper.make_sparse_tensor(numbers, places, [8, 4]))
    assert counted(tmp_path, [sparse, product], [x], {}) == (2 * 32, 32)
    assert counted(tmp_path, [constant(value_floats=[1.0] * 8), product], [x], {}) == (16, 8)


def test_a_function_that_is_called_twice_has_its_weights_once(tmp_path: Path) -> None:
    body = [
        constant(value=numpy_helper.from_array(ones(8, 8), "w")),
        node("MatMul", ["a", "w"], ["b"]),
    ]
    function = helper.make_function("own", "F", ["a"], ["b"], body, [helper.make_opsetid("", 21)])
    calls = [node("F", ["x"], ["h"], domain="own"), node("F", ["h"], ["y"], domain="own")]
    x = value("x", [2, 8])
    assert counted(tmp_path, calls, [x], {}, functions=[function]) == (2 * 2 * 64, 64)


def test_a_loop_without_steps_has_its_weights(tmp_path: Path) -> None:
    nodes = [
        constant(value=numpy_helper.from_array(ones(8, 8), "w")),
        node("MatMul", ["h", "w"], ["o"]),
        node("Identity", ["c"], ["d"]),
    ]
    inputs = [
        value("i", [], TensorProto.INT64),
        value("c", [], TensorProto.BOOL),
        value("h", [2, 8]),
    ]
    results = [value("d", [], TensorProto.BOOL), value("o", [2, 8])]
    body: GraphProto = helper.make_graph(nodes, "b", inputs, results)
    loop = node("Loop", ["m", "", "x"], ["y"], body=body)
    assert counted(tmp_path, [loop], [value("x", [2, 8])], {"m": np.array(0)}) == (0, 64)


class Recurrent(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first = nn.GRU(5, 6, bidirectional=True, batch_first=True)
        self.second = nn.LSTM(12, 4, 2)

    def forward(self, x: Tensor) -> Any:
        return self.second(self.first(x)[0])[0]


class Tied(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.words, self.layer = nn.Embedding(10, 8), nn.Linear(8, 8)

    def forward(self, words: Tensor) -> Tensor:
        return self.layer(self.words(words)) @ self.words.weight.T


class Standardised(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer, self.gain = nn.Conv2d(4, 4, 3), nn.Parameter(torch.tensor(0.5))

    def forward(self, x: Tensor) -> Tensor:
        weight = self.layer.weight / (self.layer.weight.std((1, 2, 3), keepdim=True) + 1e-5)
        return torch.nn.functional.conv2d(x, weight, self.layer.bias) * self.gain


EXPORTED: dict[str, tuple[nn.Module, Tensor]] = {
    "first states": (Recurrent(), torch.randn(2, 7, 5)),
    "tied to an embedding": (Tied(), torch.zeros(2, 5, dtype=torch.long)),
    "numbers of the program": (Standardised(), torch.randn(1, 4, 8, 8)),
    "norms": (
        nn.Sequential(nn.Conv2d(3, 4, 1), nn.InstanceNorm2d(4), nn.GroupNorm(2, 4), nn.PReLU()),
        torch.randn(1, 3, 8, 8),
    ),
}


@pytest.mark.parametrize("dynamo", [False, True])
@pytest.mark.parametrize("name", EXPORTED)
def test_an_exported_network_has_the_parameters_of_the_network(
    tmp_path: Path, name: str, dynamo: bool
) -> None:
    network, x = EXPORTED[name]
    expected = count_module(network.eval(), (x,))
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    path = tmp_path / "m.onnx"
    with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(network, (x,), path, dynamo=dynamo, verbose=False)
    count = count_onnx(path)
    assert (count.macs, count.params) == (expected.macs, expected.params)
