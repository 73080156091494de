"""Options and arguments that several commands share, and how a malformed value is reported.

Does not know what the commands do with them.
"""

from __future__ import annotations

import contextlib
import functools
import inspect
import math
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, TypeVar

import typer

from nas.commands import completion
from nas.workers.resources import Resources
from search_spaces.errors import UserError

Value = TypeVar("Value")
Command = TypeVar("Command", bound=Callable[..., None])

WORKERS = "Workers"
OUTPUT = "Output"

ARCHITECTURE = "'best', 'knee', or an id (a unique prefix is enough)"

RunFolder = Annotated[
    Path,
    typer.Argument(
        metavar="RUN",
        help="Folder of a run.",
        show_default=False,
        autocompletion=completion.runs,
    ),
]
Arch = Annotated[
    str,
    typer.Argument(
        metavar="ARCH", help=f"{ARCHITECTURE}.", autocompletion=completion.architectures
    ),
]
SpaceName = Annotated[
    str,
    typer.Option(
        "--space",
        metavar="NAME",
        help="Search space: a name, or file.py:OBJECT.",
        autocompletion=completion.spaces,
    ),
]
Workers = Annotated[
    int,
    typer.Option(
        metavar="N",
        min=0,
        help="Number of Ray workers; 0 runs everything in this process.",
        rich_help_panel=WORKERS,
    ),
]
RayAddress = Annotated[
    str | None,
    typer.Option(
        metavar="HOST:PORT",
        help="Address of a Ray cluster for the workers, or auto.  [default: Ray on this machine]",
        rich_help_panel=WORKERS,
    ),
]
Mlflow = Annotated[
    str | None,
    typer.Option(
        metavar="URI",
        help="Log the learning curves to MLflow: http://HOST:PORT or sqlite:///FILE.  "
        "[default: not logged]",
    ),
]
TensorBoard = Annotated[
    str | None,
    typer.Option(
        "--tensorboard",
        metavar="DIR",
        help="Log the learning curves to TensorBoard's event files in this folder, or auto for one "
        "inside the run.  [default: not logged]",
    ),
]
Wandb = Annotated[
    str | None,
    typer.Option(
        metavar="PROJECT",
        help="Log the learning curves to this project of Weights & Biases.  [default: not logged]",
    ),
]
Quiet = Annotated[bool, typer.Option("--quiet", help="Print no progress, only the result.")]
Json = Annotated[bool, typer.Option("--json", help="Print only JSON on standard output.")]


Trust = Annotated[
    bool,
    typer.Option(
        "--trust",
        help="Run the Python files that the run was made with, if you have not run them before.",
    ),
]


def with_trust(function: Command) -> Command:
    """Give a command `--trust`, with which it runs the Python files that a run was made with."""
    own = inspect.signature(function, eval_str=True)
    trust = inspect.Parameter(
        "trust", inspect.Parameter.KEYWORD_ONLY, default=False, annotation=Trust
    )
    rest = [p for p in own.parameters.values() if p.kind is p.VAR_KEYWORD]
    kept = [p for p in own.parameters.values() if p.kind is not p.VAR_KEYWORD]

    @functools.wraps(function)
    def call(*, trust: bool = False, **values: Any) -> None:
        from nas.task.own_code import trusting

        with trusting() if trust else contextlib.nullcontext():
            function(**values)

    call.__signature__ = own.replace(parameters=[*kept, trust, *rest])  # type: ignore[attr-defined]
    return call  # type: ignore[return-value]


def finite(
    least: float | None = None, *, above: float | None = None, below: float | None = None
) -> Callable[[float | None], float | None]:
    """A callback of an option: refuses what is no finite number, and numbers out of a range.

    Args:
        least: smallest number.
        above: number that it has to exceed.
        below: number that it must not reach.
    """

    def check(value: float | None) -> float | None:
        if value is None:
            return None
        wanted = [
            *([] if least is None else [(value >= least, f"at least {least:g}")]),
            *([] if above is None else [(value > above, f"more than {above:g}")]),
            *([] if below is None else [(value < below, f"less than {below:g}")]),
        ]
        if not math.isfinite(value) or not all(holds for holds, _ in wanted):
            words = " and ".join(text for _, text in wanted) or "a finite number"
            raise typer.BadParameter(f"{value:g} is not in the range: expected {words}")
        return value

    return check


def device_option(text: str) -> Any:
    """Return the option `--device` with a help text; the shell completes names of devices."""
    return typer.Option(metavar="NAME", help=text, autocompletion=completion.devices)


def read(option: str, parse: Callable[[str], Value], text: str | None) -> Value | None:
    """Return the value of an option written as text; None where it is not given.

    Raises:
        UserError: for malformed text; the message begins with the option.
    """
    if text is None:
        return None
    try:
        return parse(text)
    except UserError as error:
        raise UserError(f"{option}: {error}") from error


def resources_of(workers: int, ray_address: str | None) -> Resources:
    """Return the workers of `--workers` and `--ray-address`.

    Raises:
        UserError: for an address without a number of workers.
    """
    if ray_address and not workers:
        raise UserError("--ray-address needs --workers N, the number of actors to use there")
    return Resources(workers, ray_address)
