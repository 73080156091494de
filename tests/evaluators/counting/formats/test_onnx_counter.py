"""Counting ONNX files, against the exported network and by hand."""

from __future__ import annotations

import logging
import re
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor, nn
from torch.nn import functional as F

from evaluators.counting.counts import Count
from evaluators.counting.formats.onnx_counter import count_onnx
from evaluators.counting.torch_counter import count_module
from search_spaces.catalogue import load_space
from search_spaces.errors import UserError
from search_spaces.networks.modules import build


def exported(network: nn.Module, path: Path, *inputs: Tensor, dynamic: bool = False) -> Path:
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    shapes = tuple({0: torch.export.Dim("batch")} for _ in inputs) if dynamic else None
    torch.onnx.export(
        network.eval(), inputs, path, dynamo=True, dynamic_shapes=shapes, verbose=False
    )
    return path


def kinds(count: Count) -> dict[str, int]:
    return {kind: macs for kind, macs in count.root.total().macs.items() if macs}


class Attends(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.qkv = nn.Linear(16, 48)
        self.norm = nn.LayerNorm(16)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.qkv(self.norm(x)).chunk(3, dim=-1)
        return x + F.softmax(q @ k.transpose(1, 2) / 4.0, dim=-1) @ v


class Mixes(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(4, 6))

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        return torch.einsum("btd,de->bte", x, self.weight) @ y


NETWORKS: dict[str, tuple[nn.Module, tuple[tuple[int, ...], ...]]] = {
    "convolutions": (
        nn.Sequential(
            nn.Conv2d(3, 8, 3, stride=2),
            nn.BatchNorm2d(8),
            nn.ReLU(),
            nn.Conv2d(8, 8, 3, groups=8, dilation=2),
            nn.Conv2d(8, 12, 1, bias=False),
            nn.ConvTranspose2d(12, 6, 3, stride=2, groups=3),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.Linear(6, 5),
        ),
        ((2, 3, 20, 20),),
    ),
    "one-dimensional": (nn.Sequential(nn.Conv1d(4, 8, 3), nn.GELU()), ((2, 4, 10),)),
    "attention": (Attends(), ((2, 9, 16),)),
    "encoder": (nn.TransformerEncoderLayer(16, 4, 32, batch_first=True), ((2, 7, 16),)),
    "products": (Mixes(), ((2, 3, 4), (2, 6, 5))),
}


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("dynamic", [False, True])
def test_an_exported_network_counts_as_the_network(
    name: str, dynamic: bool, tmp_path: Path
) -> None:
    network, shapes = NETWORKS[name]
    for parameter in network.parameters():
        nn.init.normal_(parameter)  # the exporter removes additions of zeros
    torch.backends.mha.set_fastpath_enabled(False)
    inputs = [torch.randn(shape) for shape in shapes]
    path = exported(network, tmp_path / "network.onnx", *inputs, dynamic=dynamic)
    torch.backends.mha.set_fastpath_enabled(True)
    count = count_onnx(path, shapes)
    expected = count_module(network, inputs)
    assert kinds(count) == kinds(expected)
    assert not count.uncounted
    if name != "convolutions":  # the exporter folds a batch norm into the convolution before it
        assert count.params == expected.params
    assert count.root.total().params == count.params


@pytest.mark.parametrize("name", ["mobilenet-tiny", "vit-tiny", "resnet"])
def test_networks_of_the_spaces_count_as_their_tables_say(name: str, tmp_path: Path) -> None:
    size = {"resnet": 64}.get(name)
    space = load_space(name, image_size=size, classes=10)
    arch = space.smallest
    network = build(space, arch)
    x = torch.randn(1, *space.input_shape(arch))
    count = count_onnx(exported(network, tmp_path / "network.onnx", x))
    ops = [op for _, block in space.ops(arch) for op in block]
    assert count.macs == sum(op.macs for op in ops)
    assert not count.uncounted


def graph_file(
    path: Path,
    nodes: list[onnx.NodeProto],
    inputs: dict[str, tuple[int, ...]],
    weights: dict[str, np.ndarray] | None = None,
    *,
    domain: bool = False,
) -> Path:
    values = [
        helper.make_tensor_value_info(
            name, TensorProto.FLOAT, [s if s > 0 else f"dim{-s}" for s in shape]
        )
        for name, shape in inputs.items()
    ]
    out = helper.make_tensor_value_info(nodes[-1].output[0], TensorProto.FLOAT, None)
    tensors = [numpy_helper.from_array(v, k) for k, v in (weights or {}).items()]
    graph = helper.make_graph(nodes, "graph", values, [out], tensors)
    opsets = [helper.make_opsetid("", 23)]
    if domain:
        opsets.append(helper.make_opsetid("com.microsoft", 1))
    onnx.save(helper.make_model(graph, opset_imports=opsets), path)
    return path


def zeros(*shape: int) -> np.ndarray:
    return np.zeros(shape, dtype=np.float32)


@pytest.mark.parametrize(
    ("node", "inputs", "weights", "expected"),
    [
        (
            helper.make_node("LSTM", ["x", "w", "r"], ["y"], hidden_size=5),
            {"x": (4, 2, 3)},
            {"w": zeros(1, 20, 3), "r": zeros(1, 20, 5)},
            {"linear": 4 * 2 * 20 * (3 + 5)},
        ),
        (
            helper.make_node("Gemm", ["x", "w"], ["y"], transA=1, transB=1),
            {"x": (3, 2)},
            {"w": zeros(7, 3)},
            {"linear": 2 * 3 * 7},
        ),
        (
            helper.make_node("MatMul", ["w", "x"], ["y"]),
            {"x": (2, 4, 3, 5)},
            {"w": zeros(4, 6, 3)},
            {"linear": 2 * 4 * 6 * 3 * 5},
        ),
        (
            helper.make_node("Einsum", ["x", "z"], ["y"], equation="bhqd,bhkd->bhqk"),
            {"x": (2, 3, 4, 5), "z": (2, 3, 6, 5)},
            {},
            {"other": 2 * 3 * 4 * 6 * 5},
        ),
        (
            helper.make_node("Attention", ["q", "k", "v"], ["y"]),
            {"q": (2, 8, 6, 4), "k": (2, 2, 5, 4), "v": (2, 2, 5, 3)},
            {},
            {"attention": 2 * 8 * 6 * 5 * (4 + 3)},
        ),
        (
            helper.make_node("Attention", ["q", "k", "v"], ["y"], q_num_heads=8, kv_num_heads=2),
            {"q": (2, 6, 32), "k": (2, 5, 8), "v": (2, 5, 6)},
            {},
            {"attention": 2 * 8 * 6 * 5 * (4 + 3)},
        ),
        (
            helper.make_node(
                "MultiHeadAttention", ["q", "k", "v"], ["y"], domain="com.microsoft", num_heads=4
            ),
            {"q": (2, 6, 16), "k": (2, 5, 16), "v": (2, 5, 16)},
            {},
            {"attention": 2 * 6 * 5 * 2 * 16},
        ),
    ],
)
def test_operators_by_hand(
    node: onnx.NodeProto,
    inputs: dict[str, tuple[int, ...]],
    weights: dict[str, np.ndarray],
    expected: dict[str, int],
    tmp_path: Path,
) -> None:
    path = graph_file(
        tmp_path / "g.onnx", [node], inputs, weights, domain=node.domain == "com.microsoft"
    )
    count = count_onnx(path)
    assert kinds(count) == expected
    assert count.params == sum(w.size for w in weights.values())


def test_a_weight_used_twice_is_counted_once(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["h"], name="first"),
        helper.make_node("MatMul", ["h", "w"], ["y"], name="second"),
    ]
    path = graph_file(tmp_path / "g.onnx", nodes, {"x": (2, 4)}, {"w": zeros(4, 4)})
    count = count_onnx(path)
    assert (count.macs, count.params) == (2 * 2 * 16, 16)
    assert [node.params for _, node in count.root.walk()] == [0, 16, 0]


def test_operators_without_a_rule_are_reported(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("Relu", ["x"], ["h"]),
        helper.make_node("STFT", ["h", "step"], ["y"], name="spectrum"),
    ]
    step = {"step": np.array(4, dtype=np.int64)}
    count = count_onnx(graph_file(tmp_path / "g.onnx", nodes, {"x": (1, 64, 1)}, step))
    (name,) = count.uncounted
    assert name.endswith("STFT")
    assert count.uncounted[name].path == "spectrum"
    assert count.root.total().elementwise == 64


def test_the_size_of_a_dynamic_axis_must_be_specified(tmp_path: Path) -> None:
    node = helper.make_node("MatMul", ["x", "w"], ["y"])
    path = graph_file(tmp_path / "g.onnx", [node], {"x": (-1, 8, 4)}, {"w": zeros(4, 3)})
    with pytest.raises(UserError, match=r"axis 0 \(dim1\) of input 'x' is dynamic.*x=1x8x4"):
        count_onnx(path)
    assert count_onnx(path, {"x": (5, 8, 4)}).macs == 5 * 8 * 12
    assert count_onnx(path, [(6, 8, 4)]).macs == 6 * 8 * 12


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        ({"x": (5, 8)}, r"input 'x' has rank 3 \(dim1x8x4\), 2 sizes given"),
        ({"z": (5, 8, 4)}, "unknown input of the model 'z'"),
        ({"x": (5, 9, 4)}, "axis 1 of input 'x' is fixed at 8, given 9"),
        ([(1, 8, 4), (1,)], "2 inputs given, the model has 1: x"),
    ],
)
def test_wrong_inputs_are_one_line(inputs: object, message: str, tmp_path: Path) -> None:
    node = helper.make_node("MatMul", ["x", "w"], ["y"])
    path = graph_file(tmp_path / "g.onnx", [node], {"x": (-1, 8, 4)}, {"w": zeros(4, 3)})
    with pytest.raises(UserError, match=message):
        count_onnx(path, inputs)  # type: ignore[arg-type]


def test_files_that_are_no_models_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no file"):
        count_onnx(tmp_path / "none.onnx")
    broken = tmp_path / "broken.onnx"
    broken.write_bytes(b"this is not a model")
    empty = tmp_path / "empty.onnx"
    empty.write_bytes(b"")
    whole = exported(nn.Linear(3, 4), tmp_path / "whole.onnx", torch.zeros(1, 3))
    cut = tmp_path / "cut.onnx"
    cut.write_bytes(whole.read_bytes()[: whole.stat().st_size // 2])
    for path in (broken, empty, cut):
        with pytest.raises(UserError, match=re.escape(f"{path} is not an ONNX file")):
            count_onnx(path)
