"""Strategies compared on NAS-Bench-201: regret and hypervolume against evaluations.

Every architecture of the space has a published accuracy, so a search of a hundred evaluations takes
a second. Each strategy searches for validation accuracy within a budget; reported are the regret in
that (how far the best one found is below the best one there is, in points), the regret in test
accuracy, which no search saw, of the architecture that validation would choose, and the share of
the attainable hypervolume. Beside ours, in the same run, Optuna's own samplers as its documentation
uses them: a study with a constraint, every proposal an evaluation. SMAC3 and BoTorch
(`strategy_peers.py`) are asked for by name, in an environment that has them.

    python benchmarks/strategies.py --table accuracy_12ep_and_latency.parquet
    python benchmarks/strategies.py --table FILE --only "evolution,SMAC3,BoTorch LogEI" --seeds 5
"""

from __future__ import annotations

import argparse
import os
import time
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")  # two searches at once, each on its own processor

import numpy as np
import optuna
from report import emit
from strategy_peers import PEERS, peer

from evaluators.costs.budget import Budget, BudgetedSpace
from evaluators.costs.tables import CostTables
from evaluators.accuracy.published_table import read_table
from evaluators.prediction.prior import Prior
from nas.run import objectives as f
from nas.strategies import Candidates, make_strategy
from nas.run.evaluation import Evaluation
from search_spaces.catalogue import load_space

OBJECTIVES = (f.objective("accuracy"), f.objective("macs"))
OURS = ("evolution", "regularized-evolution", "nsga2", "tpe", "random")
PLAIN = ("Optuna TPE", "Optuna NSGA-II")
BUDGETS = {
    "50M FLOPs": ("macs", 50_000_000),
    "100M FLOPs": ("macs", 100_000_000),
    "200M FLOPs": ("macs", 200_000_000),
    "9 ms, Pixel 3": ("latency_ms_pixel3", 9.0),
    "15 ms, Raspberry Pi 4": ("latency_ms_raspi4", 15.0),
    "4 ms, Eyeriss": ("latency_ms_eyeriss", 4.0),
}
SHOWN = (25, 50, 100)


@dataclass(frozen=True)
class World:
    """The benchmark: what everything costs and how good it is, `(n,)` each."""

    tables: CostTables
    rows: np.ndarray
    place: dict[bytes, int]
    validation: np.ndarray
    test: np.ndarray
    costs: dict[str, np.ndarray]


@cache
def world(path: str, data: str) -> World:
    space = load_space("nasbench201")
    table = read_table(path, space)
    latencies = sorted({m for m, _ in BUDGETS.values() if m != "macs"})
    tables = CostTables(space, columns={name: table.column(name) for name in latencies})
    named = {
        part: table.values[:, table.columns.index(f"{data}_{part}_12ep")]
        for part in ("val", "test")
    }
    place = {row.tobytes(): index for index, row in enumerate(table.rows)}
    costs = tables.score(table.rows, ("macs", *latencies))
    return World(tables, table.rows, place, named["val"], named["test"], costs)


def ours(
    name: str, w: World, metric: str, bound: float, seed: int, prior: Prior | None = None
) -> Iterator[int]:
    budgeted = BudgetedSpace(w.tables, Budget({metric: bound}, {}))
    sampler = {"tpe": "tpe"}.get(name, "nsga2")
    named = "optuna" if name == "tpe" else name
    candidates = Candidates(budgeted, seed)
    priors = {} if prior is None else {"accuracy": prior}
    strategy = make_strategy(
        named, candidates, OBJECTIVES, sampler=sampler, seed=seed, priors=priors
    )
    while (row := strategy.propose()) is not None:
        index = w.place[row.tobytes()]
        (arch,) = w.tables.space.decode(row[None])
        metrics = {"accuracy": float(w.validation[index]), "macs": float(w.costs["macs"][index])}
        strategy.tell(row, Evaluation(arch, metrics))
        yield index


def plain(name: str, w: World, metric: str, bound: float, seed: int) -> Iterator[int]:
    """As in Optuna's documentation: a constraint tells a proposal over budget, once evaluated."""
    made: dict[str, Callable[[], optuna.samplers.BaseSampler]] = {
        "Optuna TPE": lambda: optuna.samplers.TPESampler(seed=seed),
        "Optuna NSGA-II": lambda: optuna.samplers.NSGAIISampler(seed=seed, population_size=20),
    }
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    study = optuna.create_study(directions=["maximize", "minimize"], sampler=made[name]())
    choices = w.tables.space.choices
    while True:
        trial = study.ask()
        row = [trial.suggest_categorical(c.name, range(len(c.options))) for c in choices]
        index = w.place[np.array(row, dtype=np.uint8).tobytes()]
        trial.set_constraint("budget", float(w.costs[metric][index] / bound - 1))
        study.tell(trial, [w.validation[index], w.costs["macs"][index]])
        yield index


@dataclass(frozen=True)
class Curve:
    """One search: `(evaluations,)` regrets in points, and at `measured` ones the hypervolume."""

    strategy: str
    budget: str
    regret: np.ndarray
    test_regret: np.ndarray
    hypervolume: np.ndarray
    seconds: float


def search(case: tuple[str, str, int], *, path: str, data: str, trials: int) -> Curve:
    strategy, budget, seed = case
    warnings.simplefilter("ignore")
    w = world(path, data)
    metric, bound = BUDGETS[budget]
    feasible = w.costs[metric] <= bound
    search_by = plain if strategy in PLAIN else peer if strategy in PEERS else ours
    proposals = search_by(strategy, w, metric, bound, seed)
    started = time.perf_counter()
    found = [index for index, _ in zip(proposals, range(trials), strict=False)]
    seconds = time.perf_counter() - started
    assert strategy in PLAIN or feasible[found].all()
    found += found[-1:] * (trials - len(found))  # a space searched to its end
    order = np.array(found)
    values = np.where(feasible[order], w.validation[order], -np.inf)
    best = np.maximum.accumulate(values)
    lead = np.array([int(values[: i + 1].argmax()) for i in range(trials)])
    regret = w.validation[feasible].max() - best
    test = w.test[feasible].max() - np.where(np.isinf(best), np.nan, w.test[order[lead]])
    volume = np.array([_volume(w, order[:count], feasible) for count in measured(trials)])
    volume /= _volume(w, np.flatnonzero(feasible), feasible)
    return Curve(strategy, budget, regret, test, volume, seconds / trials)


def measured(trials: int) -> list[int]:
    """After how many evaluations the hypervolume is taken."""
    return [*range(5, trials, 5), trials]


def _shown(trials: int) -> list[int]:
    return [i - 1 for i in SHOWN if i <= trials]


def _volume(w: World, indices: np.ndarray, feasible: np.ndarray) -> float:
    kept = indices[feasible[indices]]
    points = np.stack([w.validation[kept], w.costs["macs"][kept]], axis=1)
    worst = [0.0, 1.001 * float(w.costs["macs"][feasible].max())]
    return f.hypervolume(points, OBJECTIVES, [100.0, 0.0], worst)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--table", required=True, help="the published accuracies and latencies")
    parser.add_argument("--data", default="cifar10", choices=("cifar10", "cifar100", "imagenet"))
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--trials", type=int, default=100)
    parser.add_argument("--processes", type=int, default=os.cpu_count())
    parser.add_argument("--only", default="", help="strategies, separated by commas")
    parser.add_argument("--plot", type=Path, help="a PNG of regret against evaluations")
    options = parser.parse_args()
    names = tuple(n for n in options.only.split(",") if n) or (*OURS, *PLAIN)
    cases = [(n, b, s) for b in BUDGETS for n in names for s in range(options.seeds)]
    run = partial(search, path=options.table, data=options.data, trials=options.trials)
    with ProcessPoolExecutor(options.processes) as pool:
        curves = list(pool.map(run, cases, chunksize=4))
    rows = []
    for budget in (*BUDGETS, "mean"):
        for name in names:
            mine = [c for c in curves if c.strategy == name and budget in (c.budget, "mean")]
            rows.append({"budget": budget, "strategy": name, **_summary(mine, options.trials)})
    settings = {name: str(value) for name, value in vars(options).items() if name != "table"}
    emit("strategies", rows, settings)
    if options.plot:
        draw(curves, names, options.plot)


def _summary(curves: list[Curve], trials: int) -> dict[str, float]:
    # Nothing within the budget yet: the largest regret there can be.
    regret = np.minimum(np.stack([c.regret for c in curves]), 100.0)
    ends = np.stack([c.test_regret for c in curves])[:, -1]
    return {
        **{f"regret@{i + 1}": round(float(regret[:, i].mean()), 3) for i in _shown(trials)},
        "deviation": round(float(regret[:, -1].std()), 3),
        "test regret": round(float(np.nan_to_num(ends, nan=100.0).mean()), 3),
        "hypervolume": round(float(np.mean([c.hypervolume[-1] for c in curves])), 4),
        "ms": round(1e3 * float(np.mean([c.seconds for c in curves])), 2),
    }


def draw(curves: list[Curve], names: tuple[str, ...], path: Path) -> None:
    """Mean regret, with its quartiles, and hypervolume against evaluations; a panel a budget."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, panels = pyplot.subplots(3, 3, figsize=(13, 10), sharex=True)
    colours = pyplot.get_cmap("tab10")
    for panel, budget in zip(panels[:2].flat, BUDGETS, strict=True):
        for number, name in enumerate(names):
            mine = [c.regret for c in curves if (c.strategy, c.budget) == (name, budget)]
            regret = np.minimum(np.stack(mine), 20)
            x = np.arange(1, regret.shape[1] + 1)
            low, high = np.quantile(regret, [0.25, 0.75], axis=0)
            style = "--" if name in PLAIN else "-"
            panel.plot(x, regret.mean(axis=0), style, color=colours(number), label=name)
            panel.fill_between(x, low, high, color=colours(number), alpha=0.1, linewidth=0)
        panel.set_title(f"regret, at most {budget}")
        panel.set_yscale("symlog", linthresh=0.1)
        panel.set_ylim(0, 20)
        panel.grid(alpha=0.3)
    for panel, budget in zip(panels[2], BUDGETS, strict=False):
        for number, name in enumerate(names):
            mine = [c.hypervolume for c in curves if (c.strategy, c.budget) == (name, budget)]
            missing = 1 - np.stack(mine).mean(axis=0)
            style = "--" if name in PLAIN else "-"
            x = measured(len(curves[0].regret))
            panel.plot(x, missing, style, color=colours(number), label=name)
        panel.set_title(f"missing hypervolume, at most {budget}")
        panel.set_yscale("log")
        panel.set_xlabel("evaluations")
        panel.grid(alpha=0.3)
    for panel in panels[:2, 0]:
        panel.set_ylabel("points of accuracy")
    panels[2, 0].set_ylabel("share")
    handles, labels = panels[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="lower center", ncols=len(names), frameon=False)
    figure.tight_layout(rect=(0, 0.03, 1, 1))
    figure.savefig(path, dpi=100)


if __name__ == "__main__":
    main()
