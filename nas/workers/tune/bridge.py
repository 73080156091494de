"""Connects a search, which has candidates, to Ray Tune, which runs trials.

Ray Tune runs in a thread of its own. Here, candidates wait for a trial, are retried if a worker
died, and their results are returned to the search. Knows Ray Tune's callbacks. Does not know how
candidates train or which are stopped early.
"""

from __future__ import annotations

import queue
import time
from pathlib import Path
from typing import Any

from ray import tune
from ray.tune.experiment import Trial
from ray.tune.search import Searcher

from nas.workers.pool import ATTEMPTS, EvaluationResult, TimeLimitExceeded
from search_spaces.architecture import Architecture


class Bridge:
    """Waiting and running candidates and results, shared by the threads of the search and of Tune.

    Args:
        seconds: time limit of a candidate.
        metric: metric that a trial must report.
    """

    def __init__(self, seconds: float | None, metric: str) -> None:
        self.waiting: queue.Queue[Architecture | None] = queue.Queue()
        self.results: queue.Queue[EvaluationResult | BaseException] = queue.Queue()
        self.running: dict[str, Architecture] = {}
        """By trial id; each attempt for a candidate is a trial of its own."""
        self.closed = False
        self.searcher = CandidateSearcher(self)
        self._started: dict[str, float] = {}
        self._attempts: dict[Architecture, int] = {}
        self._seconds = seconds
        self._metric = metric

    def __reduce__(self) -> tuple[type[Bridge], tuple[float | None, str]]:
        # Tune pickles its arguments into files that are never read; queues cannot be pickled.
        return Bridge, (self._seconds, self._metric)

    def close(self) -> None:
        """Accept no more candidates; the running ones are stopped."""
        self.closed = True
        self.waiting.put(None)

    def take(self, trial: str) -> Architecture | None:
        """The next candidate for a trial; None if none waits.

        If nothing runs, this blocks until a candidate is submitted: Tune would sleep for a second.
        """
        try:
            arch = self.waiting.get(block=not self.running)
        except queue.Empty:
            return None
        if arch is not None:
            self.running[trial] = arch
            self._attempts[arch] = self._attempts.get(arch, 0) + 1
        return arch

    def on_start(self, trial: str) -> None:
        """A worker has started a trial."""
        self._started[trial] = time.monotonic()

    def on_complete(self, trial: str, result: dict[str, Any]) -> None:
        """A trial has ended with this last result."""
        if self.closed:
            return  # interrupted: not an evaluation
        arch, seconds = self._remove(trial)
        error = result.get("error")
        kept = (self._metric, "epochs") if error is None else ()
        metrics = {name: float(result[name]) for name in kept if name in result}
        if error is None and self._metric not in metrics:
            error = f"it ended without {self._metric}"
        self.results.put(EvaluationResult(arch, metrics, seconds, error))

    def on_worker_death(self, trial: str, reason: str) -> None:
        """The worker of a trial has died."""
        if self.closed:
            return
        arch, seconds = self._remove(trial)
        if self._seconds is not None and seconds >= self._seconds:
            # The training was hanging, and the worker's watchdog has ended its process.
            error = str(TimeLimitExceeded(self._seconds))
        elif self._attempts[arch] < ATTEMPTS:
            self.waiting.put(arch)
            return
        else:
            error = f"its worker died {ATTEMPTS} times: {reason}"
        self.results.put(EvaluationResult(arch, {}, seconds, error))

    def _remove(self, trial: str) -> tuple[Architecture, float]:
        now = time.monotonic()
        return self.running.pop(trial), now - self._started.pop(trial, now)


class CandidateSearcher(Searcher):
    """Gives Tune the waiting candidates."""

    def __init__(self, bridge: Bridge) -> None:
        super().__init__()
        self._bridge = bridge

    def suggest(self, trial_id: str) -> Any:
        """Configuration of a new trial; None if no candidate waits, `FINISHED` after the search."""
        arch = None if self._bridge.closed else self._bridge.take(trial_id)
        if arch is not None:
            return {"arch": arch}
        return self.FINISHED if self._bridge.closed else None

    def on_trial_complete(
        self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False
    ) -> None:
        """Do nothing: `TrialCallback` receives more."""

    def save(self, checkpoint_path: str) -> None:
        """Do nothing: the study is the record."""

    def restore(self, checkpoint_path: str) -> None:
        """Do nothing: the study is the record."""


class TrialCallback(tune.Callback):
    """Passes the events of Tune's trials to the bridge."""

    def __init__(self, bridge: Bridge) -> None:
        self._bridge = bridge

    def on_trial_start(
        self, iteration: int, trials: list[Trial], trial: Trial, **info: Any
    ) -> None:
        """A worker has started the trial."""
        self._bridge.on_start(trial.trial_id)

    def on_trial_complete(
        self, iteration: int, trials: list[Trial], trial: Trial, **info: Any
    ) -> None:
        """The trial has trained to the end, was stopped, or reported an error."""
        self._bridge.on_complete(trial.trial_id, trial.last_result or {})

    def on_trial_error(
        self, iteration: int, trials: list[Trial], trial: Trial, **info: Any
    ) -> None:
        """The worker has died: exceptions of a training are reported as results."""
        reason = "no reason given"
        if trial.error_file and Path(trial.error_file).exists():
            lines = Path(trial.error_file).read_text(encoding="utf-8").splitlines()
            reason = next((line for line in lines if line and line[:7] != "Failure"), reason)
        self._bridge.on_worker_death(trial.trial_id, reason)


class StopWhenClosed(tune.Stopper):
    """Stops all trials when the search has closed the bridge."""

    def __init__(self, bridge: Bridge) -> None:
        self._bridge = bridge

    def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:
        """Whether to stop one trial: never."""
        return False

    def stop_all(self) -> bool:
        """Whether to stop all trials."""
        return self._bridge.closed
