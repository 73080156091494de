"""Counting networks: `nas count` and `nas profile`. Options only."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from nas.commands.options import Json, SpaceName


def count(
    space: SpaceName,
    archs: Annotated[
        Path,
        typer.Option(
            metavar="FILE",
            help="JSON lines of choices, or of the encoding of the space's paper; - reads standard "
            "input.",
        ),
    ],
    as_json: Annotated[
        bool, typer.Option("--json", help="Print JSON lines instead of a table.")
    ] = False,
) -> None:
    """Count MACs, parameters and peak memory of architectures.

    Prints one line for each line of FILE.

    Example: nas count --space ofa-mbv3 --archs archs.jsonl --json
    """
    from nas.commands.profile.count import print_counts

    print_counts(space, archs, as_json=as_json)


def profile(
    target: Annotated[
        str,
        typer.Argument(
            metavar="NETWORK",
            help="pkg.module:function, file.py:NAME, or the path of an ONNX or Keras file.",
        ),
    ],
    inputs: Annotated[
        list[str] | None,
        typer.Option(
            "--input",
            metavar="SHAPE",
            help="Input (repeatable): 1x3x224x224, 1x128:int64 or name=1x128:bool.  "
            "[default: the file's]",
        ),
    ] = None,
    measure: Annotated[
        bool,
        typer.Option(
            "--measure/--count-only", help="Run the network and measure the time of each module."
        ),
    ] = True,
    backward: Annotated[
        bool, typer.Option("--backward/--forward-only", help="Measure gradients too.")
    ] = True,
    repeats: Annotated[
        int, typer.Option(metavar="N", help="Number of passes to measure.", min=1)
    ] = 10,
    depth: Annotated[
        int, typer.Option(metavar="N", help="Levels of modules in the table.", min=0)
    ] = 2,
    html: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="Also write a self-contained HTML page.  [default: no page]"
        ),
    ] = None,
    device: Annotated[
        str, typer.Option("--torch-device", metavar="NAME", help="PyTorch device: cpu, cuda, ...")
    ] = "cpu",
    json_output: Json = False,
) -> None:
    """Profile a network: compute, parameters and time by module.

    Works on any PyTorch, ONNX or Keras network. Suggests what could be cheaper, with the saving.

    Example: nas profile torchvision.models:resnet50 --input 1x3x224x224
    """
    from nas.commands.profile.network import profile_and_print

    profile_and_print(
        target,
        inputs or [],
        measure=measure,
        backward=backward,
        repeats=repeats,
        depth=depth,
        html=html,
        device=device,
        as_json=json_output,
    )
