"""Frontiers against brute force and by hand."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nas.frontier import hypervolume, knee, nondominated, objective

PAIR = (objective("accuracy"), objective("macs"))


@given(
    st.integers(1, 3).flatmap(
        lambda width: st.lists(st.tuples(*[st.integers(0, 5)] * width), min_size=1, max_size=30)
    )
)
def test_nondominated_equals_brute_force(values: list[tuple[int, ...]]) -> None:
    names = ("accuracy", "macs", "params")[: len(values[0])]
    objectives = [objective(name) for name in names]
    signs = np.array([-1 if o.maximise else 1 for o in objectives])
    points = np.array(values) * signs
    kept = nondominated(values, objectives)
    for index, point in enumerate(points):
        others = points[np.arange(len(points)) != index]
        dominated = ((others <= point).all(1) & (others < point).any(1)).any()
        earlier = (points[:index] == point).all(1).any()
        assert kept[index] == (not dominated and not earlier)


def test_hypervolume_by_hand() -> None:
    ideal, worst = (1.0, 0.0), (0.0, 10.0)
    assert hypervolume([[0.5, 5.0]], PAIR, ideal, worst) == pytest.approx(0.25)
    two = [[0.5, 5.0], [0.8, 8.0]]
    assert hypervolume(two, PAIR, ideal, worst) == pytest.approx(0.25 + 0.2 * 0.3)
    assert hypervolume([[1.0, 0.0]], PAIR, ideal, worst) == pytest.approx(1.0)
    assert hypervolume([[0.5, 10.0]], PAIR, ideal, worst) == 0.0
    assert hypervolume(np.empty((0, 2)), PAIR, ideal, worst) == 0.0


def test_knee_is_where_more_cost_stops_paying() -> None:
    front = [[0.5, 1.0], [0.9, 2.0], [0.92, 6.0], [0.93, 10.0]]
    assert knee(front, PAIR) == 1
    assert knee([[0.5, 1.0]], PAIR) == 0


def test_directions_follow_from_names() -> None:
    assert [objective(n).maximise for n in ("accuracy", "macs", "-error", "score")] == [
        True,
        False,
        False,
        True,
    ]
