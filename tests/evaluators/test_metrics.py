"""The table of metrics: direction, names and format of every family."""

from __future__ import annotations

import math
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evaluators.metrics import (
    COUNTED,
    GREENSCORE,
    KNOWN,
    MEAN_MACS,
    WHOLE_ACCURACY,
    Metric,
    carbon_on,
    energy_on,
    latency_on,
)

FAMILIES = [
    # name, less is better, axis, heading, value, formatted, in a table, in a message
    ("macs", True, "FLOPs", "FLOPs", 300_774_272, "301M", "301M", "301M FLOPs"),
    ("params", True, "parameters", "params", 1234, "1.23k", "1.23k", "1.23k parameters"),
    (
        "macs_per_token",
        True,
        "FLOPs per token",
        "FLOPs\na token",
        210_000,
        "210k",
        "210k",
        "210k FLOPs per token",
    ),
    (
        "memory",
        True,
        "peak memory",
        "peak\nmemory",
        2_097_152,
        "2.1MB",
        "2.1MB",
        "2.1M bytes of memory",
    ),
    (
        MEAN_MACS,
        True,
        "mean FLOPs",
        "mean\nFLOPs",
        1_234_000.0,
        "1.23M",
        "1.23M",
        "1.23M mean FLOPs",
    ),
    (
        "accuracy",
        False,
        "accuracy",
        "validation\naccuracy",
        0.91234,
        "91.23%",
        "91.23%",
        "0.9123 accuracy",
    ),
    (
        WHOLE_ACCURACY,
        False,
        "whole accuracy",
        "whole_accuracy",
        0.91234,
        "0.9123",
        "0.9123",
        "0.9123 accuracy without exits",
    ),
    ("loss", True, "loss", "validation\nloss", 2.345678, "2.346", "2.346", "2.346 loss"),
    ("error", True, "error", "error", 0.25, "0.25", "0.25", "0.25 error"),
    ("perplexity", True, "perplexity", "perplexity", 18.5, "18.5", "18.5", "18.5 perplexity"),
    (GREENSCORE, False, "GreenScore", "Green\nScore", 0.87654, "0.8765", "0.8765", None),
    (
        "latency_ms_RTX-4090",
        True,
        "latency on RTX-4090, ms",
        "ms on\nRTX-4090",
        4.56789,
        "4.568",
        "4.57",
        "4.568 ms on RTX-4090",
    ),
    (
        "energy_mj_V100",
        True,
        "energy on V100, mJ",
        "mJ on\nV100",
        12.3456,
        "12.35",
        "12.3",
        "12.35 mJ on V100",
    ),
    (
        "carbon_ug_V100",
        True,
        "carbon on V100, µg CO2e",
        "µg CO2e on\nV100",
        1.23456,
        "1.235",
        "1.235",
        "1.235 µg CO2e on V100",
    ),
    (
        "training_ms",
        True,
        "training time, ms",
        "ms to\ntrain on\na sample",
        0.38611,
        "0.3861",
        "0.386",
        "0.3861 ms to train on a sample",
    ),
    ("exit1_rate", False, "exit1 rate", "exit1_rate", 0.4321, "0.4321", "0.4321", None),
    ("top1", False, "top1", "top1", 71.234, "71.23", "71.23", "71.23 top1"),
    ("naswot", False, "naswot", "naswot", 1234.5, "1234", "1234", None),
    # Metrics outside the table have the direction of a known one with the same first word.
    ("latency", True, "latency", "latency", 3.21, "3.21", "3.21", "3.21 latency"),
    ("energy_per_token", True, "energy per token", "energy_per_token", 1.0, "1", "1", None),
    ("loss_top5", True, "loss top5", "loss_top5", 0.5, "0.5", "0.5", "0.5 loss_top5"),
    ("error_rate", True, "error rate", "error_rate", 0.5, "0.5", "0.5", "0.5 error_rate"),
    ("avg_depth", True, "avg depth", "avg_depth", 3.0, "3", "3", None),
    ("lossless", False, "lossless", "lossless", 1.0, "1", "1", "1 lossless"),
]


@pytest.mark.parametrize("row", FAMILIES, ids=lambda row: row[0])
def test_every_family_has_its_direction_names_and_format(row: tuple[str, ...]) -> None:
    name, less, axis, heading, value, formatted, cell, quantity = row
    metric = Metric.of(name)
    assert metric.name == name
    assert metric.less_is_better is less
    assert metric.axis == axis
    assert metric.heading == heading
    assert metric.format(value) == formatted
    assert metric.cell(value) == cell
    assert quantity is None or metric.quantity(value) == quantity


def test_the_families_cover_the_table() -> None:
    assert KNOWN.keys() <= {row[0] for row in FAMILIES}
    assert all(KNOWN[name] is Metric.of(name) for name in KNOWN)


def test_a_percentage_is_no_share() -> None:
    accuracy = Metric.of("accuracy")
    assert accuracy.format(1.0) == "100.00%"
    assert accuracy.format(91.234) == "91.23"
    assert (accuracy.style_for(1.0), accuracy.style_for(91.2)) == ("share", "number")
    assert (accuracy.is_share(0.5), accuracy.is_share(50.0)) == (True, False)
    assert accuracy.format(math.nan) == "nan"
    assert not Metric.of("loss").is_share(0.5)


def test_a_missing_value_is_an_empty_cell() -> None:
    assert Metric.of("macs").cell(None) == ""


def test_an_exact_quantity_has_all_digits_of_a_count() -> None:
    assert Metric.of("macs").quantity(300_774_272.0, exact=True) == "300,774,272 FLOPs"
    assert Metric.of("memory").quantity(2048, exact=True) == "2,048 bytes of memory"
    assert Metric.of(latency_on("V100")).quantity(1.23456, exact=True) == "1.235 ms on V100"


def test_counts_have_styles_of_counts_and_less_is_better() -> None:
    assert [Metric.of(name).style for name in COUNTED] == ["size", "size", "bytes"]
    assert all(Metric.of(name).less_is_better for name in COUNTED)


def test_tables_list_energy_and_exits_on_request_only() -> None:
    unlisted = ("energy_mj_V100", "exit1_rate", "exit12_rate", WHOLE_ACCURACY)
    listed = ("macs", "accuracy", "latency_ms_V100", MEAN_MACS, GREENSCORE, "top1")
    assert not any(Metric.of(name).listed for name in unlisted)
    assert all(Metric.of(name).listed for name in listed)


@given(device=st.text(min_size=1))
def test_a_metric_of_a_device_keeps_the_device(device: str) -> None:
    for name, latency, energy in (
        (latency_on(device), True, False),
        (energy_on(device), False, True),
        (carbon_on(device), False, False),
    ):
        metric = Metric.of(name)
        assert metric.device == device
        assert (metric.is_latency, metric.is_energy) == (latency, energy)
        assert metric.less_is_better


def test_a_prefix_without_a_device_is_a_users_metric() -> None:
    metric = Metric.of("latency_ms_")
    assert (metric.device, metric.is_latency, metric.less_is_better) == (None, False, True)


def test_the_table_imports_sizes_and_nothing_else_of_the_evaluators() -> None:
    code = "import sys, evaluators.metrics; print(*(m for m in sys.modules if 'evaluators' in m))"
    listed = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert set(listed.stdout.split()) == {"evaluators", "evaluators.metrics", "evaluators.sizes"}


@pytest.mark.parametrize(
    ("name", "less"),
    [
        *(("avg_accuracy", False), ("avg_precision", False), ("training_accuracy", False)),
        *(("avg_top5_error", True), ("training_loss", True), ("avg_accuracy_loss", True)),
        *(("training_time", True), ("avg_flops_used", True)),
        *(("avg_top1_accuracy", False), ("avg_loss", True), ("avg_latency", True)),
        *(("training_error", True), ("avg_exit_flops", True), ("avg", True), ("loss", True)),
        *(("val_loss", True), ("test_error", True), ("top1_error", True), ("rmse", True)),
        *(("val_perplexity", True), ("mean_latency_ms", True), ("val_accuracy", False)),
        *(("top1", False), ("speedup", False), ("ms", False), ("validation_nll", True)),
    ],
)
def test_the_direction_of_a_users_metric_is_in_its_name(name: str, less: bool) -> None:
    assert Metric.of(name).less_is_better is less
