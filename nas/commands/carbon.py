"""`nas carbon`: the options of a workload, checked. Does not estimate anything."""

from __future__ import annotations

from typing import Annotated

import typer

from nas.commands.options import Json, device_option, read

TRAINING = "Training"
INFERENCE = "Inference"
CONDITIONS = "Conditions"


def carbon(
    device: Annotated[
        str,
        device_option("Device: a name (nas device list) or the path of its file."),
    ],
    count: Annotated[
        int, typer.Option(metavar="N", help="Number of devices in use throughout.", min=1)
    ] = 1,
    as_json: Json = False,
    train_macs: Annotated[
        str | None,
        typer.Option(
            metavar="SIZE",
            help="MACs of a whole training, forward and backward (3 times forward).  "
            "[default: no training]",
            rich_help_panel=TRAINING,
        ),
    ] = None,
    train_flops: Annotated[
        str | None,
        typer.Option(
            metavar="SIZE",
            help="The same with two FLOPs per MAC, such as GPT-3's 3.14e23.  "
            "[default: no training]",
        ),
    ] = None,
    hours: Annotated[
        float | None,
        typer.Option(metavar="HOURS", help="Measured hours of a training.  [default: no training]"),
    ] = None,
    macs: Annotated[
        str | None,
        typer.Option(
            metavar="SIZE",
            help="MACs of one inference.  [default: no inference]",
            rich_help_panel=INFERENCE,
        ),
    ] = None,
    inferences: Annotated[
        str | None,
        typer.Option(metavar="N", help="Number of inferences of --macs each.  [default: 1]"),
    ] = None,
    memory_bytes: Annotated[
        str | None,
        typer.Option(
            metavar="SIZE",
            help="Bytes that one inference reads and writes, such as 120MB.  "
            "[default: not counted]",
        ),
    ] = None,
    latency: Annotated[
        str | None,
        typer.Option(
            metavar="TIME",
            help="Measured time of one inference, such as 5ms.  [default: estimated]",
        ),
    ] = None,
    region: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="Electricity grid: a country, us-ca, SE3, gcp:europe-west1, ...  [default: world]",
            rich_help_panel=CONDITIONS,
        ),
    ] = None,
    intensity: Annotated[
        float | None,
        typer.Option(
            metavar="X",
            help="Carbon intensity in g CO2e/kWh, instead of --region.  [default: the region's]",
        ),
    ] = None,
    pue: Annotated[
        float | None,
        typer.Option(
            metavar="X",
            help="Power usage effectiveness of the data centre.  "
            "[default: 1.56, none for boards and phones]",
        ),
    ] = None,
    precision: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="Precision: fp32, bf16, ...  [default: bf16 or fp16 where the device has one]",
        ),
    ] = None,
    utilisation: Annotated[
        float | None,
        typer.Option(
            metavar="FRACTION",
            help="Fraction of the device's peak that is reached, 0 to 1.  [default: estimated]",
        ),
    ] = None,
    host_watts: Annotated[
        float | None,
        typer.Option(
            metavar="WATTS",
            help="Power of the host per device, in watts.  [default: estimated]",
        ),
    ] = None,
    embodied_kg: Annotated[
        float | None,
        typer.Option(
            metavar="KG",
            help="Share of the hardware's embodied carbon, in kg CO2e, for the SCI of ISO/IEC "
            "21031.  [default: no SCI]",
        ),
    ] = None,
) -> None:
    """Estimate energy and carbon of a training or of inferences.

    Prints every estimate with its range, and every factor with its value, range and source.

    Example: nas carbon --device A100 --train-flops 3.14e23 --count 1024
    """
    from evaluators.sizes import parse_milliseconds, parse_size
    from nas.commands.show.carbon import Workload, estimate, print_footprint
    from search_spaces.errors import UserError

    training = {"--train-macs": train_macs, "--train-flops": train_flops, "--hours": hours}
    stated = [name for name, value in training.items() if value is not None]
    if len(stated) > 1:
        raise UserError(f"{' and '.join(stated)} contradict each other: expected one of them")
    if not stated and macs is None:
        raise UserError(
            "nothing to estimate: expected --train-macs, --train-flops, --hours or --macs"
        )
    for name, value in (
        ("--inferences", inferences),
        ("--memory-bytes", memory_bytes),
        ("--latency", latency),
    ):
        if value is not None and macs is None:
            raise UserError(f"{name} needs --macs of one inference")
    for name, given in (("--precision", precision), ("--utilisation", utilisation)):
        if given is not None and hours is not None and macs is None:
            raise UserError(f"{name} has no effect with --hours, which are measured")
    if region is not None and intensity is not None:
        raise UserError("--region and --intensity contradict each other: expected one of them")
    macs_of_training = read("--train-macs", parse_size, train_macs)
    operations = read("--train-flops", parse_size, train_flops)
    if macs_of_training is not None:
        operations = 2 * macs_of_training
    milliseconds = read("--latency", parse_milliseconds, latency)
    workload = Workload(
        device=device,
        count=count,
        operations=operations,
        hours=hours,
        inferences=read("--inferences", parse_size, inferences) or 1,
        macs=read("--macs", parse_size, macs),
        memory_bytes=read("--memory-bytes", parse_size, memory_bytes),
        latency_seconds=None if milliseconds is None else milliseconds / 1e3,
        precision=precision,
        utilisation=utilisation,
        host_watts=host_watts,
        region=region,
        intensity=intensity,
        pue=pue,
        embodied_kg=embodied_kg,
    )
    print_footprint(estimate(workload), as_json=as_json)
