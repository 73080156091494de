"""`nas device`: known devices, and latency tables of devices. Options only."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from evaluators.sizes import LARGEST_SEED
from nas.commands import completion
from nas.commands.options import Json, SpaceName

app = typer.Typer(
    name="device",
    help="List devices; measure, fit and check latency tables.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
)

Out = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE", help="File to write.  [default: in the folder of the user's tables]"
    ),
]


@app.command("list")
def list_devices(as_json: Json = False) -> None:
    """Print every known device and the source of its latencies.

    Example: nas device list
    """
    from nas.commands.devices.listing import print_devices

    print_devices(as_json=as_json)


@app.command()
def show(
    name: Annotated[
        str,
        typer.Argument(
            metavar="DEVICE",
            help="Device: a name or the path of its file.",
            autocompletion=completion.devices,
        ),
    ],
    as_json: Json = False,
) -> None:
    """Print the figures of a device, each with its source and year.

    Example: nas device show V100
    """
    from nas.commands.devices.listing import print_device

    print_device(name, as_json=as_json)


@app.command()
def fit(
    name: Annotated[str, typer.Option(metavar="NAME", help="Name of the device.")],
    space: SpaceName,
    file: Annotated[
        Path,
        typer.Option(
            "--from",
            metavar="FILE",
            help="Architectures and their milliseconds: .parquet, .csv or .jsonl.",
        ),
    ],
    metric: Annotated[
        str | None,
        typer.Option(metavar="COLUMN", help="Column of milliseconds.  [default: latency_ms_NAME]"),
    ] = None,
    samples: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            help="Number of random rows to fit on; the rest are test rows.  [default: all]",
        ),
    ] = None,
    seed: Annotated[
        int, typer.Option(metavar="N", help="Seed of that choice.", min=0, max=LARGEST_SEED)
    ] = 0,
    out: Out = None,
    as_json: Json = False,
) -> None:
    """Fit a latency model to a few timed networks.

    Example: nas device fit --name pixel --space mobilenet-cifar --from timed.csv
    """
    from nas.commands.devices.fit import print_fit

    print_fit(
        name, space, file, metric=metric, samples=samples, seed=seed, out=out, as_json=as_json
    )


@app.command()
def propose(
    space: SpaceName,
    number: Annotated[int, typer.Option(metavar="N", help="Number of architectures.")] = 20,
    max_flops: Annotated[
        str | None,
        typer.Option(metavar="SIZE", help="Maximum FLOPs, such as 50M.  [default: no bound]"),
    ] = None,
    seed: Annotated[
        int, typer.Option(metavar="N", help="Seed of the candidate pool.", min=0, max=LARGEST_SEED)
    ] = 0,
) -> None:
    """Print architectures to time for `fit`, a JSON object per line.

    The most informative come first.

    Example: nas device propose --space mobilenet-cifar --number 20
    """
    from nas.commands.devices.fit import print_proposals

    print_proposals(space, number, max_flops=max_flops, seed=seed)


@app.command()
def measure(
    name: Annotated[str, typer.Option(metavar="NAME", help="Name of the device.")] = "this-machine",
    space: SpaceName = "mobilenet",
    runtime: Annotated[
        str,
        typer.Option(
            metavar="NAME",
            help="onnxruntime, torch, torch-compile or training (a step of training).",
            autocompletion=completion.among(("onnxruntime", "torch", "torch-compile", "training")),
        ),
    ] = "onnxruntime",
    threads: Annotated[int, typer.Option(metavar="N", help="Threads per operator.", min=1)] = 1,
    batch: Annotated[
        int | None,
        typer.Option(metavar="N", help="Samples per run.  [default: 1; 64 for training]", min=1),
    ] = None,
    budget: Annotated[
        str, typer.Option(metavar="TIME", help="Longest time of the measurement, such as 10m.")
    ] = "10m",
    calibrate: Annotated[
        int,
        typer.Option(
            metavar="N", help="Number of whole networks that correct the sum of blocks.", min=0
        ),
    ] = 20,
    image_size: Annotated[
        int | None,
        typer.Option(metavar="PIXELS", help="Size of the images.  [default: the space's]"),
    ] = None,
    classes: Annotated[
        int | None,
        typer.Option(metavar="N", help="Number of classes.  [default: the space's]"),
    ] = None,
    torch_device: Annotated[
        str, typer.Option(metavar="NAME", help="PyTorch device of runtime torch: cpu, cuda, ...")
    ] = "cpu",
    script: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="Instead of measuring, write a script for another device to this folder.  "
            "[default: measure here]",
        ),
    ] = None,
    result: Annotated[
        Path | None,
        typer.Option(
            "--from",
            metavar="FILE",
            help="Read result.json, which that script wrote.  [default: measure here]",
        ),
    ] = None,
    out: Out = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Start a new table in place of an existing one.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Measure the blocks of a space: a latency table for searches.

    Interrupted, or stopped by --budget, the same command continues the measurement.

    Example: nas device measure --space mobilenet-tiny --budget 5m
    """
    from nas.commands.devices.measure import SpaceOptions, measure_and_print

    measure_and_print(
        name,
        SpaceOptions(space, image_size, classes),
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
    name: Annotated[
        str, typer.Argument(metavar="DEVICE", help="Measured device, or the path of its table.")
    ],
    space: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="Space of the table.  [default: that of the device's only table]",
            autocompletion=completion.spaces,
        ),
    ] = None,
    runtime: Annotated[
        str | None,
        typer.Option(
            metavar="NAME", help="Runtime that the table must have.  [default: the table's]"
        ),
    ] = None,
    networks: Annotated[
        int, typer.Option(metavar="N", help="Number of networks to measure.", min=3)
    ] = 30,
    seed: Annotated[
        int, typer.Option(metavar="N", help="Seed of their choice.", min=0, max=LARGEST_SEED)
    ] = 1,
    html: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Also write a scatter plot.  [default: no plot]"),
    ] = None,
    as_json: Json = False,
) -> None:
    """Check a latency table on networks that it was not fitted to.

    Example: nas device check this-machine --networks 30
    """
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
