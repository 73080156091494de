"""Ranks the networks of a run by accuracy and by GreenScore: `nas leaderboard`.

Devices may differ from those of the search. Knows runs, tasks and prices. Does not evaluate
architectures.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from evaluators.metrics import GREENSCORE, Metric
from hardware_profiles.electricity.grid import load_region
from nas.commands.show.console import Column, fitting_table, make_console, print_json
from nas.run.evaluation import Evaluation
from nas.run.folder import Run
from nas.task.pricing import micrograms, priced, task_of
from nas.task.task import Task
from search_spaces.errors import UserError

BOARD_ROWS = 20
"""Maximum number of rows of the table."""


@dataclass(frozen=True)
class Placing:
    """A network and its places on the leaderboard, from 1."""

    evaluation: Evaluation
    by_accuracy: int
    by_green: int
    micrograms: float | None
    """Micrograms of CO2e per inference; None without a device."""


def placings(task: Task, evaluations: Sequence[Evaluation]) -> list[Placing]:
    """Rank all feasible networks; the highest GreenScore first.

    Raises:
        UserError: if no network has an accuracy.
    """
    known = [e for e in priced(task, evaluations) if e.feasible and GREENSCORE in e.metrics]
    if not known:
        raise UserError("no network has an accuracy: GreenScore weighs accuracy against costs")
    places = {}
    for metric in ("accuracy", GREENSCORE):
        order = np.argsort([-e.metrics[metric] for e in known], kind="stable")
        places[metric] = np.argsort(order) + 1
    grams = load_region(task.specification.region).intensity
    energy = task.green_energy
    result = [
        Placing(
            e,
            int(places["accuracy"][i]),
            int(places[GREENSCORE][i]),
            None if energy is None else micrograms(e.metrics[energy], grams),
        )
        for i, e in enumerate(known)
    ]
    return sorted(result, key=lambda placing: placing.by_green)


def print_leaderboard(
    folder: Path,
    *,
    devices: Sequence[str],
    exponents: tuple[float, float] | None,
    region: str | None,
    as_json: bool,
) -> None:
    """Print the networks of a run with their places by accuracy and GreenScore: `nas leaderboard`.

    Args:
        folder: the run.
        devices: devices to price on; by default those of the run.
        exponents: exponents of the GreenScore; None: those of the run.
        region: electricity grid; None: that of the run.
        as_json: print JSON.

    Raises:
        UserError: for an unknown device or region, and if no network has an accuracy.
    """
    run = Run(folder)
    task = task_of(run, devices, exponents)
    if region is not None:
        load_region(region)
        task = replace(task, specification=task.specification.model_copy(update={"region": region}))
    board = placings(task, run.evaluations())
    grid = load_region(task.specification.region)
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
        content = {"greenscore": str(task.green), "region": grid.code, "networks": rows}
        print_json(content, indent=None)
        return
    with_carbon = task.green_energy is not None
    best = [s for s in board if s.by_accuracy <= BOARD_ROWS // 2 or s.by_green <= BOARD_ROWS // 2]
    metrics = [s.evaluation.metrics for s in best]
    columns = [
        Column("id", [s.evaluation.arch.id for s in best], text=True),
        Column("by Green\nScore", [str(s.by_green) for s in best]),
        Column("by\naccuracy", [str(s.by_accuracy) for s in best]),
        Column("Green\nScore", [f"{m[GREENSCORE]:.4f}" for m in metrics]),
        Column("accuracy", [Metric.of("accuracy").format(m["accuracy"]) for m in metrics]),
        Column("FLOPs", [Metric.of("macs").format(m["macs"]) for m in metrics], kept=False),
    ]
    if with_carbon:
        columns.append(Column("µg\nCO2e", [f"{s.micrograms:.3g}" for s in best], kept=False))
    console = make_console()
    table, _ = fitting_table(columns, console.width, f"leaderboard of {folder}")
    console.print(table)
    if len(best) < len(board):
        console.print(f"{len(best)} of {len(board)} rows; all: nas leaderboard {folder} --json")
    console.print(f"GreenScore = {task.green}", soft_wrap=True)
    if with_carbon:
        device = Metric.of(str(task.green_energy)).device
        console.print(
            f"carbon per inference on {device}: {grid.intensity:.0f} "
            f"({grid.low:.0f} to {grid.high:.0f}) g/kWh, {grid.name}; {grid.source}",
            soft_wrap=True,
        )
