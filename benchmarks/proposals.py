"""What proposing costs: milliseconds a proposal, and seconds to score a million candidates.

Strategies propose and learn a thousand times over `mobilenet-cifar` (41 choices) with a made-up
accuracy, so that only their own time counts; beside them, in the same run, Optuna's TPE as its
documentation uses it. Then a million architectures are scored with MACs, two latencies (a price by
op: compute, traffic and a launch each) and the predictor that the evolution ended with.

    python benchmarks/proposals.py
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Sequence
from math import prod
from pathlib import Path

import numpy as np
import optuna
from report import emit

from evaluators.costs.budget import Budget, BudgetedSpace
from evaluators.costs.tables import CostTables
from nas.run.objectives import objective
from nas.strategies import Candidates, make_strategy
from nas.strategies.evolution import EvolutionStrategy
from nas.run.evaluation import Evaluation
from search_spaces.catalogue import load_space
from search_spaces.ops import Op
from search_spaces.space import Rows

OBJECTIVES = (objective("accuracy"), objective("macs"))
STRATEGIES = ("evolution", "regularized-evolution", "nsga2", "random")


def latency(peak: float, bandwidth: float, launch: float) -> Callable[[Sequence[Op]], float]:
    """Milliseconds of a block on a device that computes, moves and launches so fast."""

    def price(ops: Sequence[Op]) -> float:
        moved = sum(4 * (prod(op.out_shape) + op.params) for op in ops)
        return sum(op.macs for op in ops) / peak + moved / bandwidth + launch * len(ops)

    return price


def accuracy_of(rows: Rows, weights: Sequence[np.ndarray]) -> np.ndarray:
    total = sum(w[column] for w, column in zip(weights, rows.T, strict=True))
    return 1 / (1 + np.exp(-np.asarray(total) / 8))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--space", default="mobilenet-cifar")
    parser.add_argument("--trials", type=int, default=1000)
    parser.add_argument("--candidates", type=int, default=1_000_000)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    space = load_space(arguments.space)
    prices = {"latency_a": latency(1e6, 1e7, 0.01), "latency_b": latency(2e7, 4e7, 0.05)}
    tables = CostTables(space, prices=prices)
    rng = np.random.default_rng(arguments.seed)
    weights = [rng.normal(size=len(choice.options)) for choice in space.choices]
    middle = int(np.median(tables.score(space.sample(4000, rng), ("macs",))["macs"]))
    rows = []
    evolution = None
    for name in STRATEGIES:
        candidates = Candidates(BudgetedSpace(tables, Budget({"macs": middle}, {})), 0)
        strategy = make_strategy(name, candidates, OBJECTIVES, seed=arguments.seed)
        spent = 0.0
        for _ in range(arguments.trials):
            started = time.perf_counter()
            row = strategy.propose()
            spent += time.perf_counter() - started
            assert row is not None
            costs = tables.score(row[None], ("macs",))
            accuracy = float(accuracy_of(row[None], weights)[0])
            (arch,) = space.decode(row[None])
            evaluation = Evaluation(arch, {"accuracy": accuracy, "macs": float(costs["macs"][0])})
            started = time.perf_counter()
            strategy.tell(row, evaluation)
            spent += time.perf_counter() - started
        rows.append({"what": f"{name}, a proposal", "milliseconds": 1e3 * spent / arguments.trials})
        if isinstance(strategy, EvolutionStrategy):
            evolution = strategy
    spent = plain_tpe(tables, weights, middle, arguments.trials, arguments.seed)
    rows.append({"what": "Optuna's TPE, a proposal", "milliseconds": 1e3 * spent})
    assert evolution is not None
    predictor = evolution.predictors["accuracy"]
    many = space.sample(arguments.candidates, arguments.seed + 1)
    times = []
    for _ in range(arguments.repeats):
        started = time.perf_counter()
        tables.score(many, ("macs", *prices))
        middle_time = time.perf_counter()
        predictor.mean(many)
        times.append((middle_time - started, time.perf_counter() - middle_time))
    of_tables, of_predictor = np.median(times, axis=0)
    count = f"{arguments.candidates:,} candidates"
    rows.append({"what": f"MACs and two latencies of {count}", "milliseconds": 1e3 * of_tables})
    rows.append({"what": f"predicted accuracy of {count}", "milliseconds": 1e3 * of_predictor})
    for row in rows:
        row["milliseconds"] = round(float(row["milliseconds"]), 3)
    settings = vars(arguments) | {"predictor": str(evolution.quality)}
    emit("proposals", rows, settings, arguments.json)


def plain_tpe(
    tables: CostTables, weights: Sequence[np.ndarray], bound: int, trials: int, seed: int
) -> float:
    """Mean seconds of asking and telling, over as many trials."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    sampler = optuna.samplers.TPESampler(seed=seed)
    study = optuna.create_study(directions=["maximize", "minimize"], sampler=sampler)
    spent = 0.0
    choices = tables.space.choices
    for _ in range(trials):
        started = time.perf_counter()
        trial = study.ask()
        codes = [trial.suggest_categorical(c.name, range(len(c.options))) for c in choices]
        spent += time.perf_counter() - started
        row = tables.space.canonical(np.array([codes], dtype=np.uint8))
        macs = float(tables.score(row, ("macs",))["macs"][0])
        trial.set_constraint("budget", macs / bound - 1)
        accuracy = float(accuracy_of(row, weights)[0])
        started = time.perf_counter()
        study.tell(trial, [accuracy, macs])
        spent += time.perf_counter() - started
    return spent / trials


if __name__ == "__main__":
    main()
