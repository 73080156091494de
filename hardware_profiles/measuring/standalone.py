"""Time models so that a noisy machine and a warm cache do not lie: here, on a board, on a phone.

Needs onnxruntime, and the numpy that it brings, and nothing else, so this file is copied as it is
to wherever a network will run:

    python measure.py                  measures what plan.json lists, writes result.json

Interrupted, it goes on where it was.

Models take turns, run by run. A block that ran just before finds its weights in the cache, which it
does not within a network; after forty others it does not either. A reference kernel runs every few
milliseconds: each time is divided by what the reference took just then and multiplied by what it
usually takes, so that a machine that drifts (frequency, neighbours) is divided out.
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

Run = Callable[[], Any]
Result = Mapping[str, Any]


class Turns(NamedTuple):
    """How models take turns: how often each, how many runs of a turn, how many models at a time.

    With more than one run in a row the first does not count: a network that serves one request
    after another finds in the cache what fits there.
    """

    turns: int = 50
    in_a_row: int = 1
    group: int = 40


BLOCKS = Turns()

REFERENCE_SECONDS = 0.008
"""The reference runs when it has not for so long: twice, of which the second, warm one counts."""

SMOOTHED = 5
"""What the reference takes now is the median of so many runs of it."""

WARM_UP = 3

PREEMPTED = 0.5
"""If the system interrupted more than this share of the runs for other programs, the machine is
busy: what is left of them says little, and counts as noisy."""

BUSY = 9.99
"""The spread that stands for a machine too busy to measure on."""

NOISY = 0.2
"""A measurement whose runs differ by more is not used: half the range between their quartiles, as a
share of their median. The median of 50 such runs is uncertain by about 5 %."""

RETRIES = 2
"""Times that a noisy measurement is tried again."""


class Clock:
    """What the reference kernel takes now, against what it usually takes on this machine."""

    def __init__(self, run: Run, usual: float | None = None) -> None:
        """Make a clock.

        Args:
            run: runs the reference kernel once.
            usual: seconds it took in an earlier measurement that this one goes on with; by default
                what it takes in the first group of models.
        """
        self.run = run
        self.usual = usual
        self.times: list[float] = []
        self.seconds: list[float] = []
        for _ in range(10 * WARM_UP):
            run()

    @property
    def usual_ms(self) -> float:
        """What it usually takes, in milliseconds; 0 before anything was measured."""
        return 1e3 * (self.usual or 0.0)

    def tick(self) -> None:
        """Run the reference, if it has not for a while."""
        start = time.perf_counter()
        if self.times and start - self.times[-1] < REFERENCE_SECONDS:
            return
        self.run()
        start = time.perf_counter()
        self.run()
        end = time.perf_counter()
        self.times.append(end)
        self.seconds.append(end - start)

    def restart(self) -> None:
        """Forget all runs of the reference so far."""
        self.times, self.seconds = [], []

    def factors(self, moments: Sequence[float]) -> list[float]:
        """What to multiply the times measured at these moments with."""
        half = SMOOTHED // 2
        smooth = [
            statistics.median(self.seconds[max(0, i - half) : i + half + 1])
            for i in range(len(self.seconds))
        ]
        if self.usual is None:
            self.usual = statistics.median(self.seconds)
        last = len(smooth) - 1
        return [self.usual / smooth[min(bisect.bisect(self.times, m), last)] for m in moments]


def interruptions() -> int:
    """How often the system took the processor from this process; 0 where it does not say."""
    return 0 if resource is None else resource.getrusage(resource.RUSAGE_SELF).ru_nivcsw


def measure_group(runs: Mapping[Any, Run], clock: Clock, how: Turns) -> dict[Any, Result]:
    """Measure some models by turns.

    Args:
        runs: functions that run a model once, by key.

    Returns:
        For each key `{"ms", "spread", "runs"}`: median milliseconds, half the range between the
        quartiles as a share of it, and the number of runs that counted.
    """
    for run in runs.values():
        for _ in range(WARM_UP):
            run()
    clock.restart()
    moments: dict[Any, list[float]] = {key: [] for key in runs}
    seconds: dict[Any, list[float]] = {key: [] for key in runs}
    all_seconds: dict[Any, list[float]] = {key: [] for key in runs}
    order = list(runs)
    for _ in range(how.turns):
        random.shuffle(order)
        for key in order:
            run = runs[key]
            clock.tick()
            for index in range(how.in_a_row):
                interrupted = interruptions()
                start = time.perf_counter()
                run()
                end = time.perf_counter()
                if index or how.in_a_row == 1:
                    all_seconds[key].append(end - start)
                    if interruptions() == interrupted:
                        moments[key].append(start)
                        seconds[key].append(end - start)
    clock.tick()
    results: dict[Any, Result] = {}
    for key, times in seconds.items():
        whole = all_seconds[key]
        if len(times) < max(2, (1 - PREEMPTED) * len(whole)):
            median = 1e3 * statistics.median(whole)
            results[key] = {"ms": median, "spread": BUSY, "runs": len(whole)}
            continue
        factors = clock.factors(moments[key])
        low, median, high = statistics.quantiles(
            [1e3 * t * factor for t, factor in zip(times, factors, strict=True)], n=4
        )
        spread = (high - low) / 2 / median
        results[key] = {"ms": median, "spread": spread, "runs": len(times)}
    return results


def measure(
    load: Callable[[Any], Run],
    keys: Sequence[Any],
    clock: Clock,
    until: float | None = None,
    known: Mapping[Any, Result] | None = None,
    on_result: Callable[[dict[Any, Result]], None] | None = None,
    how: Turns = BLOCKS,
) -> dict[Any, Result]:
    """Measure models by key, some at a time; what is noisy is tried again, after the others.

    Args:
        load: `key -> run`, a function that runs the model once.
        keys: what matters most comes first.
        until: `time.monotonic()` after which no group is begun.
        known: results of before, which are not measured again unless they are noisy.
        on_result: called with all results so far after each group.

    Returns:
        Results by key; those that stayed noisy too.
    """
    results = dict(known or {})
    left = [key for key in keys if key not in results or results[key]["spread"] > NOISY]
    tries: dict[Any, int] = {}
    while left and (until is None or time.monotonic() < until):
        now, left = left[: how.group], left[how.group :]
        runs = {key: load(key) for key in now}
        for key, result in measure_group(runs, clock, how).items():
            tries[key] = tries.get(key, 0) + 1
            best = results.get(key)
            if best is None or result["spread"] < best["spread"]:
                results[key] = result
            if results[key]["spread"] > NOISY and tries[key] <= RETRIES:
                left.append(key)
        if on_result is not None:
            on_result(results)
    return results


def onnx_runner(
    model: str | bytes, inputs: Mapping[str, Mapping[str, Any]], batch: int, threads: int
) -> Run:
    """A function that runs an ONNX model once with onnxruntime on the CPU.

    Args:
        model: its bytes, or its file's path.
        inputs: `{name: {"shape": without the batch, "ids": whether it is of whole numbers}}`.
        batch: samples at a time.
        threads: of one operator.
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
    for name, taken in inputs.items():
        shape = (batch, *taken["shape"])
        if taken["ids"]:
            feeds[name] = numpy.zeros(shape, dtype=numpy.int64)
        else:
            feeds[name] = generator.standard_normal(shape).astype(numpy.float32)
    return lambda: session.run(None, feeds)


def main() -> None:
    """Measure the models of the plan in this folder."""
    import onnxruntime

    folder = os.path.dirname(os.path.abspath(__file__))
    with open(os.path.join(folder, "plan.json"), encoding="utf-8") as file:
        plan = json.load(file)
    path = os.path.join(folder, "result.json")
    results: dict[Any, Result] = {}
    usual: float | None = None
    if os.path.exists(path):
        with open(path, encoding="utf-8") as file:
            before = json.load(file)
        if before["plan"] == plan["id"]:
            results, usual = before["results"], before["reference_ms"] / 1e3

    with zipfile.ZipFile(os.path.join(folder, "models.zip")) as archive:
        models = {name: archive.read(name) for name in archive.namelist()}

    def load(key: str) -> Run:
        return onnx_runner(models[key], plan["inputs"][key], plan["batch"], plan["threads"])

    clock = Clock(load("reference"), usual)
    count = sum(len(group["keys"]) for group in plan["groups"])

    def save(found: dict[Any, Result]) -> None:
        results.update(found)
        content = {
            "plan": plan["id"],
            "reference_ms": clock.usual_ms,
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
        measure(load, group["keys"], clock, until, results, save, Turns(*group["how"]))
    print(f"\nwrote {path}", file=sys.stderr)


if __name__ == "__main__":
    main()
