"""Shows where a trained network is right and wrong, by class: `nas scores`. Options and printing.

Does not know how scores are computed.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from nas.commands.options import Json
from nas.commands.using.predict import Network
from search_spaces.errors import UserError

if TYPE_CHECKING:
    from evaluators.accuracy.class_scores import ClassScores

MAX_COLUMNS = 20
"""Most classes of a confusion matrix that is printed whole."""

MAX_PAIRS = 10
"""Most confused pairs of classes that are printed."""

MAX_MISTAKES = 10
"""Most mistakes that are printed."""


def scores(
    place: Network,
    data: Annotated[
        Path | None,
        typer.Option(
            metavar="PATH",
            help="Folder with one folder of images per class, or a table of labelled sentences, to "
            "score on.  [default: the scores on the test part that the run has kept]",
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """Show accuracy by class, confusions and mistakes of a trained network.

    Example: nas scores runs/first --data more-photos
    """
    from nas.commands.show.console import print_json

    if data is None:
        from nas.inference.opening import export_folder
        from nas.run.folder import read_scores

        folder = export_folder(place)
        kept = read_scores(folder)
        if kept is None:
            raise UserError(
                f"{folder} has no scores by class: expected --data with labelled samples, or a "
                "classifier that this version has trained"
            )
        found = kept
    else:
        from nas.inference.opening import open_network

        found = open_network(place).scores(data)
    if as_json:
        print_json(found.to_json())
        return
    print_scores(found)


def print_scores(found: ClassScores) -> None:
    """Print accuracy by class, confusion matrix and mistakes."""
    from rich.table import Table
    from rich.text import Text

    from nas.commands.show.console import make_console

    console = make_console()
    low, high = found.interval
    console.print(
        f"accuracy [bold]{found.accuracy:.2%}[/] (95 % interval {low:.2%} to {high:.2%}) on "
        f"{found.samples} {found.unit}"
    )
    table = Table(box=None, pad_edge=False)
    table.add_column("class", overflow="fold")
    for head in ("accuracy", "95 % interval", found.unit):
        table.add_column(head, justify="right", no_wrap=True)
    for one in found.by_class:
        cells: list[Text | str] = [Text(one.label), "", "", str(one.samples)]
        if one.interval is not None and one.accuracy is not None:
            cells[1:3] = [f"{one.accuracy:.1%}", f"{one.interval[0]:.1%} to {one.interval[1]:.1%}"]
        table.add_row(*cells)
    console.print(table)
    if len(found.classes) <= MAX_COLUMNS:
        table = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0))
        table.add_column("class and what it is taken for", overflow="fold")
        for number in range(len(found.classes)):
            table.add_column(str(number), justify="right", no_wrap=True)
        for number, (label, row) in enumerate(zip(found.classes, found.confusion, strict=True)):
            counts = ("" if count == 0 else str(count) for count in row)
            table.add_row(Text(f"{number} {label}"), *counts)
        console.print()
        console.print(table)
    elif found.confusions:
        table = Table(box=None, pad_edge=False)
        for head in ("class", "taken for", found.unit):
            table.add_column(head)
        for label, other, count in found.confusions[:MAX_PAIRS]:
            table.add_row(Text(label), Text(other), str(count))
        console.print()
        console.print(table)
    if found.mistakes:
        table = Table(box=None, pad_edge=False)
        table.add_column("most confident mistakes", overflow="fold")
        for head in ("class", "predicted", "probability"):
            table.add_column(head)
        for mistake in found.mistakes[:MAX_MISTAKES]:
            name = mistake.name if mistake.name is not None else f"sample {mistake.index}"
            predicted = f"{mistake.probability:.1%}"
            table.add_row(Text(name), Text(mistake.label), Text(mistake.predicted), predicted)
        console.print()
        console.print(table)
