"""`nas compare`: ratios of two records, warnings of what differs, invalid ones in one line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from nas.cli import main

HARDWARE = {"processor": "A", "cores": 2, "memory_gib": 8.0, "system": "Linux"}


def record(**changes: Any) -> dict[str, Any]:
    """A record as another team might write one."""
    timed = {
        "scenario": "single stream",
        "file": "model.onnx",
        "runtime": "onnxruntime 1",
        "precision": "fp32",
        "hardware": HARDWARE,
        "threads": 1,
        "batch": 1,
        "queries": 100,
        "seconds": 1.0,
        "p50_ms": 1.0,
        "p90_ms": 2.0,
        "p99_ms": 3.0,
        "samples_per_second": 100.0,
    }
    content = {
        "record": "efficiency",
        "version": 1,
        "name": "a network",
        "space": "s",
        "architecture": "abc",
        "made": "2026-01-01",
        "counts": {
            "macs": 100,
            "params": 10,
            "activation_bytes": 40,
            "input_shape": [3, 8, 8],
            "convention": {"flops_per_mac": 1, "text": "MACs"},
        },
        "results": [
            {
                "task": "image classification",
                "data": "d",
                "split": "test",
                "samples": 50,
                "unit": "images",
                "metric": "accuracy",
                "value": 0.5,
            }
        ],
        "measured": [timed],
        "estimated": [{"device": "phone", "latency_ms": 4.0, "source": "a table"}],
        "versions": {},
    }
    for path, value in changes.items():
        place: Any = content
        *keys, last = path.split("__")
        for key in keys:
            place = place[int(key) if key.isdigit() else key]
        place[last] = value
    return content


def compared(
    tmp_path: Path, first: dict[str, Any], second: dict[str, Any], capsys: Any
) -> dict[str, Any]:
    paths = [tmp_path / name for name in ("a.json", "b.json")]
    for path, content in zip(paths, (first, second), strict=True):
        path.write_text(json.dumps(content))
    with pytest.raises(SystemExit) as end:
        main(["compare", *map(str, paths), "--json"])
    assert not end.value.code
    comparison: dict[str, Any] = json.loads(capsys.readouterr().out)
    return comparison


def test_ratios_are_of_the_second_over_the_first(tmp_path: Path, capsys: Any) -> None:
    other = record(counts__macs=150, measured__0__p90_ms=1.0, estimated__0__latency_ms=6.0)
    comparison = compared(tmp_path, record(), other, capsys)
    ratios = {row["name"]: row["ratio"] for row in comparison["rows"]}
    assert ratios["FLOPs"] == 1.5
    assert ratios["parameters"] == 1
    assert ratios["single stream, fp32, p90"] == 0.5
    assert ratios["phone, latency"] == 1.5
    assert ratios["test accuracy, fp32"] == 1
    assert comparison["warnings"] == []


@pytest.mark.parametrize(
    ("changes", "warning"),
    [
        ({"counts__convention": {"flops_per_mac": 2, "text": "MACs"}}, "(1 and 2 FLOPs per multi"),
        ({"counts__convention": {"flops_per_mac": 1, "text": "all"}}, "different conventions"),
        ({"counts__input_shape": [3, 9, 9]}, "different sizes: 3x8x8 and 3x9x9"),
        ({"results__0__data": "e"}, "different data: d and e"),
        ({"results__0__split": "validation"}, "different split: test and validation"),
        ({"measured__0__hardware": {**HARDWARE, "processor": "B"}}, "(processor): A and B"),
        ({"measured__0__threads": 4}, "different threads: 1 and 4"),
        ({"measured__0__runtime": "torch 2"}, "different runtime: onnxruntime 1 and torch 2"),
    ],
)
def test_differences_are_warned_about(
    changes: dict[str, Any], warning: str, tmp_path: Path, capsys: Any
) -> None:
    comparison = compared(tmp_path, record(), record(**changes), capsys)
    assert len(comparison["warnings"]) == 1
    assert warning in comparison["warnings"][0]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "cannot read"),
        ("{}", "is not an efficiency record"),
        (json.dumps(record(version=7)), "of version 7, expected 1"),
        (json.dumps(record(counts__macs=-1)), "counts.macs: Input should be greater"),
        (json.dumps(record(counts__macs="many")), "counts.macs"),
    ],
)
def test_an_invalid_record_is_one_line(
    content: str, message: str, tmp_path: Path, capsys: Any
) -> None:
    good, bad = tmp_path / "good.json", tmp_path / "bad.json"
    good.write_text(json.dumps(record()))
    bad.write_text(content)
    with pytest.raises(SystemExit) as end:
        main(["compare", str(good), str(bad)])
    assert end.value.code == 2
    printed = capsys.readouterr()
    assert message in printed.err
    assert printed.err.count("\n") == 1
