"""All that a run knows of one of its networks, for its model card and its efficiency record.

Gathers. Does not write, and does not measure anything.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from evaluators.accuracy.interval import of_share
from evaluators.costs.budget import ENERGY, LATENCY
from evaluators.data.dataset import Data
from hardware_profiles.machine import describe
from nas.engine.task import GREENSCORE, Task
from nas.release.efficiency import Estimated, Footprint, Result
from nas.run import footprint
from nas.run.evaluation import Evaluation
from nas.run.folder import Run
from search_spaces.errors import UserError

OWN_PACKAGES = ("safetensors", "onnx", "transformers")


@dataclass(frozen=True)
class Facts:
    """What is known of a network beside its ops."""

    run: str
    """The run's folder."""
    identity: str
    """Of the architecture."""
    name: str
    """What `nas export --arch` takes it by."""
    training: str | None
    """The options with which `nas train` made it; None if the search itself did."""
    source: str
    """Where its weights come from: `trained`, `inherited` or `untrained`."""
    data: str
    parts: Mapping[str, int]
    """How much there is of each part of the data."""
    unit: str
    seed: int
    settings: Mapping[str, Any]
    """Of the search, those that are not the defaults."""
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
    source: str,
    name: str,
) -> Facts:
    """The facts of a network that is being exported.

    Args:
        config: the description that goes into its folder.
        name: the architecture's id, or the folder in `RUN/trained` that the network is from.
    """
    data = task.data
    specification = run.specification
    changed = specification.model_dump(mode="json", exclude_defaults=True)
    changed = {"space": specification.space, "seed": specification.seed, **changed}
    score = _greenscore(task, config, evaluation)
    made = (run.folder / "trained" / name / "config.json").is_file()
    return Facts(
        run=run.folder.name,
        identity=evaluation.arch.id,
        name=name,
        training=_training(config) if made else None,
        source=source,
        data=data.name,
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


def _training(config: Mapping[str, Any]) -> str:
    """The options of `nas train` for a network cut to a target, or with early exits."""
    cut, points = config.get("cut"), config["metrics"].get("points")
    if cut is not None and cut["target"] is not None:
        return f" --target-flops {cut['target']}"
    if cut is not None:
        return f" --flops-penalty {cut['penalty']:g}"
    return "" if points is None else f" --early-exit {points:g}"


def task_name(data: Data) -> str:
    """What networks of the data are for, in Hugging Face's words."""
    names = {"images": "image classification", "sentences": "text classification"}
    return names.get(data.unit, "text generation")


def _results(task: Task, evaluation: Evaluation, config: Mapping[str, Any]) -> list[Result]:
    """Scores of these weights: on the test part, or as the search scored what they inherit."""
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
        interval = of_share(value, extent) if data.metric == "accuracy" and value <= 1 else None
        found.append(
            Result(split=part, samples=extent, value=value, interval_95=interval, **common)
        )
    return found


def _estimates(task: Task, config: Mapping[str, Any]) -> list[Estimated]:
    """Latency and energy on the run's devices."""
    costs = config["costs"]
    rows = []
    for target in task.targets:
        latency = costs.get(f"{LATENCY}{target.name}")
        if latency is not None:
            energy = costs.get(f"{ENERGY}{target.name}")
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
    """From the test accuracy where there is one, else from the validation's."""
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
    """What the run has taken, as codecarbon measured it; None where nothing is known."""
    content = footprint.read(folder)
    if content is None:
        return None
    try:
        total = content["totals"]
        regions, by = footprint.places(content["sessions"])
        return Footprint(
            covers="the whole run: supernet, search and trainings, on this run's machines that "
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
    """Of Python and what the files were made with."""
    from importlib.metadata import PackageNotFoundError, version

    told = describe()
    known = {"python": str(told["python"])}
    for name in ("budget-nas", "torch", "numpy", "onnxruntime", *OWN_PACKAGES):
        try:
            known[name] = version(name)
        except PackageNotFoundError:
            continue
    return known
