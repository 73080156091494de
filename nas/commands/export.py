"""Taking a network away on the command line: `nas export`, `compare` and `curves`.

Reads options. Does nothing itself.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from nas.commands.options import Json, Mlflow, RunFolder


def export(
    run: RunFolder,
    out: Annotated[Path, typer.Option(help="Folder to write.")],
    arch: Annotated[
        str,
        typer.Option(help="Id (a prefix will do), 'best', 'knee', or a folder in RUN/trained."),
    ] = "best",
    formats: Annotated[
        str,
        typer.Option("--format", help="Comma-separated: safetensors,onnx,pt2,python,executorch."),
    ] = "safetensors,onnx",
    int8: Annotated[
        bool, typer.Option("--int8", help="The ONNX file in eight bits too, its accuracy measured.")
    ] = False,
    all_frontier: Annotated[
        bool, typer.Option("--all-frontier", help="Every network of the frontier, a folder each.")
    ] = False,
    dynamic: Annotated[
        bool,
        typer.Option("--dynamic", help="One network of all the frontier's, switched as it runs."),
    ] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the folder.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet")] = False,
) -> None:
    """Export a trained architecture, or one with its inherited weights if it was not trained.

    With a model card and an efficiency record; all files are loaded and compared in a new process.
    """
    if dynamic:
        from nas.commands.show.dynamic import export_dynamic_and_print

        export_dynamic_and_print(run, out, overwrite=overwrite)
        return
    from nas.commands.show.export import export_and_print, export_frontier_and_print

    names = [name for name in formats.split(",") if name]
    if all_frontier:
        export_frontier_and_print(
            run, out, formats=names, int8=int8, overwrite=overwrite, quiet=quiet
        )
        return
    export_and_print(run, arch, out, formats=names, int8=int8, overwrite=overwrite, quiet=quiet)


def compare(
    first: Annotated[Path, typer.Argument(help="efficiency.json, or an exported folder.")],
    second: Annotated[Path, typer.Argument(help="The other one.")],
    as_json: Json = False,
) -> None:
    """Compare two efficiency records: ratios, and what makes them hard to compare."""
    from nas.release.compare import compare_and_print

    compare_and_print(first, second, as_json=as_json)


def curves(
    run: RunFolder,
    tensorboard: Annotated[
        Path | None, typer.Option(help="Folder to write TensorBoard's event files to.")
    ] = None,
    mlflow: Mlflow = None,
    as_json: Json = False,
) -> None:
    """List a run's learning curves; write them for TensorBoard, log them to MLflow."""
    from nas.commands.show.curves import curves_and_print

    curves_and_print(run, tensorboard=tensorboard, mlflow=mlflow, as_json=as_json)
