"""The command line's `nas device`: what is known of devices, and how to measure one's latency."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from nas.commands.options import Json

app = typer.Typer(
    name="device",
    help="Devices: what they can do, and what networks take on them.",
    no_args_is_help=True,
    rich_markup_mode=None,
)


@app.command("list")
def list_devices(as_json: Json = False) -> None:
    """Print every known device and what its latencies come from."""
    from nas.commands.devices.listing import print_devices

    print_devices(as_json=as_json)


@app.command()
def show(
    name: str = typer.Argument(help="A device's name, or the path of its file."),
    as_json: Json = False,
) -> None:
    """Print a device's figures, each with its source and year."""
    from nas.commands.devices.listing import print_device

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
    from nas.commands.devices.fit import print_fit

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
    from nas.commands.devices.fit import print_proposals

    print_proposals(space, number, max_flops=max_flops, seed=seed)


@app.command()
def measure(
    name: Annotated[str, typer.Option(help="What to call the device.")] = "this-machine",
    space: Annotated[str, typer.Option(help="Name, or file.py:OBJECT.")] = "mobilenet",
    runtime: Annotated[
        str, typer.Option(help="onnxruntime, torch or torch-compile.")
    ] = "onnxruntime",
    threads: Annotated[int, typer.Option(help="Threads of an operator.", min=1)] = 1,
    batch: Annotated[int, typer.Option(help="Samples of an inference.", min=1)] = 1,
    budget: Annotated[str, typer.Option(help="Longest time, such as 10m.")] = "10m",
    calibrate: Annotated[
        int, typer.Option(help="Whole networks that correct the sum of blocks.", min=0)
    ] = 20,
    image_size: Annotated[
        int | None, typer.Option(help="Pixels, as of the data.  [default: the space's]")
    ] = None,
    classes: Annotated[
        int | None, typer.Option(help="Of the data.  [default: the space's]")
    ] = None,
    torch_device: Annotated[str, typer.Option(help="cpu, cuda, ... for torch.")] = "cpu",
    script: Annotated[
        Path | None, typer.Option(help="Write a script to measure another device to this folder.")
    ] = None,
    result: Annotated[
        Path | None, typer.Option("--from", help="What that script wrote: result.json.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="File to write.  [default: among the user's tables]")
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Start the table anew.")] = False,
    as_json: Json = False,
) -> None:
    """Measure a space's blocks on a device: a latency table that searches are priced with.

    Interrupted, or for longer than --budget, the same command goes on where it was.
    """
    from nas.commands.devices.measure import Asked, measure_and_print

    measure_and_print(
        name,
        Asked(space, image_size, classes),
        runtime=runtime,
        threads=threads,
        batch=batch,
        torch_device=torch_device,
        budget=budget,
        calibrate=calibrate,
        script=script,
        result=result,
        out=out,
        overwrite=overwrite,
        as_json=as_json,
    )


@app.command()
def check(
    name: Annotated[str, typer.Argument(help="A measured device, or a table's path.")],
    space: Annotated[
        str | None, typer.Option(help="Which of its tables, where there are several.")
    ] = None,
    runtime: Annotated[
        str | None, typer.Option(help="Refuse a table of another.  [default: the table's]")
    ] = None,
    networks: Annotated[int, typer.Option(help="How many to measure.", min=3)] = 30,
    seed: Annotated[int, typer.Option(help="Which ones.")] = 1,
    html: Annotated[Path | None, typer.Option(help="Also write a scatter plot.")] = None,
    as_json: Json = False,
) -> None:
    """Measure whole networks that a table never saw, and say how well it predicts them."""
    from nas.commands.devices.check import check_and_print

    check_and_print(
        name,
        space_name=space,
        runtime=runtime,
        networks=networks,
        seed=seed,
        html=html,
        as_json=as_json,
    )
