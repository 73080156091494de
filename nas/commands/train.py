"""Trainings of networks of a run: `nas train` and `nas fidelity`. Options and their checks only."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from nas.commands import completion
from nas.commands.options import (
    ARCHITECTURE,
    Json,
    Mlflow,
    Quiet,
    RayAddress,
    RunFolder,
    TensorBoard,
    Wandb,
    Workers,
    finite,
    read,
    resources_of,
    with_trust,
)
from search_spaces.errors import UserError


@with_trust
def train(
    run: RunFolder,
    arch: Annotated[
        list[str] | None,
        typer.Option(
            metavar="ARCH",
            help=f"Architecture (repeatable): {ARCHITECTURE}.  [default: best]",
            autocompletion=completion.architectures,
        ),
    ] = None,
    frontier: Annotated[
        bool, typer.Option("--frontier", help="Train every architecture of the frontier.")
    ] = False,
    out: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="Folder to export to.  [default: RUN/trained/ID, and the FLOPs where they change]",
        ),
    ] = None,
    epochs: Annotated[
        float | None, typer.Option(metavar="EPOCHS", help="Epochs.  [default: the run's]")
    ] = None,
    scratch: Annotated[
        bool | None,
        typer.Option(
            "--scratch/--inherited",
            help="Start from random weights, or from those of the supernet.  [default: the run's]",
        ),
    ] = None,
    teacher: Annotated[
        bool | None,
        typer.Option(
            "--teacher/--no-teacher",
            help="Distil the supernet's largest subnet into the network.  [default: the run's]",
        ),
    ] = None,
    target_flops: Annotated[
        str | None,
        typer.Option(
            metavar="SIZE",
            help="Prune the network to at most these FLOPs, such as 2.7G.  [default: no pruning]",
        ),
    ] = None,
    flops_penalty: Annotated[
        float | None,
        typer.Option(
            metavar="X",
            help="Prune the network with this weight of log(FLOPs) in the loss.  "
            "[default: no pruning]",
        ),
    ] = None,
    early_exit: Annotated[
        float | None,
        typer.Option(
            metavar="POINTS",
            help="Add early exits that may lose this many percentage points of accuracy, such as "
            "0.5.  [default: no exits]",
            callback=finite(0, below=100),
        ),
    ] = None,
    quiet: Quiet = False,
    as_json: Json = False,
    tensorboard: TensorBoard = None,
    mlflow: Mlflow = None,
    wandb: Wandb = None,
    workers: Workers = 0,
    ray_address: RayAddress = None,
) -> None:
    """Train networks of a run, score them on test data, export them.

    Training starts from inherited weights. --target-flops and --flops-penalty learn gates, remove
    the closed channels, heads and blocks, and train and export the smaller network. With
    --early-exit, easy samples leave at an exit. Several workers share one training, or train one
    network each.

    Example: nas train runs/first --arch knee --epochs 20
    """
    from evaluators.sizes import parse_size
    from nas.commands.show.curves import LogOptions, logged_to

    names = arch or ["best"]
    resources = resources_of(workers, ray_address)
    logged = LogOptions(tensorboard, mlflow, wandb)
    target = read("--target-flops", parse_size, target_flops)
    settings = {"train_epochs": epochs, "scratch": scratch, "teacher": teacher}
    if early_exit is not None:
        from nas.commands.training.exits import train_exits_and_print

        if target is not None or flops_penalty is not None:
            raise UserError(
                "--early-exit and --target-flops are separate networks: train one at a time"
            )
        if len(names) > 1 or frontier:
            raise UserError("--early-exit trains one architecture at a time")
        with logged_to(logged, run):
            train_exits_and_print(
                run,
                names[0],
                out,
                points=early_exit,
                settings=settings,
                resources=resources,
                quiet=quiet,
                as_json=as_json,
            )
        return
    if target is not None or flops_penalty is not None:
        from nas.commands.training.cut import train_cut_and_print

        with logged_to(logged, run):
            train_cut_and_print(
                run,
                names,
                out,
                frontier=frontier,
                settings=settings,
                target=target,
                penalty=flops_penalty,
                resources=resources,
                quiet=quiet,
                as_json=as_json,
            )
        return
    from nas.commands.training.networks import train_and_print

    with logged_to(logged, run):
        train_and_print(
            run,
            names,
            out,
            frontier=frontier,
            settings=settings,
            resources=resources,
            quiet=quiet,
            as_json=as_json,
        )


@with_trust
def fidelity(
    run: RunFolder,
    architectures: Annotated[
        int,
        typer.Option(
            metavar="N", help="Number of architectures to train alone, spread over the FLOPs."
        ),
    ] = 24,
    epochs: Annotated[
        float | None,
        typer.Option(
            metavar="EPOCHS",
            help="Epochs of each.  [default: a quarter of the supernet's]",
            callback=finite(above=0),
        ),
    ] = None,
    quiet: Quiet = False,
    as_json: Json = False,
    workers: Workers = 0,
    ray_address: RayAddress = None,
) -> None:
    """Compare the supernet's order with that of networks trained alone.

    Prints Kendall's τ with its interval, beside that of ordering by FLOPs alone.

    Example: nas fidelity runs/first --architectures 24
    """
    from nas.commands.training.fidelity import fidelity_and_print

    fidelity_and_print(
        run,
        count=architectures,
        epochs=epochs,
        resources=resources_of(workers, ray_address),
        quiet=quiet,
        as_json=as_json,
    )
