"""Candidates trained from scratch, several at a time, by Ray Tune.

Gives `Workers`, so the search proposes, records and learns as with any other evaluator: what is
submitted is handed to Tune through a `Searcher`, and what ends in Tune comes back through a
`Callback`. Tune decides, by ASHA, who trains on, and runs in a thread of its own. It keeps nothing
that matters: the run's study is the record, and a candidate's checkpoint is the training loop's.
"""

from __future__ import annotations

import contextlib
import faulthandler
import logging
import os
import queue
import shutil
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import ray
from ray import tune
from ray.tune.experiment import Trial
from ray.tune.search import Searcher

from nas.asha import FrontierASHA
from nas.from_scratch import FromScratch, Report
from nas.workers import ATTEMPTS, Ended, OutOfTime, pickle_by_value, ray_session
from search_spaces.architecture import Architecture

if TYPE_CHECKING:  # workers load this module too
    from nas.run import Run
    from nas.task import Task

Train = Callable[[Architecture, Report], None]
"""Trains one candidate; reports `{"accuracy", "epochs", "rung"}` at each of its rungs."""

DEFAULT_WORKERS = 2

LENIENCE = 5.0
"""Seconds at most between the limit, at which a training ends itself, and its worker's end."""

_QUIET = {
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "TUNE_PRINT_ALL_TRIAL_ERRORS": "0",
    "TUNE_GLOBAL_CHECKPOINT_S": "3600",  # nothing is restored from what Tune writes
    "RAY_AIR_NEW_OUTPUT": "0",
}


@contextlib.contextmanager
def open_tuning(
    task: Task,
    run: Run,
    count: int = DEFAULT_WORKERS,
    address: str | None = None,
    *,
    seconds: float | None = None,
) -> Iterator[TuneWorkers]:
    """Workers that train the candidates of a run from scratch.

    Args:
        count: candidates at a time, each on one processor.
        address: a Ray cluster's address; without it a Ray of this machine is started.
        seconds: what one candidate may take before it counts as failed.

    Raises:
        UserError: if nobody answers at the address, or there are fewer processors.
    """
    train = FromScratch.of(task, run, seconds)
    tables = task.tables
    metrics = [o.metric for o in run.objectives if o.metric in tables.metrics]

    def costs_of(arch: Architecture) -> list[float]:
        costs = tables.cost(arch)
        return [costs[metric] for metric in metrics]

    with ray_session(count, address):
        workers = TuneWorkers(
            train,
            count,
            rungs=len(train.rungs),
            costs_of=costs_of,
            seconds=seconds,
            gpus=float(task.specification.device.startswith("cuda")),
            on_end=lambda arch: train.checkpoint(arch).unlink(missing_ok=True),
        )
        with workers:
            yield workers
        # An interrupted search keeps them, to go on from; after one that has ended they are spent.
        shutil.rmtree(train.checkpoints, ignore_errors=True)


class TuneWorkers:
    """See `nas.workers.Workers`; to be used as a context, in a running Ray.

    A candidate whose worker dies is given to another, `ATTEMPTS` times in all.

    Args:
        train: what runs in the workers; put into the object store once.
        rungs: how many times it reports when nobody stops it.
        costs_of: values of those objectives that are costs.
        seconds: the limit of one candidate; `train` should keep to it, and where it hangs its
            worker is ended.
        gpus: for each candidate.
        on_end: called for every candidate that has ended.
    """

    def __init__(
        self,
        train: Train,
        count: int,
        *,
        rungs: int,
        costs_of: Callable[[Architecture], Sequence[float]],
        seconds: float | None = None,
        gpus: float = 0.0,
        on_end: Callable[[Architecture], object] = lambda arch: None,
    ) -> None:
        pickle_by_value(train)
        self._count = count
        self._seconds = seconds
        self._on_end = on_end
        self._bridge = _Bridge(seconds)
        self._scheduler = FrontierASHA(rungs, lambda trial: costs_of(self._bridge.running[trial]))
        self._function = partial(_train, train=ray.put(train), seconds=seconds)
        self._resources = {"cpu": 1.0, "gpu": gpus}
        self._in_flight = 0
        self._thread = threading.Thread(target=self._run, name="tune", daemon=True)

    def __enter__(self) -> TuneWorkers:
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._bridge.close()
        self._thread.join()

    @property
    def idle(self) -> int:
        """How many more candidates could start now."""
        return self._count - self._in_flight

    def submit(self, arch: Architecture) -> None:
        """Hand a candidate to Tune."""
        self._in_flight += 1
        self._bridge.waiting.put(arch)

    def next_ended(self) -> Ended:
        """Wait for one candidate to end: trained to the end, stopped at a rung, or failed."""
        ended = self._bridge.ended.get()
        if isinstance(ended, BaseException):
            raise ended
        self._in_flight -= 1
        self._on_end(ended.arch)
        return ended

    def _run(self) -> None:
        try:
            with _quiet(), tempfile.TemporaryDirectory(prefix="tune-") as folder:
                # Not `Tuner`, which writes the function with all that it refers to into files.
                tune.run(
                    self._function,
                    name="candidates",
                    storage_path=folder,
                    search_alg=self._bridge.searcher,
                    scheduler=self._scheduler,
                    callbacks=[_Callback(self._bridge)],
                    stop=_Stopper(self._bridge),
                    num_samples=-1,
                    resources_per_trial=self._resources,
                    reuse_actors=True,
                    raise_on_failed_trial=False,
                    trial_dirname_creator=_name,
                    trial_name_creator=_name,
                    verbose=0,
                )
            self._bridge.ended.put(RuntimeError("Ray Tune ended before the search did"))
        except BaseException as error:
            self._bridge.ended.put(error)


class _Bridge:
    """Between the search's thread and Tune's: candidates that wait, run, and have ended."""

    def __init__(self, seconds: float | None) -> None:
        self.waiting: queue.Queue[Architecture | None] = queue.Queue()
        self.ended: queue.Queue[Ended | BaseException] = queue.Queue()
        self.running: dict[str, Architecture] = {}
        """By Tune's id of the trial; a candidate that is tried again is another trial."""
        self.closed = False
        self.searcher = _Searcher(self)
        self._started: dict[str, float] = {}
        self._attempts: dict[Architecture, int] = {}
        self._seconds = seconds

    def __reduce__(self) -> tuple[type[_Bridge], tuple[float | None]]:
        # Tune writes what it was given into files that nobody reads; queues cannot be written.
        return _Bridge, (self._seconds,)

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
        kept = ("accuracy", "epochs") if error is None else ()
        metrics = {name: float(result[name]) for name in kept if name in result}
        if error is None and "accuracy" not in metrics:
            error = "it ended without an accuracy"
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


class _Searcher(Searcher):
    """What Tune asks for candidates."""

    def __init__(self, bridge: _Bridge) -> None:
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
        """`_Callback` is told the same, and more."""

    def save(self, checkpoint_path: str) -> None:
        """Nothing: the study is the record."""

    def restore(self, checkpoint_path: str) -> None:
        """Nothing."""


class _Callback(tune.Callback):
    """What Tune tells of its trials."""

    def __init__(self, bridge: _Bridge) -> None:
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


class _Stopper(tune.Stopper):
    """Ends everything when the search has closed its workers."""

    def __init__(self, bridge: _Bridge) -> None:
        self._bridge = bridge

    def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:
        """No trial is stopped here."""
        return False

    def stop_all(self) -> bool:
        """Whether the search is over."""
        return self._bridge.closed


def _train(config: dict[str, Any], train: Any, seconds: float | None) -> None:
    """What Tune runs in a worker: one candidate. What it raises is reported, not raised.

    A training that hangs cannot end itself, so a watchdog outside of Python ends its process.
    """
    function: Train = ray.get(train)
    try:
        if seconds is not None:
            watchdog = seconds + min(seconds, LENIENCE)
            nowhere = open(os.devnull, "w")  # noqa: SIM115 (the watchdog writes there later)
            faulthandler.dump_traceback_later(watchdog, exit=True, file=nowhere)
        function(config["arch"], tune.report)
    except OutOfTime as late:
        tune.report(_failure(str(late)))
    except Exception as error:
        tune.report(_failure(f"{type(error).__name__}: {error}".splitlines()[0]))
    finally:
        faulthandler.cancel_dump_traceback_later()


def _failure(reason: str) -> dict[str, Any]:
    return {"error": reason, "accuracy": float("nan"), "rung": 0}


def _name(trial: Trial) -> str:
    return str(trial.trial_id)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Tune without its tables, notes and logs; progress is the reporter's."""
    logger = logging.getLogger("ray.tune")
    level = logger.level
    before = {name: os.environ.get(name) for name in _QUIET}
    os.environ.update(_QUIET)
    logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        logger.setLevel(level)
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
