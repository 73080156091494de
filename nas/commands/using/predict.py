"""Classifies files or sentences by a trained network: `nas predict`. Options and printing.

Does not know how a prediction is made.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from nas.commands.options import Json
from search_spaces.errors import UserError

if TYPE_CHECKING:
    from nas.inference.predictor import Prediction

TOP_OF_TABLE = 3
"""Classes of a row of the table, unless `--top` is given."""

Network = Annotated[
    Path,
    typer.Argument(
        metavar="DIR",
        help="Folder of an export, or of a run, whose winner is taken; or an ONNX file of an "
        "export.",
        show_default=False,
    ),
]


def predict(
    place: Network,
    images: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[IMAGES]...",
            help="Image files, folders of them, and patterns such as 'photos/*.jpg'.",
            show_default=False,
        ),
    ] = None,
    text: Annotated[
        list[str] | None,
        typer.Option(metavar="TEXT", help="Sentence to classify (repeatable).  [default: none]"),
    ] = None,
    top: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            min=1,
            help=f"Number of classes to print.  [default: {TOP_OF_TABLE}, all with --json]",
        ),
    ] = None,
    as_csv: Annotated[
        bool, typer.Option("--csv", help="Print CSV: a line for each class that is printed.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Classify images or sentences by a trained network.

    Images are prepared as the images that the network was trained on. With --json, each line is an
    object with the input, its label and the probabilities.

    Example: nas predict runs/first photos/ --top 5
    """
    if as_csv and as_json:
        raise UserError("--csv and --json are two forms of the same: expected one of them")
    if images and text:
        raise UserError("expected image files or --text, not both")
    if not images and not text:
        raise UserError("nothing to predict: expected image files, folders, or --text")
    from nas.inference.inputs import image_files
    from nas.inference.opening import open_network

    predictor = open_network(place)
    predictor.check(images=not text)
    if text:
        predictions = predictor.predict_texts(text)
    else:
        predictions = predictor.predict_images(image_files(images or []))
    kind = "text" if text else "image"
    if as_json:
        _print_json(predictions, kind, top)
    elif as_csv:
        _print_csv(predictions, kind, top or 1)
    else:
        _print_table(predictions, kind, top or TOP_OF_TABLE)


def _print_json(predictions: Sequence[Prediction], kind: str, top: int | None) -> None:
    from nas.commands.show.console import print_json

    for one in predictions:
        content: dict[str, Any] = {
            kind: one.input,
            "label": one.label,
            "probability": round(one.probability, 6),
            "probabilities": {
                label: round(value, 6) for label, value in list(one.probabilities.items())[:top]
            },
        }
        print_json(content, indent=None)


def _print_csv(predictions: Sequence[Prediction], kind: str, top: int) -> None:
    from nas.commands.show.result import print_result

    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([kind, "rank", "label", "probability"])
    for one in predictions:
        for rank, (label, value) in enumerate(list(one.probabilities.items())[:top], start=1):
            writer.writerow([one.input, rank, label, f"{value:.6f}"])
    print_result(text.getvalue(), end="")


def _print_table(predictions: Sequence[Prediction], kind: str, top: int) -> None:
    from rich.table import Table
    from rich.text import Text

    from nas.commands.show.console import make_console

    table = Table(box=None, pad_edge=False)
    table.add_column(kind, overflow="fold")
    table.add_column("label")
    table.add_column("probability", justify="right")
    if top > 1:
        table.add_column("next")
    for one in predictions:
        others = list(one.probabilities.items())[1:top]
        rest = ", ".join(f"{label} {value:.1%}" for label, value in others)
        cells = [one.input, one.label, f"{one.probability:.1%}", *([rest] if top > 1 else [])]
        table.add_row(*map(Text, cells))  # as text: names may hold what looks like markup
    make_console().print(table)
