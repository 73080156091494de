"""Expected improvements against brute force."""

from __future__ import annotations

import numpy as np
import pytest

from nas.run.objectives import hypervolume, objective
from nas.strategies.improvement import ParetoStaircase, log_improvement


def test_the_improvement_is_the_mean_excess_of_samples_over_the_best() -> None:
    rng = np.random.default_rng(0)
    mean, deviation, best = np.array([-0.2, 0.0, 0.5]), np.array([0.5, 1.0, 0.2]), 0.3
    drawn = mean + deviation * rng.normal(size=(400_000, 3))
    expected = np.maximum(drawn - best, 0).mean(axis=0)
    assert np.exp(log_improvement(mean, deviation, best)) == pytest.approx(expected, rel=0.03)


def test_candidates_far_below_the_best_still_differ() -> None:
    mean = np.linspace(-100, -10, 50)
    values = log_improvement(mean, np.full(50, 0.5), 0.0)
    assert np.isfinite(values).all()
    assert (np.diff(values) > 0).all()


@pytest.mark.parametrize("seed", range(10))
def test_a_certain_gain_is_the_hypervolume_that_is_added(seed: int) -> None:
    rng = np.random.default_rng(seed)
    costs, values = rng.uniform(1, 9, size=12), rng.uniform(0.2, 1.0, size=12)
    values[0] = 0.2  # the reference of the values
    end = 10.0
    stairs = ParetoStaircase(costs, values, end)
    new_costs, new_values = rng.uniform(0.5, 10, size=30), rng.uniform(0.2, 1.2, size=30)
    gains = np.exp(stairs.log_gain(new_costs, new_values, np.full(30, 1e-9)))

    def volume(points: np.ndarray) -> float:
        objectives = (objective("accuracy"), objective("macs"))
        box = [1.2, 0.0], [0.2, 1.001 * end]
        return hypervolume(points, objectives, *box) * 1.0 * 1.001 * end

    known = np.stack([values, costs], axis=1)
    for value, cost, gain in zip(new_values, new_costs, gains, strict=True):
        added = volume(np.vstack([known, [value, cost]])) - volume(known)
        assert gain == pytest.approx(added, abs=1e-6)


def test_an_uncertain_gain_is_the_mean_of_certain_ones() -> None:
    rng = np.random.default_rng(3)
    stairs = ParetoStaircase(rng.uniform(1, 9, size=8), rng.uniform(0.2, 1.0, size=8), 10.0)
    cost, mean, deviation = np.array([4.0]), np.array([0.7]), np.array([0.2])
    drawn = mean + deviation * rng.normal(size=200_000)
    sure = np.exp(stairs.log_gain(np.full(len(drawn), 4.0), drawn, np.full(len(drawn), 1e-9)))
    assert np.exp(stairs.log_gain(cost, mean, deviation))[0] == pytest.approx(sure.mean(), rel=0.02)
