"""E[cost] when every choice is drawn from its own probabilities: exact, and differentiable.

The expectation is read from the same tables as every other cost. Each factor of the tables is
contracted with the joint probabilities of its own few choices, so a product of neighbouring widths
is taken in expectation as it is, not as the product of two expectations. Knows sums over blocks;
peak memory and published measurements are none.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from evaluators.costs.factors import factors
from evaluators.costs.tables import SUMMED, CostTables
from search_spaces.errors import UserError


class ExpectedCosts:
    """The expected costs of a space's architectures.

    Example:
        >>> expected = ExpectedCosts(tables, ("macs",))
        >>> expected([logits.softmax(0) for logits in parameters])["macs"].log().backward()
    """

    def __init__(self, tables: CostTables, metrics: Sequence[str]) -> None:
        """Prepare the expectation of some metrics.

        Args:
            metrics: `macs`, `params` or priced ones.

        Raises:
            UserError: for a metric that is not a sum over blocks.
        """
        known = (*SUMMED, *tables.prices)
        for metric in metrics:
            if metric not in known:
                why = " (a peak is no sum)" if metric == "memory" else ""
                raise UserError(
                    f"no expectation of {metric}{why}: expected one of {', '.join(known)}"
                )
        self.metrics = tuple(metrics)
        self._factors = []
        for factor in factors(tables):
            values = torch.tensor([factor.summed[m].tolist() for m in metrics], dtype=torch.float64)
            options = torch.from_numpy(factor.options.astype(np.int64))
            exists = torch.from_numpy(factor.exists)
            self._factors.append((factor.columns, options, exists, values))

    def __call__(self, probabilities: Sequence[Tensor]) -> dict[str, Tensor]:
        """Expected costs.

        Args:
            probabilities: `(options,)` for each choice of the space, each summing to 1.

        Returns:
            For each metric a float64 scalar; gradients flow to the probabilities.
        """
        given = [p.double() for p in probabilities]
        total = torch.zeros(len(self.metrics), dtype=torch.float64)
        for columns, options, exists, values in self._factors:
            joint = torch.ones(len(options), dtype=torch.float64)
            for place, column in enumerate(columns):
                taken = given[column][options[:, place]]
                if not exists[:, place].all():
                    # Where a choice does not exist, its one entry has all the probability.
                    taken = torch.where(exists[:, place], taken, 1.0)
                joint = joint * taken
            total = total + values @ joint
        return dict(zip(self.metrics, total.unbind(), strict=True))
