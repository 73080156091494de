"""`nas search` on the command line: its options, and the specification that they make.

Options override a file of settings, which overrides the run that is resumed. Does not search.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from nas.commands.options import (
    Json,
    Mlflow,
    bounds_of,
    comma_separated,
    crew_of,
    device_names,
    exponents,
    on_devices,
    sampler_options,
    seconds,
)
from search_spaces.errors import UserError

if TYPE_CHECKING:
    from nas.run.specification import Specification


def search(
    space: Annotated[
        str | None, typer.Option(help="Name, or file.py:OBJECT.  [default: mobilenet]")
    ] = None,
    data: Annotated[
        str | None,
        typer.Option(
            help="digits, cifar10, tinyshakespeare, ..., a hub name, or a path.  [default: digits]"
        ),
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
    max_energy: Annotated[
        str | None, typer.Option(help="Most energy of an inference on each --device: 5mJ.")
    ] = None,
    device: Annotated[
        list[str] | None,
        typer.Option(
            help="Name, table or file of a device, repeatable: its latency is an objective too."
        ),
    ] = None,
    region: Annotated[
        str | None, typer.Option(help="Whose electricity, for carbon: de, us-ca, aws:us-east-1.")
    ] = None,
    green: Annotated[
        str | None,
        typer.Option("--green-exponents", help="GreenScore's α and β.  [default: 0.035,0.035]"),
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
    proxies: Annotated[
        str | None,
        typer.Option(help="Comma-separated zero-cost proxies that evolution's predictor sees."),
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
    sampling: Annotated[
        str | None,
        typer.Option(
            help="Which subnets the supernet trains on: flops (every budget its share), uniform, "
            "attentive (the best and worst of their FLOPs).  [default: flops]"
        ),
    ] = None,
    distillation: Annotated[
        str | None, typer.Option(help="How subnets learn from the largest: soft or alpha.")
    ] = None,
    widening: Annotated[
        bool | None,
        typer.Option(
            "--widening/--no-widening",
            help="Open the supernet's kernels, depths and widths one after the other.",
        ),
    ] = None,
    early_exit: Annotated[
        float | None,
        typer.Option(
            help="Networks with early exits, which may cost so many points of accuracy: 0.5. Gives "
            "avg_flops, to bound (--max avg_flops=1M) and to optimise."
        ),
    ] = None,
    ema: Annotated[
        float | None, typer.Option(help="Decay of a moving average of the weights, such as 0.99.")
    ] = None,
    learning_rate: Annotated[float | None, typer.Option(help="Of the supernet.")] = None,
    precision: Annotated[
        str | None, typer.Option(help="fp32 or bf16.  [default: bf16 where a GPU has it]")
    ] = None,
    compiled: Annotated[
        bool | None, typer.Option("--compile/--no-compile", help="torch.compile the winner.")
    ] = None,
    train_epochs: Annotated[float | None, typer.Option(help="Training of the winner.")] = None,
    scratch: Annotated[
        bool | None,
        typer.Option("--scratch/--inherited", help="Whether the winner starts from nothing."),
    ] = None,
    teacher: Annotated[
        bool | None,
        typer.Option("--teacher/--no-teacher", help="The largest subnet teaches the winner."),
    ] = None,
    finalists: Annotated[
        int | None, typer.Option(help="Networks that race before one is the winner; 1: none.")
    ] = None,
    batch_size: Annotated[int | None, typer.Option(help="Images a training step.")] = None,
    augment: Annotated[
        str | None, typer.Option(help="Comma-separated: crop,flip,mixup,cutmix (or 'none').")
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
    mlflow: Mlflow = None,
    quiet: Annotated[bool, typer.Option("--quiet", help="No progress, only the result.")] = False,
    json_output: Json = False,
) -> None:
    """Search for architectures within a budget; train and export the best one."""
    from evaluators.costs.budget import ENERGY, LATENCY
    from evaluators.sizes import parse_millijoules, parse_milliseconds, parse_size

    options = {
        "space": space,
        "data": data,
        "objectives": tuple(objective) if objective else None,
        "region": region,
        "green_exponents": exponents(green),
        "evaluator": evaluator,
        "time_limit": seconds(time_limit),
        "strategy": strategy,
        "sampler": sampler,
        "sampler_options": sampler_options(sampler_option),
        "bins": bins,
        "proxies": comma_separated(proxies),
        "penalty": penalty,
        "penalty_metric": penalty_metric,
        "penalty_ramp": penalty_ramp,
        "estimator": estimator,
        "trials": trials,
        "supernet_epochs": supernet_epochs,
        "sampling": sampling,
        "distillation": distillation,
        "widening": widening,
        "early_exit": early_exit,
        "ema": ema,
        "learning_rate": learning_rate,
        "precision": precision,
        "compile": compiled,
        "train_epochs": train_epochs,
        "scratch": scratch,
        "teacher": teacher,
        "finalists": finalists,
        "batch_size": batch_size,
        "augmentation": comma_separated(augment),
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
            **bounds_of(f"--{word}", pairs),
        }
        for (side, texts), word, pairs in zip(
            sizes.items(), ("max", "min"), (at_most, at_least), strict=True
        )
    }
    beside_table = (evaluator or "").startswith("table:")
    names = device_names(device, by_alias=not beside_table)
    options["devices"] = tuple(device) if device else None
    bounds["high"] |= on_devices("--max-latency", LATENCY, names, max_latency, parse_milliseconds)
    bounds["high"] |= on_devices("--max-energy", ENERGY, names, max_energy, parse_millijoules)
    if device and not objective:
        options["objectives"] = ("accuracy", "macs", *(f"{LATENCY}{name}" for name in names))
    specification = _specification(options, bounds, config, out if resume else None)
    _check_names(specification)
    crew_of(workers, ray_address)
    if dry_run:
        from nas.commands.show.search import print_plan

        print_plan(specification, workers=workers, as_json=json_output)
        return
    if resume and out is None:
        raise UserError("--resume needs --out DIR, the run to go on with")
    from nas.commands.show.curves import logged_to
    from nas.commands.show.search import search_and_print

    folder = out or _new_folder(specification)
    with logged_to(mlflow, folder):
        code = search_and_print(
            specification,
            folder,
            workers=workers,
            ray_address=ray_address,
            resume=resume,
            quiet=quiet,
            as_json=json_output,
        )
    raise typer.Exit(code)


def _specification(
    options: dict[str, Any],
    bounds: dict[str, dict[str, float]],
    config: Path | None,
    resumed: Path | None,
) -> Specification:
    """From the run to be resumed, then the file, then the options, each over the one before."""
    from nas.run import specification as spec

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
    from evaluators.data.augmentation import Augmentation
    from nas.engine.evaluator_kinds import kind_of
    from nas.strategies import STRATEGIES, check_sampler
    from search_spaces.errors import unknown

    if specification.strategy not in STRATEGIES:
        raise unknown("strategy", specification.strategy, STRATEGIES)
    check_sampler(specification.sampler)
    Augmentation.from_names(specification.augmentation or ())
    kind_of(specification.evaluator)


def _new_folder(specification: Specification) -> Path:
    """Named after the data, or after the space where no images are looked at, and the time."""
    from datetime import datetime

    from nas.engine.evaluator_kinds import DEFAULT_DATA, kind_of, needs_images

    default = DEFAULT_DATA if needs_images(kind_of(specification.evaluator)) else None
    name = Path(specification.data or default or specification.space).stem
    return Path("runs") / f"{name}-{datetime.now().strftime('%Y%m%d-%H%M%S')}"
