"""Attentive sampling: a supernet trains most on the best and worst subnets of their MACs.

Which they are is told by a predictor of what a subnet lost on its batch beyond the largest network,
learnt from the training's own batches (Wang et al., "AttentiveNAS", 2021, section 4: BestUp and
WorstUp, there with a predictor that was trained before). Every budget gets its share: first a
number of MACs is drawn, evenly over the range, then one of the candidates near it is taken.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from evaluators.costs.budget import BudgetedSpace
from evaluators.prediction.predictor import LEAST, Predictor
from search_spaces.architecture import Architecture

POOL = 512
"""Candidates that the draws of a step are taken from."""

NEAR = 12
"""Candidates nearest to the drawn MACs, of which the best or the worst is taken."""

RECORD = 384
"""How many of the latest subnets the predictor learns from."""

REFIT = 64
"""Subnets after which it learns anew."""

FADING = 0.98


class Attentive:
    """Draws subnets for a sandwich, best and worst in turn, and learns from their losses."""

    def __init__(self, budgeted: BudgetedSpace, *, seed: int) -> None:
        self._budgeted = budgeted
        self._space = budgeted.tables.space
        self._seed = seed
        self._rows = np.zeros((0, len(self._space.choices)), dtype=np.uint8)
        self._values = np.zeros(0)
        self._learnt = 0
        """How many subnets had been told when the predictor last learnt."""
        self._told = 0
        self._usual = 0.0
        """What a subnet loses beyond the largest network, of late."""
        self._predictor: Predictor | None = None
        self._drawn = 0
        self.identity: dict[str, Any] = {"sampling": "attentive"}

    def __call__(self, rng: np.random.Generator, n: int) -> Sequence[Architecture]:
        """Draw `n` subnets."""
        rows = self._budgeted.sample(POOL, rng)
        macs = self._budgeted.tables.score(rows)["macs"]
        worth = None if self._predictor is None else self._predictor.mean(rows)
        chosen = []
        for target in rng.uniform(macs.min(), macs.max(), size=n):
            near = np.argsort(np.abs(macs - target), kind="stable")[:NEAR]
            self._drawn += 1
            if worth is None:
                chosen.append(near[0])
            else:
                best = self._drawn % 2
                chosen.append(near[(worth if best else -worth)[near].argmax()])
        return self._space.decode(rows[chosen])

    def tell(self, archs: Sequence[Architecture], excess: Sequence[float]) -> None:
        """Learn what subnets lost on a batch beyond the largest network.

        It shrinks as the training goes on, so it is kept in units of what is usual of late.
        """
        for value in excess:
            scale = abs(value)
            self._usual = FADING * self._usual + (1 - FADING) * scale if self._told else scale
            self._told += 1
        values = -np.asarray(excess) / max(self._usual, 1e-9)
        self._rows = np.concatenate([self._rows, self._space.encode(archs)])[-RECORD - REFIT :]
        self._values = np.concatenate([self._values, values])[-RECORD - REFIT :]
        if self._told >= max(LEAST, self._learnt + REFIT):
            self._learnt = self._told
            self._learn()

    def _learn(self) -> None:
        unseen = self._told - self._learnt
        end = len(self._rows) - unseen
        begin = max(0, end - RECORD)
        self._predictor = Predictor(self._budgeted.tables, seed=self._seed)
        self._predictor.fit(self._rows[begin:end], self._values[begin:end])

    def state_dict(self) -> dict[str, Any]:
        """The record; the predictor is learnt from it again."""
        return {
            "rows": torch.from_numpy(self._rows.copy()),
            "values": torch.from_numpy(self._values.copy()),
            "learnt": self._learnt,
            "told": self._told,
            "usual": float(self._usual),
            "drawn": self._drawn,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take a record up."""
        self._rows, self._values = state["rows"].numpy(), state["values"].numpy()
        self._learnt, self._told = state["learnt"], state["told"]
        self._usual, self._drawn = state["usual"], state["drawn"]
        if self._learnt:
            self._learn()
