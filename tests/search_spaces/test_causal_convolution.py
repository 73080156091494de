"""A causal convolution over tokens: what it computes, costs, and becomes in each format."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from evaluators.costs.tables import CostTables
from evaluators.counting.torch_counter import count_module
from nas.exports import checks, onnx_file
from nas.exports.description import ONNX_FILE
from nas.exports.source.python_source import write_python
from search_spaces.architecture import Architecture
from search_spaces.catalogue import load_space
from search_spaces.networks.modules import Network, build
from search_spaces.networks.plain_parts import CausalConvolution
from search_spaces.space import SearchSpace


@pytest.fixture(scope="module")
def space() -> SearchSpace:
    return load_space("gpt-conv", vocabulary=40)


@pytest.fixture(scope="module")
def arch(space: SearchSpace) -> Architecture:
    return space.architecture({**space.smallest, "mixing": 3})


def shaken(space: SearchSpace, arch: Architecture) -> Network:
    """A network whose convolutions are no identities any more."""
    torch.manual_seed(0)
    network = build(space, arch).eval()
    for module in network.modules():
        if isinstance(module, CausalConvolution):
            torch.nn.init.normal_(module.weight)
    return network


def test_it_is_a_weighted_sum_of_each_features_last_tokens() -> None:
    module = CausalConvolution(2, 3)
    assert not module.weight.any()
    with torch.no_grad():
        module.weight[:] = torch.tensor([[[1.0, 10.0, 100.0]], [[0.0, 2.0, 0.0]]])
    x = torch.tensor([[[1.0, 1.0], [2.0, 3.0], [4.0, 5.0]]])
    expected = torch.tensor([[[100.0, 0.0], [210.0, 2.0], [421.0, 6.0]]])
    assert torch.equal(module(x), expected)
    assert torch.equal(module.eval()(x), expected)


def test_no_token_sees_a_later_one(space: SearchSpace, arch: Architecture) -> None:
    network, context = shaken(space, arch), int(arch["context"])
    x = torch.randint(40, (2, context))
    other = x.clone()
    other[:, context // 2 :] = 0
    before = slice(context // 2)
    with torch.no_grad():
        assert torch.allclose(network(x)[:, before], network(other)[:, before], atol=1e-6)


def test_a_new_network_is_the_one_without_it(space: SearchSpace, arch: Architecture) -> None:
    """At first only the present token counts."""
    network = build(space, arch).eval()
    plain = build(space, space.smallest).eval()
    plain.load_state_dict(network.state_dict(), strict=False)
    x = torch.randint(40, (2, int(arch["context"])))
    with torch.no_grad():
        assert torch.allclose(network(x), plain(x), atol=1e-6)


def test_it_costs_its_kernel_for_each_feature(space: SearchSpace, arch: Architecture) -> None:
    tables = CostTables(space)
    mixed, plain = tables.cost(arch), tables.cost(space.smallest)
    layers, context, width = (int(arch[name]) for name in ("depth", "context", "width"))
    assert mixed["macs"] - plain["macs"] == 2 * layers * context * width * 3
    assert mixed["params"] - plain["params"] == 2 * layers * width * 3
    counted = count_module(build(space, arch), [torch.zeros(1, context, dtype=torch.long)])
    assert (counted.macs, counted.params) == (mixed["macs"], mixed["params"])


def test_files_compute_the_same(space: SearchSpace, arch: Architecture, tmp_path: Path) -> None:
    network, blocks = shaken(space, arch), space.ops(arch)
    onnx_file.write(network, blocks, tmp_path / ONNX_FILE)
    done = checks.in_a_fresh_process(network, blocks, tmp_path, ("onnx",), costs=None)
    assert done.differences["onnx"] <= checks.TOLERANCE
    scope: dict[str, Any] = {"__name__": "taken", "__file__": "network.py"}
    exec(compile(write_python(blocks, ["A."], ["A."]), "network.py", "exec"), scope)
    written = scope["Network"]().eval()
    written.load_state_dict(network.state_dict())
    x = torch.randint(40, (2, int(arch["context"])))
    with torch.no_grad():
        assert torch.allclose(written(x), network(x), atol=1e-5)
