"""Exported files hold what the network computes; a failed check leaves nothing behind."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch

from nas.engine.search import Outcome
from nas.exports import checks, onnx_file
from nas.exports.saved import load
from nas.exports.writing import export
from search_spaces.catalogue import load_space
from search_spaces.errors import UserError
from search_spaces.networks.modules import Network, build


@pytest.mark.parametrize("name", ["mobilenet-tiny", "vit-tiny", "nasbench201"])
def test_the_file_for_onnx_has_no_norm_that_a_convolution_could_take(
    name: str, tmp_path: Path
) -> None:
    space = load_space(name)
    network = build(space, space.smallest).eval()
    path = tmp_path / "model.onnx"
    onnx_file.write(network, space.ops(space.smallest), path)
    import onnx

    kinds = [node.op_type for node in onnx.load(path).graph.node]
    assert kinds.count("BatchNormalization") <= 1  # of nasbench201's head, which reads a sum


def test_a_network_of_ones_own_op_is_traced(tmp_path: Path) -> None:
    """It has no rule for ONNX; torch's exporter writes what its module does."""
    from search_spaces.builder import BlockBuilder
    from search_spaces.networks import modules
    from search_spaces.ops import Op

    class Halved(Op):
        pass

    class Half(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x / 2

    modules.MODULES[Halved] = lambda op: Half()
    try:
        build_ = BlockBuilder(4)
        x = build_.linear("linear", build_.input, 3)
        build_.add_op(Halved("halved", (x,), (3,)))
        blocks = [("block", build_.ops)]
        network = Network(blocks).eval()
        onnx_file.write(network, blocks, tmp_path / "model.onnx")
        for x_in, expected in checks.samples(network, blocks):
            session = onnxruntime.InferenceSession(tmp_path / "model.onnx")
            (given,) = session.run(None, {"images": x_in.numpy()})
            assert np.abs(given - expected.numpy()).max() < 1e-5
    finally:
        del modules.MODULES[Halved]


def test_weights_that_differ_are_detected_in_this_process(
    finished: Outcome, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    task, arch = finished.task, finished.winner.arch
    network = load(finished.run.folder / "winner")
    compare = checks.in_this_process

    def changed(net: torch.nn.Module, *arguments: Any) -> None:
        with torch.no_grad():
            next(net.parameters()).add_(1.0)
        compare(net, *arguments)

    monkeypatch.setattr(checks, "in_this_process", changed)
    with pytest.raises(UserError, match="export failed its check: loaded outputs differ"):
        export(network, arch, task.tables, task.data, tmp_path / "out")
    assert not list(tmp_path.iterdir())
