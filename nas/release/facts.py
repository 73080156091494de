"""Collects what a run records about one of its networks, for the model card and the record.

Knows a run's files and the description of an exported network. Does not write or measure anything.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from evaluators.accuracy.interval import share_interval
from evaluators.data.dataset import Data
from evaluators.metrics import GREENSCORE, Metric, energy_on, latency_on
from hardware_profiles.machine import describe
from nas.exports.description import CONFIG_FILE
from nas.release.efficiency import Estimated, Footprint, Result
from nas.run import footprint
from nas.run.evaluation import Evaluation
from nas.run.folder import Run
from nas.run.specification import PRIVATE_FIELDS
from nas.task.task import Task
from search_spaces.errors import UserError
from search_spaces.files import without_folders

PACKAGES = (
    "budget-nas",
    "torch",
    "numpy",
    "onnxruntime",
    "safetensors",
    "onnx",
    "transformers",
)
"""Packages whose versions are recorded, if installed."""


@dataclass(frozen=True)
class Facts:
    """Facts about a network other than its ops."""

    run: str
    """Name of the run's folder."""
    identity: str
    """Id of the architecture."""
    name: str
    """Value of `nas export --arch` that selects the network."""
    training: str | None
    """Options of `nas train` that trained it; None if the search trained it."""
    weights: str
    """Origin of its weights: `trained`, `inherited` or `untrained`."""
    data: str
    parts: Mapping[str, int]
    """Extent of each part of the data, in `unit`."""
    unit: str
    """`images`, `tokens` or `sentences`."""
    seed: int
    settings: Mapping[str, Any]
    """Settings of the search that differ from the defaults."""
    results: list[Result]
    estimated: list[Estimated]
    footprint: Footprint | None
    greenscore: float | None
    greenscore_formula: str | None
    versions: Mapping[str, str]


def gather(
    run: Run,
    task: Task,
    evaluation: Evaluation,
    config: Mapping[str, Any],
    weights: str,
    name: str,
) -> Facts:
    """Collect the facts of a network that is being exported.

    Args:
        config: the content of its `config.json`.
        weights: `trained`, `inherited` or `untrained`.
        name: the architecture's id, or the name of the network's folder in `RUN/trained`.
    """
    data = task.data
    specification = run.specification
    changed = specification.model_dump(mode="json", exclude_defaults=True, exclude=PRIVATE_FIELDS)
    changed = {"space": specification.space, "seed": specification.seed, **changed}
    changed = {name: _public(value) for name, value in changed.items()}
    score = _greenscore(task, config, evaluation)
    made = (run.folder / "trained" / name / CONFIG_FILE).is_file()
    return Facts(
        run=run.folder.name,
        identity=evaluation.arch.id,
        name=name,
        training=_training(config) if made else None,
        weights=weights,
        data=without_folders(data.name),
        parts={part: data.extent(part) for part in ("train", "validation", "test")},
        unit=data.unit,
        seed=specification.seed,
        settings=changed,
        results=_results(task, evaluation, config),
        estimated=_estimates(task, config),
        footprint=read_footprint(run.folder, specification.region),
        greenscore=score,
        greenscore_formula=None if score is None else str(task.green),
        versions=versions(),
    )


def _public(value: Any) -> Any:
    """A setting without the folders of this machine."""
    if isinstance(value, list):
        return [_public(one) for one in value]
    return without_folders(value) if isinstance(value, str) else value


def _training(config: Mapping[str, Any]) -> str:
    """Options of `nas train` for a network cut to a target, or with early exits; else empty."""
    cut, points = config.get("cut"), config["metrics"].get("points")
    if cut is not None and cut["target"] is not None:
        return f" --target-flops {cut['target']}"
    if cut is not None:
        return f" --flops-penalty {cut['penalty']:g}"
    return "" if points is None else f" --early-exit {points:g}"


def task_name(data: Data) -> str:
    """Task of the data in Hugging Face's terms."""
    names = {"images": "image classification", "sentences": "text classification"}
    return names.get(data.unit, "text generation")


def _results(task: Task, evaluation: Evaluation, config: Mapping[str, Any]) -> list[Result]:
    """The test score of these weights, or the validation score of inherited weights."""
    data, metrics = task.data, config["metrics"]
    common: dict[str, Any] = {
        "task": task_name(data),
        "data": data.name,
        "unit": data.unit,
        "metric": data.metric,
    }
    found: list[Result] = []
    for part, value in (
        ("test", metrics.get(f"test_{data.metric}")),
        ("validation", evaluation.metrics.get(data.metric)),
    ):
        if value is None or (part == "validation" and (found or "cut" in config)):
            continue
        extent = data.extent("test" if part == "test" else "validation")
        interval = share_interval(value, extent) if Metric.of(data.metric).is_share(value) else None
        found.append(
            Result(split=part, samples=extent, value=value, interval_95=interval, **common)
        )
    return found


def _estimates(task: Task, config: Mapping[str, Any]) -> list[Estimated]:
    """Estimated latency and energy on the run's devices."""
    costs = config["costs"]
    rows = []
    for target in task.targets:
        latency = costs.get(latency_on(target.name))
        if latency is not None:
            energy = costs.get(energy_on(target.name))
            rows.append(
                Estimated(
                    device=target.name,
                    latency_ms=latency,
                    energy_mj=energy,
                    source=target.latency.summary,
                )
            )
    return rows


def _greenscore(task: Task, config: Mapping[str, Any], evaluation: Evaluation) -> float | None:
    """GreenScore from the test accuracy if there is one, else from the validation accuracy."""
    if task.data.metric != "accuracy" or "cut" in config:
        return None
    accuracy = config["metrics"].get("test_accuracy", evaluation.metrics.get("accuracy"))
    if accuracy is None:
        return None
    try:
        return task.derived({**config["costs"], "accuracy": accuracy}).get(GREENSCORE)
    except UserError:
        return None


def read_footprint(folder: Path, region: str) -> Footprint | None:
    """Energy and carbon of a run as codecarbon measured them; None if they were not measured."""
    content = footprint.read(folder)
    if content is None:
        return None
    try:
        total = content["totals"]
        regions, by = footprint.places(content["sessions"])
        return Footprint(
            covers="the whole run (supernet, search and trainings) on those of its machines that "
            "were measured",
            kwh=total["kwh"],
            kg_co2e=total["kg"],
            kg_co2e_low=total["kg_low"],
            kg_co2e_high=total["kg_high"],
            region=regions or region,
            measured_by=f"codecarbon: {by}",
        )
    except (ValueError, KeyError, TypeError):
        return None


def versions() -> dict[str, str]:
    """Versions of Python and of the `PACKAGES` that are installed, by name."""
    from importlib.metadata import PackageNotFoundError, version

    known = {"python": str(describe()["python"])}
    for name in PACKAGES:
        try:
            known[name] = version(name)
        except PackageNotFoundError:
            continue
    return known
