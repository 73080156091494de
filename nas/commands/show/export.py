"""Exports networks of a run as folders and prints their files and scores: `nas export`.

Knows runs, bundles and the index of exported networks. Does not know file formats.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from evaluators.metrics import Metric
from nas.commands.show.console import make_console
from nas.exports.folder import refuse_full
from nas.progress import reporter_for
from nas.release.bundle import (
    Bundle,
    Extras,
    check_options,
    load_source,
    load_sources,
    write_bundle,
)
from nas.run import ranking
from nas.run.folder import Run
from nas.task.task import Task
from search_spaces.errors import UserError
from search_spaces.files import read_json, write_text

INDEX = "index.json"
"""File that lists the networks of a folder with all networks of a frontier."""


def export_network(
    folder: Path,
    name: str,
    out: Path,
    *,
    formats: Sequence[str],
    extras: Extras | None = None,
    overwrite: bool = False,
    quiet: bool = False,
) -> Bundle:
    """Export one network of a run.

    Args:
        folder: the run.
        name: `best`, `knee`, the beginning of an id, or a folder in `RUN/trained`.
        out: folder to write.
        formats: names of formats; see `nas.release.bundle.check_options`.
        extras: what to write beside the formats.
        overwrite: replace the content of the folder.
        quiet: print no progress.

    Raises:
        UserError: for an unknown name or format, or a folder that is not empty.
    """
    extras = extras or Extras()
    check_options(formats, extras)
    refuse_full(out, overwrite=overwrite)
    run = Run(folder)
    task = Task(run.specification, run.folder)
    reporter = reporter_for(quiet=quiet)
    source = load_source(run, task, name, reporter)
    with reporter.stage(f"exporting {source.evaluation.arch.id}"):
        return write_bundle(
            run, task, source, out, formats=formats, extras=extras, overwrite=overwrite
        )


def export_and_print(
    folder: Path,
    name: str,
    out: Path,
    *,
    formats: Sequence[str],
    extras: Extras,
    overwrite: bool,
    quiet: bool = False,
) -> None:
    """Export one network and print its files and scores; see `export_network`."""
    _print(
        export_network(
            folder, name, out, formats=formats, extras=extras, overwrite=overwrite, quiet=quiet
        )
    )


def export_frontier_and_print(
    folder: Path,
    out: Path,
    *,
    formats: Sequence[str],
    extras: Extras,
    overwrite: bool,
    quiet: bool = False,
) -> None:
    """Export all networks of the frontier, each to a folder, with an index of them.

    An interrupted export is resumed by the same call: networks that the index lists with these
    formats are not exported again.

    Args:
        folder: the run.
        out: folder to write.
        formats: names of formats; see `nas.release.bundle.check_options`.
        extras: what to write beside the formats.
        overwrite: ignore an existing index and replace the content of the folders.
        quiet: print no progress.

    Raises:
        UserError: for an empty frontier, an unknown format, or a folder that is not empty.
    """
    check_options(formats, extras)
    run = Run(folder)
    task = Task(run.specification, run.folder)
    evaluations = run.evaluations()
    front = {e.arch.id: e for e in run.front(evaluations)}
    if not front:
        done = [e for e in evaluations if e.error is None]
        reason = ranking.nothing_feasible(done, run.budget) if done else "nothing evaluated yet"
        raise UserError(f"{folder} has no frontier to export: {reason}")
    options = {
        "formats": sorted(formats),
        "int8": extras.int8,
        **{option: True for option in extras.options if option != "--int8"},
    }
    known = _index(out, overwrite=overwrite)
    present = {
        entry["id"] for entry in known if {k: entry.get(k) for k in options} == options
        and (out / entry["id"] / "efficiency.json").is_file()
    }  # fmt: skip
    entries = [entry for entry in known if entry["id"] in present & front.keys()]
    missing = [e for name, e in front.items() if name not in present]
    reporter = reporter_for(quiet=quiet)
    for number, source in enumerate(load_sources(run, task, missing, reporter), start=1):
        identity = source.evaluation.arch.id
        with reporter.stage(f"exporting {identity}, {number} of {len(missing)}"):
            place = out / identity
            bundle = write_bundle(
                run, task, source, place, formats=formats, extras=extras, overwrite=True
            )
        entries.append(
            {
                "id": identity,
                "weights": bundle.weights,
                **options,
                "macs": source.evaluation.metrics["macs"],
                "params": source.evaluation.metrics["params"],
                "scores": [
                    {
                        name: getattr(result, name)
                        for name in ("split", "metric", "value", "precision")
                    }
                    for result in bundle.results
                ],
            }
        )
        entries.sort(key=lambda entry: float(entry["macs"]))
        content = {"run": run.folder.name, "space": task.space.name, "networks": entries}
        write_text(out / INDEX, json.dumps(content, indent=1) + "\n")
    make_console().print(
        f"{len(entries)} networks of the frontier in {out}, {len(entries) - len(missing)} of them "
        f"exported before; listed in {out / INDEX}",
        soft_wrap=True,
    )


def _index(out: Path, *, overwrite: bool) -> list[dict[str, Any]]:
    """The networks that the index of a folder lists; none for a new folder.

    Raises:
        UserError: for a folder with other content, or an index that cannot be read.
    """
    try:
        content = read_json(out / INDEX)
        return [] if overwrite else list(content["networks"])
    except FileNotFoundError:
        refuse_full(out)
        return []
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"cannot read {out / INDEX}: {error}") from error


def _print(bundle: Bundle) -> None:
    console = make_console()
    checked = ", ".join(f"{name} {worst:.1g}" for name, worst in bundle.differences.items())
    console.print(
        f"{bundle.identity} with {bundle.weights} weights in {bundle.folder}: "
        f"{', '.join(bundle.files)}",
        soft_wrap=True,
        markup=False,
    )
    console.print(
        f"checked in a new process, largest differences of outputs: {checked}", soft_wrap=True
    )
    for result in bundle.results:
        interval = ""
        if result.interval_95 is not None:
            low, high = (Metric.of(result.metric).format(value) for value in result.interval_95)
            interval = f" (95 % interval {low} to {high})"
        console.print(
            f"{result.split} {result.metric}, {result.precision}: "
            f"{Metric.of(result.metric).format(result.value)}{interval} on {result.samples} "
            f"{result.unit}",
            soft_wrap=True,
        )
    for note in bundle.notes:
        console.print(note, soft_wrap=True, markup=False)
