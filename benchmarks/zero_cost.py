"""How zero-cost proxies rank the cells of NAS-Bench-201, and what they are worth to a predictor.

    python benchmarks/zero_cost.py

Random cells are scored by each proxy at 16x16 pixels and ranked against the published validation
accuracy after 12 epochs (CIFAR-10); MACs and parameters of the same cells are the peers. What the
papers report is the rank correlation with the accuracy after 200 epochs, of which this table has
no column: size says twice as much there as it does here. Then a predictor learns some of the cells,
with and without the proxies among its features, and predicts cells that neither it nor the models
of the proxies have seen.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from report import emit  # before torch: it sets how threads wait

import pyarrow.parquet as pq
import torch
from scipy.stats import kendalltau, spearmanr

from evaluators.costs.tables import CostTables
from evaluators.data.files.images import load_data
from evaluators.prediction.predictor import Predictor
from evaluators.prediction.proxy_features import ProxyFeatures
from evaluators.accuracy.zero_cost import ZeroCost
from evaluators.accuracy.zero_cost_proxies import PROXIES
from search_spaces.architecture import Architecture
from search_spaces.spaces.papers.nasbench201 import nasbench201
from search_spaces.space import Rows

DATA = Path(__file__).resolve().parents[2] / "shared" / "data"
SIZE = 16

PUBLISHED = {"synflow": 0.74, "grad_norm": 0.58, "jacob_cov": 0.73, "zico": 0.80}
"""Spearman after 200 epochs: Abdelfattah et al., 2021; ZiCo: Li et al., 2023."""

Values = npt.NDArray[np.float64]


def main() -> None:
    """Print both tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cells", type=int, default=400)
    parser.add_argument("--learnt", type=int, default=250, help="cells for models of the proxies")
    parser.add_argument("--images", type=int, default=32, help="of the batch")
    parser.add_argument("--noise", action="store_true", help="in place of images")
    parser.add_argument("--repeats", type=int, default=12, help="of the predictor's learning")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    space = nasbench201(image_size=SIZE)
    tables = CostTables(space)
    published = pq.read_table(
        DATA / "nasbench201/accuracy_12ep_and_latency.parquet",
        columns=["arch", "cifar10_val_12ep"],
    ).to_pydict()
    rng = np.random.default_rng(arguments.seed)
    chosen = rng.choice(len(published["arch"]), arguments.cells, replace=False)
    archs = [space.architecture({"arch": published["arch"][i]}) for i in chosen]
    rows = space.encode(archs)
    truth = np.array([published["cifar10_val_12ep"][i] for i in chosen], dtype=np.float64)
    seed, images = arguments.seed, arguments.images
    if arguments.noise:
        evaluator = ZeroCost.on_noise(space, seed=seed, images=images)
    else:
        data = load_data(str(DATA / "cifar10/train.parquet"), image_size=SIZE)
        evaluator = ZeroCost.on_images(space, data, seed=seed, images=images)
    table = []
    known: dict[str, dict[str, float]] = {arch.id: {} for arch in archs}
    for name in PROXIES:
        alone = ZeroCost(space, evaluator.inputs, evaluator.labels, (name,), seed)
        started = time.perf_counter()
        for arch in archs:
            known[arch.id] |= alone(arch)
        seconds = (time.perf_counter() - started) / len(archs)
        scores = np.array([known[arch.id][name] for arch in archs])
        table.append(_row(name, scores, truth, round(seconds, 4)))
    for metric, values in tables.score(rows, ("macs", "params")).items():
        table.append(_row(metric, values.astype(np.float64), truth, 0.0))
    emit("zero_cost", table, vars(arguments), arguments.json)
    result = _predictor(arguments, tables, _Known(known), rows, truth)
    path = arguments.json and arguments.json.with_stem(arguments.json.stem + "_predictor")
    emit("zero_cost_predictor", result, vars(arguments), path)


@dataclass(frozen=True)
class _Known:
    """What was scored already, as an evaluator."""

    scores: dict[str, dict[str, float]]
    names: tuple[str, ...] = tuple(PROXIES)

    def __call__(self, arch: Architecture) -> dict[str, float]:
        return self.scores[arch.id]


def _row(name: str, scores: Values, truth: Values, seconds: float) -> dict[str, Any]:
    better = truth > np.median(truth)
    return {
        "ranked by": name,
        "Spearman": round(float(spearmanr(scores, truth).statistic), 3),
        "of the better half": round(float(spearmanr(scores[better], truth[better]).statistic), 3),
        "papers, 200 epochs": PUBLISHED.get(name, "-"),
        "seconds a cell": seconds,
    }


def _predictor(
    arguments: argparse.Namespace,
    tables: CostTables,
    known: _Known,
    rows: Rows,
    truth: Values,
) -> list[dict[str, Any]]:
    """Kendall's tau of predictions, with no proxies, with models of them, and with the cells' own.

    All three are judged on the same cells.
    """
    result = []
    own = ProxyFeatures(known, tables, rows)
    for evaluations in (16, 32, 64, 100):
        taus: dict[str, list[float]] = {}
        for repeat in range(arguments.repeats):
            rng = np.random.default_rng((arguments.seed, repeat))
            order = rng.permutation(len(rows))
            learnt, others = order[: arguments.learnt], order[arguments.learnt :]
            seen = rng.choice(len(rows), evaluations, replace=False)
            judged = np.setdiff1d(others, seen)
            features = {
                "without": None,
                "with models of proxies": ProxyFeatures(known, tables, rows[learnt]),
                "with their own": own,
            }
            better = judged[truth[judged] > np.median(truth[judged])]
            for name, extra in features.items():
                predictor = Predictor(tables, seed=repeat, extra=extra)
                predictor.fit(rows[seen], truth[seen])
                for part, cells in (("", judged), (", better half", better)):
                    tau = kendalltau(predictor.predict(rows[cells])[0], truth[cells]).statistic
                    taus.setdefault(name + part, []).append(float(tau))
        means = {name: round(float(np.mean(values)), 3) for name, values in taus.items()}
        result.append({"evaluations": evaluations} | means)
    return result


if __name__ == "__main__":
    main()
