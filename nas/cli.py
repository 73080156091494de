"""The command line: `nas search`, `frontier`, `show`, `train`, `export`, `device`, `carbon`, ...

Reads options and prints tables. Errors meant for people become one line and exit code 2 here,
and nowhere else. Torch and Ray are imported inside the commands that need them.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from nas.commands import device as device_command
from nas.commands.carbon import carbon
from nas.commands.dynamic import adapt, dynamic
from nas.commands.export import compare, curves, export
from nas.commands.options import Json, Mlflow, RunFolder, crew_of
from nas.commands.search import search
from search_spaces.errors import UserError

app = typer.Typer(
    name="nas",
    help="Neural architecture search under a compute budget.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

# Typer brings its own click since 0.26 and uses the installed one before: take the class from
# what typer itself raises.
UsageProblem: type[Exception] = next(
    kind for kind in typer.BadParameter.__mro__ if kind.__name__ == "ClickException"
)

EXIT_USER_ERROR = 2
EXIT_ALL_FAILED = 1
EXIT_INTERRUPTED = 130


def main(arguments: list[str] | None = None) -> None:
    """Run the command line; exits with 0, 1 (all failed), 2 (wrong input) or 130 (interrupted)."""
    # Threads that spin at a barrier slow training tenfold where anything else runs; it must be
    # said before torch is imported.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    try:
        code = app(args=arguments, prog_name="nas", standalone_mode=False)
    except UserError as error:
        _fail(str(error))
    except UsageProblem as error:
        _fail(error.format_message())  # type: ignore[attr-defined]
    except (KeyboardInterrupt, typer.Abort):
        print(
            "nas: interrupted; the same command goes on from here (nas search with --resume)",
            file=sys.stderr,
        )
        sys.exit(EXIT_INTERRUPTED)
    except OSError as error:
        place = f" ({error.filename})" if error.filename else ""
        _fail(f"{error.strerror or error}{place}")
    else:
        sys.exit(code or 0)


def _fail(message: str) -> None:
    print("nas: " + " ".join(message.split()), file=sys.stderr)
    sys.exit(EXIT_USER_ERROR)


@app.callback()
def _root() -> None:
    pass


app.command()(search)
app.command()(carbon)
app.command()(dynamic)
app.command()(adapt)
app.command()(export)
app.command()(compare)
app.command()(curves)
app.add_typer(device_command.app)


@app.command()
def frontier(
    run: RunFolder,
    max_flops: Annotated[str | None, typer.Option(help="Only what costs at most this.")] = None,
    bins: Annotated[
        int, typer.Option(help="The best in each of so many ranges of FLOPs instead.", min=0)
    ] = 0,
    device: Annotated[
        list[str] | None,
        typer.Option(help="The frontier of accuracy and the latency on this device, repeatable."),
    ] = None,
    sort: Annotated[str | None, typer.Option(help="Metric to sort by, such as greenscore.")] = None,
    as_json: Json = False,
    as_csv: Annotated[bool, typer.Option("--csv", help="Print only CSV.")] = False,
    parquet: Annotated[Path | None, typer.Option(help="Also write it to a Parquet file.")] = None,
) -> None:
    """Print the frontier of a run: the architectures that no other one dominates."""
    from evaluators.sizes import parse_size
    from nas.commands.show.frontier import print_frontier

    bound = parse_size(max_flops) if max_flops else None
    print_frontier(
        run,
        max_macs=bound,
        bins=bins,
        devices=device or (),
        sort=sort,
        as_json=as_json,
        as_csv=as_csv,
        parquet=parquet,
    )


@app.command()
def leaderboard(
    run: RunFolder,
    device: Annotated[
        list[str] | None, typer.Option(help="Whose energy counts, the first one's.")
    ] = None,
    green: Annotated[
        str | None, typer.Option("--green-exponents", help="α and β.  [default: the run's]")
    ] = None,
    region: Annotated[str | None, typer.Option(help="Whose electricity.")] = None,
    as_json: Json = False,
) -> None:
    """Rank a run's networks by accuracy and by GreenScore, side by side."""
    from nas.commands.options import exponents
    from nas.commands.show.leaderboard import print_leaderboard

    print_leaderboard(
        run, devices=device or (), exponents=exponents(green), region=region, as_json=as_json
    )


@app.command()
def show(
    run: RunFolder,
    arch: Annotated[str, typer.Argument(help="Id (a prefix will do), 'best' or 'knee'.")],
    as_json: Json = False,
) -> None:
    """Print one architecture of a run: its choices and its cost block by block."""
    from nas.commands.show.architecture import print_architecture

    print_architecture(run, arch, as_json=as_json)


@app.command()
def diff(
    run: RunFolder,
    first: Annotated[str, typer.Argument(help="Id (a prefix will do), 'best' or 'knee'.")],
    second: Annotated[str, typer.Argument(help="The one to hold against it.")],
    as_json: Json = False,
) -> None:
    """Print what differs between two architectures, layer by layer, and what that costs."""
    from nas.commands.show.difference import print_difference

    print_difference(run, first, second, as_json=as_json)


@app.command()
def report(
    run: RunFolder,
    out: Annotated[Path | None, typer.Option(help="[default: RUN/report.html]")] = None,
    device: Annotated[
        list[str] | None,
        typer.Option(help="Price the networks on this device too, repeatable."),
    ] = None,
    serve: Annotated[
        bool, typer.Option("--serve", help="Follow a run that goes on, in a browser.")
    ] = False,
    port: Annotated[int, typer.Option(help="Of --serve; 0: any.", min=0, max=65535)] = 8765,
) -> None:
    """Write a run as one page that opens offline: frontier, networks, how the search went."""
    from nas.report.command import report_and_print

    report_and_print(run, out=out, devices=device or (), live=serve, port=port)


@app.command()
def train(
    run: RunFolder,
    arch: Annotated[
        list[str] | None,
        typer.Option(help="Id (a prefix will do), 'best' or 'knee', repeatable.  [default: best]"),
    ] = None,
    frontier: Annotated[
        bool, typer.Option("--frontier", help="Every architecture of the frontier.")
    ] = False,
    out: Annotated[
        Path | None, typer.Option(help="[default: RUN/trained/ID, with the FLOPs if they change]")
    ] = None,
    epochs: Annotated[float | None, typer.Option(help="[default: the run's]")] = None,
    scratch: Annotated[
        bool | None,
        typer.Option("--scratch/--inherited", help="Start from nothing, or from the supernet."),
    ] = None,
    teacher: Annotated[
        bool | None,
        typer.Option("--teacher/--no-teacher", help="The largest subnet teaches it."),
    ] = None,
    target_flops: Annotated[
        str | None, typer.Option(help="Cut it to at most so many FLOPs, such as 2.7G.")
    ] = None,
    flops_penalty: Annotated[
        float | None, typer.Option(help="Cut it by this weight of log(FLOPs) in the loss.")
    ] = None,
    early_exit: Annotated[
        float | None,
        typer.Option(help="With early exits, which may cost so many points of accuracy: 0.5."),
    ] = None,
    workers: Annotated[
        int,
        typer.Option(help="Ray workers: they share one training, or train one each.", min=0),
    ] = 0,
    ray_address: Annotated[str | None, typer.Option(help="A Ray cluster, HOST:PORT.")] = None,
    mlflow: Mlflow = None,
    quiet: Annotated[bool, typer.Option("--quiet")] = False,
    as_json: Json = False,
) -> None:
    """Train architectures of a run from inherited weights, score them on test data, export.

    With --target-flops or --flops-penalty, gates learn what can go of one, that is cut out, and the
    smaller network is trained on and exported. With --early-exit its easy images leave early.
    """
    from evaluators.sizes import parse_size
    from nas.commands.show.curves import logged_to

    names = arch or ["best"]
    crew = crew_of(workers, ray_address)
    settings = {"train_epochs": epochs, "scratch": scratch, "teacher": teacher}
    if early_exit is not None:
        from nas.commands.show.training import train_exits_and_print

        if target_flops is not None or flops_penalty is not None:
            raise UserError("--early-exit and --target-flops are two networks: train one at a time")
        if len(names) > 1 or frontier:
            raise UserError("--early-exit trains one architecture at a time")
        with logged_to(mlflow, run):
            train_exits_and_print(
                run,
                names[0],
                out,
                points=early_exit,
                settings=settings,
                crew=crew,
                quiet=quiet,
                as_json=as_json,
            )
        return
    from nas.commands.show.training import train_and_print

    with logged_to(mlflow, run):
        train_and_print(
            run,
            names,
            out,
            frontier=frontier,
            settings=settings,
            target=parse_size(target_flops) if target_flops is not None else None,
            penalty=flops_penalty,
            crew=crew,
            quiet=quiet,
            as_json=as_json,
        )


@app.command()
def fidelity(
    run: RunFolder,
    architectures: Annotated[
        int, typer.Option(help="How many are trained alone, of all sizes.")
    ] = 24,
    epochs: Annotated[
        float | None, typer.Option(help="Of each.  [default: a quarter of the supernet's]")
    ] = None,
    workers: Annotated[
        int, typer.Option(help="Trainings at a time, on Ray; 0: in this process.", min=0)
    ] = 0,
    ray_address: Annotated[str | None, typer.Option(help="A Ray cluster, HOST:PORT.")] = None,
    quiet: Annotated[bool, typer.Option("--quiet")] = False,
    as_json: Json = False,
) -> None:
    """Whether a run's supernet can be trusted: its order against that of networks trained alone."""
    from nas.commands.show.fidelity import fidelity_and_print

    fidelity_and_print(
        run,
        count=architectures,
        epochs=epochs,
        crew=crew_of(workers, ray_address),
        quiet=quiet,
        as_json=as_json,
    )


@app.command()
def count(
    space: Annotated[str, typer.Option(help="Name, or file.py:OBJECT.")],
    archs: Annotated[Path, typer.Option(help="JSON lines of choices; '-' for standard input.")],
    as_json: Annotated[
        bool, typer.Option("--json", help="JSON lines (the default is a table).")
    ] = False,
) -> None:
    """Count MACs, parameters and peak memory of architectures, a line for each line of a file."""
    from nas.commands.profile.count import print_counts

    print_counts(space, archs, as_json=as_json)


@app.command()
def profile(
    target: Annotated[
        str, typer.Argument(help="pkg.module:function, file.py:NAME, or a .onnx or .keras file.")
    ],
    inputs: Annotated[
        list[str] | None,
        typer.Option(
            "--input", help="1x3x224x224, 1x128:int64 or name=1x128:bool; once for each input."
        ),
    ] = None,
    measure: Annotated[
        bool, typer.Option("--measure/--count-only", help="Run it and measure time by module.")
    ] = True,
    backward: Annotated[
        bool, typer.Option("--backward/--forward-only", help="Measure gradients too.")
    ] = True,
    repeats: Annotated[int, typer.Option(help="Passes to measure.", min=1)] = 10,
    depth: Annotated[int, typer.Option(help="Levels of modules in the table.", min=0)] = 2,
    html: Annotated[Path | None, typer.Option(help="Also write a page, self-contained.")] = None,
    device: Annotated[str, typer.Option("--torch-device", help="cpu, cuda, ...")] = "cpu",
    json_output: Json = False,
) -> None:
    """Show where a network's compute, parameters and time go, and what could be cheaper."""
    from nas.commands.profile.network import profile_and_print

    profile_and_print(
        target,
        inputs or [],
        measure=measure,
        backward=backward,
        repeats=repeats,
        depth=depth,
        html=html,
        device=device,
        as_json=json_output,
    )


if __name__ == "__main__":
    main()
