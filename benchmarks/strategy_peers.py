"""SMAC3 and BoTorch as peers of `strategies.py`, as strong as their documentation makes them.

Both know the costs of a network before it is evaluated, as ours do: SMAC3 is told at once that a
network over the budget is poor, which counts as no evaluation; BoTorch chooses among the networks
within the budget only, by its acquisition function's value for each of them. They are not installed
with the project: `pip install smac botorch` in an environment of their own.
"""

from __future__ import annotations

import logging
import tempfile
import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np

SMAC, EI, HVI = "SMAC3", "BoTorch LogEI", "BoTorch qLogNEHVI"
PEERS = (SMAC, EI, HVI)

FIRST = 14
"""Random evaluations before BoTorch's first model: 2 (d + 1) for six choices, as in its tutorials;
SMAC3's first design is as large."""

SAMPLES = 64
"""Monte Carlo samples of qLogNEHVI."""


def peer(name: str, w: Any, metric: str, bound: float, seed: int) -> Iterator[int]:
    """Indices of the networks that a peer evaluates."""
    warnings.simplefilter("ignore")
    if name == SMAC:
        yield from smac(w, metric, bound, seed)
    else:
        yield from botorch(name, w, metric, bound, seed)


def smac(w: Any, metric: str, bound: float, seed: int) -> Iterator[int]:
    """SMAC3's facade for hyperparameters: a random forest and log expected improvement."""
    from ConfigSpace import Categorical, ConfigurationSpace
    from smac import HyperparameterOptimizationFacade as Facade
    from smac import Scenario
    from smac.runhistory.dataclasses import TrialValue

    logging.disable(logging.WARNING)
    choices = w.tables.space.choices
    space = ConfigurationSpace(seed=seed)
    space.add([Categorical(c.name, list(range(len(c.options)))) for c in choices])
    with tempfile.TemporaryDirectory() as folder:
        scenario = Scenario(
            space, deterministic=True, n_trials=100_000, seed=seed, output_directory=folder
        )
        design = Facade.get_initial_design(scenario, n_configs=FIRST)
        facade = Facade(
            scenario,
            lambda config, seed=0: 0.0,
            initial_design=design,
            overwrite=True,
            logging_level=False,
        )
        while True:
            trial = facade.ask()
            row = np.array([trial.config[c.name] for c in choices], dtype=np.uint8)
            index = w.place[row.tobytes()]
            over = float(w.costs[metric][index] / bound - 1)
            if over > 0:
                facade.tell(trial, TrialValue(cost=100 * (1 + over)), save=False)
                continue
            facade.tell(trial, TrialValue(cost=100 - float(w.validation[index])), save=False)
            yield index


def botorch(name: str, w: Any, metric: str, bound: float, seed: int) -> Iterator[int]:
    """A Gaussian process over categories, and its acquisition function for every network left."""
    import torch
    from botorch import fit_gpytorch_mll
    from botorch.acquisition import LogExpectedImprovement
    from botorch.acquisition.multi_objective.logei import (
        qLogNoisyExpectedHypervolumeImprovement,
    )
    from botorch.models import MixedSingleTaskGP, ModelListGP
    from botorch.models.transforms import Standardize
    from botorch.sampling.normal import SobolQMCNormalSampler
    from gpytorch.mlls import ExactMarginalLogLikelihood

    torch.set_num_threads(1)
    torch.manual_seed(seed)
    rows = torch.from_numpy(w.rows.astype(np.float64))
    accuracy = torch.from_numpy(np.asarray(w.validation, dtype=np.float64))
    macs = torch.from_numpy(-np.asarray(w.costs["macs"], dtype=np.float64) / 1e8)
    left = torch.from_numpy(np.flatnonzero(w.costs[metric] <= bound))
    left = left[torch.randperm(len(left))]
    seen, left = left[:FIRST], left[FIRST:]
    yield from seen.tolist()

    def model_of(values: Any) -> Any:
        y = values[seen, None]
        model = MixedSingleTaskGP(
            rows[seen], y, list(range(rows.shape[1])), outcome_transform=Standardize(1)
        )
        fit_gpytorch_mll(ExactMarginalLogLikelihood(model.likelihood, model))
        return model

    while len(left):
        if name == EI:
            acquired: Any = LogExpectedImprovement(model_of(accuracy), accuracy[seen].max())
        else:
            acquired = qLogNoisyExpectedHypervolumeImprovement(
                ModelListGP(model_of(accuracy), model_of(macs)),
                ref_point=[0.0, float(macs[left].min())],
                X_baseline=rows[seen],
                sampler=SobolQMCNormalSampler(torch.Size([SAMPLES]), seed=seed),
                prune_baseline=True,
            )
        with torch.no_grad():
            values = torch.cat([acquired(part[:, None]) for part in rows[left].split(1024)])
        place = int(values.argmax())
        seen = torch.cat([seen, left[place : place + 1]])
        yield int(left[place])
        left = torch.cat([left[:place], left[place + 1 :]])
