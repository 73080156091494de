"""The pool whose candidates train from scratch, several at a time, as trials of Ray Tune.

It implements `nas.workers.pool.Workers`, so that a search uses it like any other pool: submitted
candidates reach Ray Tune through a `Searcher`, and results return through a `Callback`. Ray Tune
runs in a thread of its own and stops candidates early by ASHA. None of its files are needed: the
run's study is the record, and a candidate resumes from the checkpoint of its training loop. Does
not know how a candidate trains.
"""

from __future__ import annotations

import contextlib
import faulthandler
import logging
import os
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

import ray
from ray import tune
from ray.tune.experiment import Trial

from nas.run.objectives import Objective
from nas.workers.cluster import QUIET_TUNE, pickle_by_value
from nas.workers.pool import EvaluationResult, TimeLimitExceeded
from nas.workers.tune.bridge import Bridge, StopWhenClosed, TrialCallback
from nas.workers.tune.from_scratch import Report
from nas.workers.tune.frontier_asha import ACCURACY, FrontierASHA
from search_spaces.architecture import Architecture

Train = Callable[[Architecture, Report], None]
"""Trains one candidate; reports `{metric, "epochs", "rung"}` at each of its rungs."""

GRACE_SECONDS = 5.0
"""Maximum time between the limit, at which a training ends itself, and the end of its worker."""


class TuneWorkers:
    """A pool of candidates that train in Ray Tune; a context manager. Ray must be running.

    A candidate whose worker dies is tried `ATTEMPTS` times in total.

    Args:
        train: the function that runs in the workers; stored once in the object store.
        count: number of candidates that train at a time.
        rungs: number of reports of a candidate that is not stopped early.
        costs_of: the values of the objectives that are costs.
        score: the metric that candidates are compared by, and its direction.
        seconds: time limit of one candidate, which `train` should respect; if it hangs, its worker
            is killed.
        gpus: number of GPUs of a candidate.
        on_end: called for every candidate that has ended.
    """

    def __init__(
        self,
        train: Train,
        count: int,
        *,
        rungs: int,
        costs_of: Callable[[Architecture], Sequence[float]],
        score: Objective = ACCURACY,
        seconds: float | None = None,
        gpus: float = 0.0,
        on_end: Callable[[Architecture], object] = lambda arch: None,
    ) -> None:
        pickle_by_value(train)
        self._count = count
        self._seconds = seconds
        self._on_end = on_end
        self._bridge = Bridge(seconds, score.metric)
        self._scheduler = FrontierASHA(
            rungs, lambda trial: costs_of(self._bridge.running[trial]), score
        )
        shared = ray.put(train)
        self._function = partial(_train, train=shared, seconds=seconds, metric=score.metric)
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
        """Number of further candidates that could start now."""
        return self._count - self._in_flight

    def submit(self, arch: Architecture) -> None:
        """Queue a candidate for Ray Tune."""
        self._in_flight += 1
        self._bridge.waiting.put(arch)

    def next_result(self) -> EvaluationResult:
        """Wait until one candidate has trained to the end, was stopped at a rung, or has failed."""
        result = self._bridge.results.get()
        if isinstance(result, BaseException):
            raise result
        self._in_flight -= 1
        self._on_end(result.arch)
        return result

    def _run(self) -> None:
        try:
            with _quiet(), tempfile.TemporaryDirectory(prefix="tune-") as folder:
                # `Tuner` would write the function and all that it refers to into files.
                tune.run(
                    self._function,
                    name="candidates",
                    storage_path=folder,
                    search_alg=self._bridge.searcher,
                    scheduler=self._scheduler,
                    callbacks=[TrialCallback(self._bridge)],
                    stop=StopWhenClosed(self._bridge),
                    num_samples=-1,
                    resources_per_trial=self._resources,
                    reuse_actors=True,
                    raise_on_failed_trial=False,
                    trial_dirname_creator=_name,
                    trial_name_creator=_name,
                    verbose=0,
                )
            self._bridge.results.put(RuntimeError("Ray Tune ended before the search did"))
        except BaseException as error:
            self._bridge.results.put(error)


def _train(config: dict[str, Any], train: Any, seconds: float | None, metric: str) -> None:
    """The function that Ray Tune runs in a worker: trains one candidate, reports its exceptions.

    A training that hangs cannot end itself, so a watchdog outside of Python kills its process.
    """
    function: Train = ray.get(train)
    try:
        if seconds is not None:
            watchdog = seconds + min(seconds, GRACE_SECONDS)
            null = open(os.devnull, "w")  # noqa: SIM115 (the watchdog writes to it later)
            faulthandler.dump_traceback_later(watchdog, exit=True, file=null)
        function(config["arch"], tune.report)
    except TimeLimitExceeded as error:
        tune.report(_failure(str(error), metric))
    except Exception as error:
        tune.report(_failure(f"{type(error).__name__}: {error}".splitlines()[0], metric))
    finally:
        faulthandler.cancel_dump_traceback_later()


def _failure(reason: str, metric: str) -> dict[str, Any]:
    return {"error": reason, metric: float("nan"), "rung": 0}


def _name(trial: Trial) -> str:
    return str(trial.trial_id)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Turn off the tables, notes and logs of Ray Tune; the reporter shows progress."""
    logger = logging.getLogger("ray.tune")
    level = logger.level
    before = {name: os.environ.get(name) for name in QUIET_TUNE}
    os.environ.update(QUIET_TUNE)
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
