"""`nas search`: the options of a search, and where its run goes.

The options of settings are generated from `Specification`; see `nas/commands/settings.py`. Does not
search.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from inspect import Parameter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from nas.commands import completion
from nas.commands.layout import with_options
from nas.commands.options import (
    OUTPUT,
    Json,
    Mlflow,
    Quiet,
    RayAddress,
    TensorBoard,
    Wandb,
    Workers,
    resources_of,
    with_trust,
)
from search_spaces.errors import UserError

if TYPE_CHECKING:
    from nas.commands.settings import Setting

COMPLETIONS: dict[str, Callable[[str], list[str]]] = {
    "space": completion.spaces,
    "device": completion.devices,
}
"""Completions of options whose values are not a closed set."""


def spelling(name: str) -> str:
    """Return the option of this name as it is typed: `--max-flops`."""
    return f"--{name.replace('_', '-')}"


def _settings() -> list[Parameter]:
    """The options of all settings, as typer reads them from a signature."""
    from nas.commands.settings import settings

    return [_parameter(setting) for setting in settings().values()]


def _parameter(setting: Setting) -> Parameter:
    declaration = spelling(setting.name)
    if setting.negative is not None:
        declaration += f"/{spelling(setting.negative)}"
    complete = COMPLETIONS.get(setting.name)
    if complete is None and setting.choices:
        # Not the forms of a value, such as table:FILE.
        complete = completion.among(c for c in setting.choices if ":" not in c)
    option = typer.Option(
        declaration,
        metavar=None if setting.kind is bool else setting.option.metavar,
        help=f"{setting.description}  [default: {setting.default}]",
        rich_help_panel=setting.option.heading,
        autocompletion=complete,
    )
    kind: Any = list[str] if setting.repeated else setting.kind
    annotation = Annotated[kind | None, option]
    return Parameter(setting.name, Parameter.KEYWORD_ONLY, default=None, annotation=annotation)


@with_trust
@with_options(_settings)
def search(
    *,
    workers: Workers = 0,
    ray_address: RayAddress = None,
    out: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="Run folder.  [default: runs/DATA-TIME]",
            rich_help_panel=OUTPUT,
        ),
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Continue the run in --out.")] = False,
    dry_run: Annotated[
        bool,
        typer.Option(
            "--dry-run", help="Print what the search would do and how long it would take, and stop."
        ),
    ] = False,
    config: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="JSON, TOML or YAML file of settings, which options override.  [default: no file]",
        ),
    ] = None,
    json_output: Json = False,
    quiet: Quiet = False,
    tensorboard: TensorBoard = None,
    mlflow: Mlflow = None,
    wandb: Wandb = None,
    **given: Any,
) -> None:
    """Search for networks within a budget; train and export the best.

    Example: nas search --data digits --max-flops 300k --out runs/first
    """
    started = time.monotonic()
    from nas.commands.settings import specification_of

    specification = specification_of(
        given, spell=spelling, config=config, resumed=out if resume else None
    )
    resources_of(workers, ray_address)
    if resume and out is None:
        raise UserError("--resume needs --out DIR, the run to continue")
    from nas.commands.show.curves import LogOptions, logged_to
    from nas.task.new_run import check_folder, new_folder

    folder = out or new_folder(specification)
    check_folder(folder, None, resume=resume)
    logged = LogOptions(tensorboard, mlflow, wandb)
    if dry_run:
        from nas.commands.show.search import print_plan

        logged.opened()
        print_plan(
            specification,
            workers=workers,
            as_json=json_output,
            folder=folder,
            ray_address=ray_address,
            resume=resume,
        )
        return
    with logged_to(logged, folder):
        in_terminal = sys.stderr.isatty()
        if in_terminal and not quiet:  # before anything is imported that takes time
            print(f"run folder: {folder}", file=sys.stderr, flush=True)
        from nas.commands.show.search import search_and_print

        code = search_and_print(
            specification,
            folder,
            workers=workers,
            ray_address=ray_address,
            resume=resume,
            quiet=quiet,
            as_json=json_output,
            started=started,
            said=in_terminal,
        )
    raise typer.Exit(code)
