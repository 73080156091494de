"""Records every evaluated architecture of a run as a trial of one Optuna study.

Knows how an evaluation is converted to a trial and back. What ends within half a second is added in
one transaction, since a transaction takes longer than a thousand rows of it; a run killed at any
moment contains complete evaluations only, and lacks those of the last half second. Does not know
strategies or sampling.
"""

from __future__ import annotations

import contextlib
import json
import sqlite3
import threading
import time
import warnings
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, Self

import optuna
from optuna.distributions import CategoricalDistribution, distribution_to_json
from optuna.storages import RDBStorage
from optuna.storages._rdb import models
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy import func, insert, select
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.pool import QueuePool

from nas.run.evaluation import Evaluation
from nas.run.objectives import Objective
from nas.run.storage.address import (
    LOCK_TIMEOUT,
    SharedStudy,
    check,
    connectable,
    engine_arguments,
    reason,
)
from nas.run.storage.finished import Finished, describe
from nas.run.study_rows import BUDGET_KEY, STUDY_NAME, NotReadable, read_study
from search_spaces.architecture import Architecture, plain_value
from search_spaces.errors import UserError
from search_spaces.files import write_atomically
from search_spaces.space import Choice, SearchSpace

optuna.logging.set_verbosity(optuna.logging.WARNING)

DELAY = 0.5
"""Seconds within which an ended evaluation is written."""

ATTEMPTS = 5
"""Attempts to open a shared storage: of runs that begin together, one creates its tables."""


_DATABASE_ERRORS = (SQLAlchemyError, ImportError, optuna.exceptions.StorageInternalError)


def distribution(choice: Choice) -> CategoricalDistribution:
    """A choice as Optuna has it."""
    options: Any = choice.options  # tuples too, which Optuna stores but advises against
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return CategoricalDistribution(options)


class Study:
    """The study of a run, opened for adding evaluations; created if it does not exist.

    As a context it writes what was added at its end, however it ends.

    Args:
        storage: a SQLite file, or a study in a shared storage.
        exists: whether a study in a shared storage must exist, as on resuming.

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
    ) -> None:
        self.space = space
        self.objectives = tuple(objectives)
        self.storage = storage
        self._described = {c.name: distribution_to_json(distribution(c)) for c in space.choices}
        self._codes = {c.name: {o: i for i, o in enumerate(c.options)} for c in space.choices}
        self._lock = threading.RLock()
        self._pending: list[tuple[Evaluation, datetime]] = []
        self._timer: threading.Timer | None = None
        self._problem: UserError | None = None
        self._written = -DELAY
        self._next: int | None = None
        """Number of the next trial; only this process adds some."""
        try:
            if isinstance(storage, Path) and not storage.exists():
                # Readers create missing tables too, possibly at the same time as the writer.
                write_atomically(storage, self._make)
            self._rdb = _opened_storage(storage)
            self._study = self._loaded() if exists else self._opened(self._rdb)
            self._check_identity()
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

        Raises:
            UserError: if the study cannot be written, such as on a full disk; it is unchanged.
        """
        with self._lock:
            self._pending.append((evaluation, datetime.now()))
            if time.monotonic() - self._written >= DELAY:
                self.flush()
            elif self._timer is None:
                self._timer = threading.Timer(DELAY, self._flush_later)
                self._timer.daemon = True
                self._timer.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.flush()

    def flush(self) -> None:
        """Write what was added.

        Raises:
            UserError: if it cannot be written, now or when it was due.
        """
        with self._lock:
            if self._timer is not None:
                self._timer.cancel()
                self._timer = None
            if self._problem is not None:
                raise self._problem
            added, self._pending = self._pending, []
            if added:
                try:
                    self._write(added)
                except _DATABASE_ERRORS as error:
                    raise _unwritable(self.storage, error) from error
            self._written = time.monotonic()

    def _flush_later(self) -> None:
        try:
            self.flush()
        except UserError as error:
            self._problem = error  # raised where the next evaluation is added

    def _write(self, added: Sequence[tuple[Evaluation, datetime]]) -> None:
        """Add trials in one transaction, as Optuna's storage does one at a time."""
        with self._rdb.engine.begin() as connection:
            trials = models.TrialModel.__table__
            study = self._study._study_id
            if self._next is None:  # reads every trial of the study
                last = connection.execute(
                    select(func.max(trials.c.number)).where(trials.c.study_id == study)
                ).scalar()
                self._next = 0 if last is None else last + 1
            first = self._next
            rows: list[dict[str, Any]] = [
                {
                    "number": first + place,
                    "study_id": study,
                    "state": TrialState.COMPLETE if one.error is None else TrialState.FAIL,
                    "datetime_start": ended,
                    "datetime_complete": ended,
                }
                for place, (one, ended) in enumerate(added)
            ]
            if connection.dialect.insert_executemany_returning_sort_by_parameter_order:
                numbers = connection.execute(
                    insert(trials).returning(trials.c.trial_id, sort_by_parameter_order=True), rows
                ).scalars()
            else:
                connection.execute(insert(trials), rows)
                numbers = connection.execute(
                    select(trials.c.trial_id)
                    .where(trials.c.study_id == study, trials.c.number >= first)
                    .order_by(trials.c.number)
                ).scalars()
            parts: dict[Any, list[dict[str, Any]]] = defaultdict(list)
            for trial, (one, _) in zip(numbers, added, strict=True):
                for table, of_table in self._rows(one).items():
                    parts[table] += [{"trial_id": trial, **row} for row in of_table]
            for table, of_table in parts.items():
                connection.execute(insert(table), of_table)
        self._next = first + len(added)

    def _rows(self, one: Evaluation) -> dict[Any, list[dict[str, Any]]]:
        """What an evaluation adds to each table beside its trial."""
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
        values = [] if one.error is not None else [one.metrics[o.metric] for o in self.objectives]
        stored = [models.TrialValueModel.value_to_stored_repr(value) for value in values]
        found: dict[Any, list[dict[str, Any]]] = {
            models.TrialParamModel.__table__: [
                {
                    "param_name": name,
                    "param_value": self._codes[name][value],
                    "distribution_json": self._described[name],
                }
                for name, value in one.arch.items()
            ],
            models.TrialUserAttributeModel.__table__: [
                {"key": key, "value_json": json.dumps(value)} for key, value in attributes.items()
            ],
            models.TrialSystemAttributeModel.__table__: [
                {"key": BUDGET_KEY, "value_json": json.dumps(one.violation)}
            ],
            models.TrialValueModel.__table__: [
                {"objective": place, "value": value, "value_type": kind}
                for place, (value, kind) in enumerate(stored)
            ],
        }
        return {table: rows for table, rows in found.items() if rows}

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
