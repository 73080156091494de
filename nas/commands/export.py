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
    with_preprocessing: Annotated[
        bool,
        typer.Option(
            "--with-preprocessing",
            help="Also write the ONNX file with the preprocessing in it: pixels of a picture of "
            "any size in, probabilities out.",
        ),
    ] = False,
    app: Annotated[
        bool,
        typer.Option(
            "--app",
            help="Also write a program and an offline web page that classify pictures.",
        ),
    ] = False,
    web_runtime: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="Folder of the npm package onnxruntime-web, for the page.  [default: npm fetches "
            "it once]",
        ),
    ] = None,
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
    are loaded and compared in a new process. Every export has labels.json, the classes in order.

    Example: nas export runs/first --arch knee --format onnx,python --out taken
    """
    one = "--arch" if arch != "best" else None
    if dynamic:
        other = "--all-frontier" if all_frontier else one
        switches = {
            "--int8": int8,
            "--with-preprocessing": with_preprocessing,
            "--app": app,
            "--web-runtime": web_runtime is not None,
            "--format": formats != FORMATS_BY_DEFAULT,
        }
        option = other or next((name for name, given in switches.items() if given), None)
        if option is not None:
            raise UserError(f"--dynamic exports one network of several: expected no {option}")
        from nas.commands.show.dynamic import export_dynamic_and_print

        export_dynamic_and_print(run, out, overwrite=overwrite, quiet=quiet)
        return
    from nas.commands.show.export import export_and_print, export_frontier_and_print
    from nas.release.bundle import Extras

    names = [name for name in formats.split(",") if name]
    extras = Extras(int8, with_preprocessing, app, web_runtime)
    if all_frontier and one:
        raise UserError("--all-frontier exports every network of the frontier: expected no --arch")
    if all_frontier:
        export_frontier_and_print(
            run, out, formats=names, extras=extras, overwrite=overwrite, quiet=quiet
        )
        return
    export_and_print(run, arch, out, formats=names, extras=extras, overwrite=overwrite, quiet=quiet)


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
