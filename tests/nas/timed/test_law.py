"""The law of timed searches: what a network should reach in a time."""

from __future__ import annotations

import numpy as np
import pytest

from hardware_profiles.fitting.fitted import fit_latency
from nas.timed.law import (
    ENOUGH_EPOCHS,
    ENOUGH_OF_MACS,
    ENOUGH_OF_WEIGHTS,
    EPOCHS_POWER,
    EXPANDED,
    LEAST_LOG_MACS,
    MACS_POWER,
    REFERENCE_MACS,
    REFERENCE_WEIGHTS,
    SHARPNESS,
    SHRUNK,
    LearningLaw,
    balance_loss,
    expanded_macs,
    layers_in,
    layers_loss,
    useful_macs,
)
from nas.timed.regular import regular_rows
from search_spaces.architecture import Architecture
from search_spaces.builder import BlockBuilder
from search_spaces.catalogue import load_space
from search_spaces.ops import Op
from search_spaces.spaces.convolution_blocks import block_ops
from timed_law import law, tables


def test_the_faster_a_network_trains_the_better_it_is() -> None:
    rows = regular_rows(tables().space, 500, np.random.default_rng(0))
    one = law(30.0)
    np.testing.assert_allclose(one(rows), one.after(rows, one.epochs(rows)))
    once, twice = (one.after(rows, times * one.epochs(rows)) for times in (1, 2))
    np.testing.assert_allclose(law(60.0)(rows), twice)
    deep = one.layers(rows) > 3 * (2 * one.epochs(rows)) ** 0.3  # layers enough for the time
    assert (twice > once)[deep].all()
    assert deep.sum() > 50


def fewer_pixels(rows: np.ndarray) -> np.ndarray:
    """What smaller images and the stride of the stem add to the log errors of rows."""
    small, whole = (
        rows[:, tables().space.column[name]] == at
        for name, at in (("resolution", 0), ("stem_stride", 1))
    )
    expanded = []
    for arch in tables().space.decode(rows):
        blocks = [ops for _, ops in tables().space.ops(arch)]
        expanded.append(sum(map(expanded_macs, blocks)) / sum(map(useful_macs, blocks)))
    return np.asarray(SHRUNK * np.log(2) * (small - whole * np.array(expanded)))


def test_fewer_pixels_end_worse(monkeypatch: pytest.MonkeyPatch) -> None:
    space = tables().space
    rows = regular_rows(space, 100, np.random.default_rng(0))
    options = {choice.name: choice.options for choice in space.choices}
    assert (options["resolution"], options["stem_stride"]) == ((8, 16), (2, 1))
    expected = fewer_pixels(rows)
    assert expected.min() < 0 < expected.max()
    with_it = law(30.0)(rows)
    monkeypatch.setattr("nas.timed.law.SHRUNK", 0.0)
    np.testing.assert_allclose(law(30.0)(rows) - with_it, expected)


def conv(size: int, kernel: int, stride: int = 1, groups: int = 1) -> tuple[Op, ...]:
    build = BlockBuilder(8, size, size)
    build.conv("conv", build.input, 8, kernel, stride=stride, groups=groups)
    return build.ops


@pytest.mark.parametrize(
    ("ops", "share"),
    [
        (conv(1, 3), 1 / 9),  # the middle of nine
        (conv(2, 3), 4 / 9),
        (conv(4, 3), (10 / 12) ** 2),
        (conv(4, 3, groups=8), (10 / 12) ** 2),
        (conv(4, 3, stride=2), (5 / 6) ** 2),  # only the first row and column begin outside
        (conv(4, 5), (14 / 20) ** 2),
        (conv(4, 1), 1.0),
    ],
)
def test_products_with_padding_are_not_useful(ops: tuple[Op, ...], share: float) -> None:
    assert useful_macs(ops) == pytest.approx(share * sum(op.macs for op in ops))


def test_layers_are_those_one_after_the_other() -> None:
    space = tables().space

    def layers(block: str, depth: int = 1) -> float:
        values = {"resolution": 16, "stem_stride": 2, "stem_width": 8, "activation": "relu"}
        values |= {"head_width": 0, "stage3_depth": 0}
        for stage, width in enumerate((8, 16, 32)):
            values |= {f"stage{stage}_{k}": v for k, v in (("depth", depth), ("width", width))}
            values[f"stage{stage}_block"] = block
        (found,) = law(1.0).layers(space.encode([space.architecture(values)]))
        return float(found)

    # The stem, the classifier, and so many for each block.
    assert layers("basic") == 2 + 3 * 2  # ResNet-8
    assert layers("basic-se") == 2 + 3 * 2
    assert layers("fused-e1", depth=2) == 2 + 6 * 1
    assert layers("fused-e1-se", depth=2) == 2 + 6 * 1
    assert layers("separable-k3") == 2 + 3 * 1
    assert layers("inverted-k3-e4-se") == 2 + 3 * 1
    assert layers("bottleneck", depth=2) == 2 + 6 * 1


@pytest.mark.parametrize(
    ("kind", "share"),
    [
        ("basic", 0),
        ("bottleneck", 0),
        ("separable-k3", 0),
        ("inverted-k3-e1-se", 0),
        ("inverted-k3-e4-se", 1),
        ("inverted-k3-e2", 1),
        ("fused-e4", 0),
    ],
)
def test_inverted_residuals_are_expanded(kind: str, share: float) -> None:
    ops = block_ops(kind, 16, 32, 32, 1, "silu")
    assert expanded_macs(ops) == share * useful_macs([op for op in ops if "se_" not in op.name])


@pytest.mark.parametrize(
    ("name", "outside"),
    [("gpt-char", 1), ("gpt-conv", 1), ("vit-tiny", 2), ("autoformer-tiny", 2), ("bert-mini", 1)],
)
def test_layers_of_a_transformer_are_attention_and_mlp(name: str, outside: int) -> None:
    """And the classifier, and the patches of an image."""
    space = load_space(name)
    depth = space.largest["depth"]
    found = sum(layers_in(ops) for _, ops in space.ops(space.largest))
    assert found == 2 * int(depth) + outside


def at_equal_epochs(rows: np.ndarray, epochs: float) -> np.ndarray:
    """The law without what MACs explain."""
    space = tables().space

    def useful(arch: Architecture) -> float:
        return sum(useful_macs(ops) for _, ops in space.ops(arch))

    params = tables().score(rows, ("params",))["params"]
    ratio = np.log(np.array([useful(arch) for arch in space.decode(rows)]) / REFERENCE_MACS)
    weights = np.log(params / REFERENCE_WEIGHTS)
    least = np.maximum(ratio, LEAST_LOG_MACS)
    enough = ENOUGH_EPOCHS * np.exp(ENOUGH_OF_MACS * least + ENOUGH_OF_WEIGHTS * weights)
    age = np.log(epochs / (1 + epochs / enough))
    power = MACS_POWER * ratio
    score: np.ndarray = law(1.0).after(rows, np.full(len(rows), epochs))
    sharp = rows[:, tables().space.column["activation"]] == 0
    known = score - power - EPOCHS_POWER * age + fewer_pixels(rows)
    known += balance_loss(params, REFERENCE_MACS * np.exp(ratio))
    for number, arch in enumerate(space.decode(rows)):
        expanded = sum(expanded_macs(ops) for _, ops in space.ops(arch))
        known[number] -= EXPANDED * expanded / useful(arch)
    return np.asarray(known + SHARPNESS * sharp)


def test_too_few_layers_for_the_time_and_too_many_are_worse() -> None:
    more = np.linspace(-2.0, 2.0, 81)
    loss = layers_loss(more)
    assert loss[40] == 0
    assert (np.diff(loss[:41]) < 0).all()
    assert (np.diff(loss[40:]) > 0).all()
    assert layers_loss(np.array([-0.3, 0.5])) == pytest.approx([0.7 * 0.09, 0.09 * 0.5])

    rows = regular_rows(tables().space, 8000, np.random.default_rng(0))
    costs = tables().score(rows, ("macs", "params"))
    alike = (costs["params"] > 90_000) & (costs["params"] < 110_000) & (costs["macs"] < 660_000)
    assert alike.sum() > 100
    rows = rows[alike]
    left, layers = at_equal_epochs(rows, 400.0), law(1.0).layers(rows)
    # 40 e^-0.75 epochs are enough, so 400 matter as 18.04, for which 4 a^0.3 = 9.53 layers suffice.
    assert left == pytest.approx(-layers_loss(np.log(layers / 9.53)), abs=0.01)


def test_another_ratio_of_weights_and_macs_is_worse_in_convolutional_spaces() -> None:
    macs = np.array([1e6, 1e6, 1e6, 1e7])
    loss = balance_loss(np.array([65_000.0, 130_000.0, 32_500.0, 650_000.0]), macs)
    assert loss == pytest.approx([0, 0.03 * np.log(2) ** 2, 0.03 * np.log(2) ** 2, 0])
    # Tokens share their weights: in windows of 64, a weight has 64 MACs wherever it is.
    text = load_space("gpt-char")
    price = fit_latency(text, rows := text.sample(64, 0), list(np.linspace(1, 2, 64)), "here")
    narrow = LearningLaw(text, price, 60.0, 1000)
    few = narrow.after(rows, np.full(64, 3.0))
    assert np.isfinite(few).all()
    assert not narrow._convolutional
    assert law(1.0)._convolutional


def test_more_time_is_never_worse() -> None:
    space = tables().space
    rows = np.concatenate([space.sample(500, 0), space.encode([space.smallest, space.largest])])
    epochs = np.geomspace(0.3, 1000.0, 30)
    scores = np.array([law(1.0).after(rows, np.full(len(rows), e)) for e in epochs])
    assert (np.diff(scores, axis=0) > 0).all()


def test_small_networks_stop_learning_early() -> None:
    rows = np.unique(regular_rows(tables().space, 8000, np.random.default_rng(0)), axis=0)
    costs, layers = tables().score(rows, ("macs", "params")), law(1.0).layers(rows)
    small = np.flatnonzero(costs["params"] < 2 * REFERENCE_WEIGHTS)
    compared = 0
    for place in small[::50]:
        ratio = costs["macs"] / costs["macs"][place]
        larger = costs["params"] > 3 * costs["params"][place]
        alike = (layers == layers[place]) & (ratio >= 1) & (ratio < 1.2) & larger
        for other in np.flatnonzero(alike)[:3]:
            ahead = [
                float(np.diff(law(1.0).after(rows[[place, other]], np.full(2, epochs)))[0])
                for epochs in (2.0, 20.0, 200.0)
            ]
            assert ahead == sorted(ahead)
            assert ahead[-1] > ahead[0] + 0.01
            compared += 1
    assert compared > 10
