"""The command line's `nas device`: what is known of devices, and how to measure one's latency."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from nas.search_command import Json

app = typer.Typer(
    name="device",
    help="Devices: what they can do, and what networks take on them.",
    no_args_is_help=True,
    rich_markup_mode=None,
)


@app.command("list")
def list_devices(as_json: Json = False) -> None:
    """Print every known device and what its latencies come from."""
    from nas.device_show import print_devices

    print_devices(as_json=as_json)


@app.command()
def show(
    name: str = typer.Argument(help="A device's name, or the path of its file."),
    as_json: Json = False,
) -> None:
    """Print a device's figures, each with its source and year."""
    from nas.device_show import print_device

    print_device(name, as_json=as_json)


@app.command()
def fit(
    name: Annotated[str, typer.Option(help="What to call the device.")],
    space: Annotated[str, typer.Option(help="Name, or file.py:OBJECT.")],
    file: Annotated[
        Path,
        typer.Option("--from", help="Architectures with milliseconds: .parquet, .csv, .jsonl."),
    ],
    metric: Annotated[
        str | None, typer.Option(help="Column of milliseconds.  [default: latency_ms_NAME]")
    ] = None,
    samples: Annotated[
        int | None, typer.Option(help="Fit on so many random rows, test on the rest.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Which rows those are.")] = 0,
    out: Annotated[
        Path | None, typer.Option(help="File to write.  [default: among the user's tables]")
    ] = None,
    as_json: Json = False,
) -> None:
    """Learn a device's latencies from a few whole networks that were timed on it."""
    from nas.device_fit import print_fit

    print_fit(
        name, space, file, metric=metric, samples=samples, seed=seed, out=out, as_json=as_json
    )


@app.command()
def propose(
    space: Annotated[str, typer.Option(help="Name, or file.py:OBJECT.")],
    number: Annotated[int, typer.Option(help="How many architectures.")] = 20,
    max_flops: Annotated[
        str | None, typer.Option(help="Most multiply-accumulates, such as 50M.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Of the random ones among which they are chosen.")] = 0,
) -> None:
    """Print architectures to time for `fit`, the most telling first, one JSON object a line."""
    from nas.device_fit import print_proposals

    print_proposals(space, number, max_flops=max_flops, seed=seed)
