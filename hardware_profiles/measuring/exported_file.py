"""How long an exported ONNX file takes for one sample on this machine.

The processor that a network was found on is the one device that is always at hand; a figure of it
is measured and not estimated. Knows onnxruntime. Does not know what a file computes.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from hardware_profiles.machine import processor
from hardware_profiles.measuring.standalone import Runner, onnx_runner

SECONDS = 0.4
"""Approximate duration of a measurement."""

WARM_UP = 3
LEAST, MOST = 5, 1000
"""Numbers of timed runs."""


@dataclass(frozen=True)
class FileLatency:
    """Latency of one sample on one thread of this machine, in milliseconds."""

    ms: float
    """Median."""
    low: float
    high: float
    """First and ninth decile."""
    runs: int
    runtime: str
    processor: str

    def to_json(self) -> dict[str, Any]:
        """JSON, as `from_json` reads it."""
        return asdict(self)

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> FileLatency:
        """The latency that `to_json` wrote.

        Raises:
            KeyError: for a content that lacks a field.
        """
        return cls(**{name: content[name] for name in cls.__dataclass_fields__})

    def __str__(self) -> str:
        return f"{self.ms:.3g} ms measured on {self.processor}, one thread"


def time_file(path: Path) -> FileLatency:
    """Run a file with one sample on one thread for about `SECONDS`; all its inputs are synthetic.

    Args:
        path: an ONNX file; sizes that it leaves open are 1.
    """
    import numpy
    import onnxruntime

    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    inputs = {
        value.name: {
            "shape": [size if isinstance(size, int) else 1 for size in value.shape[1:]],
            "ids": "int" in value.type,
        }
        for value in session.get_inputs()
    }
    run = onnx_runner(str(path), inputs, batch=1, threads=1)
    times = [1e3 * seconds for seconds in durations(run, SECONDS)]
    low, middle, high = (float(q) for q in numpy.quantile(times, (0.1, 0.5, 0.9)))
    runtime = f"onnxruntime {version('onnxruntime')}"
    return FileLatency(middle, low, high, len(times), runtime, processor())


def durations(run: Runner, seconds: float) -> list[float]:
    """Durations in seconds of repeated runs, for about `seconds` after the warm-up."""
    end = time.perf_counter() + seconds
    for _ in range(WARM_UP):
        run()
        if time.perf_counter() > end:
            break
    end = time.perf_counter() + seconds
    found: list[float] = []
    while len(found) < LEAST or (time.perf_counter() < end and len(found) < MOST):
        start = time.perf_counter()
        run()
        found.append(time.perf_counter() - start)
    return found
