"""Whether a supernet can be trusted: inherited accuracy against that of networks trained alone.

Architectures of every size within the budget are scored with inherited weights on the validation
part, as the search scores them, and each is trained from scratch and scored on the test part, which
the supernet never saw. Kendall's τ between the two says how often the supernet orders two of them
rightly; what FLOPs alone would reach says how much of that is mere size.

Each result is kept in `RUN/fidelity.jsonl` as soon as it is there, so that the same command goes
on. Does not print (`show_fidelity.py`).
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import isnan
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.stats import kendalltau

from evaluators.accuracy.inherited import InheritedAccuracy
from evaluators.accuracy.interval import of_statistic
from evaluators.data.dataset import Data
from nas.engine.task import Task
from nas.progress import Reporter
from nas.run.folder import Run
from nas.training.loop import Recipe
from nas.training.network import train
from nas.workers.opening import open_workers
from nas.workers.pool import keep_busy
from nas.workers.resources import ALONE, Crew
from search_spaces.architecture import Architecture
from search_spaces.errors import UserError
from search_spaces.files import write_text
from search_spaces.networks.modules import build, channels_last
from search_spaces.space import SearchSpace

FILE = "fidelity.jsonl"
POOL = 8192
BINS = 3
"""Parts of the range of FLOPs that are looked at one by one."""

EPOCHS_SHARE = 0.25
"""A network alone trains for so much of the supernet's epochs by default."""

LEAST = 4
"""Architectures below which no order means anything."""

TOP = 5
"""Of so many that look best with inherited weights, the best alone is what a search would find."""


@dataclass(frozen=True)
class StandAlone:
    """Evaluator: `arch -> {metric of the data: its value on the test part}`, from scratch."""

    space: SearchSpace
    data: Data
    recipe: Recipe
    seed: int
    device: str

    def __call__(self, arch: Architecture) -> dict[str, float]:
        """Train one network and score it; deterministic."""
        torch.manual_seed(self.seed)
        network = channels_last(build(self.space, arch)).to(self.device)
        shape = self.space.input_shape(arch)
        train(network, self.data.batches("train"), self.recipe, shape, seed=self.seed)
        return self.data.score(network, "test", shape)


def representatives(task: Task, count: int) -> list[Architecture]:
    """Architectures within the budget, evenly over its range of log FLOPs.

    Uniform draws would crowd in the middle of the range, where a search has no reason to be.
    """
    rng = np.random.default_rng(task.specification.seed)
    rows = np.unique(task.budgeted.sample(POOL, rng), axis=0)
    macs = task.tables.score(rows)["macs"]
    chosen: list[int] = []
    for wanted in np.geomspace(macs.min(), macs.max(), count):
        distance = np.abs(macs - wanted).astype(float)
        distance[chosen] = np.inf
        chosen.append(int(distance.argmin()))
    return task.space.decode(rows[chosen[: len(rows)]])


def measure(
    task: Task,
    run: Run,
    evaluator: InheritedAccuracy,
    reporter: Reporter,
    *,
    count: int,
    epochs: float | None = None,
    crew: Crew = ALONE,
) -> dict[str, Any]:
    """Score architectures both ways, and report how the two agree; `RUN/fidelity.json` keeps it.

    Raises:
        UserError: for too few architectures.
    """
    if count < LEAST:
        raise UserError(
            f"{count} architectures have no order to speak of: expected {LEAST} at least"
        )
    specification = task.specification
    epochs = epochs or max(2.0, EPOCHS_SHARE * task.supernet_epochs)
    recipe = task.recipe(epochs)
    data = task.data
    alone = StandAlone(
        task.space, data.only("train", "test"), recipe, specification.seed, specification.device
    )
    archs = representatives(task, count)
    path = run.folder / FILE
    done = _read(path)
    waiting = [arch for arch in archs if (arch.id, epochs) not in done]
    with (
        open_workers(alone, crew.workers, crew.address) as pool,
        reporter.training("alone", len(archs)) as on_step,
    ):
        before = len(archs) - len(waiting)
        # The largest first: whoever is last does not keep the others waiting.
        for number, ended in enumerate(keep_busy(pool, reversed(waiting)), start=before + 1):
            if ended.error is not None:
                raise UserError(f"training {ended.arch.id} alone failed: {ended.error}")
            done[ended.arch.id, epochs] = {
                "id": ended.arch.id,
                "macs": int(task.tables.cost(ended.arch)["macs"]),
                "alone": ended.metrics[data.metric],
                "epochs": epochs,
                "seconds": round(ended.seconds, 1),
            }
            write_text(path, "".join(json.dumps(row) + "\n" for row in done.values()))
            on_step(number, len(archs), ended.metrics[data.metric])
    rows = [
        {**done[arch.id, epochs], "inherited": evaluator(arch)[data.metric]}
        for arch in sorted(archs, key=lambda a: task.tables.cost(a)["macs"])
    ]
    result = report(rows, data.metric)
    write_text(run.folder / "fidelity.json", json.dumps(result, indent=2) + "\n")
    return result


def _read(path: Path) -> dict[tuple[str, float], dict[str, Any]]:
    """What was trained before, by id and epochs."""
    if not path.exists():
        return {}
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    return {(row["id"], row["epochs"]): row for row in rows}


def report(rows: Sequence[dict[str, Any]], metric: str) -> dict[str, Any]:
    """How the two scores agree.

    Args:
        rows: `macs`, `inherited` and `alone` of each architecture, cheapest first.
        metric: what the scores are; `loss` is better where it is less.
    """
    sign = -1.0 if metric == "loss" else 1.0
    macs = np.array([row["macs"] for row in rows], dtype=float)
    inherited = sign * np.array([row["inherited"] for row in rows])
    alone = sign * np.array([row["alone"] for row in rows])
    best = np.argsort(-inherited, kind="stable")[:TOP]
    return {
        "metric": metric,
        "architectures": list(rows),
        "epochs": rows[0]["epochs"],
        "tau": _known(_tau(inherited, alone)),
        "interval": _ends(_tau, inherited, alone),
        "tau_of_flops": _known(_tau(macs, alone)),
        "interval_of_flops": _ends(_tau, macs, alone),
        "gain_over_flops": _ends(lambda i, m, a: _tau(i, a) - _tau(m, a), inherited, macs, alone),
        "regret": float(alone.max() - alone[best].max()),
        "bins": [
            {
                "from": int(macs[part[0]]),
                "to": int(macs[part[-1]]),
                "architectures": len(part),
                "inherited": float(sign * inherited[part].mean()),
                "alone": float(sign * alone[part].mean()),
                "tau": _known(_tau(inherited[part], alone[part])),
                "tau_of_flops": _known(_tau(macs[part], alone[part])),
            }
            for part in np.array_split(np.arange(len(rows)), min(BINS, len(rows) // LEAST) or 1)
        ],
    }


def _known(value: float) -> float | None:
    """None for what does not exist, such as τ of scores that are all alike: JSON has no NaN."""
    return value if math.isfinite(value) else None


def _ends(statistic: Callable[..., float], *columns: Any) -> list[float | None]:
    """The interval of a statistic."""
    return [_known(end) for end in of_statistic(statistic, *columns)]


def _tau(a: Any, b: Any) -> float:
    return float(kendalltau(a, b).statistic)


TRUSTED = 0.5
"""τ above which three of four pairs are ordered rightly."""


def shown(statistic: float | None) -> str:
    """A statistic, or that it does not exist."""
    return "unknown" if statistic is None or isnan(statistic) else f"{statistic:.2f}"


def verdict(result: dict[str, Any]) -> str:
    """What a user may make of it, in a line."""
    low, _ = result["interval"]
    tau = result["tau"]
    if tau is None or low is None or isnan(low):
        return (
            "its order is unknown: among these architectures scores are alike, inherited or alone; "
            "train them for longer (--epochs)"
        )
    regret = (
        f"{100 * result['regret']:.2f} points"
        if result["metric"] == "accuracy"
        else f"{result['regret']:.3f}"
    )
    ends = f"the best of the five that look best is {regret} behind the best of all"
    if low >= TRUSTED:
        return f"its order can be trusted: {(1 + tau) / 2:.0%} of pairs are right; {ends}"
    if low > 0:
        return (
            f"its order is a guide, no more: {(1 + tau) / 2:.0%} of pairs are right; "
            f"{ends}; more --supernet-epochs, or more --finalists"
        )
    return (
        f"its order is not better than chance here; {ends}; train it for longer "
        "(--supernet-epochs), or search with --evaluator train"
    )
