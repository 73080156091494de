"""The command line: `nas search`, `frontier`, `show`, `train`, `export`, `count`, `profile`.

Reads options and prints tables. Errors meant for people become one line and exit code 2 here,
and nowhere else. Torch and Ray are imported inside the commands that need them.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from search_spaces.errors import UserError

if TYPE_CHECKING:
    from nas.specification import Specification

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

RunFolder = Annotated[Path, typer.Argument(help="Folder of a run.", show_default=False)]
ArchName = Annotated[str, typer.Option(help="Id (a prefix will do), 'best' or 'knee'.")]
Json = Annotated[bool, typer.Option("--json", help="Print only JSON on standard output.")]


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
        print("nas: interrupted; --resume goes on from here", file=sys.stderr)
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


@app.command()
def search(
    space: Annotated[
        str | None, typer.Option(help="Name, or file.py:OBJECT.  [default: mobilenet]")
    ] = None,
    data: Annotated[
        str | None,
        typer.Option(help="digits, cifar10, ..., a hub name, or a path.  [default: digits]"),
    ] = None,
    max_flops: Annotated[
        str | None, typer.Option(help="Most multiply-accumulates, such as 50M.")
    ] = None,
    min_flops: Annotated[str | None, typer.Option(help="Fewest multiply-accumulates.")] = None,
    max_params: Annotated[str | None, typer.Option(help="Most parameters, such as 2M.")] = None,
    max_memory: Annotated[
        str | None, typer.Option(help="Most bytes of activations, such as 4MB.")
    ] = None,
    max_latency: Annotated[
        str | None, typer.Option(help="Longest time on each --device, such as 5ms.")
    ] = None,
    device: Annotated[
        list[str] | None,
        typer.Option(help="Device whose latency is known, repeatable; an objective too."),
    ] = None,
    at_most: Annotated[
        list[str] | None, typer.Option("--max", help="METRIC=VALUE of any metric, repeatable.")
    ] = None,
    at_least: Annotated[
        list[str] | None, typer.Option("--min", help="METRIC=VALUE of any metric, repeatable.")
    ] = None,
    objective: Annotated[
        list[str] | None,
        typer.Option(
            help="Metric, repeatable: accuracy, macs, params, memory, any that the evaluator "
            "gives; -NAME for less of it.  [default: accuracy, macs]"
        ),
    ] = None,
    evaluator: Annotated[
        str | None,
        typer.Option(
            help="supernet, train, synflow, naswot, zico, jacob_cov, grad_norm, table:FILE or "
            "file.py:FUNCTION.  [default: supernet]"
        ),
    ] = None,
    time_limit: Annotated[
        str | None, typer.Option(help="Longest that one candidate's evaluation may take: 90s.")
    ] = None,
    strategy: Annotated[
        str | None,
        typer.Option(
            help="evolution, darts, optuna, nsga2, regularized-evolution or random.  "
            "[default: evolution]"
        ),
    ] = None,
    sampler: Annotated[
        str | None,
        typer.Option(
            help="Optuna's: nsga2, nsga3, tpe, gp, cmaes, qmc, grid, bruteforce, partialfixed, "
            "random."
        ),
    ] = None,
    sampler_option: Annotated[
        list[str] | None,
        typer.Option(help="NAME=VALUE of the sampler's own arguments, repeatable."),
    ] = None,
    bins: Annotated[
        int | None, typer.Option(help="Serve so many ranges of FLOPs alike (evolution).")
    ] = None,
    penalty: Annotated[
        float | None,
        typer.Option(help="Fixed λ of darts' log FLOPs.  [default: driven by the budget]"),
    ] = None,
    penalty_metric: Annotated[
        str | None, typer.Option(help="What that λ is the price of: macs or params.")
    ] = None,
    penalty_ramp: Annotated[
        float | None, typer.Option(help="Share of darts' steps over which that λ rises from 0.")
    ] = None,
    estimator: Annotated[str | None, typer.Option(help="darts: gumbel or softmax.")] = None,
    trials: Annotated[int | None, typer.Option(help="Architectures to evaluate.")] = None,
    supernet_epochs: Annotated[float | None, typer.Option(help="Supernet training.")] = None,
    train_epochs: Annotated[float | None, typer.Option(help="Training of the winner.")] = None,
    finalists: Annotated[
        int | None, typer.Option(help="Networks that race before one is the winner; 1: none.")
    ] = None,
    batch_size: Annotated[int | None, typer.Option(help="Images a training step.")] = None,
    augment: Annotated[
        str | None, typer.Option(help="Comma-separated: crop,flip,mixup (or 'none').")
    ] = None,
    image_size: Annotated[int | None, typer.Option(help="Resize the data's images.")] = None,
    seed: Annotated[int | None, typer.Option(help="Seed of everything random.")] = None,
    torch_device: Annotated[str | None, typer.Option(help="cpu, cuda, ...")] = None,
    workers: Annotated[
        int, typer.Option(help="Evaluations at a time, on Ray; 0: in this process.", min=0)
    ] = 0,
    ray_address: Annotated[str | None, typer.Option(help="A Ray cluster, HOST:PORT.")] = None,
    out: Annotated[Path | None, typer.Option(help="Run folder.  [default: runs/DATA-TIME]")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the run in --out.")] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what it would do and how long, and stop.")
    ] = False,
    config: Annotated[
        Path | None, typer.Option(help="JSON file of settings; options override it.")
    ] = None,
    quiet: Annotated[bool, typer.Option("--quiet", help="No progress, only the result.")] = False,
    json_output: Json = False,
) -> None:
    """Search for architectures within a budget; train and export the best one."""
    from evaluators.budget import LATENCY
    from evaluators.sizes import parse_size

    options = {
        "space": space,
        "data": data,
        "objectives": tuple(objective) if objective else None,
        "evaluator": evaluator,
        "time_limit": _seconds(time_limit),
        "strategy": strategy,
        "sampler": sampler,
        "sampler_options": _sampler_options(sampler_option),
        "bins": bins,
        "penalty": penalty,
        "penalty_metric": penalty_metric,
        "penalty_ramp": penalty_ramp,
        "estimator": estimator,
        "trials": trials,
        "supernet_epochs": supernet_epochs,
        "train_epochs": train_epochs,
        "finalists": finalists,
        "batch_size": batch_size,
        "augmentation": _names(augment),
        "image_size": image_size,
        "seed": seed,
        "device": torch_device,
    }
    sizes = {
        "high": {"macs": max_flops, "params": max_params, "memory": max_memory},
        "low": {"macs": min_flops},
    }
    bounds = {
        side: {
            **{metric: parse_size(text) for metric, text in texts.items() if text is not None},
            **_bounds(f"--{word}", pairs),
        }
        for (side, texts), word, pairs in zip(
            sizes.items(), ("max", "min"), (at_most, at_least), strict=True
        )
    }
    bounds["high"] |= _latencies(max_latency, device or [])
    if device and not objective:
        options["objectives"] = ("accuracy", "macs", *(f"{LATENCY}{name}" for name in device))
    specification = _specification(options, bounds, config, out if resume else None)
    _check_names(specification)
    if ray_address and not workers:
        raise UserError("--ray-address needs --workers N, the number of actors to use there")
    if dry_run:
        from nas.show import print_plan

        print_plan(specification, workers=workers, as_json=json_output)
        return
    if resume and out is None:
        raise UserError("--resume needs --out DIR, the run to go on with")
    from nas.show import search_and_print

    code = search_and_print(
        specification,
        out or _new_folder(specification.data or specification.space),
        workers=workers,
        ray_address=ray_address,
        resume=resume,
        quiet=quiet,
        as_json=json_output,
    )
    raise typer.Exit(code)


def _pairs(option: str, texts: list[str] | None) -> dict[str, str]:
    """`NAME=VALUE`s, split."""
    pairs = {}
    for text in texts or ():
        name, equals, value = text.partition("=")
        if not (name and equals and value):
            raise UserError(f"malformed {option} '{text}': expected NAME=VALUE")
        pairs[name.strip()] = value.strip()
    return pairs


def _bounds(option: str, texts: list[str] | None) -> dict[str, float]:
    bounds = {}
    for name, text in _pairs(option, texts).items():
        try:
            bounds[name] = float(text)
        except ValueError:
            raise UserError(f"malformed {option} '{name}={text}': expected a number") from None
    return bounds


def _latencies(text: str | None, devices: list[str]) -> dict[str, float]:
    """The ceiling on each device's latency, in milliseconds."""
    from evaluators.budget import LATENCY
    from evaluators.sizes import parse_milliseconds

    if text is None:
        return {}
    if not devices:
        raise UserError("--max-latency needs --device NAME, where it is to be kept")
    return {f"{LATENCY}{name}": parse_milliseconds(text) for name in devices}


def _seconds(text: str | None) -> float | None:
    from evaluators.sizes import parse_seconds

    return None if text is None else parse_seconds(text)


def _sampler_options(texts: list[str] | None) -> dict[str, Any] | None:
    """Values as JSON where they are, else as text."""
    import json

    if texts is None:
        return None
    options: dict[str, Any] = {}
    for name, text in _pairs("--sampler-option", texts).items():
        try:
            options[name] = json.loads(text)
        except ValueError:
            options[name] = text
    return options


def _names(text: str | None) -> tuple[str, ...] | None:
    if text is None:
        return None
    return tuple(n for n in text.split(",") if n and n != "none")


def _specification(
    options: dict[str, Any],
    bounds: dict[str, dict[str, float]],
    config: Path | None,
    resumed: Path | None,
) -> Specification:
    """From the run to be resumed, then the file, then the options, each over the one before."""
    from nas import specification as spec

    values: dict[str, Any] = {}
    if resumed is not None and (resumed / "specification.json").exists():
        values = spec.read(resumed / "specification.json").model_dump()
    if config is not None:
        values |= spec.read(config).model_dump(exclude_unset=True)
    values |= {name: value for name, value in options.items() if value is not None}
    for side, given in bounds.items():
        if given:
            values[side] = {**values.get(side, {}), **given}
    return spec.make(values)


def _check_names(specification: Specification) -> None:
    """Wrong names are told at once, before data is loaded or anything is trained."""
    from evaluators.augmentation import Augmentation
    from nas.scoring import kind_of
    from nas.strategies import STRATEGIES, check_sampler
    from search_spaces.errors import unknown

    if specification.strategy not in STRATEGIES:
        raise unknown("strategy", specification.strategy, STRATEGIES)
    check_sampler(specification.sampler)
    Augmentation.from_names(specification.augmentation or ())
    kind_of(specification.evaluator)


def _new_folder(data: str) -> Path:
    from datetime import datetime

    now = datetime.now().strftime("%Y%m%d-%H%M%S")
    return Path("runs") / f"{Path(data).stem}-{now}"


@app.command()
def frontier(
    run: RunFolder,
    max_flops: Annotated[str | None, typer.Option(help="Only what costs at most this.")] = None,
    bins: Annotated[
        int, typer.Option(help="The best in each of so many ranges of FLOPs instead.", min=0)
    ] = 0,
    as_json: Json = False,
    as_csv: Annotated[bool, typer.Option("--csv", help="Print only CSV.")] = False,
) -> None:
    """Print the frontier of a run: the architectures that no other one dominates."""
    from evaluators.sizes import parse_size
    from nas.show import print_frontier

    bound = parse_size(max_flops) if max_flops else None
    print_frontier(run, max_macs=bound, bins=bins, as_json=as_json, as_csv=as_csv)


@app.command()
def show(
    run: RunFolder,
    arch: Annotated[str, typer.Argument(help="Id (a prefix will do), 'best' or 'knee'.")],
    as_json: Json = False,
) -> None:
    """Print one architecture of a run: its choices and its cost block by block."""
    from nas.show import print_architecture

    print_architecture(run, arch, as_json=as_json)


@app.command()
def train(
    run: RunFolder,
    arch: ArchName = "best",
    out: Annotated[
        Path | None, typer.Option(help="[default: RUN/trained/ID, with the FLOPs if they change]")
    ] = None,
    epochs: Annotated[float | None, typer.Option(help="[default: the run's]")] = None,
    target_flops: Annotated[
        str | None, typer.Option(help="Cut it to at most so many FLOPs, such as 2.7G.")
    ] = None,
    flops_penalty: Annotated[
        float | None, typer.Option(help="Cut it by this weight of log(FLOPs) in the loss.")
    ] = None,
    quiet: Annotated[bool, typer.Option("--quiet")] = False,
    as_json: Json = False,
) -> None:
    """Train an architecture of a run from its inherited weights, score it on test data, export.

    With --target-flops or --flops-penalty, gates learn what can go of it, that is cut out, and the
    smaller network is trained on and exported.
    """
    from evaluators.sizes import parse_size
    from nas.show_train import train_and_print

    train_and_print(
        run,
        arch,
        out,
        epochs=epochs,
        target=parse_size(target_flops) if target_flops is not None else None,
        penalty=flops_penalty,
        quiet=quiet,
        as_json=as_json,
    )


@app.command()
def export(
    run: RunFolder,
    out: Annotated[Path, typer.Option(help="Folder to write.")],
    arch: ArchName = "best",
    formats: Annotated[
        str, typer.Option("--format", help="Comma-separated: safetensors,onnx.")
    ] = "safetensors,onnx",
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the folder.")] = False,
) -> None:
    """Export a trained architecture, or one with its inherited weights if it was not trained."""
    from nas.show import export_and_print

    export_and_print(run, arch, out, formats=formats.split(","), overwrite=overwrite)


@app.command()
def count(
    space: Annotated[str, typer.Option(help="Name, or file.py:OBJECT.")],
    archs: Annotated[Path, typer.Option(help="JSON lines of choices; '-' for standard input.")],
    as_json: Annotated[
        bool, typer.Option("--json", help="JSON lines (the default is a table).")
    ] = False,
) -> None:
    """Count MACs, parameters and peak memory of architectures, a line for each line of a file."""
    from nas.counting import print_counts

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
    from nas.profiling import profile_and_print

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
