"""Time models robustly against noise and warm caches, on any machine with onnxruntime.

Requires only onnxruntime and numpy, which it depends on, so this file can be copied to the device
on which the networks run:

    python measure.py                  measures the models in plan.json, writes result.json

An interrupted measurement resumes.

Models run in interleaved rounds. A block that has just run finds its weights in the cache; within a
network, or after forty other blocks, it does not. A reference kernel runs every few milliseconds:
each time is divided by the current time of the reference and multiplied by its nominal time, which
cancels drifts of the machine (clock frequency, other loads). Knows models and times. Does not know
spaces or blocks.
"""

from __future__ import annotations

import bisect
import json
import os
import platform
import random
import statistics
import sys
import time
import zipfile
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

try:
    import resource
except ImportError:  # not on Windows
    resource = None  # type: ignore[assignment]

Runner = Callable[[], Any]
"""A function that runs a model once."""

Result = Mapping[str, Any]
"""`{"ms", "spread", "runs"}`; see `measure_group`."""


class Schedule(NamedTuple):
    """How models are interleaved: number of rounds, runs per round, and models per group.

    With more than one consecutive run the first is not counted: a network that serves consecutive
    requests has in the cache what fits there.
    """

    rounds: int = 50
    consecutive: int = 1
    group: int = 40


BLOCK_SCHEDULE = Schedule()
"""Schedule of blocks: 50 runs of each."""

REFERENCE_INTERVAL_SECONDS = 0.008
"""Interval at which the reference is timed: it runs twice, and the second, warm run counts."""

SMOOTHING_RUNS = 5
"""Number of runs of the reference whose median is its current time."""

WARM_UP_RUNS = 3
"""Number of runs of each model before it is timed."""

MAX_PREEMPTED_SHARE = 0.5
"""If more than this share of the runs was preempted by other programs, the machine is busy, and the
measurement counts as noisy."""

BUSY_SPREAD = 9.99
"""Spread reported for measurements on a busy machine."""

MAX_SPREAD = 0.2
"""Largest usable spread of a measurement: half the interquartile range of its runs, divided by
their median. At this spread the median of 50 runs is uncertain by about 5 %."""

RETRIES = 2
"""Number of retries of a noisy measurement."""


class Clock:
    """Times the reference kernel, to normalise other times to its nominal time."""

    def __init__(self, run: Runner, nominal: float | None = None) -> None:
        """Create a clock and warm up the reference kernel.

        Args:
            run: runs the reference kernel once.
            nominal: its nominal seconds, from an earlier measurement that is continued; by default
                the median in the first group of models.
        """
        self.run = run
        self.nominal = nominal
        self.times: list[float] = []
        self.seconds: list[float] = []
        for _ in range(10 * WARM_UP_RUNS):
            run()

    @property
    def nominal_ms(self) -> float:
        """Nominal time of the reference, in milliseconds; 0 before the first measurement."""
        return 1e3 * (self.nominal or 0.0)

    def tick(self) -> None:
        """Time the reference, if the last time is older than `REFERENCE_INTERVAL_SECONDS`."""
        start = time.perf_counter()
        if self.times and start - self.times[-1] < REFERENCE_INTERVAL_SECONDS:
            return
        self.run()
        start = time.perf_counter()
        self.run()
        end = time.perf_counter()
        self.times.append(end)
        self.seconds.append(end - start)

    def restart(self) -> None:
        """Discard all times of the reference so far."""
        self.times, self.seconds = [], []

    def factors(self, moments: Sequence[float]) -> list[float]:
        """Return the factors that normalise times measured at `moments` (of `perf_counter`)."""
        half = SMOOTHING_RUNS // 2
        smooth = [
            statistics.median(self.seconds[max(0, i - half) : i + half + 1])
            for i in range(len(self.seconds))
        ]
        if self.nominal is None:
            self.nominal = statistics.median(self.seconds)
        last = len(smooth) - 1
        return [self.nominal / smooth[min(bisect.bisect(self.times, m), last)] for m in moments]


def involuntary_switches() -> int:
    """Return the number of involuntary context switches of this process; 0 if not reported."""
    return 0 if resource is None else resource.getrusage(resource.RUSAGE_SELF).ru_nivcsw


def measure_group(
    runs: Mapping[Any, Runner], clock: Clock, schedule: Schedule
) -> dict[Any, Result]:
    """Measure a group of models in interleaved rounds.

    Args:
        runs: functions that run a model once, by key.
        clock: the reference.
        schedule: number of rounds and of runs per round.

    Returns:
        For each key `{"ms", "spread", "runs"}`: the median in milliseconds, half the interquartile
        range divided by the median, and the number of runs counted.
    """
    for run in runs.values():
        for _ in range(WARM_UP_RUNS):
            run()
    clock.restart()
    moments: dict[Any, list[float]] = {key: [] for key in runs}
    seconds: dict[Any, list[float]] = {key: [] for key in runs}
    all_seconds: dict[Any, list[float]] = {key: [] for key in runs}
    order = list(runs)
    for _ in range(schedule.rounds):
        random.shuffle(order)
        for key in order:
            run = runs[key]
            clock.tick()
            for index in range(schedule.consecutive):
                interrupted = involuntary_switches()
                start = time.perf_counter()
                run()
                end = time.perf_counter()
                if index or schedule.consecutive == 1:
                    all_seconds[key].append(end - start)
                    if involuntary_switches() == interrupted:
                        moments[key].append(start)
                        seconds[key].append(end - start)
    clock.tick()
    results: dict[Any, Result] = {}
    for key, times in seconds.items():
        whole = all_seconds[key]
        if len(times) < max(2, (1 - MAX_PREEMPTED_SHARE) * len(whole)):
            median = 1e3 * statistics.median(whole)
            results[key] = {"ms": median, "spread": BUSY_SPREAD, "runs": len(whole)}
            continue
        factors = clock.factors(moments[key])
        low, median, high = statistics.quantiles(
            [1e3 * t * factor for t, factor in zip(times, factors, strict=True)], n=4
        )
        spread = (high - low) / 2 / median
        results[key] = {"ms": median, "spread": spread, "runs": len(times)}
    return results


def measure(
    load: Callable[[Any], Runner],
    keys: Sequence[Any],
    clock: Clock,
    until: float | None = None,
    known: Mapping[Any, Result] | None = None,
    on_result: Callable[[dict[Any, Result]], None] | None = None,
    schedule: Schedule = BLOCK_SCHEDULE,
) -> dict[Any, Result]:
    """Measure models in groups; noisy measurements are retried after the others.

    Args:
        load: returns a function that runs the model of a key once.
        keys: models to measure, in order of importance.
        clock: the reference.
        until: `time.monotonic()` after which no group but the first is started.
        known: earlier results, which are measured again only if noisy.
        on_result: called with all results so far after each group.
        schedule: how models are interleaved.

    Returns:
        Results by key, including those that stayed noisy.
    """
    results = dict(known or {})
    left = [key for key in keys if key not in results or results[key]["spread"] > MAX_SPREAD]
    tries: dict[Any, int] = {}
    while left and (until is None or not tries or time.monotonic() < until):
        now, left = left[: schedule.group], left[schedule.group :]
        runs = {key: load(key) for key in now}
        for key, result in measure_group(runs, clock, schedule).items():
            tries[key] = tries.get(key, 0) + 1
            best = results.get(key)
            if best is None or result["spread"] < best["spread"]:
                results[key] = result
            if results[key]["spread"] > MAX_SPREAD and tries[key] <= RETRIES:
                left.append(key)
        if on_result is not None:
            on_result(results)
    return results


def onnx_runner(
    model: str | bytes, inputs: Mapping[str, Mapping[str, Any]], batch: int, threads: int
) -> Runner:
    """Return a function that runs an ONNX model once with onnxruntime on the CPU.

    Args:
        model: the serialised model, or its file's path.
        inputs: `{name: {"shape": without the batch, "ids": whether values are integers}}`.
        batch: number of samples per run.
        threads: number of threads within an operator.
    """
    import numpy
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    generator = numpy.random.default_rng(0)
    feeds = {}
    for name, spec in inputs.items():
        shape = (batch, *spec["shape"])
        if spec["ids"]:
            feeds[name] = numpy.zeros(shape, dtype=numpy.int64)
        else:
            feeds[name] = generator.standard_normal(shape).astype(numpy.float32)
    return lambda: session.run(None, feeds)


def main() -> None:
    """Measure the models of the plan in this file's folder."""
    import onnxruntime

    folder = os.path.dirname(os.path.abspath(__file__))
    with open(os.path.join(folder, "plan.json"), encoding="utf-8") as file:
        plan = json.load(file)
    path = os.path.join(folder, "result.json")
    results: dict[Any, Result] = {}
    nominal: float | None = None
    if os.path.exists(path):
        with open(path, encoding="utf-8") as file:
            before = json.load(file)
        if before["plan"] == plan["id"]:
            results, nominal = before["results"], before["reference_ms"] / 1e3

    with zipfile.ZipFile(os.path.join(folder, "models.zip")) as archive:
        models = {name: archive.read(name) for name in archive.namelist()}

    def load(key: str) -> Runner:
        return onnx_runner(models[key], plan["inputs"][key], plan["batch"], plan["threads"])

    clock = Clock(load("reference"), nominal)
    count = sum(len(group["keys"]) for group in plan["groups"])

    def save(found: dict[Any, Result]) -> None:
        results.update(found)
        content = {
            "plan": plan["id"],
            "reference_ms": clock.nominal_ms,
            "versions": {"onnxruntime": onnxruntime.__version__},
            "machine": {
                "processor": platform.processor() or platform.machine(),
                "system": f"{platform.system()} {platform.machine()}",
                "cores": os.cpu_count(),
                "python": platform.python_version(),
            },
            "date": time.strftime("%Y-%m-%d"),
            "results": results,
        }
        with open(path + ".new", "w", encoding="utf-8") as file:
            json.dump(content, file)
        os.replace(path + ".new", path)
        print(f"\r{len(results)} of {count}", end="", file=sys.stderr, flush=True)

    until = None if plan["seconds"] is None else time.monotonic() + plan["seconds"]
    for group in plan["groups"]:
        measure(load, group["keys"], clock, until, results, save, Schedule(*group["how"]))
    print(f"\nwrote {path}", file=sys.stderr)


if __name__ == "__main__":
    main()
