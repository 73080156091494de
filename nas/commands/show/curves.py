"""Lists the learning curves of a run, or exports them to TensorBoard and MLflow: `nas curves`.

A run stores its curves as JSON lines (`nas/training/curve.py`): those of the supernet, of networks
that trained alone, and of a relaxation. Knows the files of a run and tensorboardX. Does not know
MLflow (`mlflow_log.py`) or how networks train.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rich.table import Table

from nas.commands.show.console import make_console, print_json
from nas.run.curves import Points, read_curve, scalars
from nas.run.folder import Run
from search_spaces.errors import UserError


@contextmanager
def logged_to(mlflow: str | None, folder: Path) -> Iterator[None]:
    """Log the curves of a run to MLflow when the body has ended.

    Args:
        mlflow: address of MLflow; None: the curves are not logged.
        folder: the run.

    Raises:
        UserError: before the body, if MLflow does not answer; after the body, with the run
            complete, if the curves cannot be logged.
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
        raise UserError(f"{error}; to retry: nas curves {folder} --mlflow {mlflow}") from error


def curves_of(run: Run) -> dict[str, list[dict[str, Any]]]:
    """Read the points of each curve, by name such as `supernet` or `trained/0a1b2c-80-epochs`.

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
    """Write each curve as an event file in `folder/NAME`, replacing an earlier one."""
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
    """List the learning curves of a run, or print their points as JSON: `nas curves`.

    Args:
        folder: the run.
        tensorboard: also write event files to this folder.
        mlflow: also log the curves to MLflow at this address.
        as_json: print JSON.

    Raises:
        UserError: for a run without curves, a file that cannot be read, or an MLflow that does not
            answer.
    """
    run = Run(folder)
    curves = curves_of(run)
    if not curves:
        raise UserError(f"{folder} has no learning curves: nothing has been trained in it yet")
    if tensorboard is not None:
        to_tensorboard(curves, tensorboard)
    if mlflow is not None:
        from nas.commands.show.mlflow_log import MlflowLog

        MlflowLog(mlflow).add(run, curves)
    if as_json:
        print_json(curves, indent=None)
        return
    table = Table(title=f"learning curves of {folder}", title_justify="left")
    for header in ("curve", "points", "last step", "last loss"):
        table.add_column(header, justify="left" if header == "curve" else "right")
    for name, points in curves.items():
        last = points[-1]
        loss = f"{last['loss']:.4g}" if "loss" in last else ""
        table.add_row(name, str(len(points)), str(last.get("step", "")), loss)
    console = make_console()
    console.print(table)
    if tensorboard is not None:
        console.print(f"tensorboard --logdir {tensorboard}", soft_wrap=True)
    if mlflow is not None:
        console.print(f"logged to MLflow at {mlflow}", soft_wrap=True, markup=False)
