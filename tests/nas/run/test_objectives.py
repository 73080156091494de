"""Frontiers, hypervolumes and knees against brute force and worked examples."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from nas.run import ranking
from nas.run.evaluation import Evaluation
from nas.run.history import references
from nas.run.objectives import directed, hypervolume, knee, nondominated, objective
from search_spaces.architecture import Architecture

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


@given(
    st.integers(1, 3).flatmap(
        lambda width: st.lists(st.tuples(*[st.integers(0, 6)] * width), min_size=0, max_size=12)
    )
)
def test_hypervolume_equals_the_share_of_cells_that_are_dominated(
    values: list[tuple[int, ...]],
) -> None:
    width = len(values[0]) if values else 2
    objectives = [objective(name) for name in ("macs", "accuracy", "params")[:width]]
    # Six cells per side; accuracy is the second objective, so its axis is inverted.
    ideal, worst = [0, 6, 0][:width], [6, 0, 6][:width]
    cells = np.stack(np.meshgrid(*[np.arange(6) + 0.5] * width), axis=-1).reshape(-1, width)
    dominated = np.zeros(len(cells), dtype=bool)
    for value in values:
        better = [
            cells[:, i] < v if o.maximise else cells[:, i] > v
            for i, (v, o) in enumerate(zip(value, objectives, strict=True))
        ]
        dominated |= np.all(better, axis=0)
    share = hypervolume(np.reshape(values, (-1, width)), objectives, ideal, worst)
    assert share == pytest.approx(dominated.mean())


def test_points_outside_the_box_count_up_to_its_border() -> None:
    ideal, worst = (1.0, 0.0), (0.0, 10.0)
    assert hypervolume([[1.5, 5.0]], PAIR, ideal, worst) == pytest.approx(0.5)
    assert hypervolume([[0.9, 20.0]], PAIR, ideal, worst) == 0.0
    assert hypervolume([[-0.1, 5.0]], PAIR, ideal, worst) == 0.0


def test_no_values_have_no_frontier() -> None:
    assert nondominated(np.empty((0, 2)), PAIR).tolist() == []


def test_of_equal_values_the_first_is_kept() -> None:
    values = [[0.5, 4.0], [0.9, 5.0], [0.9, 5.0], [0.4, 4.0]]
    assert nondominated(values, PAIR).tolist() == [True, True, False, False]


@given(
    st.dictionaries(st.integers(0, 20), st.integers(0, 20), min_size=3, max_size=12),
    st.sampled_from([1e-6, 1.0, 1e9]),
)
def test_the_knee_is_farthest_below_the_line_through_the_extremes(
    points: dict[int, int], unit: float
) -> None:
    accuracies = sorted(set(points.values()))
    assume(len(accuracies) >= 2)
    front = np.array(list(zip(accuracies, sorted(points)[: len(accuracies)], strict=True)), float)
    front[:, 1] *= unit
    span = front[-1] - front[0]
    along = (front - front[0]) / span
    height = along[:, 0] - along[:, 1]
    assert height[knee(front, PAIR)] == pytest.approx(height.max(), abs=1e-9)


def test_a_knee_of_three_objectives() -> None:
    objectives = (*PAIR, objective("params"))
    front = [[0.9, 10.0, 30.0], [0.5, 1.0, 20.0], [0.6, 9.0, 5.0], [0.85, 2.0, 8.0]]
    assert knee(front, objectives) == 3


def test_a_duplicated_cost_does_not_move_the_knee() -> None:
    front = [[0.2, 1.0], [0.75, 4.0], [0.8, 6.0], [0.82, 10.0]]
    twice = [[accuracy, macs, macs / 30] for accuracy, macs in front]
    objectives = (*PAIR, objective("latency_ms_here"))
    assert knee(twice, objectives) == knee(front, PAIR) == 1


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


def test_a_running_frontier_is_that_of_all_and_looks_at_each_once() -> None:
    rng = np.random.default_rng(0)
    arch = Architecture((("a", 1),))
    objectives = (objective("accuracy"), objective("macs"))

    class Counted(list):  # type: ignore[type-arg]
        looked_at = 0

        def __getitem__(self, which: Any) -> Any:
            found = super().__getitem__(which)
            Counted.looked_at += len(found)
            return found

    all_: Counted = Counted()
    running = ranking.RunningFrontier(objectives)
    for place in range(300):
        metrics = {"accuracy": float(rng.random()), "macs": float(rng.integers(1, 50))}
        error = "failed" if place % 9 == 0 else None
        all_.append(Evaluation(arch, metrics, error=error, violation=float(place % 5 == 0)))
        if place % 10 == 9:
            running.update(all_)
            assert running.front == ranking.frontier(all_, objectives)
            worst = {"macs": 50.0}
            feasible = [e for e in all_ if e.feasible]
            assert ranking.best(running.front, objectives) == ranking.best(feasible, objectives)
            volume = ranking.hypervolume(running.front, objectives, worst)
            assert volume == pytest.approx(ranking.hypervolume(feasible, objectives, worst))
            assert running.failed == sum(e.error is not None for e in all_)
    assert Counted.looked_at == 300


def test_costs_that_no_space_knows_are_measured_by_their_largest_value() -> None:
    objectives = (objective("-mape"), objective("macs"), objective("-gain"))
    done = [
        Evaluation(Architecture({"n": n}), {"mape": mape, "macs": 10.0 * n, "gain": -1.0 * n})
        for n, mape in enumerate((8.0, 4.0, 2.0), start=1)
    ]
    assert references(done, objectives, {"macs": 40.0}) == {"mape": 8.0, "macs": 40.0}
    assert references(done, objectives[:2], None) == {"mape": 8.0, "macs": 30.0}
    # In the box to 8.008 and 30.03, by hand: what (4, 20) dominates, and (8, 10) beside it.
    known = references(done[:2], objectives[:2], {"macs": 30.0})
    volume = ranking.hypervolume(done[:2], objectives[:2], known)
    dominated = (8.008 - 4) * (30.03 - 20) + (8.008 - 8) * (20 - 10)
    assert volume == pytest.approx(dominated / (8.008 * 30.03))


def test_a_minus_turns_the_direction_of_a_name() -> None:
    turned = [objective("-roughness"), objective("macs")]
    assert not directed("roughness", turned).maximise
    assert directed("roughness", [objective("macs")]).maximise
    assert not directed("params", turned).maximise
