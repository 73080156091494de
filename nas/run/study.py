"""Records every evaluated architecture of a run as a trial of one Optuna study.

Knows how an evaluation is converted to a trial and back. A trial is added in one transaction when
its evaluation has ended, so that a run killed at any moment contains complete evaluations only.
Does not know strategies or sampling.
"""

from __future__ import annotations

import sqlite3
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import optuna
from optuna.distributions import CategoricalDistribution
from optuna.storages import RDBStorage
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.pool import QueuePool

from nas.run.evaluation import Evaluation
from nas.run.objectives import Objective
from nas.run.study_sqlite import LOCK_TIMEOUT, STUDY_NAME
from search_spaces.architecture import Architecture, plain_value
from search_spaces.errors import UserError
from search_spaces.files import write_atomically
from search_spaces.space import Choice, SearchSpace

optuna.logging.set_verbosity(optuna.logging.WARNING)


def distribution(choice: Choice) -> CategoricalDistribution:
    """A choice as Optuna has it."""
    options: Any = choice.options  # tuples too, which Optuna stores but advises against
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return CategoricalDistribution(options)


class Study:
    """The study of a run, opened for adding evaluations; created if it does not exist.

    Args:
        storage: a SQLite file, or the address of any Optuna storage.

    Raises:
        UserError: if the study belongs to another space or other objectives, or cannot be read.
    """

    def __init__(
        self, storage: Path | str, space: SearchSpace, objectives: Sequence[Objective]
    ) -> None:
        self.space = space
        self.objectives = tuple(objectives)
        self.storage = storage
        self._distributions = {c.name: distribution(c) for c in space.choices}
        try:
            if isinstance(storage, Path) and not storage.exists():
                # Readers create missing tables too, possibly at the same time as the writer.
                write_atomically(storage, self._make)
            self._study = self._opened(_opened_storage(storage))
            self._check_identity()
        except SQLAlchemyError as error:
            raise _unreadable(storage, error) from error

    def _make(self, path: Path) -> None:
        """Write a study without trials to a file that no other process opens."""
        made = _opened_storage(path)
        self._opened(made)
        made.remove_session()
        made.engine.dispose()

    def _opened(self, storage: RDBStorage) -> optuna.Study:
        return optuna.create_study(
            storage=storage,
            study_name=STUDY_NAME,
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

    def add(self, evaluation: Evaluation) -> None:
        """Record one ended evaluation in one transaction.

        Raises:
            UserError: if the study cannot be written, such as on a full disk; it is unchanged.
        """
        arch = evaluation.arch
        attributes: dict[str, Any] = {
            "arch": arch.id,
            "metrics": evaluation.metrics,
            "seconds": evaluation.seconds,
            "sampler": evaluation.sampler,
        }
        if evaluation.error is not None:
            attributes["error"] = evaluation.error
        failed = evaluation.error is not None
        trial = optuna.create_trial(
            state=TrialState.FAIL if failed else TrialState.COMPLETE,
            values=None if failed else [evaluation.metrics[o.metric] for o in self.objectives],
            params=dict(arch),
            distributions={name: self._distributions[name] for name in arch},
            user_attrs=attributes,
            constraints={"budget": evaluation.violation},
        )
        try:
            self._study.add_trial(trial)
        except (SQLAlchemyError, optuna.exceptions.StorageInternalError) as error:
            raise _unwritable(self.storage, error) from error

    def evaluations(self) -> list[Evaluation]:
        """Return all recorded evaluations, oldest first.

        Raises:
            UserError: if the study cannot be read.
        """
        try:
            trials = self._study.get_trials(deepcopy=False)
        except (SQLAlchemyError, optuna.exceptions.StorageInternalError) as error:
            raise _unreadable(self.storage, error) from error
        return [_evaluation(t) for t in trials if t.state.is_finished() and "arch" in t.user_attrs]


def read_with_optuna(storage: Path | str) -> list[Evaluation]:
    """Read all recorded evaluations through Optuna, from any storage that it supports.

    Args:
        storage: a SQLite file, or the address of any Optuna storage.

    Raises:
        UserError: if there is no study or it cannot be read.
    """
    try:
        study = optuna.load_study(storage=_opened_storage(storage), study_name=STUDY_NAME)
        trials = study.get_trials(deepcopy=False)
    except (SQLAlchemyError, optuna.exceptions.StorageInternalError, KeyError) as error:
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
    )


def _opened_storage(storage: Path | str) -> RDBStorage:
    """A file or an address, opened; a file may have any name.

    The address of a file would have to be without `?`, `%`, `#` and braces.
    """
    if not isinstance(storage, Path):
        return RDBStorage(storage)
    file = str(storage.absolute())

    def connect() -> sqlite3.Connection:
        return sqlite3.connect(file, timeout=LOCK_TIMEOUT, check_same_thread=False)

    return RDBStorage("sqlite://", engine_kwargs={"creator": connect, "poolclass": QueuePool})


def _reason(error: Exception) -> str:
    cause = error.__cause__ or error
    return str(getattr(cause, "orig", cause)).splitlines()[0]


def _unreadable(storage: Path | str, error: Exception) -> UserError:
    return UserError(f"cannot read the study {storage}: {_reason(error)}")


def _unwritable(storage: Path | str, error: Exception) -> UserError:
    return UserError(
        f"cannot write to the study {storage}: {_reason(error)}; what it held is unchanged"
    )
