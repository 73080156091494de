"""Regular rows, and the climb among them."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest

from evaluators.costs.budget import Budget, BudgetedSpace
from nas.timed.regular import climbed, regular_rows, smooth
from search_spaces.space import Rows
from timed_law import tables

CEILING = 400_000


def macs(rows: Rows) -> npt.NDArray[np.float64]:
    return np.asarray(tables().score(rows, ("macs",))["macs"], dtype=np.float64)


def kinds(row: npt.NDArray[np.uint8]) -> set[object]:
    (arch,) = tables().space.decode(row[None])
    return {value for name, value in arch.items() if name.endswith("_block")}


def test_regular_rows_repeat_their_choices() -> None:
    space = tables().space
    rows = regular_rows(space, 200, np.random.default_rng(0))
    assert (rows == space.canonical(rows)).all()
    assert all(len(kinds(row)) == 1 for row in rows)


def test_a_climb_ends_at_the_budget_with_one_kind_of_block_and_smooth_widths() -> None:
    space, budgeted = tables().space, BudgetedSpace(tables(), Budget({"macs": CEILING}, {}))
    rows = regular_rows(space, 2000, np.random.default_rng(0))
    rows = rows[budgeted.admits(rows) & smooth(space, rows)][:20]
    assert len(rows) == 20
    ends = np.stack([climbed(budgeted, row, macs) for row in rows])
    assert (macs(ends) >= macs(rows)).all()
    assert (macs(ends) > 0.9 * CEILING).all()
    assert (macs(ends) <= CEILING).all()
    assert smooth(space, ends).all()
    assert all(len(kinds(row)) == 1 for row in ends)
    assert (ends == space.canonical(ends)).all()


def test_a_row_that_no_step_betters_stays() -> None:
    space, budgeted = tables().space, BudgetedSpace(tables(), Budget({}, {}))
    (row,) = space.encode([space.smallest])
    assert (climbed(budgeted, row, lambda rows: -macs(rows)) == row).all()


@pytest.mark.parametrize(
    ("widths", "depth3", "expected"),
    [
        ((8, 8, 16, 32, 64), 1, True),
        ((16, 8, 16, 32, 64), 1, False),  # narrower than the stem
        ((8, 8, 48, 24, 64), 1, False),
        ((8, 24, 24, 32, 64), 1, False),  # three times the stem's
        ((8, 8, 16, 32, 128), 1, False),
        ((8, 8, 16, 32, 64), 0, True),  # an absent stage has no width
    ],
)
def test_widths_grow_smoothly_or_do_not(
    widths: tuple[int, ...], depth3: int, expected: bool
) -> None:
    space = tables().space
    values: dict[str, object] = {"resolution": 8, "stem_stride": 1, "activation": "relu"}
    values |= {"head_width": 0, "stem_width": widths[0]}
    for stage, width in enumerate(widths[1:]):
        depth = depth3 if stage == 3 else 1
        values |= {f"stage{stage}_depth": depth}
        if depth:
            values |= {f"stage{stage}_width": width, f"stage{stage}_block": "basic"}
    rows = space.encode([space.architecture(values)])
    assert smooth(space, rows).tolist() == [expected]
