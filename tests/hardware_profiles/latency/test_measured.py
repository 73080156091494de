"""Latency tables: interpolation, correction, files, the plan, and timing."""

from __future__ import annotations

import json
import time
from pathlib import Path

import numpy as np
import pytest

from hardware_profiles.latency.block_keys import block_key
from hardware_profiles.latency.correction import Correction, Sample, fit_correction
from hardware_profiles.latency.measured import (
    MeasuredLatency,
    MeasuredTable,
    block_work,
    io_megabytes,
    read_measured,
    write_measured,
)
from hardware_profiles.measuring import standalone
from hardware_profiles.measuring.this_machine import (
    Setting,
    measurement_plan,
    new_table,
    with_blocks,
)
from search_spaces.builder import BlockBuilder
from search_spaces.catalogue import load_space
from search_spaces.errors import UserError
from search_spaces.ops import Op


def block(width: int, kernel: int = 3, name: str = "conv") -> tuple[Op, ...]:
    build = BlockBuilder(width, 16, 16)
    build.activation("act", build.conv(name, build.input, width, kernel), "relu")
    return build.ops


def truth(ops: tuple[Op, ...]) -> float:
    """Return the time on a synthetic device: a call, arithmetic and traffic at constant rates."""
    macs, moved = block_work(ops)
    return 0.02 + 1e-7 * macs + 2e-8 * moved


def table_of(widths: tuple[int, ...], correction: Correction | None = None) -> MeasuredTable:
    space = load_space("mobilenet-tiny")
    plan = {block_key(block(w)): block(w) for w in widths}
    results = {f: {"ms": truth(block(w)), "spread": 0.01, "runs": 50} for f, w in
               zip(plan, widths, strict=True)}  # fmt: skip
    table = with_blocks(new_table(space, Setting("board")), plan, results, 0.4)
    return table.model_copy(update={"correction": correction or Correction()})


def test_keys_depend_on_sizes_and_not_on_names() -> None:
    assert block_key(block(8)) == block_key(block(8, name="other"))
    assert block_key(block(8)).structure == block_key(block(16)).structure
    assert block_key(block(8)) != block_key(block(16))
    assert block_key(block(8)).structure != block_key(block(8, kernel=5)).structure


def test_measured_blocks_are_exact_and_interpolated_ones_close() -> None:
    latency = MeasuredLatency(table_of((8, 16, 32, 64)))
    assert latency.isolated_milliseconds(block(16)) == truth(block(16))
    for width in (12, 24, 48):
        assert latency.isolated_milliseconds(block(width)) == pytest.approx(
            truth(block(width)), rel=0.05
        )


def test_extrapolation_is_reported() -> None:
    latency = MeasuredLatency(table_of((8, 16)))
    latency.isolated_milliseconds(block(12))
    assert "EXTRAPOLATED" not in latency.summary
    latency.isolated_milliseconds(block(64))
    assert "1 blocks EXTRAPOLATED" in latency.summary


def test_other_kernels_are_refused_in_one_line() -> None:
    latency = MeasuredLatency(table_of((8, 16)))
    with pytest.raises(UserError, match="was measured for space mobilenet-tiny"):
        latency.milliseconds(block(8, kernel=5))


def test_a_network_costs_its_blocks_less_their_calls() -> None:
    """The coefficients of the samples are recovered, and no others are fitted."""
    rng = np.random.default_rng(0)

    def sample(call: float, per_megabyte: float) -> Sample:
        blocks = [(float(t), float(m)) for t, m in rng.uniform(0.2, 2.0, (rng.integers(4, 20), 2))]
        total = sum(0.8 * (t - call) + per_megabyte * m for t, m in blocks)
        return Sample(blocks, total)

    found = fit_correction([sample(0.1, 0.0) for _ in range(12)])
    assert (found.scale, found.call_ms) == pytest.approx((0.8, 0.1), rel=1e-3)
    assert found.error == pytest.approx(0, abs=1e-6)
    plain = fit_correction([sample(0.0, 0.0) for _ in range(12)])
    assert (plain.call_ms, plain.megabyte_ms) == (0.0, 0.0)
    both = fit_correction([sample(0.05, 0.3) for _ in range(20)])
    assert both.megabyte_ms == pytest.approx(0.3, rel=1e-2)


def test_the_correction_is_applied() -> None:
    correction = Correction(scale=0.5, call_ms=0.01, megabyte_ms=2.0)
    latency = MeasuredLatency(table_of((8, 16), correction))
    ops = block(8)
    expected = 0.5 * (truth(ops) - 0.01) + 2.0 * io_megabytes(ops)
    assert latency.milliseconds(ops) == pytest.approx(expected)


def test_a_table_round_trips_and_invalid_ones_raise(tmp_path: Path) -> None:
    table = table_of((8, 16))
    path = tmp_path / "board.json"
    write_measured(table, path)
    assert read_measured(path) == table
    content = json.loads(path.read_text())
    for change, message in (
        ({"threads": 0}, "threads"),
        ({"device": None}, "device"),
        ({"format_version": 9}, "format version 9"),
        ({"blocks": [{**content["blocks"][0], "ms": -1}]}, "blocks.0.ms"),
        ({"structures": []}, "structure 0 is not in the table"),
    ):
        path.write_text(json.dumps({**content, **change}))
        with pytest.raises(UserError, match=message):
            read_measured(path)


def test_the_plan_has_every_structure_first_and_every_block_once() -> None:
    space = load_space("mobilenet-tiny")
    plan = list(measurement_plan(space))
    structures = {form.structure for form in plan}
    assert len(plan) == len(set(plan)) > 100
    assert {form.structure for form in plan[: len(structures)]} == structures


def test_drift_of_the_machine_is_cancelled() -> None:
    """From the sixth reading the reference takes twice as long; one reading is an outlier."""
    clock = standalone.Clock(lambda: None, nominal=1.0)
    clock.times = [float(i) for i in range(12)]
    clock.seconds = [1.0] * 6 + [2.0] * 6
    clock.seconds[2] = 9.0
    assert clock.factors([0.5, 2.5, 9.5, 50.0]) == [1.0, 1.0, 0.5, 0.5]


def test_noisy_measurements_are_retried() -> None:
    rng = np.random.default_rng(0)

    def noisy() -> None:
        until = time.perf_counter() + float(rng.choice([0.0002, 0.002]))
        while time.perf_counter() < until:
            pass

    clock = standalone.Clock(lambda: None, 1e-7)
    clock.factors = lambda moments: [1.0] * len(moments)  # type: ignore[method-assign]
    calls: list[int] = []
    found = standalone.measure(
        lambda key: noisy, ["a"], clock, on_result=lambda r: calls.append(len(r))
    )
    assert found["a"]["spread"] > standalone.MAX_SPREAD
    assert len(calls) == 1 + standalone.RETRIES
