"""Latency tables: what lies between measurements, what corrects a sum, and what is refused."""

from __future__ import annotations

import json
import time
from pathlib import Path

import numpy as np
import pytest

from hardware_profiles.latency.correction import Correction, Sample, fit_correction
from hardware_profiles.latency.forms import form_of
from hardware_profiles.latency.measured import (
    MeasuredLatency,
    MeasuredTable,
    megabytes,
    read_measured,
    work_of,
    write_measured,
)
from hardware_profiles.measuring import standalone
from hardware_profiles.measuring.this_machine import Setting, new_table, planned, with_blocks
from search_spaces.builder import BlockBuilder
from search_spaces.catalogue import load_space
from search_spaces.errors import UserError
from search_spaces.ops import Op


def block(width: int, kernel: int = 3, name: str = "conv") -> tuple[Op, ...]:
    build = BlockBuilder(width, 16, 16)
    build.activation("act", build.conv(name, build.input, width, kernel), "relu")
    return build.ops


def truth(ops: tuple[Op, ...]) -> float:
    """A made-up device: a call, a rate of arithmetic and one of traffic."""
    macs, moved = work_of(ops)
    return 0.02 + 1e-7 * macs + 2e-8 * moved


def table_of(widths: tuple[int, ...], correction: Correction | None = None) -> MeasuredTable:
    space = load_space("mobilenet-tiny")
    plan = {form_of(block(w)): block(w) for w in widths}
    results = {f: {"ms": truth(block(w)), "spread": 0.01, "runs": 50} for f, w in
               zip(plan, widths, strict=True)}  # fmt: skip
    table = with_blocks(new_table(space, Setting("board")), plan, results, 0.4)
    return table.model_copy(update={"correction": correction or Correction()})


def test_names_do_not_matter_and_sizes_do() -> None:
    assert form_of(block(8)) == form_of(block(8, name="other"))
    assert form_of(block(8)).structure == form_of(block(16)).structure
    assert form_of(block(8)) != form_of(block(16))
    assert form_of(block(8)).structure != form_of(block(8, kernel=5)).structure


def test_what_was_measured_is_exact_and_what_lies_between_is_close() -> None:
    latency = MeasuredLatency(table_of((8, 16, 32, 64)))
    assert latency.alone(block(16)) == truth(block(16))
    for width in (12, 24, 48):
        assert latency.alone(block(width)) == pytest.approx(truth(block(width)), rel=0.05)


def test_what_lies_beyond_the_measured_sizes_is_said() -> None:
    latency = MeasuredLatency(table_of((8, 16)))
    latency.alone(block(12))
    assert "EXTRAPOLATED" not in latency.summary
    latency.alone(block(64))
    assert "1 blocks EXTRAPOLATED" in latency.summary


def test_other_kernels_are_refused_in_one_line() -> None:
    latency = MeasuredLatency(table_of((8, 16)))
    with pytest.raises(UserError, match="was measured for space mobilenet-tiny"):
        latency.milliseconds(block(8, kernel=5))


def test_a_network_costs_its_blocks_less_their_calls() -> None:
    """What made the samples is found again, and no more is fitted than they call for."""
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


def test_the_correction_is_in_the_price() -> None:
    correction = Correction(scale=0.5, call_ms=0.01, megabyte_ms=2.0)
    latency = MeasuredLatency(table_of((8, 16), correction))
    ops = block(8)
    expected = 0.5 * (truth(ops) - 0.01) + 2.0 * megabytes(ops)
    assert latency.milliseconds(ops) == pytest.approx(expected)


def test_a_table_is_written_and_read_and_wrong_ones_are_told(tmp_path: Path) -> None:
    table = table_of((8, 16))
    path = tmp_path / "board.json"
    write_measured(table, path)
    assert read_measured(path) == table
    content = json.loads(path.read_text())
    for change, told in (
        ({"threads": 0}, "threads"),
        ({"device": None}, "device"),
        ({"format_version": 9}, "format version 9"),
        ({"blocks": [{**content["blocks"][0], "ms": -1}]}, "blocks.0.ms"),
        ({"structures": []}, "structure 0 is not in the table"),
    ):
        path.write_text(json.dumps({**content, **change}))
        with pytest.raises(UserError, match=told):
            read_measured(path)


def test_the_plan_has_every_structure_first_and_every_block_once() -> None:
    space = load_space("mobilenet-tiny")
    plan = list(planned(space))
    structures = {form.structure for form in plan}
    assert len(plan) == len(set(plan)) > 100
    assert {form.structure for form in plan[: len(structures)]} == structures


def test_a_drifting_machine_is_divided_out() -> None:
    """From the sixth reading on the reference takes twice as long; one reading is a slip."""
    clock = standalone.Clock(lambda: None, usual=1.0)
    clock.times = [float(i) for i in range(12)]
    clock.seconds = [1.0] * 6 + [2.0] * 6
    clock.seconds[2] = 9.0
    assert clock.factors([0.5, 2.5, 9.5, 50.0]) == [1.0, 1.0, 0.5, 0.5]


def test_what_stays_noisy_is_tried_again_and_kept_apart() -> None:
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
    assert found["a"]["spread"] > standalone.NOISY
    assert len(calls) == 1 + standalone.RETRIES
