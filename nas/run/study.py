"""Records every evaluated architecture of a run as a trial of one Optuna study.

Knows how an evaluation is converted to a trial and back. What ends within half a second is added in
one transaction, since a transaction takes longer than a thousand rows of it; a run killed at any
moment contains complete evaluations only, and lacks those of the last half second. Does not know
strategies or sampling.
"""

from __future__ import annotations

import contextlib
import sqlite3
import threading
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, Self

import optuna
from optuna.storages import RDBStorage
from optuna.trial import FrozenTrial
from sqlalchemy.exc import InterfaceError, OperationalError, SQLAlchemyError
from sqlalchemy.pool import QueuePool

from nas.run.evaluation import Evaluation
from nas.run.objectives import Objective
from nas.run.storage.address import (
    LOCK_TIMEOUT,
    SharedStudy,
    check,
    connectable,
    engine_arguments,
    file_of,
    reason,
)
from nas.run.storage.finished import Finished, describe
from nas.run.storage.names import STUDY_NAME
from nas.run.storage.trials import Trial, TrialWriter
from nas.run.study_rows import NotReadable, read_study
from search_spaces.architecture import Architecture, plain_value
from search_spaces.errors import UserError
from search_spaces.files import write_atomically
from search_spaces.space import SearchSpace

optuna.logging.set_verbosity(optuna.logging.WARNING)

DELAY = 0.5
"""Seconds within which an ended evaluation is written."""

OUTAGE = 600.0
"""Seconds for which a server that does not answer, such as one that restarts, is asked again."""

RETRY = 2.0
"""Seconds between two attempts to write to it."""

ATTEMPTS = 5
"""Attempts to open a shared storage: of runs that begin together, one creates its tables."""


_DATABASE_ERRORS = (SQLAlchemyError, ImportError, optuna.exceptions.StorageInternalError)


class Study:
    """The study of a run, opened for adding evaluations; created if it does not exist.

    As a context it writes what was added at its end, however it ends.

    Args:
        storage: a SQLite file, or a study in a shared storage.
        exists: whether a study in a shared storage must exist, as on resuming.
        note: says what happens to the storage.

    Raises:
        UserError: if the study belongs to another space or other objectives, or cannot be read.
    """

    def __init__(
        self,
        storage: Path | SharedStudy,
        space: SearchSpace,
        objectives: Sequence[Objective],
        *,
        exists: bool = False,
        note: Callable[[str], None] | None = None,
    ) -> None:
        self.space = space
        self.objectives = tuple(objectives)
        self.storage = storage
        self._note = note
        self._lock = threading.RLock()
        self._pending: list[Trial] = []
        self._timer: threading.Timer | None = None
        self._problem: UserError | None = None
        self._written = -DELAY
        self._away: float | None = None
        """Since when the storage has not answered."""
        try:
            if isinstance(storage, Path) and not storage.exists():
                # Readers create missing tables too, possibly at the same time as the writer.
                write_atomically(storage, self._make)
            self._rdb = _opened_storage(storage)
            self._study = self._loaded() if exists else self._opened(self._rdb)
            self._check_identity()
            self._writer = TrialWriter(self._rdb, self._study, space)
        except _DATABASE_ERRORS as error:
            raise _unreadable(storage, error) from error

    def _loaded(self) -> optuna.Study:
        name = _name_of(self.storage)
        try:
            return optuna.load_study(storage=self._rdb, study_name=name)
        except KeyError as error:
            raise UserError(f"there is no study {self.storage} to resume") from error

    def _make(self, path: Path) -> None:
        """Write a study without trials to a file that no other process opens."""
        made = _opened_storage(path)
        self._opened(made)
        made.remove_session()
        made.engine.dispose()

    def _opened(self, storage: RDBStorage) -> optuna.Study:
        return optuna.create_study(
            storage=storage,
            study_name=_name_of(self.storage),
            directions=[o.direction for o in self.objectives],
            load_if_exists=True,
        )

    def _check_identity(self) -> None:
        identity = {
            "space": self.space.name,
            "fingerprint": self.space.fingerprint,
            "objectives": [o.metric for o in self.objectives],
        }
        attributes = self._study.user_attrs
        for key, value in identity.items():
            if attributes.get(key, value) != value:
                raise UserError(
                    f"{self.storage} holds a search with {key} {attributes[key]}, not {value}; "
                    "use another --out"
                )
            if key not in attributes:
                self._study.set_user_attr(key, value)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            self._study.set_metric_names([o.metric for o in self.objectives])

    def describe(self, evaluator: str, priced: Sequence[str]) -> None:
        """Record the identity of the evaluator, and the metrics that it does not give.

        Raises:
            UserError: if the study cannot be written.
        """
        try:
            describe(self._study, evaluator, priced)
        except _DATABASE_ERRORS as error:
            raise _unwritable(self.storage, error) from error

    def finished_elsewhere(
        self, evaluator: str, accepts: Callable[[Mapping[str, float]], bool]
    ) -> Finished:
        """Evaluations of other studies of the storage by the same evaluator; see `Finished`.

        Raises:
            UserError: if the storage cannot be read.
        """
        try:
            return Finished(self._rdb.engine, self._study, evaluator, accepts)
        except _DATABASE_ERRORS as error:
            raise _unreadable(self.storage, error) from error

    def add(self, evaluation: Evaluation) -> None:
        """Record an ended evaluation, at once or with those of the next `DELAY` seconds.

        A server that does not answer is asked again for `OUTAGE` seconds, while the search goes on.

        Raises:
            UserError: if the study cannot be written, such as on a full disk; it is unchanged.
        """
        with self._lock:
            self._pending.append(self.trial(evaluation))
            if time.monotonic() - self._written >= DELAY and self._away is None:
                self._flush()
            elif self._timer is None:
                self._later(DELAY)
            self._raise_problem()

    def trial(self, one: Evaluation) -> Trial:
        """An evaluation that ends now, as Optuna has it."""
        attributes: dict[str, Any] = {
            "arch": one.arch.id,
            "metrics": one.metrics,
            "seconds": one.seconds,
            "sampler": one.sampler,
        }
        if one.error is not None:
            attributes["error"] = one.error
        if one.found_in is not None:
            attributes["found_in"] = one.found_in
        failed = one.error is not None
        values = [] if failed else [one.metrics[o.metric] for o in self.objectives]
        return Trial(one.arch, values, attributes, one.violation, datetime.now(), failed)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *exception: object) -> None:
        self.flush(wait=kind is None)

    def flush(self, *, wait: bool = True) -> None:
        """Write what was added; with `wait`, also to a server that does not answer yet.

        Raises:
            UserError: if it cannot be written, now or when it was due.
        """
        with self._lock:
            while True:
                self._raise_problem()
                self._flush()
                if not self._pending:
                    return
                if not wait:
                    self._say(f"evaluations that could not be written: {len(self._pending)}")
                    return
                time.sleep(RETRY)

    def _later(self, seconds: float) -> None:
        self._timer = threading.Timer(seconds, self._flush_later)
        self._timer.daemon = True
        self._timer.start()

    def _flush_later(self) -> None:
        with self._lock:
            try:
                self._flush()
            except UserError as error:
                self._problem = error  # raised where the next evaluation is added

    def _raise_problem(self) -> None:
        if self._problem is not None:
            raise self._problem

    def _flush(self) -> None:
        """Write what was added, or try again later if the server does not answer."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._pending:
            try:
                self._writer.write(self._pending)
            except _DATABASE_ERRORS as error:
                if not self._waits_for(error):
                    self._pending = []
                    raise _unwritable(self.storage, error) from error
                self._later(RETRY)
                return
        if self._away is not None:
            self._say(f"the study {self.storage} is written again; nothing is lost")
        self._pending, self._away, self._written = [], None, time.monotonic()

    def _waits_for(self, error: Exception) -> bool:
        """Whether a storage that failed may come back."""
        is_server = isinstance(self.storage, SharedStudy) and file_of(self.storage.address) is None
        if not (is_server and isinstance(error, OperationalError | InterfaceError)):
            return False
        now = time.monotonic()
        if self._away is None:
            self._away = now
            self._say(
                f"cannot write to the study {self.storage}: {reason(error)}; evaluations wait for "
                f"at most {OUTAGE / 60:.0f} minutes"
            )
        return now - self._away < OUTAGE

    def _say(self, text: str) -> None:
        if self._note is not None:
            self._note(text)

    def evaluations(self) -> list[Evaluation]:
        """Return all recorded evaluations, oldest first.

        Raises:
            UserError: if the study cannot be read.
        """
        self.flush()
        with contextlib.suppress(NotReadable):
            return read_study(self.storage)
        try:
            trials = self._study.get_trials(deepcopy=False)
        except _DATABASE_ERRORS as error:
            raise _unreadable(self.storage, error) from error
        return [_evaluation(t) for t in trials if t.state.is_finished() and "arch" in t.user_attrs]

    def delete(self) -> None:
        """Remove the study of a search that did not begin."""
        if isinstance(self.storage, Path):
            self.storage.unlink(missing_ok=True)
        else:
            optuna.delete_study(study_name=self.storage.name, storage=self._rdb)


def read_with_optuna(storage: Path | SharedStudy) -> list[Evaluation]:
    """Read all recorded evaluations through Optuna, from any storage that it supports.

    Args:
        storage: a SQLite file, or a study in a shared storage.

    Raises:
        UserError: if there is no study or it cannot be read.
    """
    try:
        study = optuna.load_study(storage=_opened_storage(storage), study_name=_name_of(storage))
        trials = study.get_trials(deepcopy=False)
    except (*_DATABASE_ERRORS, KeyError) as error:
        raise _unreadable(storage, error) from error
    return [_evaluation(t) for t in trials if t.state.is_finished() and "arch" in t.user_attrs]


def _evaluation(trial: FrozenTrial) -> Evaluation:
    attributes = trial.user_attrs
    return Evaluation(
        Architecture(tuple((name, plain_value(v)) for name, v in trial.params.items())),
        attributes["metrics"],
        attributes["seconds"],
        attributes.get("error"),
        attributes["sampler"],
        trial.constraints.get("budget", 0.0),
        None if trial.datetime_complete is None else trial.datetime_complete.timestamp(),
        attributes.get("found_in"),
    )


def _name_of(storage: Path | SharedStudy) -> str:
    """The name of a study; one in a file of its own needs none of its own."""
    return STUDY_NAME if isinstance(storage, Path) else storage.name


def _opened_storage(storage: Path | SharedStudy) -> RDBStorage:
    """A file or an address, opened; a file may have any name.

    The address of a file would have to be without `?`, `%`, `#` and braces.
    """
    if isinstance(storage, SharedStudy):
        return _opened_address(storage.address)
    file = str(storage.absolute())

    def connect() -> sqlite3.Connection:
        return sqlite3.connect(file, timeout=LOCK_TIMEOUT, check_same_thread=False)

    return RDBStorage("sqlite://", engine_kwargs={"creator": connect, "poolclass": QueuePool})


def _opened_address(address: str) -> RDBStorage:
    check(address)  # says in one line what is wrong, and does not try a silent server again
    url = connectable(address)
    for attempt in range(ATTEMPTS):
        try:
            return RDBStorage(
                url.render_as_string(hide_password=False), engine_kwargs=engine_arguments(url)
            )
        except _DATABASE_ERRORS:
            if attempt == ATTEMPTS - 1:
                raise
            time.sleep(0.2 * (1 + attempt))
    raise AssertionError("unreachable")


def _unreadable(storage: Path | SharedStudy, error: Exception) -> UserError:
    return UserError(f"cannot read the study {storage}: {reason(error)}")


def _unwritable(storage: Path | SharedStudy, error: Exception) -> UserError:
    return UserError(
        f"cannot write to the study {storage}: {reason(error)}; what it held is unchanged"
    )
