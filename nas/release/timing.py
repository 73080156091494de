"""Measures latency and throughput of an exported file on this machine, by scenario.

Single stream: one sample at a time on one thread, percentiles of latency. Offline: large batches
on all cores, samples per second. Each scenario runs as many queries as fit into a fixed time; the
record contains their number. Does not know what else ran on the machine meanwhile.
"""

from __future__ import annotations

from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import nn

from hardware_profiles.machine import cores, describe
from hardware_profiles.measuring.exported_file import durations
from nas.exports.onnx_file import example
from nas.exports.onnx_network import OnnxNetwork
from nas.release.efficiency import Hardware, Measured
from search_spaces.serial import Blocks

SECONDS = 1.5
"""Approximate duration of each scenario."""

OFFLINE_BATCH = 32

Precision = Literal["fp32", "int8"]


def hardware() -> Hardware:
    """Description of this machine, without its host name."""
    known = describe()
    return Hardware(**{name: known[name] for name in Hardware.model_fields})  # type: ignore[arg-type]


def time_onnx(path: Path, blocks: Blocks, precision: Precision = "fp32") -> list[Measured]:
    """Time both scenarios of an ONNX file in onnxruntime."""
    runtime = f"onnxruntime {version('onnxruntime')}"
    single, offline = OnnxNetwork(path, 1), OnnxNetwork(path, cores())
    return _both(single, offline, blocks, path.name, runtime, precision)


def time_torch(network: nn.Module, blocks: Blocks, name: str) -> list[Measured]:
    """Time both scenarios of a network in torch; `name` is the file that it stands for."""
    return _both(network, network, blocks, name, f"torch {torch.__version__}", "fp32")


def _both(
    single: nn.Module,
    offline: nn.Module,
    blocks: Blocks,
    file: str,
    runtime: str,
    precision: Precision,
) -> list[Measured]:
    here = hardware()
    common: dict[str, Any] = {
        "file": file,
        "runtime": runtime,
        "precision": precision,
        "hardware": here,
    }
    return [
        _timed("single stream", single, example(blocks, 1), 1, common),
        _timed("offline", offline, example(blocks, OFFLINE_BATCH), cores(), common),
    ]


def _timed(
    scenario: Literal["single stream", "offline"],
    network: nn.Module,
    x: torch.Tensor,
    threads: int,
    common: dict[str, Any],
) -> Measured:
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        with torch.inference_mode():
            seconds = durations(lambda: network(x), SECONDS)
    finally:
        torch.set_num_threads(before)
    p50, p90, p99 = (1e3 * float(q) for q in np.quantile(seconds, (0.5, 0.9, 0.99)))
    return Measured(
        scenario=scenario,
        threads=threads,
        batch=len(x),
        queries=len(seconds),
        seconds=float(sum(seconds)),
        p50_ms=p50,
        p90_ms=p90,
        p99_ms=p99,
        samples_per_second=len(x) * len(seconds) / float(sum(seconds)),
        **common,
    )
