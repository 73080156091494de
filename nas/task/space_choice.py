"""Chooses the space of a search from its budget and the size of its images.

A space suits a budget if thousands of its networks use 50 to 100 % of it. The space that a search
has by default is kept if it does; otherwise the largest resolution is taken at which the budget
pays for networks of usual width. Knows spaces and budgets. Does not know data.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from evaluators.costs.budget import Budget
from evaluators.costs.tables import Costs, CostTables, Price, block_costs
from evaluators.metrics import COUNTED
from evaluators.sizes import format_size
from search_spaces.catalogue import load_space
from search_spaces.space import SearchSpace
from search_spaces.spaces.cnn_presets import LEAST_WIDTH, MOST_PIXELS, MOST_WIDTH, fitted_name

ENOUGH = 2_000
"""Networks at 50 to 100 % of the budget that a space should have."""

LEAST_USED = 0.5

SURVEY = 4_096
"""Random networks that are priced to judge a space."""

FEW = 64
"""Random networks that are counted to find the size of a space, without tables of it."""

USUAL_WIDTH, NARROW, NARROW_PIXELS = 8, 4, 24
"""Channels of the first stage from which on a higher resolution is preferred to wider networks; the
second for images of at most so many pixels, which hardly any smaller ones could replace."""

PIXELS = (8, 12, 16, 24, 32, 48, 64, 96, 128, 160, 192, 224, 256, 320, 384, 448, MOST_PIXELS)
UPSCALED = 16
"""Smaller images are enlarged up to this size."""

WIDTHS = tuple(
    width
    for power in range(2, 12)
    for width in (2**power, 3 * 2 ** (power - 1))
    if LEAST_WIDTH <= width <= MOST_WIDTH
)

Prices = Callable[[SearchSpace], Mapping[str, Price]]
"""The metrics of a space that the budget bounds, beside those that are counted."""


@dataclass(frozen=True)
class SpaceChoice:
    """A space by name, and why it was chosen."""

    name: str
    reason: str


def suits(tables: CostTables, budget: Budget) -> bool:
    """Whether thousands of networks of a space use 50 to 100 % of a budget."""
    costs = tables.score(tables.space.sample(SURVEY, 0), budget.metrics)
    fits = budget.admits(costs) & (budget.used(costs) >= LEAST_USED)
    return float(fits.mean()) * tables.space.size >= ENOUGH


def space_for(
    usual: CostTables, budget: Budget, shape: Mapping[str, int], prices: Prices
) -> SpaceChoice | None:
    """The space for images of a shape and a budget.

    Args:
        usual: tables of the default space.
        shape: `image_size`, `channels` and `classes`.

    Returns:
        None if the default space suits the budget, or if none does.
    """
    if suits(usual, budget):
        return None
    found = fitted_size(budget, shape, prices)
    if found is None:
        return None
    pixels, width = found
    name = fitted_name(pixels, width)
    return SpaceChoice(
        name,
        f"space {name}: networks for images of up to {pixels} pixels whose first stage has about "
        f"{width} channels, since {_range_of(usual, budget)}",
    )


def fitted_size(budget: Budget, shape: Mapping[str, int], prices: Prices) -> tuple[int, int] | None:
    """Pixels and width of the space whose random networks suit a budget best; None if none do."""
    image = min(MOST_PIXELS, max(UPSCALED, shape["image_size"]))
    sizes = [image, *(p for p in reversed(PIXELS) if p < image)]

    def middle(pixels: int, width: int) -> float:
        """Share of the budget that a random network uses."""
        space = load_space(fitted_name(pixels, width), **shape)
        return float(np.median(budget.used(_counted(space, prices(space)))))

    def affordable(pixels: int) -> bool:
        return middle(pixels, NARROW if pixels <= NARROW_PIXELS else USUAL_WIDTH) <= 1

    pixels = next(filter(affordable, sizes), sizes[-1])
    low, high = 0, len(WIDTHS) - 1
    while low < high:
        at = (low + high + 1) // 2
        low, high = (at, high) if middle(pixels, WIDTHS[at]) <= 1 else (low, at - 1)
    # A budget with several bounds may admit few networks of the nearest size.
    for at in (low, low + 1, low - 1, low - 2):
        if 0 <= at < len(WIDTHS):
            space = load_space(fitted_name(pixels, WIDTHS[at]), **shape)
            if suits(CostTables(space, prices=prices(space)), budget):
                return pixels, WIDTHS[at]
    return None


def _counted(space: SearchSpace, prices: Mapping[str, Price]) -> Costs:
    """Costs of a few random networks, `(FEW,)` of each metric."""
    found: dict[str, list[float]] = {metric: [] for metric in (*COUNTED, *prices)}
    for arch in space.decode(space.sample(FEW, 0)):
        blocks = [ops for _, ops in space.ops(arch)]
        counts = np.array([block_costs(ops) for ops in blocks])
        values = (counts[:, 0].sum(), counts[:, 1].sum(), counts[:, 2].max())
        for metric, value in zip(COUNTED, values, strict=True):
            found[metric].append(float(value))
        for metric, price in prices.items():
            found[metric].append(sum(price(ops) for ops in blocks))
    return {metric: np.array(values) for metric, values in found.items()}


def _range_of(tables: CostTables, budget: Budget) -> str:
    """What the networks of a space cost, where that does not suit a budget."""
    space = tables.space
    least, most = (tables.cost(arch)["macs"] for arch in (space.smallest, space.largest))
    return (
        f"{space.name} ({format_size(least)} to {format_size(most)} FLOPs) has too few networks "
        f"at {LEAST_USED:.0%} to 100 % of the budget"
    )
