"""The command line's `nas dynamic` and `nas adapt`: networks that change their compute."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from nas.commands.options import Json

Folder = Annotated[Path, typer.Argument(help="What `nas export --dynamic` wrote.")]
Data = Annotated[
    str | None, typer.Option(help="Images, such as cifar10.  [default: those it was trained on]")
]


def dynamic(
    folder: Folder,
    max_flops: Annotated[
        str | None, typer.Option(help="Most multiply-accumulates of an image, such as 3M.")
    ] = None,
    max_latency: Annotated[
        str | None, typer.Option(help="Longest time on --device, such as 5ms.")
    ] = None,
    device: Annotated[str | None, typer.Option(help="Device that the run was priced for.")] = None,
    test: Annotated[
        bool, typer.Option("--test", help="Score on test images; with a budget, what it chose.")
    ] = False,
    data: Data = None,
    as_json: Json = False,
) -> None:
    """Print the subnets of a dynamic network and which one a budget switches to."""
    from nas.commands.show.dynamic import print_dynamic

    print_dynamic(
        folder,
        max_flops=max_flops,
        max_latency=max_latency,
        device=device,
        test=test,
        data=data,
        as_json=as_json,
    )


def adapt(
    folder: Folder,
    max_flops: Annotated[
        str | None, typer.Option(help="Most multiply-accumulates of an image on average.")
    ] = None,
    max_loss: Annotated[
        float | None,
        typer.Option(help="Or the points of accuracy that the best subnet may lose, such as 0.5."),
    ] = None,
    data: Data = None,
    as_json: Json = False,
) -> None:
    """Let a cheap pass decide the resolution of each image; the rule is kept in the folder.

    It is calibrated on validation images and scored on test images.
    """
    from nas.commands.show.dynamic import print_adapted

    print_adapted(folder, data, max_flops=max_flops, max_loss=max_loss, as_json=as_json)
