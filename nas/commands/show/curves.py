"""`nas curves`: a run's learning curves, listed, or in the form of TensorBoard and MLflow.

A run keeps its curves as JSON lines (`nas/training/curve.py`): the supernet's, those of networks that
trained alone, and what a relaxation expected and paid. TensorBoard's files are written by
tensorboardX; what MLflow takes is in `nas/commands/show/mlflow_log.py`. Does not train.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from nas.run.curves import Points, read_curve, scalars
from nas.run.folder import Run
from search_spaces.errors import UserError


@contextmanager
def logged_to(mlflow: str | None, folder: Path) -> Iterator[None]:
    """Log the curves of the run in `folder` to an MLflow that is asked beforehand, if to one.

    Raises:
        UserError: if it cannot be used, before anything is done; and if it no longer can
            afterwards, when the run is whole.
    """
    if mlflow is None:
        yield
        return
    from nas.commands.show.mlflow_log import MlflowLog

    log = MlflowLog(mlflow)
    yield
    run = Run(folder)
    try:
        log.add(run, curves_of(run))
    except UserError as error:
        raise UserError(f"{error}; nas curves {folder} --mlflow {mlflow} tries again") from error


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
        from nas.commands.show.mlflow_log import MlflowLog

        MlflowLog(mlflow).add(run, curves)
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
