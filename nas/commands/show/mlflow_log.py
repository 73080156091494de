"""Logs the curves of a run to MLflow: one experiment per run folder, one MLflow run per curve.

MLflow is an optional dependency. Knows MLflow's client. Does not know how curves are recorded.
"""

from __future__ import annotations

import hashlib
import logging
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TypeVar

from sqlalchemy.exc import SQLAlchemyError

from nas.run.curves import Points, scalars
from nas.run.folder import Run
from nas.run.specification import PRIVATE_FIELDS
from search_spaces.errors import UserError, not_installed

BATCH_METRICS = 1000
"""Maximum number of metrics in one request to MLflow."""

FOLDER_TAG = "budget_nas_folder"
"""Tag with a digest of the run's folder, by which a curve that is logged again is replaced."""

TIMEOUTS = {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2", "MLFLOW_HTTP_REQUEST_TIMEOUT": "30"}
"""Environment variables; by default, MLflow waits over four minutes for a server."""

Result = TypeVar("Result")


class MlflowLog:
    """An MLflow tracking server or database; created only if it answers.

    Args:
        uri: `http://HOST:PORT`, `sqlite:///FILE`, ...

    Raises:
        UserError: if mlflow is not installed, or nothing answers at the address.
    """

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
        self._client = self._checked(lambda: MlflowClient(tracking_uri=uri))
        self._checked(lambda: self._client.search_experiments(max_results=1))

    def add(self, run: Run, curves: Mapping[str, Points]) -> None:
        """Log each curve of a run with the run's settings, replacing earlier logs of the run.

        Raises:
            UserError: if MLflow does not answer.
        """
        self._checked(lambda: self._add(run, curves))

    def _add(self, run: Run, curves: Mapping[str, Points]) -> None:
        from mlflow.entities import Metric, Param

        settings = run.specification.model_dump(
            mode="json", exclude_defaults=True, exclude=PRIVATE_FIELDS
        )
        params = [Param(name, str(value)) for name, value in settings.items()]
        folder = run.folder.resolve()
        digest = hashlib.sha256(str(folder).encode()).hexdigest()[:16]
        known = self._client.get_experiment_by_name(folder.name)
        experiment = known.experiment_id if known else self._client.create_experiment(folder.name)
        before = self._client.search_runs([experiment], f"tags.{FOLDER_TAG} = '{digest}'")
        for name, points in curves.items():
            identity = self._client.create_run(
                experiment, run_name=name, tags={FOLDER_TAG: digest}
            ).info.run_id
            metrics = [Metric(scalar, value, 0, step) for step, scalar, value in scalars(points)]
            self._client.log_batch(identity, params=params)
            for start in range(0, len(metrics), BATCH_METRICS):
                self._client.log_batch(identity, metrics=metrics[start : start + BATCH_METRICS])
            self._client.set_terminated(identity)
        for old in before:
            self._client.delete_run(old.info.run_id)

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
