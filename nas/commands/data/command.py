"""`nas data`: options only."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from nas.commands import completion
from nas.commands.options import Json


def data(
    name: Annotated[
        str,
        typer.Argument(
            metavar="DATA",
            help="What --data of nas search takes: a known name, OWNER/NAME on the Hugging Face "
            "hub, or a path.",
            show_default=False,
        ),
    ],
    space: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="Search space, whose networks take images, text or sentences.  "
            "[default: by the files]",
            autocompletion=completion.spaces,
        ),
    ] = None,
    image_size: Annotated[
        int | None,
        typer.Option(
            metavar="PIXELS",
            help="Size that a search would be given.  [default: by the images]",
            min=8,
            max=8192,
        ),
    ] = None,
    html: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="Write a page with samples of each class.  [default: no page]"
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """Describe a data set, and what a search does with it.

    Prints samples by class and part, why they are of that part, sizes and modes of images, what
    cannot be read, and equal samples. Exits with 1 if a search would refuse the data.

    Example: nas data my-images --html my-images.html
    """
    from nas.commands.data.report import describe_and_print

    refused = describe_and_print(
        name, space=space, image_size=image_size, html=html, as_json=as_json
    )
    raise typer.Exit(int(refused))
