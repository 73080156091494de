"""Counting Keras and TensorFlow models: the same counts as of PyTorch and ONNX.

Runs on the backend that is installed: TensorFlow's traced graph, or Keras on PyTorch.
"""

from __future__ import annotations

import importlib.util
import logging
import os
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from evaluators.counting.counts import Count
from evaluators.counting.formats.keras_counter import count_keras
from evaluators.counting.formats.onnx_counter import count_onnx
from evaluators.counting.torch_counter import count_module
from search_spaces.errors import UserError

HAS_TENSORFLOW = importlib.util.find_spec("tensorflow") is not None


@pytest.fixture(scope="module")
def keras() -> Any:
    os.environ.setdefault("KERAS_BACKEND", "tensorflow" if HAS_TENSORFLOW else "torch")
    return pytest.importorskip("keras", reason="the extra [tensorflow] is not installed")


def convolutions(keras: Any) -> Any:
    layers = keras.layers
    return keras.Sequential(
        [
            layers.Input((16, 16, 3)),
            layers.Conv2D(8, 3, strides=2, padding="valid"),
            layers.BatchNormalization(),
            layers.ReLU(),
            layers.DepthwiseConv2D(3, padding="valid"),
            layers.Conv2D(12, 1, use_bias=False),
            layers.Conv2DTranspose(6, 3, strides=2, padding="valid"),
            layers.GlobalAveragePooling2D(),
            layers.Dense(5, activation="softmax"),
        ]
    )


def torch_convolutions() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, stride=2),
        nn.BatchNorm2d(8),
        nn.ReLU(),
        nn.Conv2d(8, 8, 3, groups=8),
        nn.Conv2d(8, 12, 1, bias=False),
        nn.ConvTranspose2d(12, 6, 3, stride=2),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(6, 5),
    )


class TorchAttention(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.query, self.key, self.value, self.out = (nn.Linear(16, 16) for _ in range(4))

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = (part.unflatten(-1, (4, 4)).transpose(1, 2)
                   for part in (self.query(x), self.key(x), self.value(x)))  # fmt: skip
        mixed: Tensor = F.softmax(q @ k.transpose(-1, -2) / 2, dim=-1) @ v
        result: Tensor = self.out(mixed.transpose(1, 2).flatten(2))
        return result


def attention(keras: Any) -> Any:
    x = keras.Input((9, 16), name="tokens")
    y = keras.layers.MultiHeadAttention(num_heads=4, key_dim=4)(x, x)
    return keras.Model(x, y)


def kinds(count: Count) -> dict[str, int]:
    return {kind: macs for kind, macs in count.root.total().macs.items() if macs}


def saved(model: Any, path: Path) -> Path:
    model.save(path)
    return path


@pytest.mark.parametrize("batch", [1, 3])
def test_one_network_counts_alike_through_pytorch_onnx_and_keras(
    keras: Any, tmp_path: Path, batch: int
) -> None:
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    network, x = torch_convolutions().eval(), torch.zeros(batch, 3, 16, 16)
    torch.onnx.export(network, (x,), tmp_path / "n.onnx", dynamo=True, verbose=False)
    counts = [
        count_module(network, [x]),
        count_onnx(tmp_path / "n.onnx"),
        count_keras(saved(convolutions(keras), tmp_path / "n.keras"), [(batch, 16, 16, 3)]),
    ]
    assert kinds(counts[0]) == kinds(counts[1]) == kinds(counts[2])
    assert counts[2].params == counts[0].params
    assert not counts[2].uncounted


def test_attention_counts_alike(keras: Any, tmp_path: Path) -> None:
    count = count_keras(saved(attention(keras), tmp_path / "n.keras"), {"tokens": (2, 9, 16)})
    expected = count_module(TorchAttention(), [torch.zeros(2, 9, 16)])
    assert (
        kinds(count) == kinds(expected) == {"linear": 2 * 9 * 4 * 256, "attention": 2 * 9 * 9 * 32}
    )
    assert count.params == expected.params


def test_the_batch_is_one_where_it_is_left_open(keras: Any, tmp_path: Path) -> None:
    count = count_keras(saved(attention(keras), tmp_path / "n.keras"))
    assert count.inputs == {"tokens": (1, 9, 16)}


def test_a_batch_that_the_model_fixes_is_its_own(keras: Any, tmp_path: Path) -> None:
    layers = [keras.layers.Input(batch_shape=(2, 7, 5)), keras.layers.LSTM(6, stateful=True)]
    count = count_keras(saved(keras.Sequential(layers), tmp_path / "n.keras"))
    assert count.macs == 2 * 7 * 24 * CELL


def test_frozen_and_quantised_weights_are_parameters(keras: Any, tmp_path: Path) -> None:
    def dense() -> Any:
        layers = keras.layers
        body = [layers.Dense(3), layers.BatchNormalization(), layers.Dense(2)]
        return keras.Sequential([layers.Input((4,)), *body])

    expected = 15 + 6 + 8
    frozen, partly, packed = dense(), dense(), dense()
    frozen.trainable = False
    partly.layers[0].trainable = partly.layers[1].trainable = False
    packed.quantize("int8")
    for model in (frozen, partly, packed):
        count = count_keras(saved(model, tmp_path / "n.keras"))
        assert (count.macs, count.params) == (12 + 6, expected)
        assert not count.uncounted


CELL = 5 + 6  # of 6 units on 5 features


@pytest.mark.parametrize(
    ("shape", "layer", "a_step"),
    [
        ((7, 5), lambda k: k.SimpleRNN(6), 6 * CELL),
        ((7, 5), lambda k: k.SimpleRNN(6, unroll=True, return_sequences=True), 6 * CELL),
        ((7, 5), lambda k: k.SimpleRNN(6, go_backwards=True), 6 * CELL),
        ((7, 5), lambda k: k.LSTM(6), 24 * CELL),
        ((7, 5), lambda k: k.LSTM(6, return_sequences=True, activation="relu"), 24 * CELL),
        ((7, 5), lambda k: k.GRU(6), 18 * CELL),
        ((7, 5), lambda k: k.GRU(6, reset_after=False), 18 * CELL),
        ((7, 5), lambda k: k.Bidirectional(k.SimpleRNN(6)), 2 * 6 * CELL),
        ((7, 5), lambda k: k.Bidirectional(k.GRU(6)), 2 * 18 * CELL),
        ((7, 5), lambda k: k.RNN([k.LSTMCell(6), k.GRUCell(4)]), 24 * CELL + 12 * (6 + 4)),
        ((7, 5), lambda k: k.TimeDistributed(k.Dense(4)), 5 * 4),
        ((7, 8, 3), lambda k: k.ConvLSTM1D(4, 3, padding="same"), 8 * 3 * (3 + 4) * 16),
        ((7, 8, 8, 3), lambda k: k.ConvLSTM2D(4, 3, padding="same"), 64 * 9 * (3 + 4) * 16),
    ],
)
def test_recurrent_layers_count_their_steps(
    keras: Any, tmp_path: Path, shape: tuple[int, ...], layer: Any, a_step: int
) -> None:
    x = keras.Input(shape)
    count = count_keras(saved(keras.Model(x, layer(keras.layers)(x)), tmp_path / "n.keras"))
    assert count.macs == 7 * a_step
    assert not count.uncounted


def test_masked_steps_are_counted_as_well(keras: Any, tmp_path: Path) -> None:
    x = keras.Input((7, 5))
    y = keras.layers.SimpleRNN(6)(keras.layers.Masking()(x))
    assert count_keras(saved(keras.Model(x, y), tmp_path / "n.keras")).macs == 7 * 6 * CELL


@pytest.mark.skipif(not HAS_TENSORFLOW, reason="a SavedModel needs TensorFlow: [tensorflow]")
def test_a_saved_model_counts_as_the_model(keras: Any, tmp_path: Path) -> None:
    model = convolutions(keras)
    model.export(tmp_path / "saved", verbose=False)
    direct = count_keras(saved(model, tmp_path / "n.keras"), [(2, 16, 16, 3)])
    count = count_keras(tmp_path / "saved", [(2, 16, 16, 3)])
    assert kinds(count) == kinds(direct)
    assert count.params == direct.params
    assert not count.uncounted


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        ({"tokens": (9, 16)}, r"input 'tokens' has rank 3 \(\?x9x16\), 2 sizes given"),
        ({"token": (1, 9, 16)}, "did you mean 'tokens'"),
        ([(1, 8, 16)], "axis 1 of input 'tokens' is fixed at 9, given 8"),
        ([(1, 9, 16), (1,)], "2 inputs given, the model has 1: tokens"),
    ],
)
def test_wrong_inputs_are_one_line(keras: Any, tmp_path: Path, inputs: Any, message: str) -> None:
    path = saved(attention(keras), tmp_path / "n.keras")
    with pytest.raises(UserError, match=message):
        count_keras(path, inputs)


def test_files_that_are_no_models_are_refused(keras: Any, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no file"):
        count_keras(tmp_path / "none.keras")
    broken = tmp_path / "broken.keras"
    broken.write_bytes(b"nothing")
    with pytest.raises(UserError, match="cannot be loaded by Keras"):
        count_keras(broken)
    with pytest.raises(UserError, match="not a SavedModel"):
        count_keras(tmp_path)


def test_without_the_extra_the_error_names_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "model.keras"
    path.write_bytes(b"")
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"needs an extra: pip install '.*\[tensorflow\]'"):
        count_keras(path)
