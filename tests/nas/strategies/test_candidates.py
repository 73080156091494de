"""Candidates: the last rows of a space are found in the same order in every process."""

from __future__ import annotations

import numpy as np
import pytest

from cached_tables import tables_of
from evaluators.costs.budget import Budget, BudgetedSpace
from nas.strategies.candidates import Candidates


def test_rows_beside_claimed_ones_do_not_depend_on_the_process(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    candidates = Candidates(BudgetedSpace(tables_of("nasbench201"), Budget({}, {})), 0)
    # An almost exhausted space: whatever is drawn at random was claimed before.
    claimed = candidates.budgeted.sample(64, np.random.default_rng(0))
    monkeypatch.setattr(candidates.budgeted, "sample", lambda n, rng: claimed)
    for row in claimed:
        candidates.claim(row)
    row = candidates.draw()
    assert row is not None
    assert candidates.is_new(row)
    assert (row != claimed[0]).sum() == 1
    options = candidates.budgeted.neighbours(claimed[0])
    assert (row == options[candidates.are_new(options)][0]).all()
