"""What a run's networks cost on devices that its search may not have known, and who is greenest.

`nas frontier --device` and `nas leaderboard`. Knows runs and tasks. Does not evaluate anything.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

from evaluators.metrics import GREENSCORE, Metric
from hardware_profiles.electricity.grid import load_region
from nas.engine.pricing import micrograms, priced, task_of
from nas.engine.task import Task
from nas.run.evaluation import Evaluation
from nas.run.folder import Run
from search_spaces.errors import UserError

BOARD_ROWS = 20


@dataclass(frozen=True)
class Standing:
    """A network's places, from 1, and what they stand on; `micrograms` of CO2e an inference."""

    evaluation: Evaluation
    by_accuracy: int
    by_green: int
    micrograms: float | None


def standings(task: Task, evaluations: Sequence[Evaluation]) -> list[Standing]:
    """Every feasible network, the greenest first.

    Raises:
        UserError: for a run without accuracies.
    """
    known = [e for e in priced(task, evaluations) if e.feasible and GREENSCORE in e.metrics]
    if not known:
        raise UserError("no network with an accuracy: GreenScore weighs accuracy with its costs")
    places = {}
    for metric in ("accuracy", GREENSCORE):
        order = np.argsort([-e.metrics[metric] for e in known], kind="stable")
        places[metric] = np.argsort(order) + 1
    grams = load_region(task.specification.region).intensity
    energy = task.green_energy
    result = [
        Standing(
            e,
            int(places["accuracy"][i]),
            int(places[GREENSCORE][i]),
            None if energy is None else micrograms(e.metrics[energy], grams),
        )
        for i, e in enumerate(known)
    ]
    return sorted(result, key=lambda standing: standing.by_green)


def print_leaderboard(
    folder: Path,
    *,
    devices: Sequence[str],
    exponents: tuple[float, float] | None,
    region: str | None,
    as_json: bool,
) -> None:
    """`nas leaderboard`: networks by accuracy and by GreenScore, side by side."""
    run = Run(folder)
    task = task_of(run, devices, exponents)
    if region is not None:
        load_region(region)
        task = replace(task, specification=task.specification.model_copy(update={"region": region}))
    board = standings(task, run.evaluations())
    place = load_region(task.specification.region)
    if as_json:
        rows = [
            {
                "id": s.evaluation.arch.id,
                "place_by_accuracy": s.by_accuracy,
                "place_by_greenscore": s.by_green,
                "co2e_ug": s.micrograms,
                **s.evaluation.metrics,
            }
            for s in board
        ]
        print(json.dumps({"greenscore": str(task.green), "region": place.code, "networks": rows}))
        return
    table = Table(title=f"leaderboard of {folder}", title_justify="left")
    for header in ("id", "by GreenScore", "by accuracy", "GreenScore", "accuracy", "FLOPs"):
        table.add_column(header, justify="left" if header == "id" else "right")
    with_carbon = task.green_energy is not None
    if with_carbon:
        table.add_column("CO2e µg", justify="right")
    best = [s for s in board if s.by_accuracy <= BOARD_ROWS // 2 or s.by_green <= BOARD_ROWS // 2]
    for s in best:
        metrics = s.evaluation.metrics
        cells = [s.evaluation.arch.id, str(s.by_green), str(s.by_accuracy)]
        cells += [f"{metrics[GREENSCORE]:.4f}", Metric.of("accuracy").format(metrics["accuracy"])]
        cells.append(Metric.of("macs").format(metrics["macs"]))
        if with_carbon:
            cells.append(f"{s.micrograms:.3g}")
        table.add_row(*cells)
    console = Console(highlight=False)
    console.print(table)
    if len(best) < len(board):
        console.print(f"{len(best)} of {len(board)}; all: nas leaderboard {folder} --json")
    console.print(f"GreenScore = {task.green}", soft_wrap=True)
    if with_carbon:
        device = Metric.of(str(task.green_energy)).device
        console.print(
            f"carbon of an inference on {device}: {place.intensity:.0f} "
            f"({place.low:.0f} to {place.high:.0f}) g/kWh, {place.name}; {place.source}",
            soft_wrap=True,
        )
