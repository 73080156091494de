"""Trains networks of a run and prints their scores: `nas train`.

Knows runs and scores. Does not know how networks train, cuts (`cut.py`) or early exits
(`exits.py`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from evaluators.sizes import format_size
from nas.commands.show.console import make_console, print_json
from nas.progress import reporter_for
from nas.run import folder as runs
from nas.run.folder import Run
from nas.run.specification import replace_field
from nas.task.task import Task
from nas.workers.resources import Resources
from search_spaces.architecture import Architecture
from search_spaces.errors import UserError
from search_spaces.files import check_writable


def train_and_print(
    folder: Path,
    names: Sequence[str],
    out: Path | None,
    *,
    frontier: bool,
    settings: Mapping[str, Any],
    resources: Resources,
    quiet: bool,
    as_json: bool,
) -> None:
    """Train one architecture or several, and print their scores: `nas train`.

    Args:
        folder: the run.
        names: architectures: `best`, `knee`, or the beginnings of ids.
        out: folder to write; by default `RUN/trained/ID`.
        frontier: train all architectures of the frontier instead of `names`.
        settings: settings to change in the run's specification; None leaves one unchanged.
        resources: workers that train.
        quiet: print no progress.
        as_json: print JSON.

    Raises:
        UserError: for an unknown architecture, a folder that is not empty, or a cluster that does
            not answer.
    """
    run = Run(folder)
    archs = architectures(run, names, frontier=frontier)
    task = task_with(run, settings)
    check_cluster(resources)
    base = out or run.folder / "trained"
    single = len(archs) == 1 and out is not None
    places = {arch: base if single else base / arch.id for arch in archs}
    for place in places.values():
        check_empty(place)
    _train_and_print(task, run, places, resources, quiet, as_json=as_json)


def architectures(run: Run, names: Sequence[str], *, frontier: bool) -> list[Architecture]:
    """The named architectures of a run, or those of its frontier, without duplicates.

    Raises:
        UserError: for a name that matches no architecture or several, and for an empty frontier.
    """
    found = run.front() if frontier else [run.find(name) for name in names]
    archs = list(dict.fromkeys(evaluation.arch for evaluation in found))
    if not archs:
        raise UserError(f"{run.folder} has no evaluated architecture within its budget yet")
    return archs


def task_with(run: Run, settings: Mapping[str, Any]) -> Task:
    """The task of a run with some settings changed; None leaves a setting unchanged."""
    given = {name: value for name, value in settings.items() if value is not None}
    return Task(replace_field(run.specification, **given), run.folder)


def check_cluster(resources: Resources) -> None:
    """Check that the cluster of the workers answers, if they are on one.

    Raises:
        UserError: if it does not.
    """
    from nas.workers.cluster import check_reachable

    if resources.address is not None:
        check_reachable(resources.address)


def check_empty(place: Path) -> None:
    """Check that a folder does not exist or is empty, and can be written.

    Raises:
        UserError: otherwise.
    """
    check_writable(place.parent)
    if place.exists() and (place.is_file() or any(place.iterdir())):
        raise UserError(f"{place} is not empty: use another --out")


def _train_and_print(
    task: Task,
    run: Run,
    places: Mapping[Architecture, Path],
    resources: Resources,
    quiet: bool,
    *,
    as_json: bool,
) -> None:
    from nas.engine.finish.fine_tuning import FineTuning
    from nas.engine.finish.plain import PlainFinisher
    from nas.engine.preparation import starting_weights
    from nas.run import footprint

    reporter = reporter_for(quiet=quiet)
    with runs.lock(run.folder), footprint.measure(run.folder, task.specification.region):
        start = starting_weights(task, run, reporter, resources)
        finisher = PlainFinisher(FineTuning(task, run, start, reporter, resources))
        if len(places) == 1:
            ((arch, place),) = places.items()
            scores = {arch: finisher.finish(arch, place)}
        else:
            scores = finisher.finish_all(places)
    results: list[dict[str, Any]] = [
        {"id": arch.id, **score.to_json(), **task.tables.cost(arch), "folder": str(places[arch])}
        for arch, score in scores.items()
    ]
    used = footprint.summary(run.folder)
    if as_json:
        content = results[0] if len(results) == 1 else results
        print_json(content)
        return
    console = make_console()
    for result, score in zip(results, scores.values(), strict=True):
        console.print(
            f"{result['id']}: {score}, {format_size(result['macs'])} FLOPs; "
            f"network in {result['folder']}",
            soft_wrap=True,
        )
    if used is not None:
        console.print(f"energy and carbon of the run so far: {used}", soft_wrap=True, markup=False)
