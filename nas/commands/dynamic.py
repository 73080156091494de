"""`nas dynamic` and `nas adapt`: networks whose compute changes at run time. Options only."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from nas.commands.options import Json, device_option, with_trust

Folder = Annotated[
    Path, typer.Argument(metavar="DIR", help="Folder that `nas export --dynamic` wrote.")
]
Data = Annotated[
    str | None,
    typer.Option(
        metavar="NAME", help="Images, such as cifar10.  [default: those of the run's training]"
    ),
]


@with_trust
def dynamic(
    folder: Folder,
    max_flops: Annotated[
        str | None,
        typer.Option(
            metavar="SIZE", help="Maximum FLOPs of an image, such as 3M.  [default: no bound]"
        ),
    ] = None,
    max_latency: Annotated[
        str | None,
        typer.Option(
            metavar="TIME", help="Maximum latency on --device, such as 5ms.  [default: no bound]"
        ),
    ] = None,
    device: Annotated[
        str | None,
        device_option("Device that the run was priced for.  [default: none]"),
    ] = None,
    test: Annotated[
        bool,
        typer.Option(
            "--test", help="Score on test images: all subnets, or the one within the budget."
        ),
    ] = False,
    data: Data = None,
    as_json: Json = False,
) -> None:
    """List the subnets of a dynamic network, and the one for a budget.

    Example: nas dynamic taken --max-flops 150k
    """
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
        str | None,
        typer.Option(metavar="SIZE", help="Maximum mean FLOPs per image.  [default: no bound]"),
    ] = None,
    max_loss: Annotated[
        float | None,
        typer.Option(
            metavar="POINTS",
            help="Instead: maximum loss of accuracy against the best subnet, in percentage points, "
            "such as 0.5.  [default: no bound]",
        ),
    ] = None,
    data: Data = None,
    as_json: Json = False,
) -> None:
    """Choose the resolution per image by a cheap first pass.

    The rule is calibrated on validation images, scored on test images and kept in the folder.

    Example: nas adapt taken --max-loss 0.5
    """
    from nas.commands.show.dynamic import print_adapted

    print_adapted(folder, data, max_flops=max_flops, max_loss=max_loss, as_json=as_json)
