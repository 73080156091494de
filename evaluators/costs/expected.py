"""E[cost] under independent distributions of all choices: exact and differentiable.

The expectation uses the same tables as every other cost. Each factor of the tables is contracted
with the joint probabilities of its few choices, so the expectation of a product of neighbouring
widths is exact, not the product of two expectations. Knows metrics that are sums over blocks; peak
memory and published measurements are not.
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
    """Expected costs of the architectures of a space.

    Example:
        >>> expected = ExpectedCosts(tables, ("macs",))
        >>> expected([logits.softmax(0) for logits in parameters])["macs"].log().backward()
    """

    def __init__(self, tables: CostTables, metrics: Sequence[str]) -> None:
        """Prepare the expectations of `metrics`.

        Args:
            metrics: `macs`, `params` or a metric priced by block.

        Raises:
            UserError: for a metric that is not a sum over blocks.
        """
        known = (*SUMMED, *tables.prices)
        for metric in metrics:
            if metric not in known:
                why = " (a peak is no sum over blocks)" if metric == "memory" else ""
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
        """Compute the expected costs.

        Args:
            probabilities: `(options,)` for each choice of the space, each summing to 1.

        Returns:
            A float64 scalar for each metric, differentiable in the probabilities.
        """
        given = [p.double() for p in probabilities]
        total = torch.zeros(len(self.metrics), dtype=torch.float64)
        for columns, options, exists, values in self._factors:
            joint = torch.ones(len(options), dtype=torch.float64)
            for place, column in enumerate(columns):
                taken = given[column][options[:, place]]
                if not exists[:, place].all():
                    # An inactive choice has a single entry, of probability 1.
                    taken = torch.where(exists[:, place], taken, 1.0)
                joint = joint * taken
            total = total + values @ joint
        return dict(zip(self.metrics, total.unbind(), strict=True))
