"""Classifies files or sentences, or goes on with a text: `nas predict`. Options and printing.

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
from nas.inference.sampling import Sampling
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
        typer.Option(
            metavar="TEXT",
            help="Sentence to classify, or text that a language model goes on with (repeatable).  "
            "[default: none]",
        ),
    ] = None,
    top: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            min=1,
            help=f"Number of classes to print; of a language model, most probable tokens to draw "
            f"from.  [default: {TOP_OF_TABLE}, all with --json and of tokens]",
        ),
    ] = None,
    tokens: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            min=1,
            help=f"Tokens that a language model goes on for.  [default: {Sampling.tokens}]",
        ),
    ] = None,
    temperature: Annotated[
        float | None,
        typer.Option(
            metavar="T",
            min=0.0,
            help="Divides a language model's logits; 0 takes the most probable token.  "
            f"[default: {Sampling.temperature}]",
        ),
    ] = None,
    seed: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            min=0,
            help=f"Seed of a language model's draws.  [default: {Sampling.seed}]",
        ),
    ] = None,
    as_csv: Annotated[
        bool, typer.Option("--csv", help="Print CSV: a line for each class that is printed.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Classify images or sentences, or go on with a text, by a network.

    Images are prepared as the images that the network was trained on. With --json, each line is an
    object with the input, its label and the probabilities; of a language model, with the text and
    its continuation.

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
    draws = {"tokens": tokens, "temperature": temperature, "seed": seed}
    given: dict[str, Any] = {name: value for name, value in draws.items() if value is not None}
    if text and predictor.generates:
        sampling = Sampling(**given, most=top)
        continued = [(one, predictor.generate(one, sampling)) for one in text]
        _print_continued(continued, as_json=as_json, as_csv=as_csv)
        return
    predictor.check(images=not text)
    if given:
        raise UserError(f"--{next(iter(given))} is for language models, and {place} is none")
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
    rows: list[Sequence[object]] = [(kind, "rank", "label", "probability")]
    for one in predictions:
        for rank, (label, value) in enumerate(list(one.probabilities.items())[:top], start=1):
            rows.append((one.input, rank, label, f"{value:.6f}"))
    _print_rows(rows)


def _print_rows(rows: Sequence[Sequence[object]]) -> None:
    from nas.commands.show.result import print_result

    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    print_result(text.getvalue(), end="")


def _print_continued(continued: Sequence[tuple[str, str]], *, as_json: bool, as_csv: bool) -> None:
    from nas.commands.show.console import print_json
    from nas.commands.show.result import print_result

    if as_csv:
        _print_rows([("text", "continuation"), *continued])
        return
    for text, more in continued:
        if as_json:
            print_json({"text": text, "continuation": more}, indent=None)
        else:
            print_result(f"{text}{more}")


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
