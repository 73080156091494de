"""Adds trials to the tables of an Optuna study: several in one transaction.

Optuna adds one trial at a time, and a transaction takes longer than a thousand rows of it. The
tables are those of Optuna's storage. Does not know evaluations, nor when to write.
"""

from __future__ import annotations

import json
import warnings
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import optuna
from optuna.distributions import CategoricalDistribution, distribution_to_json
from optuna.storages import RDBStorage
from optuna.storages._rdb import models
from optuna.trial import TrialState
from sqlalchemy import func, insert, select
from sqlalchemy.engine import Connection

from nas.run.storage.names import BUDGET_KEY
from search_spaces.architecture import Value
from search_spaces.space import Choice, SearchSpace


@dataclass(frozen=True)
class Trial:
    """An ended trial.

    Attributes:
        params: values of the choices.
        values: of the objectives; empty for one that failed.
        attributes: of the user; JSON.
        violation: of the constraint; above 0 if it is violated.
        ended: when.
    """

    params: Mapping[str, Value]
    values: Sequence[float]
    attributes: Mapping[str, Any]
    violation: float
    ended: datetime
    failed: bool = False


def distribution(choice: Choice) -> CategoricalDistribution:
    """A choice as Optuna has it."""
    options: Any = choice.options  # tuples too, which Optuna stores but advises against
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return CategoricalDistribution(options)


class TrialWriter:
    """Writes to one study; no other process adds trials to it."""

    def __init__(self, storage: RDBStorage, study: optuna.Study, space: SearchSpace) -> None:
        self._engine = storage.engine
        self._study = study._study_id
        self._described = {c.name: distribution_to_json(distribution(c)) for c in space.choices}
        self._codes = {c.name: {o: i for i, o in enumerate(c.options)} for c in space.choices}
        self._next: int | None = None
        """Number of the next trial."""
        self._unsure = False
        """Whether the last transaction may have been committed although it failed here."""

    def write(self, added: Sequence[Trial]) -> None:
        """Add trials, all or none. After a failure, call it again with these or more.

        A connection may break when a server has committed and has not yet answered; what is there
        already is not added again.
        """
        with self._engine.begin() as connection:
            if self._next is None:  # reads every trial of the study
                self._next = self._count_from(connection, 0)
            there = self._count_from(connection, self._next) if self._unsure else 0
            self._unsure = True
            self._insert(connection, added[there:], self._next + there)
        self._next += len(added)
        self._unsure = False

    def _count_from(self, connection: Connection, number: int) -> int:
        """Trials of the study from a number on; numbers have no gaps."""
        trials = models.TrialModel.__table__
        last = connection.execute(
            select(func.max(trials.c.number)).where(trials.c.study_id == self._study)
        ).scalar()
        return 0 if last is None else max(0, last + 1 - number)

    def _insert(self, connection: Connection, added: Sequence[Trial], first: int) -> None:
        if not added:
            return
        trials = models.TrialModel.__table__
        rows: list[dict[str, Any]] = [
            {
                "number": first + place,
                "study_id": self._study,
                "state": TrialState.FAIL if one.failed else TrialState.COMPLETE,
                "datetime_start": one.ended,
                "datetime_complete": one.ended,
            }
            for place, one in enumerate(added)
        ]
        if connection.dialect.insert_executemany_returning_sort_by_parameter_order:
            numbers = connection.execute(
                insert(trials).returning(trials.c.trial_id, sort_by_parameter_order=True), rows
            ).scalars()
        else:
            connection.execute(insert(trials), rows)
            numbers = connection.execute(
                select(trials.c.trial_id)
                .where(trials.c.study_id == self._study, trials.c.number >= first)
                .order_by(trials.c.number)
            ).scalars()
        parts: dict[Any, list[dict[str, Any]]] = defaultdict(list)
        for trial, one in zip(numbers, added, strict=True):
            for table, of_table in self._rows(one).items():
                parts[table] += [{"trial_id": trial, **row} for row in of_table]
        for table, of_table in parts.items():
            connection.execute(insert(table), of_table)

    def _rows(self, one: Trial) -> dict[Any, list[dict[str, Any]]]:
        """What a trial adds to each table beside its own."""
        stored = [models.TrialValueModel.value_to_stored_repr(value) for value in one.values]
        found: dict[Any, list[dict[str, Any]]] = {
            models.TrialParamModel.__table__: [
                {
                    "param_name": name,
                    "param_value": self._codes[name][value],
                    "distribution_json": self._described[name],
                }
                for name, value in one.params.items()
            ],
            models.TrialUserAttributeModel.__table__: [
                {"key": key, "value_json": json.dumps(value)}
                for key, value in one.attributes.items()
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
