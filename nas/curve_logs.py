"""`nas curves`: a run's learning curves, listed, or in the form of TensorBoard and MLflow.

A run keeps its curves as JSON lines (`nas/curves.py`): the supernet's, those of networks that
trained alone, and what a relaxation expected and paid. TensorBoard's files are written by
tensorboardX; MLflow is an extra. Does not train.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from nas.curves import read_curve
from nas.run import Run
from search_spaces.errors import UserError

Points = Sequence[Mapping[str, Any]]

NOT_SCALARS = ("step", "steps")

MLFLOW = "pip install 'budget-nas[mlflow]'"

BATCH = 1000
"""Metrics that MLflow takes at a time."""


def curves_of(run: Run) -> dict[str, list[dict[str, Any]]]:
    """Points of each curve by its name, such as `supernet` or `trained/0a1b2c-80-epochs`.

    Raises:
        UserError: for a file that cannot be read.
    """
    found = {}
    files = [run.supernet_curve, run.trajectory, *sorted((run.folder / "trained").glob("*.jsonl"))]
    for path in files:
        try:
            points = read_curve(path)
        except (OSError, ValueError) as error:
            raise UserError(f"cannot read {path}: {error}") from error
        if points:
            found[str(path.relative_to(run.folder).with_suffix(""))] = points
    return found


def scalars(points: Points) -> Iterator[tuple[int, str, float]]:
    """`(step, name, value)` of every number of a curve."""
    for index, point in enumerate(points):
        step = int(point.get("step", index))
        for name, value in point.items():
            if name not in NOT_SCALARS and isinstance(value, int | float):
                yield step, name, float(value)


def to_tensorboard(curves: Mapping[str, Points], folder: Path) -> None:
    """Write each curve as an event file in a folder of its name, in place of one there before."""
    from tensorboardX import SummaryWriter

    for name, points in curves.items():
        place = folder / name
        for old in place.glob("events.out.tfevents.*"):
            old.unlink()
        with SummaryWriter(str(place)) as writer:
            for step, scalar, value in scalars(points):
                writer.add_scalar(scalar, value, step)


def to_mlflow(
    curves: Mapping[str, Points], uri: str, experiment: str, settings: Mapping[str, Any]
) -> None:
    """Log each curve as a run of one experiment.

    Raises:
        UserError: if mlflow is not installed, or the server cannot be reached.
    """
    try:
        from mlflow.entities import Metric, Param
        from mlflow.exceptions import MlflowException
        from mlflow.tracking import MlflowClient
    except ModuleNotFoundError:
        raise UserError(f"mlflow is not installed: {MLFLOW}") from None
    params = [Param(name, str(value)) for name, value in settings.items()]
    try:
        client = MlflowClient(tracking_uri=uri)
        known = client.get_experiment_by_name(experiment)
        identity = known.experiment_id if known else client.create_experiment(experiment)
        for name, points in curves.items():
            logged = client.create_run(identity, run_name=name)
            metrics = [Metric(n, value, 0, step) for step, n, value in scalars(points)]
            client.log_batch(logged.info.run_id, params=params)
            for start in range(0, len(metrics), BATCH):
                client.log_batch(logged.info.run_id, metrics=metrics[start : start + BATCH])
            client.set_terminated(logged.info.run_id)
    except (MlflowException, OSError) as error:
        raise UserError(f"MLflow at {uri}: {' '.join(str(error).split())[:200]}") from error


def curves_and_print(
    folder: Path, *, tensorboard: Path | None, mlflow: str | None, as_json: bool
) -> None:
    """`nas curves`."""
    run = Run(folder)
    curves = curves_of(run)
    if not curves:
        raise UserError(f"{folder} has no learning curves: nothing has trained in it yet")
    if tensorboard is not None:
        to_tensorboard(curves, tensorboard)
    if mlflow is not None:
        settings = run.specification.model_dump(mode="json", exclude_defaults=True)
        to_mlflow(curves, mlflow, run.folder.resolve().name, settings)
    if as_json:
        print(json.dumps(curves))
        return
    table = Table(title=f"learning curves of {folder}", title_justify="left")
    for header in ("curve", "points", "last step", "last loss"):
        table.add_column(header, justify="left" if header == "curve" else "right")
    for name, points in curves.items():
        last = points[-1]
        loss = f"{last['loss']:.4g}" if "loss" in last else ""
        table.add_row(name, str(len(points)), str(last.get("step", "")), loss)
    console = Console(highlight=False)
    console.print(table)
    if tensorboard is not None:
        console.print(f"tensorboard --logdir {tensorboard}", soft_wrap=True)
    if mlflow is not None:
        console.print(f"logged to MLflow at {mlflow}", soft_wrap=True, markup=False)
