"""What is read from run folders: `nas runs`, `frontier`, `show`, `diff`, `report`, `leaderboard`.

Options and their checks only.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from nas.commands import completion
from nas.commands.options import (
    ARCHITECTURE,
    Arch,
    Json,
    RunFolder,
    device_option,
    read,
    with_trust,
)


def runs(
    folder: Annotated[
        Path, typer.Argument(metavar="DIR", help="Folder whose runs are listed.")
    ] = completion.RUNS,
    as_json: Json = False,
) -> None:
    """List runs: space, data, budget, state, evaluations, best.

    Runs in folders below DIR are listed too, the last changed first. A run is running, finished
    (it has a winner), failed (nothing that it evaluated is within the budget) or interrupted.

    Example: nas runs runs
    """
    from nas.commands.show.runs import print_runs

    print_runs(folder, as_json=as_json)


@with_trust
def frontier(
    run: RunFolder,
    max_flops: Annotated[
        str | None,
        typer.Option(
            metavar="SIZE",
            help="Only architectures with at most these FLOPs, such as 1M.  [default: all]",
        ),
    ] = None,
    device: Annotated[
        list[str] | None,
        device_option(
            "Frontier of the first objective and the latency on this device (repeatable).  "
            "[default: frontier of the run's objectives]"
        ),
    ] = None,
    sort: Annotated[
        str | None,
        typer.Option(
            metavar="METRIC",
            help="Metric to sort by, best first, such as greenscore.  [default: macs]",
        ),
    ] = None,
    bins: Annotated[
        int,
        typer.Option(
            metavar="N",
            help="Instead of the frontier, the best architecture in each of N ranges of FLOPs.",
            min=0,
        ),
    ] = 0,
    as_json: Json = False,
    as_csv: Annotated[
        bool, typer.Option("--csv", help="Print only CSV on standard output.")
    ] = False,
    parquet: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Also write a Parquet file.  [default: no file]"),
    ] = None,
) -> None:
    """Print the frontier of a run: its non-dominated architectures.

    Example: nas frontier runs/first --sort greenscore
    """
    from evaluators.sizes import parse_size
    from nas.commands.show.frontier import print_frontier

    print_frontier(
        run,
        max_macs=read("--max-flops", parse_size, max_flops or None),
        bins=bins,
        devices=device or (),
        sort=sort,
        as_json=as_json,
        as_csv=as_csv,
        parquet=parquet,
    )


@with_trust
def leaderboard(
    run: RunFolder,
    device: Annotated[
        list[str] | None,
        device_option(
            "Device to price on (repeatable); energy is computed for the first.  "
            "[default: the run's]"
        ),
    ] = None,
    green: Annotated[
        str | None,
        typer.Option(
            "--green-exponents",
            metavar="ALPHA,BETA",
            help="Exponents of GreenScore: α of FLOPs, β of carbon.  [default: the run's]",
        ),
    ] = None,
    region: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="Electricity grid for carbon: world, de, us-ca, aws:us-east-1.  "
            "[default: the run's]",
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """Rank the networks of a run by accuracy and by GreenScore.

    Example: nas leaderboard runs/first --device RaspberryPi4 --region de
    """
    from evaluators.sizes import parse_exponents
    from nas.commands.show.leaderboard import print_leaderboard

    print_leaderboard(
        run,
        devices=device or (),
        exponents=read("--green-exponents", parse_exponents, green),
        region=region,
        as_json=as_json,
    )


@with_trust
def show(run: RunFolder, arch: Arch, as_json: Json = False) -> None:
    """Print one architecture: its choices, and its cost block by block.

    Example: nas show runs/first knee
    """
    from nas.commands.show.architecture import print_architecture

    print_architecture(run, arch, as_json=as_json)


@with_trust
def diff(
    run: RunFolder,
    first: Arch,
    second: Annotated[
        str,
        typer.Argument(
            metavar="OTHER",
            help=f"Architecture to compare with: {ARCHITECTURE}.",
            autocompletion=completion.architectures,
        ),
    ],
    as_json: Json = False,
) -> None:
    """Compare two architectures layer by layer, with their costs.

    Example: nas diff runs/first best knee
    """
    from nas.commands.show.difference import print_difference

    print_difference(run, first, second, as_json=as_json)


@with_trust
def report(
    run: RunFolder,
    others: Annotated[
        list[Path] | None,
        typer.Argument(
            metavar="[RUN]...",
            help="More runs, whose frontiers are drawn over the first one's.",
            show_default=False,
            autocompletion=completion.runs,
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="File to write.  [default: RUN/report.html]"),
    ] = None,
    device: Annotated[
        list[str] | None,
        device_option(
            "Device to price the networks on, besides the run's (repeatable).  [default: the run's]"
        ),
    ] = None,
    serve: Annotated[
        bool,
        typer.Option(
            "--serve", help="Serve the report at 127.0.0.1 and follow the run; write no file."
        ),
    ] = False,
    port: Annotated[
        int,
        typer.Option(metavar="N", help="Port of --serve; 0 takes a free one.", min=0, max=65535),
    ] = 8765,
) -> None:
    """Write a run as one HTML page that opens offline.

    The page has the winner, the frontier, each network of it, and how the search went.

    Example: nas report runs/first
    """
    from nas.report.command import report_and_print

    report_and_print(run, out=out, devices=device or (), live=serve, port=port, others=others or ())
