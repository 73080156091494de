"""Writes a network of a run as a bundle: its files, a model card and an efficiency record.

In this order: the requested formats, Hugging Face's files, the check in a fresh process, the
timing, the int8 file, the record, the card. A failure leaves nothing behind. Knows runs. Does not
print.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date
from pathlib import Path
from typing import Any

from torch import nn

from evaluators.accuracy.class_scores import ClassScores
from evaluators.accuracy.interval import share_interval
from evaluators.data.images import ImageData
from evaluators.data.preprocessing import Preprocessing
from evaluators.metrics import Metric
from nas.engine.finish.cut import find_trained
from nas.engine.preparation import starting_weights
from nas.exports import checks, onnx_file, quantised
from nas.exports.app import pixels_graph, web_runtime
from nas.exports.app import writing as app_folder
from nas.exports.description import CONFIG_FILE, ONNX_FILE, WEIGHTS_FILE
from nas.exports.folder import staged
from nas.exports.saved import load, write_config
from nas.exports.source import hugging_face, python_source
from nas.exports.writing import (
    Exportable,
    check_formats,
    prepare,
    write_formats,
    write_scores,
    write_source,
)
from nas.progress import Quiet, Reporter
from nas.release import model_card, picture, timing
from nas.release.efficiency import (
    RECORD_FILE,
    Convention,
    Counts,
    EfficiencyRecord,
    Measured,
    Result,
)
from nas.release.facts import Facts, gather, task_name
from nas.run.evaluation import Evaluation
from nas.run.folder import Run, read_scores
from nas.task.task import Task
from search_spaces.errors import UserError
from search_spaces.exits.network import ExitNetwork
from search_spaces.files import write_text
from search_spaces.serial import Blocks, blocks_from_json


@dataclass(frozen=True)
class SourceNetwork:
    """A network of a run that can be exported."""

    evaluation: Evaluation
    network: nn.Module
    weights: str
    """`trained`, `inherited` or `untrained`."""
    metrics: dict[str, Any] = field(default_factory=dict)
    """Metrics of the trained network, recorded in `config.json`."""
    cut: Mapping[str, Any] | None = None
    """Description of the cut, for a network that was cut from the architecture."""
    blocks: Blocks | None = None
    """Ops of such a network."""
    folder: str | None = None
    """Name of its folder in `RUN/trained` if it was selected by that name."""
    scores: ClassScores | None = None
    """Its scores by class on the test part, if it was trained."""


@dataclass(frozen=True)
class Extras:
    """What is written beside the formats, from the ONNX file."""

    int8: bool = False
    """The file in eight bits."""
    with_preprocessing: bool = False
    """The file with the preprocessing before the network."""
    app: bool = False
    """The folder `app`, with the file with preprocessing."""
    web_runtime: Path | None = None
    """Folder of onnxruntime-web for the page of the app; by default npm fetches it."""

    @property
    def prepares(self) -> bool:
        """Whether the file with preprocessing is written."""
        return self.with_preprocessing or self.app

    @property
    def options(self) -> list[str]:
        """The options of `nas export` that stand for them."""
        options = {
            "--int8": self.int8,
            "--with-preprocessing": self.with_preprocessing,
            "--app": self.app,
        }
        return [option for option, given in options.items() if given]


@dataclass(frozen=True)
class Bundle:
    """A folder that was written, and how its files compare with the network."""

    folder: Path
    identity: str
    """Id of the architecture."""
    weights: str
    """`trained`, `inherited` or `untrained`."""
    files: list[str]
    """Names of the files in the folder."""
    differences: Mapping[str, float]
    """Largest relative difference of outputs in the check, by format."""
    results: list[Result]
    notes: list[str]
    """What was not written or not checked, with the reason."""


def check_options(formats: Sequence[str], extras: Extras) -> None:
    """Check the options before anything is loaded.

    Raises:
        UserError: for an unknown format, an extra without `onnx`, or a folder without
            onnxruntime-web.
    """
    check_formats(formats)
    if "onnx" not in formats:
        for option in extras.options:
            raise UserError(f"{option} is made of the ONNX file: expected onnx in --format")
    if extras.web_runtime is not None:
        if not extras.app:
            raise UserError("--web-runtime is of --app")
        web_runtime.find(extras.web_runtime)


def load_source(run: Run, task: Task, name: str, reporter: Reporter | None = None) -> SourceNetwork:
    """Load the network of an architecture, trained if the run has trained it.

    Args:
        name: `best`, `knee`, a prefix of an architecture id, or the name of a folder in
            `RUN/trained`, which holds a network cut to a target or one with early exits.
        reporter: shows the training of a supernet whose checkpoint is gone.

    Raises:
        UserError: if the name matches no architecture or several.
    """
    place = run.folder / "trained" / name
    if name and "/" not in name and (place / CONFIG_FILE).is_file():
        network = load(place)
        config = network.config
        evaluation = run.find(config["architecture"]["id"])
        cut = config.get("cut")
        blocks = None if cut is None else blocks_from_json(config["network"])
        metrics, scores = config["metrics"], read_scores(place)
        return SourceNetwork(evaluation, network, "trained", metrics, cut, blocks, name, scores)
    return next(load_sources(run, task, [run.find(name)], reporter))


def load_sources(
    run: Run, task: Task, evaluations: Sequence[Evaluation], reporter: Reporter | None = None
) -> Iterator[SourceNetwork]:
    """Load the networks of evaluations one at a time; the supernet at most once, if needed."""
    start = None
    for evaluation in evaluations:
        found = find_trained(run, evaluation.arch)
        if found is not None:
            place, trained = found
            metrics, scores = trained.config["metrics"], read_scores(place)
            yield SourceNetwork(evaluation, trained, "trained", metrics, scores=scores)
            continue
        if start is None:
            start = starting_weights(task, run, reporter or Quiet())
        weights = "inherited" if task.kind == "supernet" else "untrained"
        yield SourceNetwork(evaluation, start.recalibrated(evaluation.arch), weights)


def write_bundle(
    run: Run,
    task: Task,
    source: SourceNetwork,
    folder: Path,
    *,
    formats: Sequence[str],
    extras: Extras | None = None,
    overwrite: bool = False,
) -> Bundle:
    """Write a network with its model card and its record, checked in a fresh process.

    Raises:
        UserError: for options that `check_options` refuses, a format that the network does not
            have, a folder that is not empty, or a file that does not load or differs in outputs
            or counts.
    """
    extras = extras or Extras()
    check_options(formats, extras)
    if extras.prepares and not isinstance(task.data, ImageData):
        raise UserError(
            f"{extras.options[-1]} puts the preprocessing of images before a network: "
            f"{task.data.name} has {task.data.unit}"
        )
    identity = source.evaluation.arch.id
    made = prepare(
        source.network,
        source.evaluation.arch,
        task.tables,
        task.data,
        formats=formats,
        metrics=source.metrics,
        blocks=source.blocks,
        cut=source.cut,
    )
    kind, notes = None, []
    with staged(folder, overwrite=overwrite) as place:
        write_formats(made, formats, place)
        write_scores(source.scores, place)
        if "safetensors" in formats:
            try:
                kind = add_hugging_face(made, place)
            except UserError as error:
                notes.append(f"no from_pretrained: {error}")
        check = checks.in_a_fresh_process(
            made.network,
            made.blocks,
            place,
            formats,
            costs=None if isinstance(made.network, ExitNetwork) else made.config["costs"],
            auto=None if kind is None else hugging_face.AUTO[kind],
            space=task.space_reference,
        )
        if kind is not None and not checks.has_transformers():
            notes.append("from_pretrained is not checked: pip install transformers")
        facts = gather(
            run,
            task,
            source.evaluation,
            made.config,
            source.weights,
            source.folder or identity,
        )
        measured = _time(made, formats, place)
        if extras.int8:
            others = [result for result in facts.results if result.split != "test"]
            facts = replace(facts, results=[*_quantise(task, made, place), *others])
            measured += timing.time_onnx(place / quantised.INT8_FILE, made.blocks, "int8")
        if extras.prepares:
            notes += _prepared(made, extras, place)
        record = _record(facts, made.config, measured)
        write_text(place / RECORD_FILE, record.model_dump_json(indent=1) + "\n")
        write_text(place / picture.PICTURE_FILE, picture.draw(made.blocks, record.name))
        files = sorted(
            path.relative_to(place).as_posix() for path in place.rglob("*") if path.is_file()
        )
        card = model_card.write(facts, made.config, record, files, kind)
        write_text(place / model_card.CARD_FILE, card)
    return Bundle(
        folder,
        identity,
        source.weights,
        sorted([*files, model_card.CARD_FILE]),
        check.differences,
        facts.results,
        notes,
    )


def add_hugging_face(made: Exportable, place: Path) -> hugging_face.Kind:
    """Add Hugging Face's files to a folder that has `config.json` and the weights.

    Returns:
        The kind of the network, which determines the class that reads it.

    Raises:
        UserError: for a network without such a class, or with an op that cannot be written as
            Python.
    """
    exits = isinstance(made.network, ExitNetwork)
    kind = None if exits else hugging_face.kind_of(made.blocks)
    if kind is None:
        raise UserError("transformers has no class for such a network")
    write_source(made.blocks, made.config, place)
    config = {**made.config, **hugging_face.settings(kind, made.config)}
    write_config(config, place)
    for name, text in hugging_face.files(kind, made.blocks, config).items():
        write_text(place / name, text)
    return kind


def _time(made: Exportable, formats: Sequence[str], place: Path) -> list[Measured]:
    """Time the ONNX file if there is one, else the network in torch."""
    if "onnx" in formats:
        return timing.time_onnx(place / ONNX_FILE, made.blocks)
    name = python_source.SOURCE_FILE if "python" in formats else WEIGHTS_FILE
    return timing.time_torch(made.network, made.blocks, name)


def _prepared(made: Exportable, extras: Extras, place: Path) -> list[str]:
    """Write the file with preprocessing, and the app; returns why a part was left out."""
    source, target = place / ONNX_FILE, place / pixels_graph.PIXELS_FILE
    preprocessing = Preprocessing.of(made.config)
    pixels_graph.write(source, target, preprocessing)
    pixels_graph.check(source, target, preprocessing)
    if not extras.app:
        return []
    try:
        runtime = web_runtime.find(extras.web_runtime)
    except web_runtime.NoRuntime as reason:
        app_folder.write(place, made.config, None)
        return [f"{app_folder.FOLDER} has no page for browsers: {reason}"]
    app_folder.write(place, made.config, runtime)
    return []


def _quantise(task: Task, made: Exportable, place: Path) -> list[Result]:
    """Write the int8 file and score it and the ONNX file on the test part."""
    data, shape = task.data, tuple(made.config["input_shape"])
    source, target = place / ONNX_FILE, place / quantised.INT8_FILE
    name = onnx_file.input_name(made.blocks)
    quantised.write(source, target, data, shape, name, seed=task.specification.seed)
    scores = quantised.scores({"fp32": source, "int8": target}, data, shape)
    extent, is_share = data.extent("test"), Metric.of(data.metric).style == "share"
    return [
        Result(
            task=task_name(data),
            data=data.name,
            split="test",
            samples=extent,
            unit=data.unit,
            metric=data.metric,
            value=scores[precision],
            interval_95=share_interval(scores[precision], extent) if is_share else None,
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
