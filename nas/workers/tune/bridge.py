"""Between a search, which has candidates, and Ray Tune, which has trials.

Tune runs in a thread of its own, asks for candidates and tells what becomes of them; here they
wait, are tried again where a worker died, and are handed back. Does not know how candidates train,
nor who decides which go on.
"""

from __future__ import annotations

import queue
import time
from pathlib import Path
from typing import Any

from ray import tune
from ray.tune.experiment import Trial
from ray.tune.search import Searcher

from nas.workers.pool import ATTEMPTS, Ended, OutOfTime
from search_spaces.architecture import Architecture


class Bridge:
    """Between the search's thread and Tune's: candidates that wait, run, and have ended."""

    def __init__(self, seconds: float | None, metric: str) -> None:
        self.waiting: queue.Queue[Architecture | None] = queue.Queue()
        self.ended: queue.Queue[Ended | BaseException] = queue.Queue()
        self.running: dict[str, Architecture] = {}
        """By Tune's id of the trial; a candidate that is tried again is another trial."""
        self.closed = False
        self.searcher = Asked(self)
        self._started: dict[str, float] = {}
        self._attempts: dict[Architecture, int] = {}
        self._seconds = seconds
        self._metric = metric

    def __reduce__(self) -> tuple[type[Bridge], tuple[float | None, str]]:
        # Tune writes what it was given into files that nobody reads; queues cannot be written.
        return Bridge, (self._seconds, self._metric)

    def close(self) -> None:
        """No more candidates; those that run are stopped."""
        self.closed = True
        self.waiting.put(None)

    def take(self, trial: str) -> Architecture | None:
        """The next candidate for a trial, or None where none waits.

        While nothing runs, Tune has nothing to do but to wait here; it would sleep for a second.
        """
        try:
            arch = self.waiting.get(block=not self.running)
        except queue.Empty:
            return None
        if arch is not None:
            self.running[trial] = arch
            self._attempts[arch] = self._attempts.get(arch, 0) + 1
        return arch

    def start(self, trial: str) -> None:
        """A worker has begun with a trial."""
        self._started[trial] = time.monotonic()

    def end(self, trial: str, result: dict[str, Any]) -> None:
        """A trial has ended with this last result."""
        if self.closed:
            return  # interrupted: not an evaluation
        arch, seconds = self._remove(trial)
        error = result.get("error")
        kept = (self._metric, "epochs") if error is None else ()
        metrics = {name: float(result[name]) for name in kept if name in result}
        if error is None and self._metric not in metrics:
            error = f"it ended without {self._metric}"
        self.ended.put(Ended(arch, metrics, seconds, error))

    def die(self, trial: str, reason: str) -> None:
        """A trial's worker has died."""
        if self.closed:
            return
        arch, seconds = self._remove(trial)
        if self._seconds is not None and seconds >= self._seconds:
            # It did not die but was hanging, and its worker's watchdog has ended it.
            error = str(OutOfTime(self._seconds))
        elif self._attempts[arch] < ATTEMPTS:
            self.waiting.put(arch)
            return
        else:
            error = f"its worker died {ATTEMPTS} times: {reason}"
        self.ended.put(Ended(arch, {}, seconds, error))

    def _remove(self, trial: str) -> tuple[Architecture, float]:
        now = time.monotonic()
        return self.running.pop(trial), now - self._started.pop(trial, now)


class Asked(Searcher):
    """What Tune asks for candidates."""

    def __init__(self, bridge: Bridge) -> None:
        super().__init__()
        self._bridge = bridge

    def suggest(self, trial_id: str) -> Any:
        """The settings of a new trial, None where no candidate waits, or that it is over."""
        arch = None if self._bridge.closed else self._bridge.take(trial_id)
        if arch is not None:
            return {"arch": arch}
        return self.FINISHED if self._bridge.closed else None

    def on_trial_complete(
        self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False
    ) -> None:
        """`Told` is told the same, and more."""

    def save(self, checkpoint_path: str) -> None:
        """Nothing: the study is the record."""

    def restore(self, checkpoint_path: str) -> None:
        """Nothing."""


class Told(tune.Callback):
    """What Tune tells of its trials."""

    def __init__(self, bridge: Bridge) -> None:
        self._bridge = bridge

    def on_trial_start(
        self, iteration: int, trials: list[Trial], trial: Trial, **info: Any
    ) -> None:
        """A worker has begun."""
        self._bridge.start(trial.trial_id)

    def on_trial_complete(
        self, iteration: int, trials: list[Trial], trial: Trial, **info: Any
    ) -> None:
        """Trained to the end, stopped, or failed in its own way."""
        self._bridge.end(trial.trial_id, trial.last_result or {})

    def on_trial_error(
        self, iteration: int, trials: list[Trial], trial: Trial, **info: Any
    ) -> None:
        """What a candidate raises is a result, so this is a worker that died."""
        reason = "no reason given"
        if trial.error_file and Path(trial.error_file).exists():
            lines = Path(trial.error_file).read_text(encoding="utf-8").splitlines()
            reason = next((line for line in lines if line and line[:7] != "Failure"), reason)
        self._bridge.die(trial.trial_id, reason)


class Stopped(tune.Stopper):
    """Ends everything when the search has closed its workers."""

    def __init__(self, bridge: Bridge) -> None:
        self._bridge = bridge

    def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:
        """No trial is stopped here."""
        return False

    def stop_all(self) -> bool:
        """Whether the search is over."""
        return self._bridge.closed
