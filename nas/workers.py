"""Where evaluations run: in this process, or on long-lived Ray actors.

Both take architectures with `submit` and give ended evaluations with `next_ended`. An actor holds
its evaluator for its whole life; the weights and images behind it lie in Ray's object store once
a machine, and actors read them in place. Does not know what an evaluator does.
"""

from __future__ import annotations

import contextlib
import logging
import math
import os
import signal
import sys
import threading
import time
import warnings
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any, Protocol

import torch

from evaluators.inherited import InheritedAccuracy
from nas.supernet import Supernet
from search_spaces.architecture import Architecture
from search_spaces.errors import UserError
from search_spaces.space import SearchSpace

Evaluator = Callable[[Architecture], dict[str, float]]
ATTEMPTS = 3
"""How often a candidate is tried whose worker dies, before it counts as failed."""

CONNECT_SECONDS = 30
OUR_PACKAGES = ("search_spaces", "hardware_profiles", "evaluators", "nas")


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
        from nas.object_store import Apart

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


class Actor:
    """What runs in a worker process."""

    def __init__(self, shared: SharedEvaluator | Evaluator, threads: int) -> None:
        torch.set_num_threads(threads)
        whole = isinstance(shared, SharedEvaluator)
        self._evaluator: Evaluator = shared.evaluator() if whole else shared  # type: ignore[union-attr, assignment]

    def evaluate(self, arch: Architecture) -> Ended:
        """Evaluate one architecture."""
        return evaluate(self._evaluator, arch)

    def pid(self) -> int:
        """The worker's process id."""
        return os.getpid()


class RayWorkers:
    """Evaluates on Ray actors; one that dies is replaced and its candidate tried again.

    Args:
        seconds: what an evaluation may take; a worker that takes longer is killed and replaced,
            and its candidate has failed.
    """

    def __init__(
        self, evaluator: Evaluator, count: int, threads: int = 1, seconds: float | None = None
    ) -> None:
        import ray

        self._ray = ray
        pickle_by_value(evaluator)
        share = isinstance(evaluator, InheritedAccuracy)
        self._shared = ray.put(SharedEvaluator.of(evaluator) if share else evaluator)  # type: ignore[arg-type]
        self._remote = ray.remote(num_cpus=threads, max_restarts=0)(Actor)
        self._threads = threads
        self._seconds = seconds
        self._free = [self._start() for _ in range(count)]
        if seconds is not None:
            # A worker's own start is not the candidate's time.
            ray.get([actor.pid.remote() for actor in self._free])
        self._running: dict[Any, tuple[Any, Architecture, int]] = {}
        self._started: dict[Any, float] = {}
        self.replaced = 0
        """How many workers have died and been replaced."""

    def _start(self) -> Any:
        return self._remote.remote(self._shared, self._threads)

    @property
    def idle(self) -> int:
        """How many actors have nothing to do."""
        return len(self._free)

    @property
    def actors(self) -> list[Any]:
        """All live actor handles."""
        return [*self._free, *(actor for actor, _, _ in self._running.values())]

    def submit(self, arch: Architecture) -> None:
        """Start evaluating on a free actor."""
        self._run(self._free.pop(), arch, attempt=1)

    def _run(self, actor: Any, arch: Architecture, attempt: int) -> None:
        reference = actor.evaluate.remote(arch)
        self._running[reference] = (actor, arch, attempt)
        self._started[reference] = time.monotonic()

    def _late(self) -> Ended | None:
        """End the evaluation that has run for too long, if there is one."""
        oldest = min(self._started, key=self._started.__getitem__)
        seconds = time.monotonic() - self._started[oldest]
        if self._seconds is None or seconds < self._seconds:
            return None
        del self._started[oldest]
        actor, arch, _ = self._running.pop(oldest)
        self._ray.kill(actor)
        self.replaced += 1
        fresh = self._start()
        self._ray.get(fresh.pid.remote())
        self._free.append(fresh)
        return Ended(arch, {}, seconds, str(OutOfTime(self._seconds)))

    def next_ended(self) -> Ended:
        """Wait for one evaluation to end, replacing workers that die or hang meanwhile."""
        while True:
            patience = None
            if self._seconds is not None:
                first = min(self._started.values())
                patience = max(0.0, first + self._seconds - time.monotonic())
            ended_ones, _ = self._ray.wait(list(self._running), num_returns=1, timeout=patience)
            if not ended_ones:
                late = self._late()
                if late is not None:
                    return late
                continue
            ready = ended_ones[0]
            del self._started[ready]
            actor, arch, attempt = self._running.pop(ready)
            try:
                ended: Ended = self._ray.get(ready)
            except self._ray.exceptions.RayActorError as error:
                self.replaced += 1
                fresh = self._start()
                if attempt < ATTEMPTS:
                    self._run(fresh, arch, attempt + 1)
                    continue
                self._free.append(fresh)
                reason = str(error).splitlines()[0]
                return Ended(arch, {}, 0.0, f"its worker died {ATTEMPTS} times: {reason}")
            except self._ray.exceptions.RayError as error:
                self._free.append(actor)
                return Ended(arch, {}, 0.0, str(error).splitlines()[0])
            self._free.append(actor)
            return ended


@contextlib.contextmanager
def open_workers(
    evaluator: Evaluator,
    count: int,
    address: str | None = None,
    seconds: float | None = None,
) -> Iterator[Workers]:
    """Give workers for the evaluator: `count` actors, or this process for 0.

    Args:
        address: a Ray cluster's address; without it a Ray of this machine is started.
        seconds: what an evaluation may take; in this process only Python code is interrupted.

    Raises:
        UserError: if nobody answers at the address.
    """
    if count == 0:
        yield InProcess(evaluator, seconds)
        return
    with ray_session(count, address):
        yield RayWorkers(evaluator, count, seconds=seconds)


@contextlib.contextmanager
def ray_session(count: int, address: str | None = None) -> Iterator[None]:
    """A Ray with at least `count` processors, ended again unless it was there before.

    Raises:
        UserError: if nobody answers at the address, or Ray has fewer processors.
    """
    # A quiet start: Ray's banner, usage note and accelerator warning are not the search's output.
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    import ray

    quiet: dict[str, Any] = {"logging_level": logging.ERROR, "log_to_driver": False}
    owns = not ray.is_initialized()
    try:
        if owns and address:
            ray.init(address=address, **quiet)
        elif owns:
            ray.init(num_cpus=count, include_dashboard=False, **quiet)
    except (ConnectionError, TimeoutError, RuntimeError) as error:
        raise UserError(f"no Ray cluster answers at {address}: {error}") from error
    try:
        processors = int(ray.cluster_resources().get("CPU", 0))
        if count > processors:
            raise UserError(f"--workers {count} is more than the {processors} CPUs Ray has")
        yield
    finally:
        if owns:
            ray.shutdown()


def check_reachable(address: str) -> None:
    """Raise a `UserError` within `CONNECT_SECONDS` where nobody listens; Ray waits for minutes."""
    import socket

    if address == "auto":
        return
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if not host or not port.isdigit():
        raise UserError(f"malformed --ray-address '{address}': expected HOST:PORT or auto")
    try:
        socket.create_connection((host, int(port)), timeout=CONNECT_SECONDS).close()
    except OSError as error:
        reason = error.strerror or str(error)
        raise UserError(f"no Ray cluster answers at {address}: {reason}") from error


def pickle_by_value(evaluator: object) -> None:
    """Send a user's own modules along: workers cannot import a file given by its path."""
    import ray.cloudpickle as cloudpickle

    # A wrapper's own class is known everywhere; what it wraps may be the user's.
    functions: list[Any] = [getattr(evaluator, "function", evaluator)]
    space = getattr(getattr(evaluator, "supernet", evaluator), "space", None)
    if isinstance(space, SearchSpace):
        functions += [block.ops for block in space.blocks]
    for function in functions:
        name = getattr(function, "__module__", None)
        if name and name.split(".")[0] not in OUR_PACKAGES and name in sys.modules:
            cloudpickle.register_pickle_by_value(sys.modules[name])
