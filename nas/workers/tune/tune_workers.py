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
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import ray
from ray import tune
from ray.tune.experiment import Trial

from nas.run.objectives import Objective
from nas.workers.cluster import QUIET_TUNE, pickle_by_value
from nas.workers.pool import Ended, OutOfTime
from nas.workers.tune.bridge import Bridge, Stopped, Told
from nas.workers.tune.from_scratch import Report
from nas.workers.tune.frontier_asha import ACCURACY, FrontierASHA
from search_spaces.architecture import Architecture

if TYPE_CHECKING:  # workers load this module too
    pass

Train = Callable[[Architecture, Report], None]
"""Trains one candidate; reports `{metric, "epochs", "rung"}` at each of its rungs."""


LENIENCE = 5.0
"""Seconds at most between the limit, at which a training ends itself, and its worker's end."""


class TuneWorkers:
    """See `nas.workers.Workers`; to be used as a context, in a running Ray.

    A candidate whose worker dies is given to another, `ATTEMPTS` times in all.

    Args:
        train: what runs in the workers; put into the object store once.
        rungs: how many times it reports when nobody stops it.
        costs_of: values of those objectives that are costs.
        judged: what candidates are compared by.
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
        judged: Objective = ACCURACY,
        seconds: float | None = None,
        gpus: float = 0.0,
        on_end: Callable[[Architecture], object] = lambda arch: None,
    ) -> None:
        pickle_by_value(train)
        self._count = count
        self._seconds = seconds
        self._on_end = on_end
        self._bridge = Bridge(seconds, judged.metric)
        self._scheduler = FrontierASHA(
            rungs, lambda trial: costs_of(self._bridge.running[trial]), judged
        )
        shared = ray.put(train)
        self._function = partial(_train, train=shared, seconds=seconds, metric=judged.metric)
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
                    callbacks=[Told(self._bridge)],
                    stop=Stopped(self._bridge),
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


def _train(config: dict[str, Any], train: Any, seconds: float | None, metric: str) -> None:
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
        tune.report(_failure(str(late), metric))
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
    """Tune without its tables, notes and logs; progress is the reporter's."""
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
