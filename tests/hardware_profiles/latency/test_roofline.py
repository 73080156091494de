"""The roofline: fusion, traffic, and estimates from datasheets."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import spearmanr

from evaluators.accuracy.published_table import read_table
from evaluators.costs.tables import CostTables
from hardware_profiles.device import Device, Figure
from hardware_profiles.latency.protocol import Latency
from hardware_profiles.latency.roofline import BYTES_PER_ELEMENT, UTILISATION, Roofline
from hardware_profiles.latency.traffic import kernels, ops_bytes
from hardware_profiles.lookup import load_device
from search_spaces.builder import BlockBuilder
from search_spaces.catalogue import SENTENCE_SPACES, SPACES, TEXT_SPACES, load_space
from search_spaces.errors import UserError
from search_spaces.ops import (
    Activation,
    Add,
    BatchNorm2d,
    Conv2d,
    Identity,
    Op,
    Tensor,
    Zero,
)
from search_spaces.token_ops import Embedding, PositionEmbedding, RelativeAttention, TiedLinear

TABLE = Path(__file__).parents[4] / "shared/data/nasbench201/accuracy_12ep_and_latency.parquet"

V100 = load_device("V100")


def device(flops: float = 1e12, bandwidth: float = 1e11, launch: float | None = None) -> Device:
    def figure(value: float) -> Figure:
        return Figure(value=value, source="a test", year=2024)

    return Device(
        name="test",
        title="a test",
        kind="gpu",
        peak_flops={"fp32": figure(flops), "fp16": figure(4 * flops)},
        bandwidth_bytes_per_s=figure(bandwidth),
        memory_bytes=figure(1e9),
        tdp_watts=figure(10),
        idle_watts=figure(1),
        launch_seconds=figure(launch) if launch else None,
    )


def conv(
    channels: int = 64, out: int = 64, size: int = 16, kernel: int = 3, groups: int = 1
) -> Conv2d:
    x = Tensor("input", (channels, size, size))
    shape = (out, size, size)
    return Conv2d("conv", (x,), shape, kernel=kernel, padding=kernel // 2, groups=groups)


def residual() -> tuple[Op, ...]:
    """Return a convolution, its norm, a sum with the block's input, and an activation."""
    first = conv()
    norm = BatchNorm2d("norm", (first.output,), first.out_shape)
    total = Add("add", (norm.output, first.inputs[0]), norm.out_shape)
    return (first, norm, total, Activation("act", (total.output,), total.out_shape))


def test_element_wise_ops_are_fused_into_the_convolution_before_them() -> None:
    (kernel,) = kernels(residual())
    image = 64 * 16 * 16
    assert [op.name for op in kernel.ops] == ["conv", "norm", "add", "act"]
    assert kernel.read == 2 * image  # the input, for the convolution and as the shortcut
    assert kernel.written == image
    assert kernel.weights == 64 * 64 * 9 + 64  # the norm's shift remains
    assert ops_bytes(residual()) == (4 * kernel.weights, 4 * 3 * image)


def test_a_tensor_with_two_readers_is_written_first() -> None:
    first = conv()
    act = Activation("act", (first.output,), first.out_shape)
    both = Add("add", (act.output, first.output), first.out_shape)
    assert [[op.name for op in k.ops] for k in kernels((first, act, both))] == [
        ["conv"],
        ["act", "add"],
    ]


def test_squeeze_excitation_reads_the_image_again() -> None:
    build = BlockBuilder(16, 8, 8)
    x = build.conv("conv", build.input, 32, 3)
    gate = build.activation(
        "gate", build.linear("squeeze", build.global_pool("pool", x), 32), "relu"
    )
    build.scale("scale", x, gate)
    names = [[op.name for op in kernel.ops] for kernel in kernels(build.ops)]
    assert names == [["conv"], ["pool"], ["squeeze", "gate"], ["scale"]]
    assert kernels(build.ops)[-1].read == 32 * 8 * 8 + 32


def test_a_skipped_edge_and_an_absent_one_cost_nothing() -> None:
    x = Tensor("@before", (8, 4, 4))
    skipped, absent = Identity("same", (x,), x.shape), Zero("none", (x,), x.shape)
    assert kernels((skipped,)) == kernels((absent,)) == []
    assert ops_bytes((skipped, absent)) == (0, 0)
    (kernel,) = kernels((skipped, absent, Add("add", (skipped.output, absent.output), x.shape)))
    assert (kernel.read, kernel.written) == (128, 128)


def test_weights_are_counted_as_read() -> None:
    ids, tokens = Tensor("input", (16,)), Tensor("input", (16, 32))
    embedding = Embedding("embed", (ids,), (16, 32), vocabulary=1000)
    assert ops_bytes((embedding,), 1) == (0, 16 + 2 * 16 * 32)  # the rows of its tokens
    tied = TiedLinear("head", (tokens,), (16, 1000), tied="embed/embed")
    assert ops_bytes((tied,), 1)[0] == 32 * 1000  # not counted in params, but read
    place = PositionEmbedding("place", (tokens,), (16, 32), grid=False, positions=512)
    assert ops_bytes((place,), 1)[0] == 16 * 32
    attention = RelativeAttention("attend", (Tensor("input", (16, 96)),), (16, 32), heads=2)
    assert ops_bytes((attention,), 1)[1] == 16 * 96 + 16 * 32 + 4 * 2 * 16 * 16


@dataclass(frozen=True)
class Own(Op):
    """An op type defined by a user."""

    work: int = 0

    @property
    def macs(self) -> int:
        return self.work


def test_a_user_defined_op_is_priced_by_its_shapes() -> None:
    op = Own("own", (Tensor("input", (100,)),), (10,), work=10**9)
    assert ops_bytes((op,)) == (0, 440)
    expected = 2e9 / (15.7e12 * UTILISATION["gpu"].compute) + UTILISATION["gpu"].launch_seconds
    assert Roofline(V100).milliseconds((op,)) == pytest.approx(1e3 * expected)


def test_a_kernel_takes_the_larger_of_arithmetic_and_traffic_plus_launch() -> None:
    shares = UTILISATION["gpu"]
    op = conv()
    heavy = Roofline(device(flops=1e9, launch=1e-3)).milliseconds((op,))
    assert heavy == pytest.approx(1e3 * (2 * op.macs / (1e9 * shares.compute) + 1e-3))
    light = Roofline(device(bandwidth=1e6, launch=1e-3)).milliseconds((op,))
    bytes_moved = 4 * (2 * 64 * 16 * 16 + op.params)
    assert light == pytest.approx(1e3 * (bytes_moved / (1e6 * shares.bandwidth) + 1e-3))


def test_a_batch_multiplies_activations_and_products_but_not_weights() -> None:
    one, many = (Roofline(device(bandwidth=1e6), batch=b) for b in (1, 8))
    start = one.launch_seconds
    weights = 1e3 * 4 * conv().params / (1e6 * UTILISATION["gpu"].bandwidth)
    single = one.milliseconds((conv(),)) - 1e3 * start - weights
    assert many.milliseconds((conv(),)) == pytest.approx(8 * single + 1e3 * start + weights)


def test_depthwise_convolutions_are_memory_bound() -> None:
    narrow = Roofline(V100).milliseconds((conv(256, 256, 56, groups=256),))
    traffic = sum(ops_bytes((conv(256, 256, 56, groups=256),)))
    waited = traffic / (900e9 * UTILISATION["gpu"].bandwidth) + UTILISATION["gpu"].launch_seconds
    assert narrow == pytest.approx(1e3 * waited)


@given(st.integers(1, 128), st.integers(1, 128), st.sampled_from([1, 3, 5]), st.integers(1, 32))
def test_latency_is_monotonic_in_every_size(
    channels: int, out: int, kernel: int, batch: int
) -> None:
    latency = Roofline(V100, batch=batch)
    small = latency.milliseconds((conv(channels, out, kernel=kernel),))
    assert small <= latency.milliseconds((conv(channels + 1, out, kernel=kernel),))
    assert small <= latency.milliseconds((conv(channels, out + 1, kernel=kernel),))
    assert small <= latency.milliseconds((conv(channels, out, kernel=kernel + 2),))
    assert small <= latency.milliseconds((conv(channels, out, 17, kernel=kernel),))
    more = Roofline(V100, batch=batch + 1)
    assert small <= more.milliseconds((conv(channels, out, kernel=kernel),))


@given(st.floats(1.1, 100))
def test_estimates_scale_with_the_datasheet(factor: float) -> None:
    slow = Roofline(device(1e10, 1e8, launch=1e-5)).milliseconds(residual())
    fast = Roofline(device(factor * 1e10, factor * 1e8, 1e-5 / factor)).milliseconds(residual())
    assert fast == pytest.approx(slow / factor)


def test_half_precision_moves_half_the_bytes_at_its_own_peak() -> None:
    wide, half = Roofline(device(1e6)), Roofline(device(1e6), precision="fp16")
    assert half.milliseconds((conv(),)) == pytest.approx(wide.milliseconds((conv(),)) / 4, rel=1e-4)
    assert BYTES_PER_ELEMENT["fp16"] * 2 == BYTES_PER_ELEMENT["fp32"]


def test_a_precision_without_a_figure_raises_and_the_default_is_reported() -> None:
    with pytest.raises(UserError, match="V100 has no bf16 figure: expected one of fp64, fp32, fp1"):
        Roofline(V100, precision="bf16")
    tpu = Roofline(load_device("TPUv5e"))
    assert tpu.precision == "bf16"
    assert "bf16" in tpu.summary
    with pytest.raises(UserError, match="batch = 0"):
        Roofline(V100, batch=0)


def test_the_summary_says_estimate() -> None:
    latency: Latency = Roofline(V100)
    assert (latency.device, latency.origin) == ("V100", "estimate")
    assert latency.summary.startswith("estimate from the datasheet of V100 (fp32, batch 1")


@pytest.mark.parametrize("name", [*SPACES, *TEXT_SPACES, *SENTENCE_SPACES])
def test_every_block_of_every_space_has_a_price(name: str) -> None:
    space = load_space(name)
    latency = Roofline(V100)
    for block in space.blocks:
        ops = block.ops(*(space.choices[space.column[c]].options[-1] for c in block.choices))
        run = kernels(ops)
        fused = [op.name for kernel in run for op in kernel.ops]
        left = [op.name for op in ops if not isinstance(op, Identity | Zero)]
        assert sorted(fused) == sorted(left)
        assert sum(kernel.macs for kernel in run) == sum(op.macs for op in ops)
        assert all(kernel.written >= 1 and kernel.read >= 0 for kernel in run)
        assert latency.milliseconds(ops) >= 1e3 * latency.launch_seconds * len(run)
        # Fusion never moves more than separate ops would.
        alone = sum(prod(t.shape) for op in ops for t in op.inputs)
        alone += sum(prod(op.out_shape) for op in ops)
        scores = sum(
            4 * o.heads * o.out_shape[0] ** 2 for o in ops if isinstance(o, RelativeAttention)
        )
        rows = sum(prod(o.out_shape) for o in ops if isinstance(o, Embedding))
        assert ops_bytes(ops, 1)[1] <= alone + scores + rows


def test_a_space_is_priced_block_by_block() -> None:
    space = load_space("mobilenet-tiny", image_size=16, channels=1, classes=10)
    latency = Roofline(V100)
    tables = CostTables(space, prices={"latency_ms_V100": latency.milliseconds})
    arch = space.largest
    total = sum(
        latency.milliseconds(block.ops(*(arch[name] for name in block.choices)))
        for block in space.blocks
    )
    assert tables.cost(arch)["latency_ms_V100"] == pytest.approx(total)


@pytest.mark.skipif(not TABLE.exists(), reason="needs the published latencies of NAS-Bench-201")
def test_estimates_order_published_latencies_better_than_flops() -> None:
    space = load_space("nasbench201")
    table = read_table(TABLE, space)
    pairs = {
        "latency_ms_titan_rtx_1": Roofline(V100),
        "latency_ms_2080ti_256": Roofline(V100, batch=256),
        "latency_ms_raspi4": Roofline(load_device("RaspberryPi4")),
        "latency_ms_samsung_a50": Roofline(load_device("Snapdragon865-CPU")),
    }
    tables = CostTables(space, prices={k: latency.milliseconds for k, latency in pairs.items()})
    costs = tables.score(table.rows)
    for column in pairs:
        measured = table.values[:, table.columns.index(column)]
        read = np.isfinite(measured) & (measured > 0)
        estimated = spearmanr(costs[column][read], measured[read]).statistic
        flops = spearmanr(costs["macs"][read], measured[read]).statistic
        assert estimated > flops, column
        assert estimated > 0.85, column
