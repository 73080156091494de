"""Networks as ONNX: onnxruntime and torch compute the same outputs."""

from __future__ import annotations

from collections import Counter

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime
import pytest
import torch
from torch import nn

from search_spaces.builder import BlockBuilder
from search_spaces.catalogue import SENTENCE_SPACES, SPACES, TEXT_SPACES, load_space
from search_spaces.errors import UserError
from search_spaces.networks.modules import MODULES, Network, build
from search_spaces.onnx.rules import RULES
from search_spaces.onnx.writer import inputs_of, write_onnx
from search_spaces.ops import Op

LARGE = ("autoformer-small", "autoformer-base", "gpt", "bert", "ofa-resnet50")
"""Spaces of which only the smallest network is tested."""


def with_statistics(network: nn.Module) -> nn.Module:
    """The network in evaluation mode, with batch norm statistics unlike the initial ones."""
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            assert module.running_mean is not None
            assert module.running_var is not None
            module.running_mean.normal_(std=0.1)
            module.running_var.uniform_(0.5, 2.0)
    return network.eval()


def session_of(model: onnx.ModelProto) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )


def state(network: nn.Module) -> dict[str, npt.NDArray[np.float32]]:
    return {name: tensor.detach().numpy() for name, tensor in network.state_dict().items()}


@pytest.mark.parametrize("name", sorted({*SPACES, *TEXT_SPACES, *SENTENCE_SPACES} - {"gpt-llama"}))
def test_onnxruntime_and_torch_agree_in_every_space(name: str) -> None:
    torch.manual_seed(0)
    space = load_space(name)
    rows = space.canonical(space.sample(1, 3))
    archs = [space.smallest] if name in LARGE else [space.smallest, *space.decode(rows)]
    for arch in archs:
        network = with_statistics(build(space, arch))
        session = session_of(write_onnx(space.ops(arch), state(network)))
        shape = space.input_shape(arch)
        for batch in (1, 2):
            is_text = name in TEXT_SPACES | SENTENCE_SPACES
            x = torch.randint(0, 50, (batch, *shape)) if is_text else torch.randn(batch, *shape)
            (given,) = session.run(None, {"input": x.numpy()})
            with torch.no_grad():
                expected = network(x).numpy()
            scale = np.abs(expected).max()
            assert np.abs(np.asarray(given) - expected).max() <= 1e-5 * max(1.0, scale)


def test_a_block_of_llama_agrees(llama_ops: tuple[Op, ...]) -> None:
    network = Network([("block", llama_ops)]).eval()
    x_in = torch.randn(3, 12, 32, generator=torch.Generator().manual_seed(0))
    session = session_of(write_onnx([("block", llama_ops)], state(network)))
    (given,) = session.run(None, {"input": x_in.numpy()})
    with torch.no_grad():
        assert np.abs(np.asarray(given) - network(x_in).numpy()).max() < 1e-5


def test_every_op_type_has_a_rule() -> None:
    assert RULES.keys() == MODULES.keys()


def test_unused_edges_are_not_written() -> None:
    """Only a skipped edge of this cell reaches the output, so that cells have no convolutions."""
    space = load_space("nasbench201")
    arch = space.architecture(
        {"arch": "|nor_conv_3x3~0|+|none~0|none~1|+|skip_connect~0|none~1|none~2|"}
    )
    model = write_onnx(space.ops(arch))
    convolutions = Counter(node.op_type for node in model.graph.node)["Conv"]
    # The stem, and between stages two residual blocks of two convolutions and a shortcut.
    assert convolutions == 1 + 2 * 3
    onnx.checker.check_model(model)


def test_a_block_without_weights_is_small_and_runs() -> None:
    space = load_space("vit-tiny")
    name, ops = space.ops(space.largest)[1]
    network = Network([(name, ops)]).eval()
    bare, full = write_onnx([(name, ops)]), write_onnx([(name, ops)], state(network))
    assert len(bare.SerializeToString()) < 10_000 < len(full.SerializeToString())
    shape = inputs_of([(name, ops)])["input"].shape
    x = np.random.default_rng(0).standard_normal((2, *shape)).astype(np.float32)
    (given,) = session_of(bare).run(None, {"input": x})
    assert np.asarray(given).shape == (2, *ops[-1].out_shape)
    assert np.isfinite(given).all()


def test_equal_layers_without_weights_are_not_merged(tmp_path: object) -> None:
    """A runtime merges nodes with equal inputs and weights."""
    build = BlockBuilder(8, 8, 8)
    a = build.conv("a", build.input, 8, 3)
    b = build.conv("b", build.input, 8, 3)
    build.add("sum", a, b)
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = f"{tmp_path}/optimised.onnx"
    options.log_severity_level = 3
    model = write_onnx([("block", build.ops)]).SerializeToString()
    onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    optimised = onnx.load(options.optimized_model_filepath)
    assert Counter(node.op_type for node in optimised.graph.node)["Conv"] == 2


def test_inputs_of_a_block_include_outputs_of_other_blocks() -> None:
    build = BlockBuilder(4, 8, 8)
    other = build.output_of("earlier", 4, 8, 8)
    build.add("sum", build.input, other)
    blocks = [("block", build.ops)]
    assert {name: spec.shape for name, spec in inputs_of(blocks).items()} == {
        "input": (4, 8, 8),
        "@earlier": (4, 8, 8),
    }
    x = np.ones((1, 4, 8, 8), dtype=np.float32)
    (given,) = session_of(write_onnx(blocks)).run(None, {"input": x, "@earlier": 2 * x})
    assert (np.asarray(given) == 3).all()


def test_the_error_names_an_op_type_without_a_rule() -> None:
    class Wavelet(Op):
        pass

    build = BlockBuilder(4, 8, 8)
    build.add_op(Wavelet("wave", (build.input,), (4, 8, 8)))
    with pytest.raises(UserError, match="Wavelet cannot be written as ONNX"):
        write_onnx([("block", build.ops)])
