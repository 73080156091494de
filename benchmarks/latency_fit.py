"""How well a few timed networks tell a device's latencies, on the 27 devices of NAS-Bench-201.

    python benchmarks/latency_fit.py --table FILE

FILE has every cell of NAS-Bench-201 with its latency on 27 devices (columns `latency_ms_*`, as
published with HELP, Lee et al., 2021). On each device some cells are learnt and all others
predicted; no device knows of another. Ours learns random cells, or those that `nas device propose`
chooses (from the space alone, so the same on every device). Peers learn the same random cells:
least squares on counts of the five operations, a Gaussian process and gradient boosting on one-hot
edges (scikit-learn); FLOPs and parameters learn nothing. The best of them all, `all cells`, is ours
learnt on 3,000 cells: what noise leaves to anyone.

The model was designed on the nine devices of `DESIGNED_ON`; the other 18 were looked at when it was
done, and have their own columns.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from report import emit

from scipy.stats import kendalltau, spearmanr
from sklearn.ensemble import GradientBoostingRegressor
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import RBF, ConstantKernel, DotProduct, WhiteKernel
from sklearn.linear_model import LinearRegression
from threadpoolctl import threadpool_limits

from evaluators.metrics import Metric
from evaluators.costs.tables import CostTables
from evaluators.accuracy.published_table import read_table
from hardware_profiles.fitting.fitted import fit_latency
from hardware_profiles.fitting.informative import select_informative
from nas.commands.devices.fit import CANDIDATE_POOL
from search_spaces.catalogue import load_space
from search_spaces.space import Rows, SearchSpace

DESIGNED_ON = (
    *("1080ti_1", "titanx_32", "2080ti_256", "titanxp_256", "gold_6226", "silver_4114"),
    *("pixel3", "samsung_a50", "eyeriss"),
)
"""One or two of each kind of device: GPUs at three batch sizes, servers, phones, an accelerator."""

SIZES = (10, 20, 50)
CEILING = 3000
PUBLISHED = "HELP, 10 samples and other devices' tables: mean Spearman 0.932 (its authors' figure)"

Values = npt.NDArray[np.float64]
Learnt = Callable[[Rows, Values], Callable[[Rows], Values]]
"""From rows and milliseconds to a function that predicts rows."""


def main() -> None:
    """Print a line for each method and number of samples."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--table", type=Path, required=True)
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--seed", type=int, default=0, help="the first of them")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    space = load_space("nasbench201")
    table = read_table(arguments.table, space)
    columns = [m for m in map(Metric.of, table.columns) if m.is_latency]
    latencies = {str(m.device): table.column(m.name)(table.rows) for m in columns}
    seeds = range(arguments.seed, arguments.seed + arguments.seeds)
    with threadpool_limits(1):
        scores = _all_scores(space, table.rows, latencies, seeds)
    settings = {key: value for key, value in vars(arguments).items() if key != "table"}
    settings |= {"devices": len(columns), "designed on": ", ".join(DESIGNED_ON)}
    settings["published"] = PUBLISHED
    emit("latency_fit", [_line(*item) for item in scores.items()], settings, arguments.json)


Scores = dict[tuple[str, int], dict[str, list[tuple[float, float, float]]]]
"""By method and samples, then device: Spearman, Kendall, mean relative error of each seed."""


def _all_scores(
    space: SearchSpace, rows: Rows, latencies: dict[str, Values], seeds: range
) -> Scores:
    scores: Scores = {}
    place = {row.tobytes(): index for index, row in enumerate(rows)}
    costs = CostTables(space).score(rows, ("macs", "params"))
    learners: dict[str, Learnt] = {
        "ours": _ours(space, additive=False),
        "ours, sum of blocks": _ours(space, additive=True),
        "least squares on counts": _counts(space),
        "Gaussian process": _gaussian_process(space),
        "gradient boosting": _boosting(space),
    }
    for device, times in latencies.items():
        for name, values in (("FLOPs alone", costs["macs"]), ("params alone", costs["params"])):
            scored = _score(values.astype(np.float64), times, errors=False)
            scores.setdefault((name, 0), {})[device] = [scored]
    for seed in seeds:
        for size in (*SIZES, CEILING):
            rng = np.random.default_rng((seed, size))
            order = rng.permutation(len(rows))
            proposed = np.zeros(0, dtype=np.intp)
            if size < CEILING:
                pool = space.sample(CANDIDATE_POOL, np.random.default_rng(seed))
                chosen = select_informative(space, pool, size)
                proposed = np.array([place[row.tobytes()] for row in chosen])
            for name, learner in learners.items():
                if size == CEILING and (name != "ours" or seed != seeds[0]):
                    continue
                label = "ours, all cells" if size == CEILING else name
                _add(scores, (label, size), learner, order[:size], rows, latencies)
            if size < CEILING:
                _add(scores, ("ours, proposed", size), learners["ours"], proposed, rows, latencies)
    return scores


def _add(
    scores: Scores,
    key: tuple[str, int],
    learner: Learnt,
    seen: npt.NDArray[np.intp],
    rows: Rows,
    latencies: dict[str, Values],
) -> None:
    rest = np.setdiff1d(np.arange(len(rows)), seen)
    for device, times in latencies.items():
        predicted = learner(rows[seen], times[seen])(rows[rest])
        scored = _score(predicted, times[rest])
        scores.setdefault(key, {}).setdefault(device, []).append(scored)


def _score(predicted: Values, times: Values, *, errors: bool = True) -> tuple[float, float, float]:
    # A few published readings are of networks that did not run: ranked, but no error is relative
    # to nothing.
    ran = times > 0.01 * np.median(times)
    error = float(np.abs(predicted[ran] / times[ran] - 1).mean()) if errors else np.nan
    return (
        float(spearmanr(predicted, times).statistic),
        float(kendalltau(predicted, times).statistic),
        error,
    )


def _line(
    key: tuple[str, int], devices: dict[str, list[tuple[float, float, float]]]
) -> dict[str, Any]:
    means = {device: np.mean(values, axis=0) for device, values in devices.items()}
    every = np.array(list(means.values()))
    untouched = np.array([mean for device, mean in means.items() if device not in DESIGNED_ON])
    worst = min(means, key=lambda device: means[device][0])
    error = float(every[:, 2].mean())
    return {
        "method": key[0],
        "samples": key[1],
        "Spearman, 27": round(float(every[:, 0].mean()), 4),
        "untouched 18": round(float(untouched[:, 0].mean()), 4),
        "worst device": f"{means[worst][0]:.3f} {worst}",
        "worst draw": round(float(min(v[0] for values in devices.values() for v in values)), 3),
        "Kendall, 27": round(float(every[:, 1].mean()), 4),
        "18": round(float(untouched[:, 1].mean()), 4),
        "error": f"{error:.1%}" if error == error else "-",
    }


def _ours(space: SearchSpace, *, additive: bool) -> Learnt:
    def learn(rows: Rows, times: Values) -> Callable[[Rows], Values]:
        fitted = fit_latency(space, rows, times, "device")
        if not additive:
            return fitted.column(space)
        tables = CostTables(space, prices={"ms": fitted.milliseconds})
        return lambda asked: tables.score(asked, ("ms",))["ms"]

    return learn


def _one_hot(space: SearchSpace, rows: Rows) -> Values:
    options = np.arange(space.option_counts.max())
    return (rows[:, :, None] == options).reshape(len(rows), -1).astype(np.float64)


def _counts(space: SearchSpace) -> Learnt:
    def features(rows: Rows) -> Values:
        return _one_hot(space, rows).reshape(len(rows), len(space.choices), -1).sum(axis=1)

    def learn(rows: Rows, times: Values) -> Callable[[Rows], Values]:
        model = LinearRegression().fit(features(rows), times)
        return lambda asked: np.asarray(model.predict(features(asked)))

    return learn


def _gaussian_process(space: SearchSpace) -> Learnt:
    def learn(rows: Rows, times: Values) -> Callable[[Rows], Values]:
        kernel = DotProduct() + ConstantKernel() * RBF(3.0) + WhiteKernel()
        model = GaussianProcessRegressor(kernel, normalize_y=True, random_state=0)
        model.fit(_one_hot(space, rows), times)
        return lambda asked: np.asarray(model.predict(_one_hot(space, asked)))

    return learn


def _boosting(space: SearchSpace) -> Learnt:
    def learn(rows: Rows, times: Values) -> Callable[[Rows], Values]:
        model = GradientBoostingRegressor(random_state=0).fit(_one_hot(space, rows), times)
        return lambda asked: np.asarray(model.predict(_one_hot(space, asked)))

    return learn


if __name__ == "__main__":
    main()
