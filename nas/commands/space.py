"""`nas space`: studies of search spaces. Options only."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from evaluators.sizes import LARGEST_SEED
from nas.commands import completion
from nas.commands.options import (
    Json,
    Quiet,
    RayAddress,
    Workers,
    finite,
    read,
    resources_of,
)
from search_spaces.errors import UserError

app = typer.Typer(
    name="space",
    help="Compare search spaces by the networks that they make likely.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
)


@app.callback()
def _group() -> None:
    """Keep `compare` a command of its own: typer would merge a single one into the group."""


@app.command()
def compare(
    spaces: Annotated[
        list[str],
        typer.Argument(
            metavar="SPACE...",
            help="Search spaces: names, or file.py:OBJECT.",
            show_default=False,
            autocompletion=completion.spaces,
        ),
    ],
    data: Annotated[
        str | None,
        typer.Option(metavar="NAME|PATH", help="Data, as for nas search.  [default: digits]"),
    ] = None,
    max_flops: Annotated[
        str | None,
        typer.Option(metavar="SIZE", help="Maximum FLOPs, such as 3M.  [default: no bound]"),
    ] = None,
    min_flops: Annotated[
        str | None,
        typer.Option(metavar="SIZE", help="Minimum FLOPs.  [default: 80 % of the maximum]"),
    ] = None,
    networks: Annotated[
        int, typer.Option(metavar="N", min=2, max=100_000, help="Random networks of each space.")
    ] = 16,
    epochs: Annotated[
        float | None,
        typer.Option(
            metavar="EPOCHS",
            help="Train each for this long.  [default: 1]",
            callback=finite(above=0),
        ),
    ] = None,
    each: Annotated[
        str | None,
        typer.Option(
            "--time",
            metavar="TIME",
            help="Instead, train each for a time, such as 60s.  [default: --epochs]",
        ),
    ] = None,
    out: Annotated[
        Path,
        typer.Option(metavar="DIR", help="Folder of the trainings; repeated, the command goes on."),
    ] = Path("runs/spaces"),
    seed: Annotated[
        int,
        typer.Option(metavar="N", help="Seed of networks and trainings.", min=0, max=LARGEST_SEED),
    ] = 0,
    quiet: Quiet = False,
    as_json: Json = False,
    workers: Workers = 0,
    ray_address: RayAddress = None,
) -> None:
    """Train random networks of spaces equally long; compare their errors.

    A space is better if its networks have lower errors throughout. Options of a space whose
    networks are clearly better or worse than its others are named, so that its ranges can be
    narrowed.

    Example: nas space compare cnn mobilenet --max-flops 300k --networks 8 --epochs 2
    """
    from evaluators.sizes import parse_seconds, parse_size
    from nas.commands.training.spaces import compare_and_print
    from nas.studies.space_comparison import Length

    seconds = read("--time", parse_seconds, each)
    if seconds is not None and epochs is not None:
        raise UserError("--epochs and --time are two lengths of a training: expected one")
    compare_and_print(
        spaces,
        data,
        Length(epochs or 1.0) if seconds is None else Length(seconds=seconds),
        out,
        highest=read("--max-flops", parse_size, max_flops),
        lowest=read("--min-flops", parse_size, min_flops),
        count=networks,
        seed=seed,
        resources=resources_of(workers, ray_address),
        quiet=quiet,
        as_json=as_json,
    )
