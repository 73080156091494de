"""Attentive sampling: trains a supernet on the best and worst subnets at each number of MACs.

A predictor estimates the excess loss of a subnet: its loss on a batch minus that of the largest
network. It is trained on the batches of the supernet's training (Wang et al., "AttentiveNAS", 2021,
section 4: BestUp and WorstUp, there with a predictor trained beforehand). All numbers of MACs are
sampled equally: first MACs are drawn uniformly from the range, then a candidate near them is
chosen. Knows rows and losses. Does not know the training step (`sandwich.py`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from evaluators.costs.budget import BudgetedSpace
from evaluators.prediction.predictor import MIN_EVALUATIONS, Predictor
from search_spaces.architecture import Architecture

POOL = 512
"""Number of candidates per step."""

NEAR = 12
"""Number of candidates nearest to the drawn MACs, of which the best or the worst is chosen."""

RECORD = 384
"""Number of the latest subnets that the predictor is fitted to."""

REFIT = 64
"""Number of subnets between two fits of the predictor."""

DECAY = 0.98
"""Decay of the running mean of the excess loss."""


class AttentiveSampler:
    """Draws subnets for a sandwich, best and worst in turn, and learns from their losses.

    Args:
        budgeted: the architectures that are drawn.
        seed: of the predictor.
    """

    def __init__(self, budgeted: BudgetedSpace, *, seed: int) -> None:
        self._budgeted = budgeted
        self._space = budgeted.tables.space
        self._seed = seed
        self._rows = np.zeros((0, len(self._space.choices)), dtype=np.uint8)
        self._values = np.zeros(0)
        self._fitted = 0
        """Number of recorded subnets at the last fit of the predictor."""
        self._recorded = 0
        """Number of recorded subnets."""
        self._mean_excess = 0.0
        """Running mean of the absolute excess loss."""
        self._predictor: Predictor | None = None
        self._drawn = 0
        self.identity: dict[str, Any] = {"sampling": "attentive"}

    def __call__(self, rng: np.random.Generator, n: int) -> Sequence[Architecture]:
        """Draw `n` subnets."""
        rows = self._budgeted.sample(POOL, rng)
        macs = self._budgeted.tables.score(rows)["macs"]
        predicted = None if self._predictor is None else self._predictor.mean(rows)
        chosen = []
        for target in rng.uniform(macs.min(), macs.max(), size=n):
            near = np.argsort(np.abs(macs - target), kind="stable")[:NEAR]
            self._drawn += 1
            if predicted is None:
                chosen.append(near[0])
            else:
                best = self._drawn % 2
                chosen.append(near[(predicted if best else -predicted)[near].argmax()])
        return self._space.decode(rows[chosen])

    def tell(self, archs: Sequence[Architecture], excess: Sequence[float]) -> None:
        """Record the excess loss of subnets on a batch.

        It decreases during the training, so it is divided by its running mean.

        Args:
            archs: the subnets of a step.
            excess: for each, its loss minus that of the largest network.
        """
        for value in excess:
            scale = abs(value)
            if self._recorded:
                scale = DECAY * self._mean_excess + (1 - DECAY) * scale
            self._mean_excess = scale
            self._recorded += 1
        values = -np.asarray(excess) / max(self._mean_excess, 1e-9)
        self._rows = np.concatenate([self._rows, self._space.encode(archs)])[-RECORD - REFIT :]
        self._values = np.concatenate([self._values, values])[-RECORD - REFIT :]
        if self._recorded >= max(MIN_EVALUATIONS, self._fitted + REFIT):
            self._fitted = self._recorded
            self._fit()

    def _fit(self) -> None:
        """Fit the predictor to the subnets that were recorded up to the last fit."""
        unseen = self._recorded - self._fitted
        end = len(self._rows) - unseen
        begin = max(0, end - RECORD)
        self._predictor = Predictor(self._budgeted.tables, seed=self._seed)
        self._predictor.fit(self._rows[begin:end], self._values[begin:end])

    def state_dict(self) -> dict[str, Any]:
        """Return the record, from which the predictor is fitted again."""
        return {
            "rows": torch.from_numpy(self._rows.copy()),
            "values": torch.from_numpy(self._values.copy()),
            "learnt": self._fitted,
            "told": self._recorded,
            "usual": float(self._mean_excess),
            "drawn": self._drawn,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore a record and fit the predictor to it."""
        self._rows, self._values = state["rows"].numpy(), state["values"].numpy()
        self._fitted, self._recorded = state["learnt"], state["told"]
        self._mean_excess, self._drawn = state["usual"], state["drawn"]
        if self._fitted:
            self._fit()
