"""Finished evaluations of other runs in a shared storage, found by architecture.

Studies are described by the identity of their evaluator; those with the same one gave, or would
give, an architecture the same metrics. What was finished before is read once, and what other runs
have finished since is added every few seconds. Does not know what makes evaluators equal.
"""

from __future__ import annotations

import contextlib
import json
import time
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import optuna
from optuna.storages._rdb import models
from optuna.trial import TrialState
from sqlalchemy import Engine, select
from sqlalchemy.exc import SQLAlchemyError

EVALUATOR, PRICED = "evaluator", "priced"
"""Attributes of a study: the identity of its evaluator, and the metrics that it does not give."""

MIXED = "mixed"
"""Identity of a study whose evaluator changed between two sessions."""

REFRESH_SECONDS = 10.0


def describe(study: optuna.Study, identity: str, priced: Sequence[str]) -> None:
    """Record the evaluator of a study, and the metrics that the tables price."""
    attributes = study.user_attrs
    before = attributes.get(EVALUATOR, identity)
    study.set_user_attr(EVALUATOR, identity if before == identity else MIXED)
    study.set_user_attr(PRICED, sorted({*attributes.get(PRICED, ()), *priced}))


@dataclass(frozen=True)
class Found:
    """The metrics that an evaluator gave an architecture, and the study they were found in."""

    metrics: Mapping[str, float]
    study: str


class Finished:
    """Evaluations of other studies whose evaluator is the same.

    Args:
        engine: of the storage.
        study: the study for which is searched; its own evaluations are left out.
        identity: of its evaluator.
        accepts: whether metrics are what a search needs; others are left out.
    """

    def __init__(
        self,
        engine: Engine,
        study: optuna.Study,
        identity: str,
        accepts: Callable[[Mapping[str, float]], bool],
    ) -> None:
        self._engine = engine
        self._own = study._study_id
        self._identity = json.dumps(identity)
        self._accepts = accepts
        self._found: dict[str, Found] = {}
        self._last = -1
        self._read()
        self._at = time.monotonic()

    def __len__(self) -> int:
        return len(self._found)

    def find(self, arch_id: str) -> Found | None:
        """What another run found for an architecture; None if none has evaluated it."""
        if time.monotonic() - self._at >= REFRESH_SECONDS:
            # A database that is away for a moment only means that more is evaluated.
            with contextlib.suppress(SQLAlchemyError):
                self._read()
            self._at = time.monotonic()
        return self._found.get(arch_id)

    def _read(self) -> None:
        """Add the evaluations that have ended since the last time."""
        with self._engine.connect() as connection:
            studies = self._studies(connection)
            trials, attributes = models.TrialModel, models.TrialUserAttributeModel
            rows = connection.execute(
                select(
                    trials.trial_id, trials.study_id, attributes.key, attributes.value_json
                ).where(
                    attributes.trial_id == trials.trial_id,
                    attributes.key.in_(("arch", "metrics")),
                    trials.trial_id > self._last,
                    trials.study_id.in_(studies),
                    trials.state == TrialState.COMPLETE,
                )
            ).all()
        stored: dict[tuple[int, int], dict[str, Any]] = defaultdict(dict)
        for trial, of, key, text in rows:
            stored[trial, of][key] = json.loads(text)
            self._last = max(self._last, trial)
        for (_, of), one in stored.items():
            name, priced = studies[of]
            metrics = {m: v for m, v in one.get("metrics", {}).items() if m not in priced}
            if "arch" in one and self._accepts(metrics):
                self._found.setdefault(one["arch"], Found(metrics, name))

    def _studies(self, connection: Any) -> dict[int, tuple[str, set[str]]]:
        """Name and priced metrics of the other studies with the same evaluator, by id."""
        studies, attributes = models.StudyModel, models.StudyUserAttributeModel
        same = select(attributes.study_id).where(
            attributes.key == EVALUATOR,
            attributes.value_json == self._identity,
            attributes.study_id != self._own,
        )
        rows = connection.execute(
            select(studies.study_id, studies.study_name, attributes.value_json).where(
                studies.study_id == attributes.study_id,
                attributes.key == PRICED,
                studies.study_id.in_(same),
            )
        ).all()
        return {study: (name, set(json.loads(text))) for study, name, text in rows}
