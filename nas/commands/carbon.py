"""The command line's `nas carbon`: its options, and what they ask for.

Reads and checks options; `carbon_show.py` prints. Does not know physics.
"""

from __future__ import annotations

from typing import Annotated

import typer

from nas.commands.options import Json


def carbon(
    device: Annotated[str, typer.Option(help="A device's name, or its file (nas device list).")],
    count: Annotated[int, typer.Option(help="So many devices, all the while.", min=1)] = 1,
    region: Annotated[
        str | None,
        typer.Option(
            help="Country, us-ca, SE3, gcp:europe-west1, ...  [default: world]", show_default=False
        ),
    ] = None,
    intensity: Annotated[
        float | None, typer.Option(help="g CO2e/kWh of the grid, instead of --region.")
    ] = None,
    pue: Annotated[
        float | None,
        typer.Option(help="Data centre's overhead.  [default: 1.56, none for boards and phones]"),
    ] = None,
    train_macs: Annotated[
        str | None,
        typer.Option(help="MACs of a whole training, forward and backward (3 times forward)."),
    ] = None,
    train_flops: Annotated[
        str | None, typer.Option(help="The same at two FLOPs a MAC, as GPT-3's 3.14e23.")
    ] = None,
    hours: Annotated[
        float | None, typer.Option(help="Instead: hours that a training took.")
    ] = None,
    inferences: Annotated[
        str | None, typer.Option(help="Inferences, of --macs each.  [default: 1]")
    ] = None,
    macs: Annotated[str | None, typer.Option(help="MACs of one inference.")] = None,
    memory_bytes: Annotated[
        str | None, typer.Option(help="What one inference reads and writes, such as 120MB.")
    ] = None,
    latency: Annotated[
        str | None, typer.Option(help="What one inference takes, measured, such as 5ms.")
    ] = None,
    precision: Annotated[
        str | None, typer.Option(help="fp32, bf16, ...  [default: bf16 or fp16 where there is one]")
    ] = None,
    utilisation: Annotated[
        float | None, typer.Option(help="Share of the peak that is reached, 0 to 1.")
    ] = None,
    host_watts: Annotated[
        float | None, typer.Option(help="Power of what is around one device.")
    ] = None,
    embodied_kg: Annotated[
        float | None,
        typer.Option(help="Share of the hardware's manufacture, for the SCI of ISO/IEC 21031."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Estimate energy and carbon of a training or of inferences, with every factor and its range.

    Without a range there is no figure: each factor is printed with its value, range and source.
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
            raise UserError(f"{name} changes nothing beside --hours, which are measured")
    if region is not None and intensity is not None:
        raise UserError("--region and --intensity contradict each other: expected one of them")
    operations = None
    if train_macs is not None:
        operations = 2 * parse_size(train_macs)
    elif train_flops is not None:
        operations = parse_size(train_flops)
    workload = Workload(
        device=device,
        count=count,
        operations=operations,
        hours=hours,
        inferences=parse_size(inferences) if inferences is not None else 1,
        macs=parse_size(macs) if macs is not None else None,
        memory_bytes=parse_size(memory_bytes) if memory_bytes is not None else None,
        latency_seconds=parse_milliseconds(latency) / 1e3 if latency is not None else None,
        precision=precision,
        utilisation=utilisation,
        host_watts=host_watts,
        region=region,
        intensity=intensity,
        pue=pue,
        embodied_kg=embodied_kg,
    )
    print_footprint(estimate(workload), as_json=as_json)
