"""Evaluations on long-lived Ray actors, which may die, hang, or lose the machine they are on.

An actor holds its evaluator for its whole life; the weights and samples behind it lie in Ray's
object store once a machine, and actors read them in place. A candidate waits for an actor that is
known to live, so one that hangs in a cluster grown too small costs nothing but itself. Does not
know what an evaluator does.
"""

from __future__ import annotations

import os
import time
from collections import deque
from dataclasses import dataclass
from typing import Any

import torch

from evaluators.accuracy.inherited import InheritedAccuracy
from nas.workers.cluster import pickle_by_value
from nas.workers.pool import ATTEMPTS, Ended, Evaluator, OutOfTime, SharedEvaluator, evaluate
from search_spaces.architecture import Architecture


class Actor:
    """What runs in a worker process.

    Args:
        device: where inherited weights are evaluated.
    """

    def __init__(self, shared: SharedEvaluator | Evaluator, threads: int, device: str) -> None:
        torch.set_num_threads(threads)
        if isinstance(shared, SharedEvaluator):
            evaluator = shared.evaluator()
            supernet: Any = evaluator.supernet
            supernet.to(device)
            self._evaluator: Evaluator = evaluator
        else:
            self._evaluator = shared

    def evaluate(self, arch: Architecture) -> Ended:
        """Evaluate one architecture."""
        return evaluate(self._evaluator, arch)

    def pid(self) -> int:
        """The worker's process id."""
        return os.getpid()


@dataclass(frozen=True)
class _Job:
    """A candidate that waits or runs, for the n-th time."""

    arch: Architecture
    attempt: int


class RayWorkers:
    """Evaluates on Ray actors; one that dies is replaced and its candidate tried again.

    Where the cluster has become too small for a replacement, the other actors do its work until
    there is room.

    Args:
        seconds: what an evaluation may take; a worker that takes longer is killed and replaced,
            and its candidate has failed. A worker's own start is not the candidate's time.
    """

    def __init__(
        self, evaluator: Evaluator, count: int, threads: int = 1, seconds: float | None = None
    ) -> None:
        import ray

        self._ray = ray
        pickle_by_value(evaluator)
        device = device_of(evaluator)
        share = isinstance(evaluator, InheritedAccuracy)
        self._shared = ray.put(SharedEvaluator.of(evaluator) if share else evaluator)  # type: ignore[arg-type]
        gpus = float(device.startswith("cuda"))
        self._remote = ray.remote(num_cpus=threads, num_gpus=gpus, max_restarts=0)(Actor)
        self._arguments = (self._shared, threads, "cuda" if gpus else device)
        self._count = count
        self._seconds = seconds
        self._free: list[Any] = []
        self._starting: dict[Any, Any] = {}
        """Actors that are not known to live, by the reference of their answer."""
        self._waiting: deque[_Job] = deque()
        self._running: dict[Any, tuple[Any, _Job, float]] = {}
        """Actor, candidate and when it began, by the reference of its result."""
        self.replaced = 0
        """How many workers have died and been replaced."""
        for _ in range(count):
            self._ask(self._start())

    def _start(self) -> Any:
        return self._remote.remote(*self._arguments)

    def _ask(self, actor: Any) -> None:
        """Have an actor say whether it lives, before it gets a candidate."""
        self._starting[actor.pid.remote()] = actor

    @property
    def idle(self) -> int:
        """How many more candidates the actors could take."""
        return self._count - len(self._running) - len(self._waiting)

    @property
    def actors(self) -> list[Any]:
        """All actor handles, of those that are only starting too."""
        running = [actor for actor, _, _ in self._running.values()]
        return [*self._free, *self._starting.values(), *running]

    def close(self) -> None:
        """End all actors: what they hold of the cluster is wanted elsewhere."""
        for actor in self.actors:
            self._ray.kill(actor)

    def submit(self, arch: Architecture) -> None:
        """Start evaluating on a free actor, or on the first that becomes free."""
        self._waiting.append(_Job(arch, attempt=1))
        self._dispatch()

    def _dispatch(self) -> None:
        while self._free and self._waiting:
            actor, job = self._free.pop(), self._waiting.popleft()
            self._running[actor.evaluate.remote(job.arch)] = (actor, job, time.monotonic())

    def next_ended(self) -> Ended:
        """Wait for one evaluation to end, replacing workers that die or hang meanwhile."""
        while True:
            self._dispatch()
            ready, _ = self._ray.wait([*self._running, *self._starting], timeout=self._patience())
            if not ready:
                ended = self._late()
            elif ready[0] in self._starting:
                ended = self._answered(ready[0])
            else:
                ended = self._result(ready[0])
            if ended is not None:
                return ended

    def _patience(self) -> float | None:
        """Seconds until the oldest evaluation is late."""
        if self._seconds is None or not self._running:
            return None
        first = min(begun for _, _, begun in self._running.values())
        return max(0.0, first + self._seconds - time.monotonic())

    def _late(self) -> Ended | None:
        """End the evaluation that has run for too long, if there is one."""
        oldest = min(self._running, key=lambda reference: self._running[reference][2])
        actor, job, begun = self._running[oldest]
        seconds = time.monotonic() - begun
        if self._seconds is None or seconds < self._seconds:
            return None
        del self._running[oldest]
        self._ray.kill(actor)
        self._replace()
        return Ended(job.arch, {}, seconds, str(OutOfTime(self._seconds)))

    def _answered(self, reference: Any) -> Ended | None:
        """An actor lives, or has died before it had anything to do."""
        actor = self._starting.pop(reference)
        try:
            self._ray.get(reference)
        except self._ray.exceptions.RayError as error:
            self._replace()
            # An evaluator that no worker can be made of would never be told otherwise.
            return self._again(self._waiting.popleft(), error) if self._waiting else None
        self._free.append(actor)
        return None

    def _result(self, reference: Any) -> Ended | None:
        """What an evaluation gave; None where it is tried again."""
        actor, job, _ = self._running.pop(reference)
        try:
            ended: Ended = self._ray.get(reference)
        except self._ray.exceptions.RayActorError as error:
            self._replace()
            # They may have been on the same machine: no candidate is to find that out.
            suspects, self._free = self._free, []
            for suspect in suspects:
                self._ask(suspect)
            return self._again(job, error)
        except self._ray.exceptions.RayError as error:
            ended = Ended(job.arch, {}, 0.0, str(error).splitlines()[0])
        self._free.append(actor)
        return ended

    def _replace(self) -> None:
        self.replaced += 1
        self._ask(self._start())

    def _again(self, job: _Job, error: Exception) -> Ended | None:
        """Try a candidate once more whose worker died, or give it up."""
        if job.attempt < ATTEMPTS:
            self._waiting.appendleft(_Job(job.arch, job.attempt + 1))
            return None
        reason = str(error).splitlines()[0]
        return Ended(job.arch, {}, 0.0, f"its worker died {ATTEMPTS} times: {reason}")


def device_of(evaluator: object) -> str:
    """The device that an evaluator's weights are on; `cpu` for one that has none."""
    supernet = getattr(evaluator, "supernet", None)
    if isinstance(supernet, torch.nn.Module):
        return str(next(supernet.parameters()).device)
    return "cpu"
