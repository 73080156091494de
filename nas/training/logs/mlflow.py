"""Logs the curves of a run to MLflow: one experiment per run folder, one MLflow run per curve.

Points are logged as they happen; at the end, all curves replace them, so that a run that was
stopped, resumed or logged with gaps is complete. MLflow is an optional dependency. Knows MLflow's
client. Does not know how curves are recorded.
"""

from __future__ import annotations

import hashlib
import logging
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from sqlalchemy.exc import SQLAlchemyError

from nas.run.curves import Points, scalars
from nas.training.logs.log import Scalars
from search_spaces.errors import UserError, not_installed

BATCH_METRICS = 1000
"""Maximum number of metrics in one request to MLflow."""

FOLDER_TAG = "budget_nas_folder"
"""Tag with a digest of the run's folder, by which a curve that is logged again is replaced."""

TIMEOUTS = {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2", "MLFLOW_HTTP_REQUEST_TIMEOUT": "30"}
"""Environment variables; by default, MLflow waits over four minutes for a server."""

Result = TypeVar("Result")


class MlflowLog:
    """An MLflow server or database, created only if it answers; implements `log.CurveLog`.

    Args:
        uri: `http://HOST:PORT`, `sqlite:///FILE`, ...

    Raises:
        UserError: if mlflow is not installed, or nothing answers at the address.
    """

    replaces = True

    def __init__(self, uri: str) -> None:
        if not uri:
            raise UserError("--mlflow has no URI: expected http://HOST:PORT, sqlite:///FILE, ...")
        for name, value in TIMEOUTS.items():
            os.environ.setdefault(name, value)
        try:
            from mlflow.tracking import MlflowClient
        except ModuleNotFoundError:
            raise not_installed("mlflow") from None
        self.uri = uri
        self._folder = Path()
        self._settings: Mapping[str, Any] = {}
        self._runs: dict[str, str] = {}
        self._client = self._checked(lambda: MlflowClient(tracking_uri=uri))
        self._checked(lambda: self._client.search_experiments(max_results=1))

    def begin(self, folder: Path, settings: Mapping[str, Any]) -> None:
        """Log to the experiment of this folder from now on."""
        self._folder, self._settings = folder.resolve(), settings

    def point(self, curve: str, step: int, values: Scalars) -> None:
        """Log the values to the MLflow run of the curve.

        Raises:
            UserError: if MLflow does not answer.
        """
        self._checked(lambda: self._add_points(curve, [(step, n, v) for n, v in values.items()]))

    def end(self, curves: Mapping[str, Points]) -> None:
        """Replace all that was logged of this folder by its curves.

        Raises:
            UserError: if MLflow does not answer.
        """
        self._checked(lambda: self._end(curves))

    def _end(self, curves: Mapping[str, Points]) -> None:
        for identity in self._runs.values():
            self._client.set_terminated(identity)
        self._runs.clear()
        if not curves:
            return
        before = self._client.search_runs(
            [self._experiment()], f"tags.{FOLDER_TAG} = '{self._digest}'"
        )
        for name, points in curves.items():
            self._add_points(name, list(scalars(points)))
            self._client.set_terminated(self._runs.pop(name))
        for old in before:
            self._client.delete_run(old.info.run_id)

    @property
    def _digest(self) -> str:
        return hashlib.sha256(str(self._folder).encode()).hexdigest()[:16]

    def _experiment(self) -> str:
        known = self._client.get_experiment_by_name(self._folder.name)
        return str(
            known.experiment_id if known else self._client.create_experiment(self._folder.name)
        )

    def _add_points(self, curve: str, points: list[tuple[int, str, float]]) -> None:
        """Log `(step, name, value)`s to the MLflow run of a curve, made where there is none."""
        from mlflow.entities import Metric, Param

        if curve not in self._runs:
            made = self._client.create_run(
                self._experiment(), run_name=curve, tags={FOLDER_TAG: self._digest}
            )
            self._runs[curve] = made.info.run_id
            params = [Param(name, str(value)) for name, value in self._settings.items()]
            self._client.log_batch(made.info.run_id, params=params)
        metrics = [Metric(name, value, 0, step) for step, name, value in points]
        for start in range(0, len(metrics), BATCH_METRICS):
            self._client.log_batch(
                self._runs[curve], metrics=metrics[start : start + BATCH_METRICS]
            )

    def _checked(self, call: Callable[[], Result]) -> Result:
        """Call the client; its errors become a `UserError`."""
        from mlflow.exceptions import MlflowException

        try:
            with _without_log():
                return call()
        except (MlflowException, SQLAlchemyError, OSError, ValueError) as error:
            # SQLAlchemy adds the statement and a link, on lines of their own.
            reason = (str(getattr(error, "orig", None) or error).splitlines() or [""])[0]
            raise UserError(f"MLflow at {self.uri}: {reason[:200]}") from error


@contextmanager
def _without_log() -> Iterator[None]:
    """Keep the loggers of MLflow and of its migrations silent; what fails is raised as well."""
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        yield
    finally:
        logging.disable(before)
