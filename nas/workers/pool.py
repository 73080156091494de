"""Evaluates architectures: the protocol of worker pools, and the pool that uses this process.

A pool takes architectures with `submit` and returns results with `next_result`. The pool of Ray
actors is in `nas/workers/actors.py`. Knows evaluators as functions. Does not know what they
compute.
"""

from __future__ import annotations

import contextlib
import math
import signal
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Protocol

from search_spaces.architecture import Architecture

Evaluator = Callable[[Architecture], dict[str, float]]
"""Returns the metrics of an architecture, by name."""

ATTEMPTS = 3
"""Number of attempts for a candidate whose worker dies, before it counts as failed."""


@dataclass(frozen=True)
class EvaluationResult:
    """The result of one evaluation: metrics, or the reason why there are none."""

    arch: Architecture
    metrics: dict[str, float]
    seconds: float
    error: str | None = None
    found_in: str | None = None
    """Study of another run that it was taken from; None if it was evaluated now."""


class Workers(Protocol):
    """A pool that evaluates several architectures at a time."""

    @property
    def idle(self) -> int:
        """Number of further architectures that could start now."""
        ...

    def submit(self, arch: Architecture) -> None:
        """Start an evaluation; does not block."""
        ...

    def next_result(self) -> EvaluationResult:
        """Wait until one evaluation has ended and return its result."""
        ...


def keep_busy(pool: Workers, candidates: Iterator[Architecture]) -> Iterator[EvaluationResult]:
    """Evaluate candidates on all workers of a pool and yield the results in order of completion.

    The next candidate is drawn when a worker is idle, so it may depend on all earlier results.
    """
    running = 0
    while True:
        while pool.idle and (arch := next(candidates, None)) is not None:
            pool.submit(arch)
            running += 1
        if not running:
            return
        result = pool.next_result()
        running -= 1
        yield result


class InProcess:
    """Evaluates in this process, in order of submission; does not import Ray.

    Args:
        seconds: time limit of an evaluation; only Python code can be interrupted.
    """

    def __init__(self, evaluator: Evaluator, seconds: float | None = None) -> None:
        self._evaluator = evaluator
        self._seconds = seconds
        self._queue: deque[Architecture] = deque()

    @property
    def idle(self) -> int:
        """1 if no architecture has been submitted, else 0."""
        return 1 - len(self._queue)

    def submit(self, arch: Architecture) -> None:
        """Queue the architecture for `next_result`."""
        self._queue.append(arch)

    def next_result(self) -> EvaluationResult:
        """Evaluate the oldest submitted architecture."""
        arch = self._queue.popleft()
        start = time.perf_counter()
        try:
            with time_limit(self._seconds):
                return evaluate(self._evaluator, arch)
        except TimeLimitExceeded as error:
            return EvaluationResult(arch, {}, time.perf_counter() - start, str(error))


def evaluate(evaluator: Evaluator, arch: Architecture) -> EvaluationResult:
    """Run the evaluator; an exception or a metric that is not finite becomes the result's error.

    So does `sys.exit`, by which a training script may end.
    """
    start = time.perf_counter()
    try:
        metrics = {name: float(value) for name, value in evaluator(arch).items()}
        bad = [name for name, value in metrics.items() if not math.isfinite(value)]
        error = f"{bad[0]} is {metrics[bad[0]]:f}".replace("nan", "NaN") if bad else None
    except (KeyboardInterrupt, TimeLimitExceeded):
        raise
    except BaseException as raised:
        metrics, error = {}, _in_a_line(raised)
    return EvaluationResult(arch, metrics, time.perf_counter() - start, error)


def _in_a_line(raised: BaseException) -> str:
    """Type and first line of an error of users' code, whose text may raise another one."""
    name = type(raised).__name__
    try:
        return f"{name}: {raised}".splitlines()[0]
    except Exception:
        return name


class TimeLimitExceeded(BaseException):
    """An evaluation exceeded its time limit; a user's `except Exception` does not catch it."""

    def __init__(self, seconds: float) -> None:
        super().__init__(f"took longer than {seconds:g} s")


@contextlib.contextmanager
def time_limit(seconds: float | None) -> Iterator[None]:
    """Raise a `TimeLimitExceeded` in the body after `seconds` seconds.

    Signals reach only the main thread, and only Python code: work that hangs inside a library needs
    a worker process, which can be killed.
    """
    if seconds is None or threading.current_thread() is not threading.main_thread():
        yield
        return

    def on_alarm(signal_number: int, frame: object) -> None:
        raise TimeLimitExceeded(seconds)

    before = signal.signal(signal.SIGALRM, on_alarm)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
