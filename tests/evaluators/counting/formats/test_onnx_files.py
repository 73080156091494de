"""ONNX files of other programs: subgraphs, shape arithmetic, constants, and onnxruntime's own."""

from __future__ import annotations

import contextlib
import io
import logging
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import GraphProto, NodeProto, TensorProto, helper, numpy_helper
from torch import Tensor, nn

from evaluators.counting.formats.onnx_contrib import BLOCKED
from evaluators.counting.formats.onnx_counter import count_onnx
from evaluators.counting.torch_counter import count_module
from search_spaces.errors import UserError

node = helper.make_node
FLOAT, INT, BOOL = TensorProto.FLOAT, TensorProto.INT64, TensorProto.BOOL


def value(name: str, shape: Any, kind: int = FLOAT) -> Any:
    return helper.make_tensor_value_info(name, kind, shape)


def file(
    path: Path,
    nodes: list[NodeProto],
    inputs: list[Any],
    weights: dict[str, Any],
    result: str = "y",
) -> Path:
    tensors = [numpy_helper.from_array(np.asarray(v), k) for k, v in weights.items()]
    graph = helper.make_graph(nodes, "g", inputs, [value("y", None)], tensors)
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("com.microsoft", 1)]
    onnx.save(helper.make_model(graph, opset_imports=opsets), path)
    return path


def ones(*shape: int) -> Any:
    return np.ones(shape, np.float32)


def branch(size: int) -> GraphProto:
    convolution = node("Conv", ["x", f"w{size}"], ["o"], kernel_shape=[size, size],
                       pads=[size // 2] * 4)  # fmt: skip
    return helper.make_graph([convolution], f"b{size}", [], [value("o", None)])


def conditional(path: Path, **condition: Any) -> Path:
    chosen = node("If", ["c"], ["z"], then_branch=branch(3), else_branch=branch(1), name="choice")
    after = node("Conv", ["z", "v"], ["y"], name="after")
    inputs = [value("x", [1, 3, 8, 8])]
    if not condition:
        inputs.append(value("c", [], BOOL))
    weights = {"w3": ones(4, 3, 3, 3), "w1": ones(4, 3, 1, 1), "v": ones(2, 4, 1, 1), **condition}
    return file(path, [chosen, after], inputs, weights)


@pytest.mark.parametrize(("condition", "area"), [(True, 9), (False, 1)])
def test_a_known_condition_runs_its_branch(tmp_path: Path, condition: bool, area: int) -> None:
    count = count_onnx(conditional(tmp_path / "m.onnx", c=np.array(condition)))
    assert count.macs == 64 * 4 * 3 * area + 64 * 2 * 4
    assert count.params == 108 + 12 + 8
    assert not count.uncounted


def test_a_branch_that_is_not_taken_may_not_fit_the_input(tmp_path: Path) -> None:
    weights = {"w3": ones(4, 3, 3, 3), "w1": ones(4, 1, 1, 1), "c": np.array(True)}
    chosen = node("If", ["c"], ["y"], then_branch=branch(3), else_branch=branch(1))
    count = count_onnx(file(tmp_path / "m.onnx", [chosen], [value("x", [1, 3, 8, 8])], weights))
    assert (count.macs, count.params) == (64 * 4 * 27, 108 + 4)
    assert not count.uncounted


def test_an_unknown_condition_runs_the_larger_branch_and_says_so(tmp_path: Path) -> None:
    count = count_onnx(conditional(tmp_path / "m.onnx"))
    assert count.macs == 64 * 4 * 27 + 64 * 2 * 4
    assert "larger branch" in " ".join(count.uncounted)


def looped(path: Path, body: list[NodeProto], steps: Any, start: Any = ("x",)) -> Path:
    graph = helper.make_graph(
        body,
        "body",
        [value("i", [], INT), value("go", [], BOOL), value("s", None)],
        [value("went", [], BOOL), value("t", None), value("u", None)],
    )
    nodes = [node("Loop", ["n", "", *start], ["z", "all"], body=graph, name="loop")]
    nodes.append(node("MatMul", ["all", "w"], ["y"], name="after"))
    inputs = [value("x", [2, 4])]
    weights: dict[str, Any] = {"w": ones(4, 4)}
    if steps is None:
        inputs.append(value("n", [], INT))
    else:
        weights["n"] = np.array(steps, np.int64)
    return file(path, nodes, inputs, weights)


PRODUCT = [
    node("MatMul", ["s", "w"], ["t"]),
    node("Identity", ["t"], ["u"]),
    node("Identity", ["go"], ["went"]),
]


@pytest.mark.parametrize("steps", [0, 1, 5, 100_000])
def test_a_loop_counts_its_steps(tmp_path: Path, steps: int) -> None:
    count = count_onnx(looped(tmp_path / "m.onnx", PRODUCT, steps))
    assert count.macs == steps * 32 + steps * 32
    assert count.params == 16
    assert bool(count.uncounted) == (steps == 0)  # the shape of nothing is unknown


def test_a_loop_that_grows_counts_each_step(tmp_path: Path) -> None:
    body = [
        node("MatMul", ["s", "w"], ["p"]),
        node("Concat", ["s", "p"], ["t"], axis=0),
        node("Identity", ["go"], ["went"]),
        node("ReduceSum", ["p"], ["u"], keepdims=0),
    ]
    count = count_onnx(looped(tmp_path / "m.onnx", body, 4))
    assert count.root.children["loop"].total().own_macs == (2 + 4 + 8 + 16) * 16


def test_a_loop_ends_by_its_condition(tmp_path: Path) -> None:
    body = [
        *PRODUCT[:2],
        node("Constant", [], ["two"], value_int=2),
        node("Less", ["i", "two"], ["went"]),
    ]
    count = count_onnx(looped(tmp_path / "m.onnx", body, 100))
    assert count.root.children["loop"].total().own_macs == 3 * 32
    assert not count.uncounted


def test_a_loop_of_unknown_length_says_so(tmp_path: Path) -> None:
    count = count_onnx(looped(tmp_path / "m.onnx", PRODUCT, None))
    assert count.root.children["loop"].total().own_macs == 32
    assert "unknown number of steps" in " ".join(count.uncounted)


def test_a_loop_that_the_input_may_end_counts_to_its_last_step_and_says_so(tmp_path: Path) -> None:
    body = [
        *PRODUCT[:2],
        node("ReduceSum", ["t"], ["sum"], keepdims=0),
        node("Cast", ["sum"], ["went"], to=BOOL),
    ]
    count = count_onnx(looped(tmp_path / "m.onnx", body, 5))
    assert count.root.children["loop"].total().own_macs == 5 * 32
    assert "may end earlier" in " ".join(count.uncounted)
    endless = count_onnx(looped(tmp_path / "m.onnx", body, 2**63 - 1))
    assert "unknown number of steps" in " ".join(endless.uncounted)


@pytest.mark.parametrize("axis", [0, 1])
def test_a_scan_counts_each_slice(tmp_path: Path, axis: int) -> None:
    body = helper.make_graph(
        [node("MatMul", ["r", "w"], ["q"]), node("Add", ["s", "q"], ["t"]),
         node("Identity", ["t"], ["u"])],
        "body",
        [value("s", None), value("r", None)],
        [value("t", None), value("u", None)],
    )  # fmt: skip
    nodes = [
        node("Scan", ["a", "x"], ["z", "all"], body=body, num_scan_inputs=1,
             scan_input_axes=[axis], scan_output_axes=[axis]),
        node("MatMul", ["all", "w"], ["y"], name="after"),
    ]  # fmt: skip
    shape = [5, 3, 4] if axis == 0 else [3, 5, 4]
    inputs = [value("a", [3, 4]), value("x", shape)]
    count = count_onnx(file(tmp_path / "m.onnx", nodes, inputs, {"w": ones(4, 4)}))
    assert count.macs == 5 * 3 * 16 + 15 * 16
    assert not count.uncounted


def test_shape_arithmetic_is_computed(tmp_path: Path) -> None:
    nodes = [
        node("Shape", ["x"], ["s"]),
        node("Slice", ["s", "a", "b"], ["hw"]),
        node("Cast", ["hw"], ["f"], to=FLOAT),
        node("Mul", ["f", "two"], ["g"]),
        node("Floor", ["g"], ["h"]),
        node("Cast", ["h"], ["i"], to=INT),
        node("Concat", ["nc", "i"], ["size"], axis=0),
        node("Resize", ["x", "", "", "size"], ["r"], mode="nearest"),
        node("Conv", ["r", "w"], ["y"]),
    ]
    weights = {"a": np.array([2]), "b": np.array([4]), "two": np.array([2], np.float32),
               "nc": np.array([1, 3]), "w": ones(4, 3, 3, 3)}  # fmt: skip
    path = file(tmp_path / "m.onnx", nodes, [value("x", [1, 3, "H", "W"])], weights)
    assert count_onnx(path, [[1, 3, 8, 8]]).macs == 14 * 14 * 108
    assert count_onnx(path, [[1, 3, 5, 9]]).macs == 8 * 16 * 108


def test_an_input_without_a_shape_takes_a_given_one(tmp_path: Path) -> None:
    path = file(tmp_path / "m.onnx", [node("Conv", ["x", "w"], ["y"])], [value("x", None)],
                {"w": ones(4, 3, 3, 3)})  # fmt: skip
    assert count_onnx(path, {"x": [1, 3, 8, 8]}).macs == 3888
    with pytest.raises(UserError, match="input 'x' has no shape: specify it"):
        count_onnx(path)


@pytest.mark.parametrize(("left", "right", "macs"), [([5], [5], 5), ([5], [5, 3], 15),
                                                    ([2, 5], [5], 10)])  # fmt: skip
def test_products_of_vectors(tmp_path: Path, left: list[int], right: list[int], macs: int) -> None:
    path = file(tmp_path / "m.onnx", [node("MatMul", ["x", "w"], ["y"])], [value("x", left)],
                {"w": ones(*right)})  # fmt: skip
    assert count_onnx(path).macs == macs


class Small(nn.Module):
    """Parameters of one element, in all places, beside numbers that are none."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 1, 3)
        self.norm = nn.BatchNorm2d(1)
        self.slope = nn.PReLU()
        self.linear = nn.Linear(36, 1)
        self.scale = nn.Parameter(torch.full((1,), 2.0))
        self.temperature = nn.Parameter(torch.tensor(3.0))

    def forward(self, x: Tensor) -> Tensor:
        x = self.slope(self.norm(self.conv(x)) + 0.25)
        result: Tensor = self.linear(x.flatten(1)) * self.scale / self.temperature * 0.5 - 1.5
        return result


@pytest.mark.parametrize("dynamo", [True, False])
def test_single_numbers_are_parameters_where_they_are_learned(tmp_path: Path, dynamo: bool) -> None:
    network = Small().eval()
    for parameter in network.parameters():
        nn.init.uniform_(parameter, 0.5, 1.5)
    path = export(network, tmp_path / "m.onnx", torch.randn(1, 3, 8, 8), dynamo=dynamo)
    count = count_onnx(path)
    # The norm is folded into the convolution.
    assert count.params == sum(p.numel() for p in network.parameters()) - 2
    assert count.macs == count_module(network, (torch.randn(1, 3, 8, 8),)).macs


def test_weights_in_constant_nodes_are_parameters(tmp_path: Path) -> None:
    tensor = numpy_helper.from_array(ones(4, 3, 3, 3), "v")
    half = numpy_helper.from_array(np.array(0.5, np.float32), "h")
    nodes = [
        node("Constant", [], ["w"], value=tensor),
        node("Constant", [], ["half"], value=half),
        node("Mul", ["x", "half"], ["z"]),
        node("Conv", ["z", "w"], ["y"]),
    ]
    count = count_onnx(file(tmp_path / "m.onnx", nodes, [value("x", [1, 3, 8, 8])], {}))
    assert (count.macs, count.params) == (3888, 108)


def export(network: nn.Module, path: Path, *inputs: Tensor, dynamo: bool = False) -> Path:
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(network.eval(), inputs, path, dynamo=dynamo, verbose=False)
    return path


def optimised(path: Path, level: str) -> Path:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.graph_optimization_level = getattr(onnxruntime.GraphOptimizationLevel, level)
    options.optimized_model_filepath = str(path.with_suffix(f".{level}.onnx"))
    onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    return Path(options.optimized_model_filepath)


NETWORKS: dict[str, tuple[nn.Module, tuple[int, ...]]] = {
    "convolutions": (
        nn.Sequential(
            nn.Conv2d(3, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU(),
            nn.Conv2d(16, 16, 3, padding=1, groups=16), nn.LeakyReLU(), nn.MaxPool2d(2),
            nn.Conv2d(16, 8, 1), nn.Hardswish(), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
            nn.Linear(8, 10), nn.ReLU(), nn.Linear(10, 4),
        ),
        (1, 3, 8, 8),
    ),
    # On some processors, onnxruntime keeps the channels of these in blocks of 8 or 16.
    "blocks": (
        nn.Sequential(
            nn.Conv2d(3, 32, 3, stride=2, padding=1), nn.ReLU(), nn.MaxPool2d(2),
            nn.Conv2d(32, 32, 3, padding=1, groups=32), nn.Conv2d(32, 64, 1), nn.Sigmoid(),
            nn.Upsample(scale_factor=2.0), nn.Conv2d(64, 64, 3, padding=1, groups=2),
            nn.AvgPool2d(2), nn.Conv2d(64, 32, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
            nn.Linear(32, 4),
        ),
        (1, 3, 16, 16),
    ),
    "norms": (
        nn.Sequential(nn.Linear(16, 32), nn.GELU(), nn.LayerNorm(32), nn.Linear(32, 16)),
        (2, 7, 16),
    ),
}  # fmt: skip


@pytest.mark.parametrize("level", ["ORT_ENABLE_BASIC", "ORT_ENABLE_EXTENDED", "ORT_ENABLE_ALL"])
@pytest.mark.parametrize("name", NETWORKS)
def test_what_onnxruntime_writes_counts_as_the_network(
    tmp_path: Path, name: str, level: str
) -> None:
    network, shape = NETWORKS[name]
    path = export(network, tmp_path / "m.onnx", torch.randn(*shape))
    file = optimised(path, level)
    count = count_onnx(file)
    expected = count_module(network.eval(), (torch.randn(*shape),)).macs
    if any(node.domain == BLOCKED for node in onnx.load(file).graph.node):
        # The 8 channels of "convolutions" may fill half of a block; that is said.
        assert [name.partition(" of ")[0] for name in count.uncounted] == ["which channels"]
        assert count.macs == expected if name == "blocks" else count.macs >= expected
    else:
        assert count.macs == expected
        assert not count.uncounted


def test_quantised_files_count_as_the_network(tmp_path: Path) -> None:
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    class Zeros(CalibrationDataReader):  # type: ignore[misc]
        def __init__(self) -> None:
            self.left = 2

        def get_next(self) -> Any:
            self.left -= 1
            return (
                {"input.1": np.random.default_rng(0).normal(size=(1, 3, 8, 8)).astype("f")}
                if (self.left >= 0)
                else None
            )

    network, shape = NETWORKS["convolutions"]
    path = export(network, tmp_path / "m.onnx", torch.randn(*shape))
    model = onnx.load(path)
    model.graph.node[0].input[0] = "input.1"
    model.graph.input[0].name = "input.1"
    onnx.save(model, path)
    quant_pre_process(str(path), str(tmp_path / "p.onnx"))
    expected = count_module(network.eval(), (torch.randn(*shape),))
    for kind in (QuantFormat.QOperator, QuantFormat.QDQ):
        made = tmp_path / f"{kind}.onnx"
        quantize_static(str(tmp_path / "p.onnx"), str(made), Zeros(), quant_format=kind)
        # At all levels, onnxruntime puts the channels of these last.
        for one in (made, optimised(made, "ORT_ENABLE_ALL")):
            count = count_onnx(one)
            assert count.macs == expected.macs
            assert not count.uncounted
            assert count.params == expected.params - 32  # the norm is folded into the convolution


def test_shapes_that_the_file_states_for_its_own_batch_are_not_taken_for_another(
    tmp_path: Path,
) -> None:
    nodes = [node("Conv", ["x", "w"], ["h"]), node("Conv", ["h", "v"], ["y"])]
    path = file(
        tmp_path / "m.onnx",
        nodes,
        [value("x", ["N", 3, 8, 8])],
        {"w": ones(4, 3, 3, 3), "v": ones(5, 4, 1, 1)},
    )
    model = onnx.load(path)
    model.graph.value_info.append(value("h", [1, 4, 6, 6]))
    model.graph.output[0].CopyFrom(value("y", [1, 5, 6, 6]))
    onnx.save(model, path)
    assert count_onnx(path, {"x": (2, 3, 8, 8)}).macs == 2 * 36 * (4 * 27 + 5 * 4)


@pytest.mark.parametrize(
    ("made", "shape", "said"),
    [
        (node("Reshape", ["x", "s"], ["y"]), (2, 12), "2x12 does not become 1x12"),
        (node("MatMul", ["x", "m"], ["y"]), (2, 7), "2x7 and 12x5"),
        (node("Gemm", ["x", "m"], ["y"]), (2, 7), "2x7 and 12x5"),
        (node("Conv", ["x", "c"], ["y"]), (2, 7, 8, 8), "has 7 channels, the weight 3"),
        (node("ConvTranspose", ["x", "c"], ["y"]), (2, 7, 8, 8), "has 7 channels, the weight 4"),
        (node("RNN", ["x", "W", "W"], ["y"], hidden_size=3), (2, 5, 7), "7 features, the weight 3"),
    ],
)
def test_inputs_that_the_file_cannot_run_on_are_refused(
    tmp_path: Path, made: NodeProto, shape: tuple[int, ...], said: str
) -> None:
    weights = {
        "s": np.array([1, 12]),
        "m": ones(12, 5),
        "c": ones(4, 3, 3, 3),
        "W": ones(1, 3, 3),
    }
    used = {name: weights[name] for name in made.input if name in weights}
    open_axes = [f"a{i}" for i in range(len(shape))]
    path = file(tmp_path / "m.onnx", [made], [value("x", open_axes)], used)
    with pytest.raises(UserError, match=said):
        count_onnx(path, {"x": shape})


@pytest.mark.parametrize("kind", ["Conv", "Relu", "Identity"])
def test_an_operator_of_another_domain_is_not_one_of_the_same_name(
    tmp_path: Path, kind: str
) -> None:
    path = file(
        tmp_path / "m.onnx",
        [node(kind, ["x", "w"][: 2 if kind == "Conv" else 1], ["y"], domain="my.own")],
        [value("x", [1, 3, 8, 8])],
        {"w": ones(4, 3, 3, 3)},
    )
    model = onnx.load(path)
    model.opset_import.append(helper.make_opsetid("my.own", 1))
    onnx.save(model, path)
    count = count_onnx(path)
    assert count.macs == 0
    assert set(count.uncounted) == {f"my.own::{kind}"}


def ms(kind: str, inputs: list[str], **settings: Any) -> NodeProto:
    return node(kind, inputs, ["y"], domain="com.microsoft", num_heads=2, **settings)


@pytest.mark.parametrize(
    ("made", "shapes", "macs"),
    [
        # 6 queries, 2 heads of 4
        (ms("MultiHeadAttention", ["a"]), {"a": [1, 6, 2, 3, 4]}, 6 * 6 * 16),
        (ms("MultiHeadAttention", ["a", "b"]), {"a": [1, 6, 8], "b": [1, 7, 2, 2, 4]}, 6 * 7 * 16),
        (
            ms("MultiHeadAttention", ["a", "b", "b"]),
            {"a": [1, 6, 8], "b": [1, 2, 7, 4]},
            6 * 7 * 16,
        ),
        (
            ms("MultiHeadAttention", ["a", "a", "a", "", "", "", "b", "b"]),
            {"a": [1, 6, 8], "b": [1, 2, 5, 4]},
            6 * 11 * 16,
        ),
        (
            ms("Attention", ["a", "w", "", "", "b"]),
            {"a": [1, 6, 8], "b": [2, 1, 2, 5, 4]},
            6 * 8 * 24 + 6 * 11 * 16,
        ),
        (
            ms("Attention", ["a", "w"], qkv_hidden_sizes=[10, 10, 4]),
            {"a": [1, 6, 8]},
            6 * 8 * 24 + 6 * 6 * 14,
        ),
    ],
)
def test_fused_attention_of_every_layout(
    tmp_path: Path, made: NodeProto, shapes: dict[str, list[int]], macs: int
) -> None:
    inputs = [value(name, shape) for name, shape in shapes.items()]
    weights = {"w": ones(8, 24)} if "w" in made.input else {}
    count = count_onnx(file(tmp_path / "m.onnx", [made], inputs, weights))
    assert count.macs == macs
    assert not count.uncounted


@pytest.mark.parametrize(("kind", "shape"), [("MatMulNBits", (16, 1, 16)), ("MatMulBnb4", (256,))])
def test_weights_of_several_to_a_byte_count_each(
    tmp_path: Path, kind: str, shape: tuple[int, ...]
) -> None:
    settings = {"quant_type": 1} if kind == "MatMulBnb4" else {"bits": 4}
    made = node(
        kind, ["x", "w", "s"], ["y"], domain="com.microsoft", K=32, N=16, block_size=32, **settings
    )
    weights = {"w": np.zeros(shape, np.uint8), "s": ones(16)}
    count = count_onnx(file(tmp_path / "m.onnx", [made], [value("x", [2, 32])], weights))
    assert (count.macs, count.params) == (2 * 32 * 16, 32 * 16)
