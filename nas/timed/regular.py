"""Rows whose parts are alike, and how to climb among them.

Good networks are regular: one kind of block (Radosavovic et al., "Designing Network Design
Spaces", 2020), and widths that stay or at most double from stage to stage, so that no stage takes
most of the compute (He et al., "Deep Residual Learning", 2016). Random rows seldom are, and of
irregular ones, a fitted law prefers those that it knows least about. Knows rows, the names of
choices and budgets. Does not know what makes a row good.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from evaluators.costs.budget import BudgetedSpace
from search_spaces.space import Row, Rows, SearchSpace

WIDTH, HEAD = "width", "head"
"""Ending of the choices that stay or grow from one part to the next, and the part where they need
not."""

MOST_GROWTH = 2.0
"""Most growth of a width from one part to the next."""


def _ending(name: str) -> str:
    """What the choices of all parts share: `width` of `stage0_width`."""
    return name.rpartition("_")[2]


def regular_rows(space: SearchSpace, n: int, rng: np.random.Generator) -> Rows:
    """Rows whose parts are alike: equal choices of all stages and layers, `(n, choices)`.

    Choices whose names end alike (`stage0_width`, `stage3_width`) take the same share of their
    ranges.
    """
    endings = [_ending(choice.name) for choice in space.choices]
    names = sorted(set(endings))
    drawn = rng.random((n, len(names)))
    shares = drawn[:, [names.index(each) for each in endings]]
    return space.canonical((shares * space.option_counts).astype(np.uint8))


def regular_within(budgeted: BudgetedSpace, n: int, rng: np.random.Generator) -> Rows:
    """The distinct ones within a budget of `n` regular rows, `(at most n, choices)`."""
    rows = np.unique(regular_rows(budgeted.space, n, rng), axis=0)
    return rows[budgeted.admits(rows)]


def climbed(
    budgeted: BudgetedSpace,
    row: Row,
    score: Callable[[Rows], npt.NDArray[np.float64]],
) -> Row:
    """Climb from a row to one that no step betters, within the budget.

    A step changes one choice; a choice between words, such as the kind of block, in all parts
    at once. Widths that are smooth in the first row stay so.

    Args:
        budgeted: the space with its budget.
        row: `(choices,)`, within the budget.
        score: of rows `(n, choices)`, `(n,)`; higher is better.
    """
    best = float(score(row[None])[0])
    widths = smooth(budgeted.space, row[None])[0]
    while True:
        near = _steps(budgeted.space, row)
        near = near[budgeted.admits(near)]
        if widths:
            near = near[smooth(budgeted.space, near)]
        if not len(near):
            return row
        scores = score(near)
        place = int(scores.argmax())
        if scores[place] <= best:
            return row
        row, best = near[place], float(scores[place])


def smooth(space: SearchSpace, rows: Rows) -> npt.NDArray[np.bool_]:
    """Whether the widths of all parts stay or grow towards the output, and not too fast, `(n,)`."""
    active = space.active(rows)
    before: npt.NDArray[np.float64] | None = None
    result = np.ones(len(rows), dtype=bool)
    for column, choice in enumerate(space.choices):
        part, _, end = choice.name.rpartition("_")
        if end != WIDTH or part in ("", HEAD):
            continue
        values = np.array(choice.options, dtype=np.float64)[rows[:, column]]
        if before is not None:
            values = np.where(active[:, column], values, before)
            result &= (before <= values) & (values <= MOST_GROWTH * before)
        before = values
    return result


def _filled(space: SearchSpace, row: Row) -> Row:
    """The row with choices of absent parts set as the part before them takes its own.

    A step that adds a part then adds one that is like the others.
    """
    active = space.active(row[None])[0]
    shares: dict[str, float] = {}
    filled = row.copy()
    for column, choice in enumerate(space.choices):
        count, end = int(space.option_counts[column]), _ending(choice.name)
        if active[column]:
            shares[end] = (int(row[column]) + 0.5) / count
        elif end in shares:
            filled[column] = int(shares[end] * count)
    return filled


def _steps(space: SearchSpace, row: Row) -> Rows:
    """The rows one step from `(choices,)`, `(n, choices)`."""
    together: defaultdict[str, list[int]] = defaultdict(list)
    for column, choice in enumerate(space.choices):
        words = all(isinstance(option, str) for option in choice.options)
        together[_ending(choice.name) if words else choice.name].append(column)
    filled, steps = _filled(space, row), []
    for columns in together.values():
        for option in range(min(space.option_counts[columns])):
            step = filled.copy()
            step[columns] = option
            steps.append(step)
    rows = np.unique(space.canonical(np.stack(steps)), axis=0)
    return np.asarray(rows[(rows != row).any(axis=1)])
