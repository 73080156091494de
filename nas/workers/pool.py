"""Where evaluations run: in this process, or on long-lived Ray actors.

Both take architectures with `submit` and give ended evaluations with `next_ended`. What runs here
is here, the actors are in `ray_workers.py`. Does not know what an evaluator does.
"""

from __future__ import annotations

import contextlib
import math
import signal
import threading
import time
import warnings
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any, Protocol

import torch

from evaluators.accuracy.inherited import InheritedAccuracy
from nas.supernet.shared_weights import Supernet
from search_spaces.architecture import Architecture
from search_spaces.space import SearchSpace

Evaluator = Callable[[Architecture], dict[str, float]]
ATTEMPTS = 3
"""How often a candidate is tried whose worker dies, before it counts as failed."""


@dataclass(frozen=True)
class Ended:
    """An ended evaluation: metrics, or the reason why there are none."""

    arch: Architecture
    metrics: dict[str, float]
    seconds: float
    error: str | None = None


class Workers(Protocol):
    """Evaluates architectures, several at a time."""

    @property
    def idle(self) -> int:
        """How many more architectures could start now."""
        ...

    def submit(self, arch: Architecture) -> None:
        """Start evaluating; never blocks."""
        ...

    def next_ended(self) -> Ended:
        """Wait for one evaluation to end and return it."""
        ...


def keep_busy(pool: Workers, candidates: Iterator[Architecture]) -> Iterator[Ended]:
    """Evaluate candidates, as many at a time as there are workers, and give each as it ends.

    A candidate is asked for when a worker is idle, so it may depend on all that has ended.
    """
    running = 0
    while True:
        while pool.idle and (arch := next(candidates, None)) is not None:
            pool.submit(arch)
            running += 1
        if not running:
            return
        ended = pool.next_ended()
        running -= 1
        yield ended


class InProcess:
    """Evaluates in this process, in order; Ray is never started."""

    def __init__(self, evaluator: Evaluator, seconds: float | None = None) -> None:
        self._evaluator = evaluator
        self._seconds = seconds
        self._queue: deque[Architecture] = deque()

    @property
    def idle(self) -> int:
        """One at a time."""
        return 1 - len(self._queue)

    def submit(self, arch: Architecture) -> None:
        """Keep the architecture for `next_ended`."""
        self._queue.append(arch)

    def next_ended(self) -> Ended:
        """Evaluate the oldest submitted architecture."""
        arch = self._queue.popleft()
        start = time.perf_counter()
        try:
            with alarm(self._seconds):
                return evaluate(self._evaluator, arch)
        except OutOfTime as late:
            return Ended(arch, {}, time.perf_counter() - start, str(late))


def evaluate(evaluator: Evaluator, arch: Architecture) -> Ended:
    """Run the evaluator; what it raises becomes the evaluation's error."""
    start = time.perf_counter()
    try:
        metrics = {name: float(value) for name, value in evaluator(arch).items()}
        bad = [name for name, value in metrics.items() if not math.isfinite(value)]
        error = f"{bad[0]} is {metrics[bad[0]]:f}".replace("nan", "NaN") if bad else None
    except Exception as raised:
        metrics, error = {}, f"{type(raised).__name__}: {raised}".splitlines()[0]
    return Ended(arch, metrics, time.perf_counter() - start, error)


class OutOfTime(BaseException):
    """An evaluation took longer than it may; no `except Exception` of a user's stops it."""

    def __init__(self, seconds: float) -> None:
        super().__init__(f"took longer than {seconds:g} s")


@contextlib.contextmanager
def alarm(seconds: float | None) -> Iterator[None]:
    """Interrupt what runs inside after so many seconds, by an `OutOfTime` raised there.

    Signals reach the main thread only, and Python code only: work that hangs inside a library
    needs a worker process, which can be killed.
    """
    if seconds is None or threading.current_thread() is not threading.main_thread():
        yield
        return

    def ring(signal_number: int, frame: object) -> None:
        raise OutOfTime(seconds)

    before = signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


@dataclass(frozen=True)
class SharedEvaluator:
    """An `InheritedAccuracy` taken apart, so that Ray shares its arrays between actors.

    Ray keeps numpy arrays outside the pickle and lets every process of a machine read the same
    memory; torch tensors it would copy. Of the data the validation samples are sent, no others.
    """

    space: SearchSpace
    weights: dict[str, Any]
    rest: Any
    """`nas.object_store.Apart` of the evaluator without its supernet."""

    @classmethod
    def of(cls, evaluator: InheritedAccuracy) -> SharedEvaluator:
        """Take an evaluator apart."""
        from nas.workers.object_store import Apart

        supernet = evaluator.supernet
        assert isinstance(supernet, Supernet)
        weights = {k: tensor.detach().cpu().numpy() for k, tensor in supernet.state_dict().items()}
        rest = replace(evaluator, supernet=_ABSENT, data=evaluator.data.only("validation"))
        return cls(supernet.space, weights, Apart.of(rest))

    def evaluator(self) -> InheritedAccuracy:
        """Put it together again on the arrays where they lie."""
        with torch.device("meta"):
            supernet = Supernet(self.space)
        with warnings.catch_warnings():
            # The store's arrays are read-only, and nothing writes to them: norms are measured
            # on an extracted copy.
            warnings.simplefilter("ignore", UserWarning)
            weights = {name: torch.from_numpy(array) for name, array in self.weights.items()}
        supernet.load_state_dict(weights, assign=True)
        supernet.requires_grad_(False)
        return replace(self.rest.whole(), supernet=supernet)


_ABSENT: Any = None
"""Stands for the supernet where its weights travel apart from it."""
