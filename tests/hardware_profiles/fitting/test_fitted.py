"""Latencies fitted to whole networks: recovery on synthetic devices, accuracy on real ones."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from scipy.stats import spearmanr

from evaluators.accuracy.published_table import read_table
from evaluators.costs.tables import CostTables
from hardware_profiles.fitting.fitted import FittedLatency, fit_latency, load_fitted
from hardware_profiles.fitting.informative import select_informative
from hardware_profiles.latency.agreement import agreement
from hardware_profiles.latency.kernel_features import kernel_features, kind_of
from hardware_profiles.latency.live_ops import live_ops
from hardware_profiles.latency.protocol import Latency
from search_spaces.architecture import Architecture
from search_spaces.catalogue import load_space
from search_spaces.errors import UserError
from search_spaces.ops import BatchNorm2d, Conv2d, Identity, Op, Zero
from search_spaces.space import Rows, SearchSpace

TABLE = (
    Path(__file__).resolve().parents[4]
    / "shared/data/nasbench201/accuracy_12ep_and_latency.parquet"
)
Values = npt.NDArray[np.float64]


def processor(op: Op) -> float:
    """Return the time on a processor with fused norms, vectors of 16 and slow depthwise ops."""
    if isinstance(op, BatchNorm2d | Identity | Zero):
        return 0.0
    macs, speed = float(op.macs), 20e6
    if isinstance(op, Conv2d):
        channels = op.out_shape[0]
        macs *= -(-channels // 16) * 16 / channels if op.groups == 1 else 1
        speed *= 0.25 if op.groups > 1 else 1
    moved = 4 * (sum(np.prod(t.shape) for t in op.inputs) + np.prod(op.out_shape) + op.params)
    return float(max(macs / speed, moved / 5e6) + 2e-3)


def launches(op: Op) -> float:
    """Return the time on a device whose kernels are dominated by their launch."""
    return 0.0 if isinstance(op, Identity) else 8e-3 + op.macs / 5e9


def times(space: SearchSpace, rows: Rows, device: Callable[[Op], float]) -> Values:
    tables = CostTables(space, prices={"ms": lambda ops: sum(device(op) for op in ops)})
    return tables.score(space.canonical(rows), ("ms",))["ms"]


@cache
def timed(name: str, device: Callable[[Op], float]) -> tuple[SearchSpace, Rows, Values]:
    """Return a space, 600 of its networks and their times with 2 % of noise."""
    space = load_space(name)
    rows = space.sample(600, seed=1)
    noise = np.exp(0.02 * np.random.default_rng(2).standard_normal(len(rows)))
    return space, rows, times(space, rows, device) * noise


@cache
def fitted(name: str, device: Callable[[Op], float] = processor, n: int = 40) -> FittedLatency:
    space, rows, measured = timed(name, device)
    return fit_latency(space, rows[:n], measured[:n], "made-up")


@pytest.mark.parametrize("device", [processor, launches])
@pytest.mark.parametrize("name", ["mobilenet-cifar", "vit-cifar"])
def test_a_device_is_recovered_from_few_networks(name: str, device: Callable[[Op], float]) -> None:
    space, rows, measured = timed(name, device)
    model = fitted(name, device)
    on_rest = agreement(model.predict(space, rows[40:]), measured[40:])
    assert on_rest.spearman > 0.97
    assert on_rest.mean_error < 0.06
    # The cross-validated figures agree with those on the rest.
    assert abs(model.agreement.spearman - on_rest.spearman) < 0.05
    assert abs(model.agreement.mean_error - on_rest.mean_error) < 0.03


@pytest.mark.parametrize("name", ["mobilenet-cifar", "vit-cifar"])
def test_a_network_takes_the_sum_of_its_blocks(name: str) -> None:
    space, rows, _ = timed(name, processor)
    model = fitted(name)
    whole = model.predict(space, rows[:5])
    for arch, expected in zip(space.decode(rows[:5]), whole, strict=True):
        blocks = [model.milliseconds(ops) for _, ops in space.ops(arch)]
        assert min(blocks) >= 0
        assert sum(blocks) == pytest.approx(expected)
    tables = CostTables(space, prices={"ms": model.milliseconds})
    np.testing.assert_allclose(tables.score(rows[:5], ("ms",))["ms"], whole)


def test_a_fit_is_a_latency() -> None:
    model: Latency = fitted("vit-cifar")
    assert model.origin == "fitted"
    assert model.device == "made-up"
    assert "fitted on 40 networks of vit-cifar" in model.summary
    assert "cross-validated: Spearman" in model.summary


def test_a_saved_fit_is_the_same_after_loading(tmp_path: Path) -> None:
    space, rows, _ = timed("vit-cifar", processor)
    model = fitted("vit-cifar")
    path = tmp_path / "new" / "made-up.json"
    model.save(path)
    loaded = load_fitted(path)
    np.testing.assert_array_equal(loaded.predict(space, rows), model.predict(space, rows))
    assert loaded.summary == model.summary
    assert (loaded.agreement, loaded.ranges) == (model.agreement, model.ranges)
    content = json.loads(path.read_text())
    assert content["format_version"] == 1
    assert content["kind"] == "fitted"
    assert content["samples"] == 40
    assert [p.name for p in path.parent.iterdir()] == ["made-up.json"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "cannot read"),
        ("{", "is not valid JSON"),
        ("[]", "is not a fitted latency"),
        ('{"kind": "measured"}', "is not a fitted latency"),
        ('{"kind": "fitted", "format_version": 9}', "has format 9, expected 1"),
        ('{"kind": "fitted", "format_version": 1}', "is an incomplete fitted latency"),
    ],
)
def test_a_file_that_is_not_a_fit_raises_one_line(
    text: str | None, message: str, tmp_path: Path
) -> None:
    path = tmp_path / "file.json"
    if text is not None:
        path.write_text(text)
    with pytest.raises(UserError, match=message) as error:
        load_fitted(path)
    assert "\n" not in str(error.value)


def test_failed_readings_are_left_out_and_counted() -> None:
    space, rows, measured = timed("mobilenet-cifar", processor)
    spoilt = measured[:40].copy()
    spoilt[3], spoilt[7], spoilt[11], spoilt[15] = 1e-4 * spoilt[3], 0.0, -1.0, np.nan
    spoilt[20] *= 12
    model = fit_latency(space, rows[:40], spoilt, "made-up")
    assert model.dropped == 5
    assert model.samples == 35
    assert "(5 readings left out)" in model.summary
    assert spearmanr(model.predict(space, rows[40:]), measured[40:]).statistic > 0.97


def test_fewer_than_five_usable_samples_are_refused() -> None:
    space, rows, measured = timed("vit-cifar", processor)
    with pytest.raises(UserError, match="4 of 6 latencies on made-up can be used"):
        fit_latency(space, rows[:6], [*measured[:4], 0.0, -1.0], "made-up")
    assert fit_latency(space, rows[:5], measured[:5], "made-up").samples == 5


def test_architectures_and_rows_give_the_same_fit() -> None:
    space, rows, measured = timed("vit-cifar", processor)
    archs: list[Architecture] = space.decode(rows[:10])
    by_archs = fit_latency(space, archs, measured[:10], "made-up")
    by_rows = fit_latency(space, rows[:10], measured[:10], "made-up")
    np.testing.assert_array_equal(by_archs.coefficients, by_rows.coefficients)


def test_a_kind_without_samples_is_reported_and_not_covered() -> None:
    space = load_space("nasbench201")
    rows = space.sample(400, seed=3)
    measured = times(space, rows, processor)
    without = ~(rows == 4).any(axis=1)  # 3x3 convolutions
    model = fit_latency(space, rows[without][:30], measured[without][:30], "made-up")
    pools = ~(rows == 2).any(axis=1)
    other = fit_latency(space, rows[pools][:30], measured[pools][:30], "made-up")
    assert other.unseen == ("AvgPool2d kernel 3 stride 1",)
    assert "no sample has AvgPool2d kernel 3 stride 1" in other.summary
    assert not other.covers(space, rows[~pools]).any()
    # The reductions also have 3x3 convolutions, but the total work is smaller.
    heavy = (rows == 4).sum(axis=1) > 3
    assert not model.covers(space, rows[heavy]).any()
    assert model.covers(space, rows[without]).mean() > 0.9


def test_another_space_is_refused() -> None:
    model, other = fitted("vit-cifar"), load_space("mobilenet-cifar")
    with pytest.raises(UserError, match="expected space vit-cifar"):
        model.predict(other, other.sample(2, 0))
    with pytest.raises(UserError, match="which have no Conv2d kernel 3"):
        model.milliseconds([op for _, ops in other.ops(other.smallest) for op in ops])


def cell(space: SearchSpace, *edges: int) -> Rows:
    return np.array([edges], dtype=np.uint8)


def count(space: SearchSpace, row: Rows, kind: str) -> int:
    return sum(len(own) for op, own in live_ops(space, row) if kind_of(op) == kind)


def test_live_ops_are_those_that_the_output_depends_on() -> None:
    space = load_space("nasbench201")
    conv = "Conv2d kernel 3 stride 1"
    reductions = 3  # the stem's and the second of each reduction
    # The first node has no reader; edges are 01, 02, 12, 03, 13, 23.
    assert count(space, cell(space, 4, 0, 0, 4, 0, 0), conv) == 15 + reductions
    assert count(space, cell(space, 4, 0, 0, 4, 1, 0), conv) == 30 + reductions
    # A sum of one operand is no sum.
    assert count(space, cell(space, 0, 0, 0, 4, 0, 0), "Add") == 2
    assert count(space, cell(space, 4, 0, 0, 4, 1, 0), "Add") == 15 + 2
    # A cell with output zero does not depend on the cells before it.
    assert count(space, cell(space, 4, 4, 4, 0, 0, 0), conv) == 0


def test_without_dead_ops_the_features_are_equal() -> None:
    for name in ("mobilenet-tiny", "vit-tiny", "gpt-char", "gpt-conv"):
        space = load_space(name)
        features = kernel_features(space)
        rows = space.sample(50, 0)
        written = features.of_rows(space, rows)
        np.testing.assert_allclose(features.of_rows(space, rows, dead=False), written)
        assert (written[:, -1] == 1).all()


def test_a_device_that_eliminates_dead_ops_is_detected() -> None:
    space = load_space("nasbench201")
    rows = space.sample(300, seed=5)
    measured = np.full(len(rows), 0.1)
    for op, own in live_ops(space, rows):
        measured[own] += processor(op)
    model = fit_latency(space, rows[:50], measured[:50], "made-up")
    assert model.compiled
    assert spearmanr(model.predict(space, rows[50:]), measured[50:]).statistic > 0.98
    assert "summed over blocks" in model.summary
    tables = CostTables(space, columns={"latency_ms_made-up": model.column(space)})
    column = tables.score(rows[:9], ("latency_ms_made-up",))["latency_ms_made-up"]
    np.testing.assert_array_equal(column, model.predict(space, rows[:9]))
    # A device that runs all ops is not.
    assert not fit_latency(space, rows[:50], times(space, rows[:50], launches), "b").compiled


def test_selected_networks_are_distinct_and_more_informative_than_random_ones() -> None:
    space, rows, measured = timed("vit-cifar", processor)
    chosen = select_informative(space, rows[:300], 12)
    assert len(np.unique(chosen, axis=0)) == 12
    errors = []
    for samples in (chosen, *(rows[i : i + 12] for i in range(300, 348, 12))):
        model = fit_latency(space, samples, times(space, samples, processor), "made-up")
        errors.append(agreement(model.predict(space, rows[400:]), measured[400:]).mean_error)
    assert errors[0] < np.mean(errors[1:])
    assert len(select_informative(space, rows[:4], 12)) == 4


@pytest.mark.skipif(
    not TABLE.is_file(), reason="needs ../shared/data/nasbench201 beside the checkout"
)
@pytest.mark.parametrize("device", ["1080ti_1", "2080ti_256", "gold_6226", "pixel3", "eyeriss"])
def test_fifty_cells_suffice_for_a_real_device(device: str) -> None:
    space = load_space("nasbench201")
    table = read_table(TABLE, space)
    measured = table.only([f"latency_ms_{device}"]).values[:, 0]
    order = np.random.default_rng(0).permutation(len(measured))
    fitting, rest = order[:50], order[50:]
    model = fit_latency(space, table.rows[fitting], measured[fitting], device)
    assert spearmanr(model.predict(space, table.rows[rest]), measured[rest]).statistic > 0.95
