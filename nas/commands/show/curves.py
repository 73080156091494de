"""Lists the learning curves of a run, logs them, and logs those of a search while it runs.

A run stores its curves as JSON lines (`nas/training/curve.py`): those of the supernet, of networks
that trained alone, and of a relaxation. Knows which logs there are (`nas/training/logs`). Does not
know how networks train.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from rich.table import Table

from nas.commands.show.console import make_console, print_json
from nas.run.curves import curves_of
from nas.run.folder import Run
from nas.training.logs import log as logs
from nas.training.logs.log import CurveLog
from search_spaces.errors import UserError


@dataclass(frozen=True)
class LogOptions:
    """Where learning curves are logged; None: not there.

    Args:
        tensorboard: a folder, or `auto`, which is one inside the run.
        mlflow: address of an MLflow server or database.
        wandb: a project of Weights & Biases.
    """

    tensorboard: str | None = None
    mlflow: str | None = None
    wandb: str | None = None

    def opened(self, *, replace: bool = False) -> list[CurveLog]:
        """The logs, opened.

        Args:
            replace: replace what was logged of a run, instead of going on after it.

        Raises:
            UserError: for a package that is not installed, and a log that does not answer.
        """
        found: list[CurveLog] = []
        if self.tensorboard is not None:
            from nas.training.logs.tensorboard import TensorBoardLog

            found.append(TensorBoardLog(self.tensorboard, replace=replace))
        if self.wandb is not None:
            from nas.training.logs.wandb import WandbLog

            found.append(WandbLog(self.wandb, replace=replace))
        if self.mlflow is not None:
            from nas.training.logs.mlflow import MlflowLog

            found.append(MlflowLog(self.mlflow))
        return found

    def event_files(self, run: Path) -> Path:
        """The folder of TensorBoard's event files."""
        return run / "tensorboard" if self.tensorboard == "auto" else Path(self.tensorboard or "")

    def again(self, folder: Path) -> str:
        """The command that logs the curves of a run."""
        given = {"tensorboard": self.tensorboard, "mlflow": self.mlflow, "wandb": self.wandb}
        options = (f"--{name} {value}" for name, value in given.items() if value is not None)
        return f"nas curves {folder} {' '.join(options)}"


@contextmanager
def logged_to(options: LogOptions, folder: Path) -> Iterator[None]:
    """Log the curves of a run while the body trains.

    Args:
        options: where.
        folder: the run; of a new one, `nas.engine.search` begins the logs.

    Raises:
        UserError: before the body, for a log that cannot be opened; after the body, with the run
            complete, if the curves could not be logged.
    """
    opened = options.opened()
    if not opened:
        yield
        return
    with logs.logging_to(opened) as open_logs:
        if (folder / "specification.json").exists():
            logs.begin(folder, Run(folder).specification)
        try:
            yield
        except BaseException:
            for one in open_logs:
                # The reason of the search's end is the one to be told.
                with suppress(UserError):
                    one.log.end({})
            raise
    failures = [one.failure for one in open_logs if one.failure is not None]
    curves = curves_of(Run(folder))
    for one in open_logs:
        try:
            one.log.end(curves)
        except UserError as error:
            failures.append(error)
    if failures:
        raise UserError(f"{failures[0]}; to retry: {options.again(folder)}")


def curves_and_print(folder: Path, options: LogOptions, *, as_json: bool) -> None:
    """List the learning curves of a run, or print their points as JSON: `nas curves`.

    Args:
        folder: the run.
        options: also log the curves there, in place of what was logged of them before.
        as_json: print JSON.

    Raises:
        UserError: for a run without curves, a file that cannot be read, or a log that does not
            answer.
    """
    run = Run(folder)
    curves = curves_of(run)
    if not curves:
        raise UserError(f"{folder} has no learning curves: nothing has been trained in it yet")
    settings = logs.settings_of(run.specification)
    for log in options.opened(replace=True):
        log.begin(run.folder, settings)
        for name, points in curves.items() if not log.replaces else ():
            for index, point in enumerate(points):
                log.point(name, int(point.get("step", index)), logs.values_of(point))
        log.end(curves)
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
    if options.tensorboard is not None:
        console.print(f"tensorboard --logdir {options.event_files(folder)}", soft_wrap=True)
    if options.mlflow is not None:
        console.print(f"logged to MLflow at {options.mlflow}", soft_wrap=True, markup=False)
    if options.wandb is not None:
        console.print(f"logged to wandb, project {options.wandb}", soft_wrap=True, markup=False)
