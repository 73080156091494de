"""A network of a run, taken away: its files, what is known of it, and the proof that they work.

Reads top to bottom: the formats, Hugging Face's layout, eight bits, the check in a fresh process,
the timing, the record, the card. Whatever fails leaves nothing behind. Knows runs. Does not print.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date
from pathlib import Path
from typing import Any

from torch import nn

from evaluators.accuracy.interval import of_share
from nas.engine.preparation import starting_weights
from nas.engine.task import Task
from nas.engine.winner import trained_already
from nas.exports import checks, onnx_file, quantised
from nas.exports.saved import load, write_config
from nas.exports.source import hugging_face, python_source
from nas.exports.writing import check_formats, export, write_source
from nas.progress import Quiet
from nas.release import efficiency, model_card, picture, timing
from nas.release.efficiency import Convention, Counts, EfficiencyRecord, Measured, Result
from nas.release.facts import Facts, gather, task_name
from nas.run.evaluation import Evaluation
from nas.run.folder import Run
from search_spaces.errors import UserError
from search_spaces.exits.network import ExitNetwork
from search_spaces.files import write_text
from search_spaces.serial import Blocks, blocks_from_json


@dataclass(frozen=True)
class Source:
    """A network of a run that is to be taken away."""

    evaluation: Evaluation
    network: nn.Module
    weights: str
    """`trained`, `inherited` or `untrained`."""
    metrics: dict[str, Any] = field(default_factory=dict)
    cut: Mapping[str, Any] | None = None
    blocks: Blocks | None = None
    folder: str | None = None
    """In `RUN/trained`, where it was asked for by that."""


@dataclass
class Taken:
    """What was written, and what is to be told of it."""

    folder: Path
    identity: str
    weights: str
    files: list[str] = field(default_factory=list)
    checked: dict[str, float] = field(default_factory=dict)
    results: list[Result] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def check_asked(formats: Sequence[str], *, int8: bool) -> None:
    """Say before anything is loaded what cannot be.

    Raises:
        UserError: for an unknown format, or `int8` without `onnx`.
    """
    check_formats(formats)
    if int8 and "onnx" not in formats:
        raise UserError("--int8 is made of the ONNX file: expected onnx in --format")


def source_of(run: Run, task: Task, name: str) -> Source:
    """The network of an architecture, trained if the run has trained it.

    Args:
        name: `best`, `knee`, the beginning of an id, or a folder in `RUN/trained`: a
            network cut to a target, or one with early exits.

    Raises:
        UserError: for a name that fits none, or several.
    """
    place = run.folder / "trained" / name
    if name and "/" not in name and (place / "config.json").is_file():
        network = load(place)
        config = network.config
        evaluation = run.find(config["architecture"]["id"])
        cut = config.get("cut")
        blocks = None if cut is None else blocks_from_json(config["network"])
        return Source(evaluation, network, "trained", config["metrics"], cut, blocks, name)
    return next(sources_of(run, task, [run.find(name)]))


def sources_of(run: Run, task: Task, evaluations: Sequence[Evaluation]) -> Iterator[Source]:
    """The networks of evaluations, one at a time; the supernet is loaded once, if any needs it."""
    start = None
    for evaluation in evaluations:
        trained = trained_already(run, evaluation.arch)
        if trained is not None:
            yield Source(evaluation, trained, "trained", trained.config["metrics"])
            continue
        if start is None:
            start = starting_weights(task, run, Quiet())
        weights = "inherited" if task.kind == "supernet" else "untrained"
        yield Source(evaluation, start.recalibrated(evaluation.arch), weights)


def take(
    run: Run,
    task: Task,
    source: Source,
    folder: Path,
    *,
    formats: Sequence[str],
    int8: bool = False,
    overwrite: bool = False,
) -> Taken:
    """Write a network with its card and its record, all checked in a fresh process.

    Raises:
        UserError: for what `check_asked` and `nas.export.export` refuse, and for whatever does
            not load, differs or counts otherwise.
    """
    check_asked(formats, int8=int8)
    taken = Taken(folder, source.evaluation.arch.id, source.weights)

    def finish(network: nn.Module, blocks: Blocks, config: dict[str, Any], place: Path) -> None:
        exits = isinstance(network, ExitNetwork)
        kind = None if exits else hugging_face.kind_of(blocks)
        if "safetensors" in formats:
            kind = add_hugging_face(kind, blocks, config, place, taken.notes)
        else:
            kind = None
        taken.checked = checks.in_a_fresh_process(
            network,
            blocks,
            place,
            formats,
            costs=None if exits else config["costs"],
            auto=None if kind is None else hugging_face.AUTO[kind],
            space=task.specification.space,
        )["checked"]
        if kind is not None and not checks.has_transformers():
            taken.notes.append("from_pretrained is not checked: pip install transformers")
        facts = gather(
            run,
            task,
            source.evaluation,
            config,
            source.weights,
            source.folder or source.evaluation.arch.id,
        )
        measured = _timed(network, blocks, formats, place)
        if int8:
            others = [r for r in facts.results if r.split != "test"]
            results = [*_eight_bits(task, config, blocks, place), *others]
            facts = replace(facts, results=results)
            measured += timing.time_onnx(place / quantised.FILE, blocks, "int8")
        record = _record(facts, config, measured)
        write_text(place / efficiency.FILE, record.model_dump_json(indent=1) + "\n")
        title = f"{config['space']} {facts.identity}"
        write_text(place / picture.FILE, picture.draw(blocks, title))
        files = sorted(path.name for path in place.iterdir())
        write_text(place / model_card.FILE, model_card.write(facts, config, record, files, kind))
        taken.files = sorted([*files, model_card.FILE])
        taken.results = facts.results

    export(
        source.network,
        source.evaluation.arch,
        task.tables,
        task.data,
        folder,
        formats=formats,
        metrics=source.metrics,
        overwrite=overwrite,
        blocks=source.blocks,
        cut=source.cut,
        finish=finish,
    )
    return taken


def add_hugging_face(
    kind: hugging_face.Kind | None,
    blocks: Blocks,
    config: dict[str, Any],
    place: Path,
    notes: list[str],
) -> hugging_face.Kind | None:
    """Add Hugging Face's files; the kind of the network, or None where it has no such layout."""
    if kind is None:
        notes.append("no from_pretrained: transformers has no class for such a network")
        return None
    try:
        write_source(blocks, config, place)
    except UserError as error:
        notes.append(f"no from_pretrained: {error}")
        return None
    # In place: what is described from here on is what stands in the file.
    config |= hugging_face.settings(kind, config)
    write_config(config, place)
    for name, text in hugging_face.files(kind, blocks, config).items():
        write_text(place / name, text)
    return kind


def _timed(
    network: nn.Module, blocks: Blocks, formats: Sequence[str], place: Path
) -> list[Measured]:
    if "onnx" in formats:
        return timing.time_onnx(place / onnx_file.FILE, blocks)
    name = python_source.FILE if "python" in formats else "model.safetensors"
    return timing.time_torch(network, blocks, name)


def _eight_bits(task: Task, config: Mapping[str, Any], blocks: Blocks, place: Path) -> list[Result]:
    """Write the file in eight bits; what both files reach on the test part."""
    data, shape = task.data, tuple(config["input_shape"])
    source, target = place / onnx_file.FILE, place / quantised.FILE
    name = onnx_file.input_name(blocks)
    quantised.write(source, target, data, shape, name, seed=task.specification.seed)
    scores = quantised.scores({"fp32": source, "int8": target}, data, shape)
    extent = data.extent("test")
    return [
        Result(
            task=task_name(data),
            data=data.name,
            split="test",
            samples=extent,
            unit=data.unit,
            metric=data.metric,
            value=scores[precision],
            interval_95=of_share(scores[precision], extent) if data.metric == "accuracy" else None,
            precision=precision,
        )
        for precision in ("fp32", "int8")
    ]


def _record(
    facts: Facts,
    config: Mapping[str, Any],
    measured: Sequence[Measured],
) -> EfficiencyRecord:
    costs = config["costs"]
    return EfficiencyRecord(
        name=f"{config['space']} {facts.identity}",
        space=config["space"],
        architecture=facts.identity,
        made=date.today().isoformat(),
        counts=Counts(
            macs=costs["macs"],
            params=costs["params"],
            activation_bytes=costs["memory"],
            input_shape=config["input_shape"],
            convention=Convention(flops_per_mac=1, text=config["convention"]),
        ),
        results=facts.results,
        measured=list(measured),
        estimated=facts.estimated,
        footprint=facts.footprint,
        greenscore=facts.greenscore,
        greenscore_formula=facts.greenscore_formula,
        versions=dict(facts.versions),
    )
