"""Brings a strategy to where it was after the evaluations of an earlier session.

Proposals follow from a strategy's random streams and fitted models, which a study does not hold. In
one process a proposal and its evaluation alternate, so they are repeated, without the evaluation:
an interrupted search then ends as an undisturbed one. Knows strategies. Does not know where
evaluations are stored.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from nas.run.evaluation import Evaluation
from nas.strategies.candidates import Strategy
from search_spaces.space import Row, Rows

MOST = 2000
"""Evaluations up to which proposals are repeated, which takes milliseconds each; a strategy is only
told about more."""


def replay(
    strategy: Strategy, rows: Rows, evaluations: Sequence[Evaluation], *, repeat: bool = True
) -> Row | None:
    """Tell a new strategy about evaluations, each after the proposal that led to it.

    From the first row on that the strategy would not have proposed next, as with several workers,
    it is only told.

    Args:
        strategy: without any proposal so far.
        rows: `(n, choices)`, in the order in which their evaluations ended.
        evaluations: theirs.
        repeat: False: the strategy is only told, where a proposal is expensive.

    Returns:
        A row that was proposed here and is not among `rows`: the next to evaluate; usually None.
    """
    in_step = repeat and len(evaluations) <= MOST
    waiting: Row | None = None
    for row, evaluation in zip(rows, evaluations, strict=True):
        if in_step:
            waiting = strategy.propose()
            in_step = _same(waiting, row)
        if _same(waiting, row):
            waiting = None
        strategy.tell(row, evaluation)
    return waiting


def _same(proposed: Row | None, row: Row) -> bool:
    return proposed is not None and bool(np.array_equal(proposed, row))
