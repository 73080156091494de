"""Coverage of intervals, and agreement with the normal approximation and with scipy."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import binomtest, kendalltau

from evaluators.accuracy.interval import share_interval, statistic_interval


@pytest.mark.parametrize(("share", "n"), [(0.9, 1000), (0.5, 100), (0.98, 5000)])
def test_a_shares_interval_is_about_two_standard_errors_each_way(share: float, n: int) -> None:
    low, high = share_interval(share, n)
    error = (share * (1 - share) / n) ** 0.5
    assert low == pytest.approx(share - 1.96 * error, abs=0.25 * error)
    assert high == pytest.approx(share + 1.96 * error, abs=0.25 * error)


def test_an_interval_covers_the_truth_about_as_often_as_it_says() -> None:
    rng = np.random.default_rng(0)
    inside = 0
    for _ in range(200):
        low, high = statistic_interval(np.mean, rng.exponential(1.0, 60))
        inside += low <= 1.0 <= high
    assert 0.85 <= inside / 200 <= 0.99


@pytest.mark.parametrize(("right", "n"), [(0, 18), (18, 18), (17, 18), (350, 359), (1, 1)])
def test_a_shares_interval_is_wilsons(right: int, n: int) -> None:
    """Also where all samples are right: 18 of 18 do not show that all others will be."""
    expected = binomtest(right, n).proportion_ci(0.95, "wilson")
    assert share_interval(right / n, n) == pytest.approx((expected.low, expected.high), abs=1e-9)


def test_rows_of_a_statistic_stay_together() -> None:
    x = np.arange(20.0)
    whole = statistic_interval(lambda a, b: kendalltau(a, b).statistic, x, 3 * x)
    assert whole == pytest.approx((1.0, 1.0))
    low, high = statistic_interval(
        lambda a, b: kendalltau(a, b).statistic, x, np.random.default_rng(1).normal(size=20)
    )
    assert low < 0 < high
