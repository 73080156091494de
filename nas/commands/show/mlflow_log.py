"""A run's curves in MLflow, which is an extra: an experiment a run folder, a run a curve.

Knows MLflow's client. Does not know where curves come from.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Mapping
from typing import TypeVar

from nas.run.curves import Points, scalars
from nas.run.folder import Run
from search_spaces.errors import UserError, not_installed

BATCH = 1000
"""Metrics that MLflow takes at a time."""

TAG = "budget_nas_folder"
"""Whose curve it is, so that logging it again replaces it: a digest of the run's folder."""

# A server that does not answer is waited for over four minutes by default.
PATIENCE = {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2", "MLFLOW_HTTP_REQUEST_TIMEOUT": "30"}

Result = TypeVar("Result")


class MlflowLog:
    """A tracking server, or database, that has answered.

    Args:
        uri: `http://HOST:PORT`, `sqlite:///FILE`, ...

    Raises:
        UserError: if mlflow is not installed, or nothing answers there.
    """

    def __init__(self, uri: str) -> None:
        if not uri:
            raise UserError("--mlflow has no URI: expected http://HOST:PORT, sqlite:///FILE, ...")
        for name, value in PATIENCE.items():
            os.environ.setdefault(name, value)
        try:
            from mlflow.tracking import MlflowClient
        except ModuleNotFoundError:
            raise not_installed("mlflow") from None
        self.uri = uri
        self._client = self._told(lambda: MlflowClient(tracking_uri=uri))
        self._told(lambda: self._client.search_experiments(max_results=1))

    def add(self, run: Run, curves: Mapping[str, Points]) -> None:
        """Log each curve of a run, with the run's settings, in place of what was logged of it."""
        self._told(lambda: self._add(run, curves))

    def _add(self, run: Run, curves: Mapping[str, Points]) -> None:
        from mlflow.entities import Metric, Param

        settings = run.specification.model_dump(mode="json", exclude_defaults=True)
        params = [Param(name, str(value)) for name, value in settings.items()]
        folder = run.folder.resolve()
        digest = hashlib.sha256(str(folder).encode()).hexdigest()[:16]
        known = self._client.get_experiment_by_name(folder.name)
        experiment = known.experiment_id if known else self._client.create_experiment(folder.name)
        before = self._client.search_runs([experiment], f"tags.{TAG} = '{digest}'")
        for name, points in curves.items():
            identity = self._client.create_run(
                experiment, run_name=name, tags={TAG: digest}
            ).info.run_id
            metrics = [Metric(scalar, value, 0, step) for step, scalar, value in scalars(points)]
            self._client.log_batch(identity, params=params)
            for start in range(0, len(metrics), BATCH):
                self._client.log_batch(identity, metrics=metrics[start : start + BATCH])
            self._client.set_terminated(identity)
        for old in before:
            self._client.delete_run(old.info.run_id)

    def _told(self, call: Callable[[], Result]) -> Result:
        from mlflow.exceptions import MlflowException

        try:
            return call()
        except (MlflowException, OSError) as error:
            reason = " ".join(str(error).split())
            raise UserError(f"MLflow at {self.uri}: {reason[:200]}") from error
