"""Networks as files: `nas export`, `nas compare` and `nas curves`. Options only."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from nas.commands import completion
from nas.commands.options import (
    ARCHITECTURE,
    Json,
    Mlflow,
    Quiet,
    RunFolder,
    TensorBoard,
    Wandb,
    with_trust,
)
from search_spaces.errors import UserError

FORMATS = ("safetensors", "onnx", "pt2", "python", "executorch")
FORMATS_BY_DEFAULT = "safetensors,onnx"


@with_trust
def export(
    run: RunFolder,
    out: Annotated[Path, typer.Option(metavar="DIR", help="Folder to write.")],
    arch: Annotated[
        str,
        typer.Option(
            metavar="ARCH",
            help=f"{ARCHITECTURE}, or a folder in RUN/trained.",
            autocompletion=completion.architectures,
        ),
    ] = "best",
    formats: Annotated[
        str,
        typer.Option(
            "--format",
            metavar="NAME,...",
            help=f"Formats, separated by commas: {','.join(FORMATS)}.",
            autocompletion=completion.among(FORMATS),
        ),
    ] = FORMATS_BY_DEFAULT,
    int8: Annotated[
        bool,
        typer.Option(
            "--int8", help="Also write the ONNX file in 8 bits, and measure its accuracy."
        ),
    ] = False,
    all_frontier: Annotated[
        bool,
        typer.Option(
            "--all-frontier", help="Export every network of the frontier, each to its folder."
        ),
    ] = False,
    dynamic: Annotated[
        bool,
        typer.Option(
            "--dynamic",
            help="Export the frontier as one network that switches subnets at run time.",
        ),
    ] = False,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace what is in the folder.")
    ] = False,
    quiet: Quiet = False,
) -> None:
    """Export a network with a model card and an efficiency record.

    The network has its trained weights, or its inherited ones where it was not trained. All files
    are loaded and compared in a new process.

    Example: nas export runs/first --arch knee --format onnx,python --out taken
    """
    one = "--arch" if arch != "best" else None
    if dynamic:
        other = "--all-frontier" if all_frontier else one
        if other or int8 or formats != FORMATS_BY_DEFAULT:
            option = other or ("--int8" if int8 else "--format")
            raise UserError(f"--dynamic exports one network of several: expected no {option}")
        from nas.commands.show.dynamic import export_dynamic_and_print

        export_dynamic_and_print(run, out, overwrite=overwrite, quiet=quiet)
        return
    from nas.commands.show.export import export_and_print, export_frontier_and_print

    names = [name for name in formats.split(",") if name]
    if all_frontier and one:
        raise UserError("--all-frontier exports every network of the frontier: expected no --arch")
    if all_frontier:
        export_frontier_and_print(
            run, out, formats=names, int8=int8, overwrite=overwrite, quiet=quiet
        )
        return
    export_and_print(run, arch, out, formats=names, int8=int8, overwrite=overwrite, quiet=quiet)


def compare(
    first: Annotated[
        Path, typer.Argument(metavar="FIRST", help="efficiency.json, or an exported folder.")
    ],
    second: Annotated[Path, typer.Argument(metavar="SECOND", help="Record to compare with.")],
    as_json: Json = False,
) -> None:
    """Compare two efficiency records: ratios, and differing conditions.

    Example: nas compare taken/best taken/knee
    """
    from nas.commands.show.result import print_result
    from nas.release.compare import compare_and_print

    compare_and_print(first, second, as_json=as_json, write=print_result)


def curves(
    run: RunFolder,
    tensorboard: TensorBoard = None,
    mlflow: Mlflow = None,
    wandb: Wandb = None,
    as_json: Json = False,
) -> None:
    """List learning curves; log them to TensorBoard, MLflow or wandb.

    Example: nas curves runs/first --tensorboard curves
    """
    from nas.commands.show.curves import LogOptions, curves_and_print

    curves_and_print(run, LogOptions(tensorboard, mlflow, wandb), as_json=as_json)
