"""A prior from earlier searches: trusted if it agrees, without harm if it does not."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import kendalltau

from cached_tables import tables_of
from evaluators.prediction.predictor import Predictor
from evaluators.prediction.prior import Prior
from evaluators.prediction.values import compressed
from search_spaces.space import Rows

SPACE = "nasbench201"


def worth(rows: Rows, seed: int) -> np.ndarray:
    """A made-up accuracy, to which each option of each choice adds something."""
    space = tables_of(SPACE).space
    rng = np.random.default_rng(0)
    value = np.zeros(len(rows))
    for column, count in enumerate(space.option_counts):
        value += rng.normal(size=count)[rows[:, column]]
    return np.asarray(value + 0.1 * np.random.default_rng(seed).normal(size=len(rows)))


def tau_with(prior: Prior | None, count: int) -> float:
    """Rank correlation on unseen rows, after `count` evaluations."""
    tables = tables_of(SPACE)
    rows = np.unique(tables.space.sample(500, 5), axis=0)
    np.random.default_rng(1).shuffle(rows)
    values = worth(rows, 2)
    predictor = Predictor(tables, prior=prior)
    predictor.fit(rows[:count], values[:count])
    unseen = rows[count:]
    mean, _ = predictor.predict(unseen)
    np.testing.assert_allclose(predictor.mean(unseen), mean, rtol=1e-3, atol=1e-3)
    return float(kendalltau(mean, values[count:]).statistic)


@pytest.fixture(scope="module")
def searched() -> tuple[Rows, np.ndarray]:
    rows = np.unique(tables_of(SPACE).space.sample(150, 9), axis=0)
    # Another level and another range, as on other data.
    return rows, 40 + 7 * worth(rows, 3)


def test_a_prior_that_agrees_makes_few_evaluations_enough(
    searched: tuple[Rows, np.ndarray],
) -> None:
    prior = Prior(tables_of(SPACE), [searched])
    assert tau_with(prior, 12) > tau_with(None, 12) + 0.2
    assert tau_with(prior, 12) > 0.8


def test_a_misleading_prior_does_no_harm(searched: tuple[Rows, np.ndarray]) -> None:
    rows, values = searched
    for misleading in (-values, np.random.default_rng(4).permutation(values)):
        prior = Prior(tables_of(SPACE), [(rows, misleading)])
        assert tau_with(prior, 60) > tau_with(None, 60) - 0.05


def test_searches_of_different_levels_are_joined(searched: tuple[Rows, np.ndarray]) -> None:
    rows, values = searched
    half = len(rows) // 2
    parts = [(rows[:half], values[:half]), (rows[half:], -100 + 0.01 * values[half:])]
    unseen = np.unique(tables_of(SPACE).space.sample(300, 6), axis=0)
    expected = Prior(tables_of(SPACE), parts)(unseen)
    assert kendalltau(expected, worth(unseen, 7)).statistic > 0.8


def test_low_values_are_compressed_in_their_order() -> None:
    values = np.array([0.0, 0.1, 0.5, 0.8, 0.81, 0.82, 0.83, 0.84])
    found = compressed(values)
    assert (np.diff(found) > 0).all()
    assert found[0] > 0.3
    np.testing.assert_array_equal(found[3:], values[3:])
