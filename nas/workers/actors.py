"""Evaluates architectures on long-lived Ray actors, and survives the loss of actors and machines.

An actor holds its evaluator for its whole life; weights and samples are stored in Ray's object
store once per machine and read in place. A candidate is only sent to an actor that has answered a
probe, so an actor that cannot start in a cluster that has become too small delays no candidate.
Does not know what an evaluator computes.
"""

from __future__ import annotations

import os
import time
from collections import deque
from dataclasses import dataclass, replace
from typing import Any

import torch

from evaluators.accuracy.inherited import InheritedAccuracy
from nas.workers.cluster import pickle_by_value
from nas.workers.object_store import SharedObject
from nas.workers.pool import ATTEMPTS, EvaluationResult, Evaluator, TimeLimitExceeded, evaluate
from search_spaces.architecture import Architecture


def shared_evaluator(evaluator: InheritedAccuracy) -> SharedObject:
    """An evaluator whose weights and samples are shared; it contains validation samples only."""
    return SharedObject.of(replace(evaluator, data=evaluator.data.only("validation")))


class Actor:
    """The evaluator of one worker process.

    Args:
        evaluator: as it is, or shared by `shared_evaluator`.
        threads: number of threads of torch.
        device: device for the weights of a shared evaluator.
    """

    def __init__(self, evaluator: SharedObject | Evaluator, threads: int, device: str) -> None:
        torch.set_num_threads(threads)
        if isinstance(evaluator, SharedObject):
            rebuilt: InheritedAccuracy = evaluator.rebuild()
            supernet: Any = rebuilt.supernet
            supernet.requires_grad_(False).to(device)
            self._evaluator: Evaluator = rebuilt
        else:
            self._evaluator = evaluator

    def evaluate(self, arch: Architecture) -> EvaluationResult:
        """Evaluate one architecture."""
        return evaluate(self._evaluator, arch)

    def pid(self) -> int:
        """Process id of the worker."""
        return os.getpid()


@dataclass(frozen=True)
class _Job:
    """A waiting or running candidate and the number of its attempt, from 1."""

    arch: Architecture
    attempt: int


class RayWorkers:
    """Evaluates on Ray actors; replaces an actor that dies and retries its candidate.

    If the cluster has no room for a replacement, the other actors evaluate its candidates until it
    has.

    Args:
        evaluator: sent to the actors; the weights and samples of an `InheritedAccuracy` are shared,
            any other evaluator is copied to each actor.
        count: number of actors.
        threads: processors and threads of each actor.
        seconds: time limit of an evaluation; an actor that exceeds it is killed and replaced, and
            its candidate counts as failed. The start of an actor does not count.
    """

    def __init__(
        self, evaluator: Evaluator, count: int, threads: int = 1, seconds: float | None = None
    ) -> None:
        import ray

        self._ray = ray
        pickle_by_value(evaluator)
        device = device_of(evaluator)
        shared = isinstance(evaluator, InheritedAccuracy)
        self._evaluator = ray.put(shared_evaluator(evaluator) if shared else evaluator)  # type: ignore[arg-type]
        gpus = float(device.startswith("cuda"))
        self._remote = ray.remote(num_cpus=threads, num_gpus=gpus, max_restarts=0)(Actor)
        self._arguments = (self._evaluator, threads, "cuda" if gpus else device)
        self._count = count
        self._seconds = seconds
        self._free: list[Any] = []
        self._probed: dict[Any, Any] = {}
        """Actors that have not answered their probe yet, by the reference of the answer."""
        self._waiting: deque[_Job] = deque()
        self._running: dict[Any, tuple[Any, _Job, float]] = {}
        """Actor, candidate and start time, by the reference of the result."""
        self._ready: deque[Any] = deque()
        """References that have been found ready: asking for one takes longer the more there are."""
        self.replaced = 0
        """Number of actors that have died or been killed, and were replaced."""
        for _ in range(count):
            self._probe(self._start())

    def _start(self) -> Any:
        return self._remote.remote(*self._arguments)

    def _probe(self, actor: Any) -> None:
        """Call an actor that has to answer before it is sent a candidate."""
        self._probed[actor.pid.remote()] = actor

    @property
    def idle(self) -> int:
        """Number of further candidates that the actors could take."""
        return self._count - len(self._running) - len(self._waiting)

    @property
    def actors(self) -> list[Any]:
        """Handles of all actors, including those that have not started yet."""
        running = [actor for actor, _, _ in self._running.values()]
        return [*self._free, *self._probed.values(), *running]

    def close(self) -> None:
        """Kill all actors, which frees their resources in the cluster."""
        for actor in self.actors:
            self._ray.kill(actor)

    def submit(self, arch: Architecture) -> None:
        """Start an evaluation on a free actor, or on the first that becomes free."""
        self._waiting.append(_Job(arch, attempt=1))
        self._dispatch()

    def _dispatch(self) -> None:
        while self._free and self._waiting:
            actor, job = self._free.pop(), self._waiting.popleft()
            self._running[actor.evaluate.remote(job.arch)] = (actor, job, time.monotonic())

    def next_result(self) -> EvaluationResult:
        """Wait until one evaluation has ended; replaces actors that die or exceed the limit."""
        while True:
            self._dispatch()
            if not self._ready:
                self._wait()
            if not self._ready:
                result = self._cancel_overdue()
            elif (reference := self._ready.popleft()) in self._probed:
                result = self._on_probe(reference)
            else:
                result = self._on_result(reference)
            if result is not None:
                return result

    def _wait(self) -> None:
        """Wait until a call has ended or the time limit is over; note all that have ended."""
        pending = [*self._running, *self._probed]
        ready, _ = self._ray.wait(pending, timeout=self._timeout())
        if ready:
            ready, _ = self._ray.wait(pending, num_returns=len(pending), timeout=0)
        self._ready.extend(ready)

    def _timeout(self) -> float | None:
        """Seconds until the oldest evaluation exceeds the time limit."""
        if self._seconds is None or not self._running:
            return None
        first = min(started for _, _, started in self._running.values())
        return max(0.0, first + self._seconds - time.monotonic())

    def _cancel_overdue(self) -> EvaluationResult | None:
        """Kill the actor of the oldest evaluation if it has exceeded the time limit."""
        oldest = min(self._running, key=lambda reference: self._running[reference][2])
        actor, job, started = self._running[oldest]
        seconds = time.monotonic() - started
        if self._seconds is None or seconds < self._seconds:
            return None
        del self._running[oldest]
        self._ray.kill(actor)
        self._replace()
        return EvaluationResult(job.arch, {}, seconds, str(TimeLimitExceeded(self._seconds)))

    def _on_probe(self, reference: Any) -> EvaluationResult | None:
        """Add an actor that has answered to the free ones; replace one that has died."""
        actor = self._probed.pop(reference)
        try:
            self._ray.get(reference)
        except self._ray.exceptions.RayError as error:
            self._replace()
            # Counts as an attempt: an evaluator that no actor can load would never fail otherwise.
            return self._retry(self._waiting.popleft(), error) if self._waiting else None
        self._free.append(actor)
        return None

    def _on_result(self, reference: Any) -> EvaluationResult | None:
        """The result of an evaluation; None if it is retried."""
        actor, job, _ = self._running.pop(reference)
        try:
            result: EvaluationResult = self._ray.get(reference)
        except self._ray.exceptions.RayActorError as error:
            self._replace()
            # The free actors may have been on the same lost machine.
            suspects, self._free = self._free, []
            for suspect in suspects:
                self._probe(suspect)
            return self._retry(job, error)
        except self._ray.exceptions.RayError as error:
            result = EvaluationResult(job.arch, {}, 0.0, str(error).splitlines()[0])
        self._free.append(actor)
        return result

    def _replace(self) -> None:
        self.replaced += 1
        self._probe(self._start())

    def _retry(self, job: _Job, error: Exception) -> EvaluationResult | None:
        """Queue a candidate whose actor died again; after `ATTEMPTS` attempts it has failed."""
        if job.attempt < ATTEMPTS:
            self._waiting.appendleft(_Job(job.arch, job.attempt + 1))
            return None
        reason = str(error).splitlines()[0]
        return EvaluationResult(job.arch, {}, 0.0, f"its worker died {ATTEMPTS} times: {reason}")


def device_of(evaluator: object) -> str:
    """The device of an evaluator's weights; `cpu` for an evaluator without weights."""
    supernet = getattr(evaluator, "supernet", None)
    if isinstance(supernet, torch.nn.Module):
        return str(next(supernet.parameters()).device)
    return "cpu"
