"""What `--learn-from` brings: searches of NAS-Bench-201 with runs of another data set as a prior.

    python benchmarks/learn_from.py --table accuracy_12ep_and_latency.parquet

For each pair of the three data sets: evolution without a prior, with a run of 100 evaluations on
the other data set, and with the same run whose accuracies are shuffled. Reported is the regret in
validation accuracy, the mean over seeds and over the budgets of `strategies.py`.
"""

from __future__ import annotations

import argparse
import os
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from itertools import islice, permutations

os.environ.setdefault("OMP_NUM_THREADS", "1")  # two searches at once, each on its own processor

import numpy as np
from report import emit
from strategies import BUDGETS, World, ours, world

from evaluators.prediction.prior import Prior

DATA = ("cifar10", "cifar100", "imagenet")
PRIORS = ("none", "another data set", "shuffled")
EARLIER = 100
SHOWN = (10, 20, 30, 50, 100)


def search(w: World, budget: str, seed: int, prior: Prior | None, trials: int) -> list[int]:
    """Indices of the evaluated networks, in order."""
    return list(islice(ours("evolution", w, *BUDGETS[budget], seed, prior), trials))


def regrets(case: tuple[str, str, str, int, str], path: str) -> np.ndarray:
    """Regret after each evaluation, `(100,)`."""
    source, target, budget, seed, kind = case
    w = world(path, target)
    prior = None
    if kind != "none":
        earlier = world(path, source)
        indices = np.array(search(earlier, budget, 1000 + seed, None, EARLIER))
        values = earlier.validation[indices]
        if kind == "shuffled":
            values = np.random.default_rng(seed).permutation(values)
        prior = Prior(w.tables, [(earlier.rows[indices], values)])
    indices = np.array(search(w, budget, seed, prior, SHOWN[-1]))
    metric, bound = BUDGETS[budget]
    best = np.maximum.accumulate(w.validation[indices])
    best = np.concatenate([best, np.full(SHOWN[-1] - len(best), best[-1])])
    return np.asarray(w.validation[w.costs[metric] <= bound].max() - best)


def main() -> None:
    """Run all searches and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--table", required=True, help="the published accuracies and latencies")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--processes", type=int, default=os.cpu_count())
    options = parser.parse_args()
    cases = [
        (source, target, budget, seed, kind)
        for source, target in permutations(DATA, 2)
        for kind in PRIORS
        for budget in BUDGETS
        for seed in range(options.seeds)
    ]
    with ProcessPoolExecutor(options.processes) as pool:
        found = list(pool.map(partial(regrets, path=options.table), cases, chunksize=4))
    rows = []
    for source, target in [*permutations(DATA, 2), ("all", "all")]:
        for kind in PRIORS:
            mine = [
                curve
                for curve, case in zip(found, cases, strict=True)
                if case[4] == kind and source in (case[0], "all") and target in (case[1], "all")
            ]
            mean = np.mean(mine, axis=0)
            error = np.std(mine, axis=0) / len(mine) ** 0.5
            rows.append(
                {"from": source, "to": target, "prior": kind}
                | {f"regret@{n}": round(float(mean[n - 1]), 3) for n in SHOWN}
                | {"error@30": round(float(error[29]), 3)}
            )
    emit("learn_from", rows, {"seeds": options.seeds, "earlier evaluations": EARLIER})


if __name__ == "__main__":
    main()
